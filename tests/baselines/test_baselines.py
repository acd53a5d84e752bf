"""Every file of baselines/ and the template: ordinary submissions that work from their defaults."""

import ast
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.baselines import VARIANTS, cells, methods
from harness import models
from harness.contract import TIME_LIMIT_VARIABLE
from harness.evaluation.evaluate import Evaluation, evaluate
from harness.leaderboard.board.known_code import shipped_baselines
from harness.loaders import Images, loader
from harness.runner.isolation import choose
from harness.runs.run import Conditions, Limit
from harness.submission import read_submission
from harness.tracks.track import Track
from tests.baselines.baseline_module import BASELINES, load_baseline

ROOT = Path(__file__).parents[2]
OURS = sorted(BASELINES.glob("*.py"))
LEARNERS = sorted(BASELINES.glob("learners/*.py"))  # whose runs are in files of their own
FILES = [*OURS, ROOT / "submissions" / "template.py"]
METHODS = [pytest.param(file, {}, id=file.stem) for file in FILES] + [
    pytest.param(file, dict([variant.split("=")]), id=f"{file.stem}-{variant}")
    for file in FILES
    for variant in VARIANTS.get(file.stem, ())
]
ALLOWED_IMPORTS = {
    *("torch", "torchvision", "numpy", "scipy", "sklearn"),
    *("collections", "copy", "itertools", "math", "os", "random", "time"),
}
GROUPS = [  # of constants, in this order, each under its comment and up to an empty line
    "# As published.",
    "# Ours: the source says nothing, or something else.",
    "# Adapted to small tracks and short limits.",
]
UNCHANGED = {"identity"}  # leaves the weights as they are
DETERMINISTIC = {*UNCHANGED}  # the same from every seed
BY_THE_CLOCK = {"retrain_within_budget"}  # does as much as the machine has time for, so it does not repeat


@pytest.mark.parametrize("file", [*FILES, *LEARNERS], ids=lambda file: file.stem)
def test_a_baseline_is_one_self_contained_file_with_its_source(file: Path) -> None:
    tree = ast.parse(file.read_text())
    docstring = ast.get_docstring(tree) or ""
    assert file.stem == "template" or "Source:" in docstring
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            assert {alias.name.partition(".")[0] for alias in node.names} <= ALLOWED_IMPORTS
        if isinstance(node, ast.ImportFrom):
            assert (node.module or "").partition(".")[0] in ALLOWED_IMPORTS


@pytest.mark.parametrize("file", [*OURS, *LEARNERS], ids=lambda file: file.stem)
def test_every_constant_says_whether_it_is_published_ours_or_adapted(file: Path) -> None:
    source = file.read_text()
    constants = [
        node.lineno - 1
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name) and target.id.isupper()
    ]
    lines = source.splitlines()
    headings = []
    for line in constants:
        first = max(number for number in range(line) if not lines[number]) + 1  # of the lines that stand together
        headings.append(lines[first])
    assert set(headings) <= set(GROUPS)
    assert headings == sorted(headings, key=GROUPS.index)
    assert [line for line in lines if line in GROUPS] == [group for group in GROUPS if group in headings]


@pytest.mark.parametrize("file", [*OURS, *LEARNERS], ids=lambda file: file.stem)
def test_a_docstring_holds_no_measured_result(file: Path) -> None:
    """Figures that a command does not write go stale."""
    nodes = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Module | ast.FunctionDef)]
    docstrings = "\n".join(ast.get_docstring(node) or "" for node in nodes)
    assert not re.search(r"calibrated|\+-|±|Notes:", docstrings)


@pytest.mark.parametrize("file", [*OURS, *LEARNERS], ids=lambda file: file.stem)
def test_sections_have_one_style_of_banner(file: Path) -> None:
    banners = [line for line in file.read_text().splitlines() if re.match(r"#\s*-{2,}", line)]
    assert all(re.fullmatch(r"# ---- \S.*\S -{4,}", line) and len(line) == 117 for line in banners), banners


def test_the_page_names_every_baseline_and_says_what_to_expect_of_it() -> None:
    methods_of, _, expected = (BASELINES / "README.md").read_text().partition("## What to expect on `digits`")
    expected, _, _ = expected.partition("<!--")
    for file in OURS:
        assert f"| `{file.name}` |" in methods_of
        assert f"`{file.name}`" in expected


def test_the_page_of_learners_names_each_with_the_track_it_is_made_for() -> None:
    page, _, _ = (BASELINES / "learners" / "README.md").read_text().partition("## What to expect")
    for file in LEARNERS:
        (row,) = [line for line in page.splitlines() if line.startswith(f"| `{file.name}` |")]
        (track,) = re.findall(r"`([a-z0-9-]+)`", row.split("|")[-2])
        assert (ROOT / "data_prep" / "tracks" / f"{track}.toml").is_file()


