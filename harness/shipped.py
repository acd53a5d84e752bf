"""Where the files lie that ship with the harness and are no code of it: baselines, and the template of a submission."""

from pathlib import Path

import harness

__all__ = ["BASELINES", "TEMPLATE"]


def _shipped(name: str) -> Path:
    """Return a folder's path: within the package once it is installed, beside it in a checkout."""
    package = Path(harness.__file__).parent
    installed = package / "shipped" / name
    return installed if installed.is_dir() else package.parent / name


BASELINES = _shipped("baselines")
TEMPLATE = _shipped("submissions") / "template.py"
