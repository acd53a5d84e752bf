"""The main path through the command line: run, store, score, show; run nothing twice."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

Harness = Callable[..., Result]
Write = Callable[[str], Path]

FINETUNE = """
import torch

EPOCHS = 1
RATE = 0.05

def unlearn(net, retain_loader, forget_loader, val_loader):
    optimizer = torch.optim.SGD(net.parameters(), lr=RATE, momentum=0.9)
    net.train()
    for _ in range(EPOCHS):
        for images, labels in retain_loader:
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(net(images), labels).backward()
            optimizer.step()
    return net
"""


def evaluated(harness: Harness, tmp_path: Path, file: Path, *options: object) -> dict:  # type: ignore[type-arg]
    """Evaluate on the tiny track and return the JSON, asserting success."""
    out = tmp_path / "out.json"
    result = harness("evaluate", file, "--track", tiny_of(file), "--json", out, *options)
    assert result.exit_code == 0, result.output
    return dict(json.loads(out.read_text()))


def tiny_of(file: Path) -> str:
    return str(file.parents[1] / "tiny.toml")


@pytest.fixture(autouse=True)
def _tiny_declaration(tmp_path: Path, tiny_file: Path) -> None:
    (tmp_path / "tiny.toml").write_text(tiny_file.read_text())


def test_a_submission_is_run_and_scored_between_floor_and_ceiling(
    harness: Harness, submission: Write, tmp_path: Path
) -> None:
    result = evaluated(harness, tmp_path, submission(FINETUNE), "--runs", 16)
    assert result["outcome"] == "OK"
    assert result["n_runs"] == 16
    assert result["ranked"] is True
    assert result["floor"] < result["ceiling"]
    assert 0 < result["score"] < 1
    assert result["score"] == pytest.approx(
        result["forgetting_quality"] * result["retain_ratio"] * result["test_ratio"]
    )
    assert result["calibrated_score"] is None
    assert 0 < result["seconds"]["mean"] <= result["seconds"]["max"] < 4
