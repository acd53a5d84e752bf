"""Rooms and their doors: who may import whom. Read from the source, so that what is imported late counts too."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GROUND = "harness"  # modules that lie in no room
# Each room imports from those before it alone.
FLOORS = (
    *(GROUND, "harness.scoring", "harness.tracks", "harness.runner.sandbox", "harness.runner.inside"),
    *("harness.runner", "harness.runs", "harness.evaluation", "harness.tuning", "harness.report"),
    *("harness.leaderboard.board", "harness.leaderboard.pages", "harness.leaderboard.batch"),
    *("harness.leaderboard.assurance", "harness.api", "harness.cli"),
)
# What the trusted side and a run share stands with the runner, whose files it is about.
SHARED_WITH_RUNS = {"harness.runner.message"}
# A submission's process loads these of the ground floor, and the trusted side does nothing secret in them.
SEEN_BY_SUBMISSIONS = {
    *("harness.accelerator", "harness.contract", "harness.cuda_driver", "harness.errors", "harness.loaders"),
    *("harness.models", "harness.processors", "harness.statements"),
}
# Of the harness, what prepares tracks knows their format, the models, and how a model is measured.
KNOWN_TO_DATA_PREP = {"harness.tracks", GROUND, "harness.runs.measure", "harness.scoring.official"}


def modules(folder: str) -> dict[str, Path]:
    """Return the modules below a folder, by name."""
    return {
        ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file
        for file in sorted((ROOT / folder).rglob("*.py"))
    }


HARNESS, DATA_PREP = modules("harness"), modules("data_prep")


def imported(file: Path) -> Iterator[str]:
    """Yield the names of all modules that a file imports anywhere."""
    known = HARNESS | DATA_PREP
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in known else node.module for name in names)


def room_of(module: str) -> str:
    """Return the room of a module: the longest name of FLOORS that it begins with."""
    return max((room for room in FLOORS if f"{module}.".startswith(f"{room}.")), key=len)


def ours(file: Path) -> list[str]:
    return [name for name in imported(file) if name.split(".")[0] in ("harness", "data_prep")]


@pytest.mark.parametrize("module", [name for name in HARNESS if name != "harness.__main__"])
def test_a_module_imports_from_its_room_and_those_below_alone(module: str) -> None:
    floor = FLOORS.index(room_of(module))
    above = [
        name
        for name in ours(HARNESS[module])
        if name not in SHARED_WITH_RUNS
        and (name.startswith("data_prep") or FLOORS.index(room_of(name)) > floor)
        and not (module.startswith("harness.cli.") and name.startswith("data_prep"))
    ]
    assert above == []


@pytest.mark.parametrize("module", [name for name in HARNESS if name.startswith("harness.scoring.")])
def test_scoring_knows_nothing_but_arrays(module: str) -> None:
    names = list(imported(HARNESS[module]))
    assert {name for name in ours(HARNESS[module]) if not name.startswith("harness.scoring")} == set()
    assert not {"torch", "torchvision"} & {name.split(".")[0] for name in names}


def test_what_a_submission_loads_is_what_it_may_see() -> None:
    seen, ahead = set(), [name for name in HARNESS if name.startswith("harness.runner.inside.")]
    while ahead:
        module = ahead.pop()
        if module not in seen and module in HARNESS:
            seen.add(module)
            ahead += ours(HARNESS[module])
    rooms = ("harness.runner.inside", "harness.runner.sandbox")
    others = {name for name in seen if not name.startswith(rooms)} - SHARED_WITH_RUNS
    assert others - {"harness", "harness.runner"} <= SEEN_BY_SUBMISSIONS
    for package in ("harness", "harness.runner", *rooms):
        assert ours(HARNESS[package]) == [], f"{package}/__init__.py is executed there too"


@pytest.mark.parametrize("module", DATA_PREP)
def test_what_prepares_tracks_knows_their_format_and_the_models(module: str) -> None:
    known = {
        name
        for name in ours(DATA_PREP[module])
        if name.startswith("harness") and name not in KNOWN_TO_DATA_PREP and room_of(name) not in KNOWN_TO_DATA_PREP
    }
    assert known == set()


def test_no_two_modules_of_the_harness_share_a_name() -> None:
    names = [name.split(".")[-1] for name in HARNESS if not HARNESS[name].stem.startswith("__")]
    assert sorted({name for name in names if names.count(name) > 1}) == []
