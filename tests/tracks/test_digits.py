"""The track that ships, through the command line: what its scores tell apart, and what they must not.

Slow: 64 retrainings of about 13 s, two at once, beside two evaluations of baselines.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from harness.cli.main import cli

BASELINES = Path(__file__).parents[2] / "baselines"
Harness = Callable[..., Result]

pytestmark = pytest.mark.slow

# What data_prep does to make a retrained model, within a run: the recipe is that of data_prep/tracks/digits.toml.
RETRAIN = """
import math

import torch
from torch import nn


def unlearn(net, retain_loader, forget_loader, val_loader):
    for module in net.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    optimizer = torch.optim.SGD(net.parameters(), lr=0.02, momentum=0.9, weight_decay=5e-4)
    net.train()
    for epoch in range(120):
        optimizer.param_groups[0]["lr"] = 0.02 * (1 + math.cos(math.pi * epoch / 120)) / 2
        for images, labels in retain_loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(images), labels).backward()
            optimizer.step()
"""


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Harness:
    """The command line, in one home for all tests here."""
    folder = tmp_path_factory.mktemp("home")

    def call(*arguments: object) -> Result:
        return CliRunner().invoke(cli, [str(argument) for argument in arguments], env={"HARNESS_HOME": str(folder)})

    return call


def test_fine_tuning_is_told_from_doing_nothing(digits: Harness) -> None:
    result = digits("compare", BASELINES / "finetune.py", BASELINES / "identity.py")
    assert result.exit_code == 0, result.output
    assert "finetune.py is better than identity.py" in result.output


def test_retraining_is_not_told_from_retrained_models(digits: Harness, tmp_path: Path) -> None:
    file = tmp_path / "retrain.py"
    file.write_text(RETRAIN)
    result = digits("compare", file, "retrained", "--time-limit", 2)
    assert result.exit_code == 0, result.output
    assert "retrain.py and retrained cannot be told apart" in result.output
