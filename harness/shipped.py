"""Where the files lie that ship with the harness and are no code of it: baselines, their scores, the template."""

from pathlib import Path

import harness
from harness.contract import SUFFIXES
from harness.errors import UsageError
from harness.spelling import did_you_mean_file

__all__ = [
    "BASELINES",
    "LEARNERS",
    "MEASURED",
    "TEMPLATE",
    "all_baseline_names",
    "baseline_file",
    "baseline_names",
    "learner_names",
    "submission_path",
]


def _shipped(name: str) -> Path:
    """Return a folder's path: within the package once it is installed, beside it in a checkout."""
    package = Path(harness.__file__).parent
    installed = package / "shipped" / name
    return installed if installed.is_dir() else package.parent / name


BASELINES = _shipped("baselines")
LEARNERS = BASELINES / "learners"
TEMPLATE = _shipped("submissions") / "template.py"
MEASURED = _shipped("benchmarks") / "results" / "baselines-digits.json"


def baseline_names() -> list[str]:
    """Return the names of the baselines that any track runs: not of learners."""
    return _names(BASELINES)


def learner_names() -> list[str]:
    """Return the names of the learners among the baselines, each made for a track of its own."""
    return _names(LEARNERS)


def all_baseline_names() -> list[str]:
    """Return the names of all baselines, learners last."""
    return [*baseline_names(), *learner_names()]


def submission_path(name: str) -> Path:
    """Return a file as it is named; that of a baseline for a baseline's name where there is no such file."""
    path, stem = Path(name), _stem(name)
    return _file(stem) if stem in all_baseline_names() and not path.exists() else path


def baseline_file(name: str) -> Path:
    """Return the file of a baseline by its name, such as finetune. Raises UsageError naming all there are."""
    stem, known = _stem(name), all_baseline_names()
    if stem not in known:
        meant = did_you_mean_file(Path(name), SUFFIXES, known)
        raise UsageError(f"no baseline or file is called {name!r}{meant}; baselines are {', '.join(known)}")
    return _file(stem)


def _names(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("*.py"))


def _file(name: str) -> Path:
    return (LEARNERS if name in learner_names() else BASELINES) / f"{name}.py"


def _stem(name: str) -> str:
    """Return the bare name of a baseline that may be written as its file."""
    return name.removeprefix("baselines/").removeprefix("learners/").removesuffix(".py")
