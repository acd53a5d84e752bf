"""Commands besides evaluate and prepare, and the command line as a whole."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from harness.cli.main import cli
from harness.runner.isolation import LEVELS

GOLDEN = Path(__file__).parents[1] / "golden" / "official_metric.npz"
Harness = Callable[..., Result]


def call(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments], prog_name="harness")


@pytest.fixture
def sides(tmp_path: Path) -> tuple[Path, Path]:
    """The golden confidences of 16 models, as anyone's arrays."""
    with np.load(GOLDEN) as golden:
        for name in ("unlearned", "retrained"):
            accuracy = np.full(16, 0.9 if name == "unlearned" else 0.8)
            np.savez(
                tmp_path / f"{name}.npz",
                confidence=golden[f"{name}_16"],
                retain_accuracy=accuracy,
                test_accuracy=accuracy,
            )
    return tmp_path / "unlearned.npz", tmp_path / "retrained.npz"


def test_score_gives_the_official_metric_on_anyones_arrays(sides: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    result = call("score", "--unlearned", sides[0], "--retrained", sides[1], "--json", out)
    assert result.exit_code == 0, result.output
    with np.load(GOLDEN) as golden:
        quality = float(golden["forgetting_quality_16"])
    scored = json.loads(out.read_text())
    assert scored["forgetting_quality"] == quality
    assert scored["score"] == pytest.approx(quality * 0.9 / 0.8 * 0.9 / 0.8)
    assert f"{quality:.6g}" in result.output


def test_score_says_what_the_arrays_lack(sides: tuple[Path, Path], tmp_path: Path) -> None:
    np.savez(tmp_path / "fewer.npz", confidence=np.zeros((3, 18)))
    np.savez(tmp_path / "other.npz", something=np.zeros(3))
    (tmp_path / "text.npz").write_text("no arrays")
    for file, message in {
        "fewer.npz": "one shape",
        "other.npz": "neither `confidence` nor `logits`",
        "text.npz": "is no .npz",
        "missing.npz": "no file",
        "unlerned.npz": "unlearned.npz?)",
    }.items():
        result = call("score", "--unlearned", tmp_path / file, "--retrained", sides[1])
        assert result.exit_code == 2
        assert message in result.output


def test_doctor_shows_isolation_and_why(harness: Harness) -> None:
    result = harness("doctor")
    assert result.exit_code == 0
    for topic in ("machine", "GPU", "isolation", "versions", "files"):
        assert topic in result.output
    assert any(f"isolation    {level}" in result.output for level in LEVELS)


def test_python_m_harness_is_the_same_command() -> None:
    done = subprocess.run([sys.executable, "-m", "harness", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("harness, version ")
