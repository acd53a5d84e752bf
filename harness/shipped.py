"""Where the files lie that ship with the harness and are no code of it: baselines, their scores, the template."""

from pathlib import Path

import harness
from harness.contract import SUFFIXES
from harness.errors import UsageError
from harness.spelling import did_you_mean_file

__all__ = ["BASELINES", "MEASURED", "TEMPLATE", "baseline_file", "baseline_names", "submission_path"]


def _shipped(name: str) -> Path:
    """Return a folder's path: within the package once it is installed, beside it in a checkout."""
    package = Path(harness.__file__).parent
    installed = package / "shipped" / name
    return installed if installed.is_dir() else package.parent / name


BASELINES = _shipped("baselines")
TEMPLATE = _shipped("submissions") / "template.py"
MEASURED = _shipped("benchmarks") / "results" / "baselines-digits.json"


def baseline_names() -> list[str]:
    """Return the names of the baselines."""
    return sorted(path.stem for path in BASELINES.glob("*.py"))


def submission_path(name: str) -> Path:
    """Return a file as it is named; that of a baseline for a baseline's name where there is no such file."""
    path, stem = Path(name), _stem(name)
    return BASELINES / f"{stem}.py" if stem in baseline_names() and not path.exists() else path


def baseline_file(name: str) -> Path:
    """Return the file of a baseline by its name, such as finetune. Raises UsageError naming all there are."""
    stem = _stem(name)
    if stem not in baseline_names():
        meant = did_you_mean_file(Path(name), SUFFIXES, baseline_names())
        raise UsageError(f"no baseline or file is called {name!r}{meant}; baselines are {', '.join(baseline_names())}")
    return BASELINES / f"{stem}.py"


def _stem(name: str) -> str:
    """Return the bare name of a baseline that may be written as its file."""
    return name.removeprefix("baselines/").removesuffix(".py")
