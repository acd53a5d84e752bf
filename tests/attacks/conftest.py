"""Makes attempts through the real evaluation, on the tiny track under small limits, and checks that nothing is lost."""

import dataclasses
import os
import secrets
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.evaluation.evaluate import evaluate
from harness.runner.outcome import Outcome
from harness.submission import read_submission
from harness.tracks.track import Track
from tests.attacks.attempts import SIGNATURE, Attacks, Found, conditions

collect_ignore_glob = [] if sys.platform == "linux" else ["test_*.py"]


@pytest.fixture(scope="session")
def canary() -> Iterator[str]:
    """A secret in the environment and the memory of the harness, there before any process of runs is started."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_CANARY", secrets.token_hex(24))
        yield os.environ["HARNESS_CANARY"]


@pytest.fixture(scope="session")
def attacked(tiny: Track, canary: str) -> Track:
    """The tiny track with limits that are cheap to run into; one zygote for each level serves all attempts."""
    limits = tiny.declaration.limits.model_copy(update={"memory_mb": 512, "processes": 60, "scratch_mb": 32})
    return dataclasses.replace(tiny, declaration=tiny.declaration.model_copy(update={"limits": limits}))


@pytest.fixture(scope="session")
def earlier(attacked: Track, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the results of somebody else's submission."""
    home = tmp_path_factory.mktemp("earlier")
    file = home / "honest.py"
    file.write_text(f"{SIGNATURE} pass")
    for runs in (1, 2):
        honest = read_submission(file, source_kb=1)
        assert evaluate(honest, attacked, conditions("none", 10.0), runs=runs, home=home).outcome == Outcome.OK
    return home


@pytest.fixture
def attacks(attacked: Track, earlier: Path, tmp_path: Path) -> Attacks:
    """Evaluates attempts."""
    return Attacks(attacked, earlier, tmp_path)


@pytest.fixture
def make(attacks: Attacks) -> Callable[..., Found]:
    """Makes an attempt in one run: make(attempt, level="full", **values)."""
    return attacks.make
