"""Every file of baselines/ and the template: ordinary submissions that work from their defaults."""

import ast
from pathlib import Path

import numpy as np
import pytest

from harness.evaluate import Evaluation, evaluate
from harness.results import Conditions, Limit
from harness.runner.isolation import choose
from harness.submission import read_submission
from harness.track import Track

ROOT = Path(__file__).parents[1]
FILES = [*sorted((ROOT / "baselines").glob("*.py")), ROOT / "submissions" / "template.py"]
ALLOWED_IMPORTS = {"torch", "torchvision", "numpy", "scipy", "sklearn", "math", "copy", "random", "os", "time"}
UNCHANGED = {"identity"}  # leaves the weights as they are


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_baseline_is_one_self_contained_file_with_its_source(file: Path) -> None:
    tree = ast.parse(file.read_text())
    docstring = ast.get_docstring(tree) or ""
    assert file.stem == "template" or "Source:" in docstring
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            assert {alias.name.partition(".")[0] for alias in node.names} <= ALLOWED_IMPORTS
        if isinstance(node, ast.ImportFrom):
            assert (node.module or "").partition(".")[0] in ALLOWED_IMPORTS


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_baseline_runs_from_its_defaults_and_repeats(file: Path, tiny: Track, tmp_path: Path) -> None:
    conditions = Conditions(Limit(seconds=20.0, fraction=0.1), choose(), jobs=2)
    submission = read_submission(file, source_kb=256)

    def evaluated(name: str) -> Evaluation:
        return evaluate(submission, tiny, conditions, runs=3, home=tmp_path / name)

    first, second = evaluated("a"), evaluated("b")
    assert first.outcome == "OK", first.runs[-1].info
    hashes = [[run.record.weights_sha256[0] for run in each.runs if run.record] for each in (first, second)]
    assert hashes[0] == hashes[1]
    distances = [float(run.record.distance[0]) for run in first.runs if run.record]
    assert np.all(np.array(distances) == 0) == (file.stem in UNCHANGED)
    same_original = hashes[0][0] == hashes[0][2]
    assert same_original == (file.stem in UNCHANGED)