def test_a_copy_of_a_learner_is_known_to_be_a_baseline() -> None:
    for file in LEARNERS[:1]:
        assert shipped_baselines()[read_submission(file, source_kb=256).code_hash] == file.stem


@pytest.mark.parametrize(("file", "constants"), METHODS)
def test_a_baseline_runs_from_its_defaults_and_repeats(
    file: Path, constants: dict[str, str], tiny: Track, tmp_path: Path
) -> None:
    seconds = 2.0 if file.stem in BY_THE_CLOCK else 20.0
    conditions = Conditions(Limit(seconds=seconds, fraction=0.1), choose(), jobs=2)
    submission = read_submission(file, source_kb=256, constants=constants)

    def evaluated(name: str, runs: int) -> Evaluation:
        return evaluate(submission, tiny, conditions, runs=runs, home=tmp_path / name)

    first, second = evaluated("a", 3), evaluated("b", 1)
    assert first.outcome == "OK", first.runs[-1].info
    hashes = [[run.record.weights_sha256[0] for run in each.runs if run.record] for each in (first, second)]
    assert (hashes[0][0] == hashes[1][0]) == (file.stem not in BY_THE_CLOCK)
    distances = [float(run.record.distance[0]) for run in first.runs if run.record]
    assert np.all(np.array(distances) == 0) == (file.stem in UNCHANGED)
    same_original = hashes[0][0] == hashes[0][2]
    assert same_original == (file.stem in DETERMINISTIC)


def function(file: Path, constants: dict[str, str]) -> Any:
    """Return a file's function, with constants set as `--set` does."""
    namespace: dict[str, Any] = {}
    exec(read_submission(file, source_kb=256, constants=constants).source, namespace)
    return namespace["unlearn"]


def test_the_table_has_a_row_for_each_file_and_for_each_variant_of_one() -> None:
    assert set(VARIANTS) <= {file.stem for file in FILES}
    rows = [(file.stem, *chosen) for file, chosen in methods(FILES, ())]
    assert len(set(rows)) == len(rows) == len(METHODS)
    assert list(methods(FILES[:1], ("EPOCHS=3",))) == [(FILES[0], ("EPOCHS=3",))]
    title, *_ = cells("prune_then_unlearn --set PRUNER=imp", {"outcome": "TIMEOUT"})
    assert title == "`prune_then_unlearn.py` with PRUNER=imp"


def choices() -> list[tuple[str, str]]:
    """Return every constant of every baseline that is a word: one of a few the file knows."""
    assignments = [(file.stem, node) for file in FILES for node in ast.parse(file.read_text()).body]
    return [
        (name, target.id)
        for name, node in assignments
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for target in node.targets
        if isinstance(target, ast.Name)
    ]


@pytest.mark.parametrize(("name", "constant"), choices())
def test_a_mistyped_choice_is_an_error_that_names_it(name: str, constant: str) -> None:
    method = load_baseline(name, **{constant: "mistyped"})
    net = models.build("small_resnet", n_classes=3, channels=1, width=2)
    examples = Images(torch.randn(6, 1, 8, 8), torch.arange(6) % 3)
    batches = loader(examples, batch_size=6, device=torch.device("cpu"))
    with pytest.raises((AssertionError, KeyError, ValueError), match="mistyped"):
        method.unlearn(net, batches, batches, batches)


@pytest.mark.parametrize(("file", "constants"), METHODS)
def test_a_last_batch_of_one_example_is_no_error_on_a_net_that_ends_at_one_pixel(
    file: Path, constants: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """BatchNorm cannot train on a single value per channel, and raises."""
    monkeypatch.setenv(TIME_LIMIT_VARIABLE, "1.0")
    torch.manual_seed(0)
    net = models.build("small_resnet", n_classes=3, channels=1, width=2)
    images = Images(torch.randn(9, 1, 4, 4), torch.arange(9) % 3)  # a fourth of that is one pixel
    loaders = [loader(images, batch_size=8, device=torch.device("cpu")) for _ in range(3)]
    function(file, constants)(net.eval(), *loaders)


@pytest.mark.slow
@pytest.mark.parametrize(("file", "constants"), METHODS)
def test_a_baseline_works_on_colour_images_of_seven_classes_and_resnet18(
    file: Path, constants: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TIME_LIMIT_VARIABLE, "1.0")
    torch.manual_seed(0)
    net = models.build("resnet18", n_classes=7, channels=3)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    loaders = []
    for n in (14, 7, 7):
        images = Images(torch.randn(n, 3, 32, 32), torch.arange(n) % 7)
        loaders.append(loader(images, batch_size=8, device=torch.device("cpu")))
    returned = function(file, constants)(net.eval(), *loaders)
    after = (net if returned is None else returned).state_dict()
    assert after.keys() >= before.keys()
    assert all(torch.isfinite(after[name]).all() for name in before)
    assert any(not torch.equal(after[name], before[name]) for name in before) == (file.stem not in UNCHANGED)
