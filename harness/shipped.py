"""Where the files lie that ship with the harness and are no code of it: baselines, their scores, the template."""

from pathlib import Path

import harness
from harness.errors import UsageError

__all__ = ["BASELINES", "MEASURED", "TEMPLATE", "baseline_file", "baseline_names"]


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


def baseline_file(name: str) -> Path:
    """Return the file of a baseline by its name, such as finetune. Raises UsageError naming all there are."""
    file = BASELINES / f"{name.removesuffix('.py')}.py"
    if file.parent != BASELINES or not file.is_file():
        raise UsageError(f"no baseline or file is called {name!r}; baselines are {', '.join(baseline_names())}")
    return file
