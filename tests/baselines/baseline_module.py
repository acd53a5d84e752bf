"""A baseline's file as a module, for tests of its parts."""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

__all__ = ["BASELINES", "load_baseline"]

BASELINES = Path(__file__).parents[2] / "baselines"


def load_baseline(name: str, **constants: object) -> Any:
    """Return a baseline as a fresh module of its own, some of its constants set as `--set` does."""
    spec = importlib.util.spec_from_file_location(f"baseline_{name}", BASELINES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module: ModuleType = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for constant, value in constants.items():
        assert hasattr(module, constant)
        setattr(module, constant, value)
    return module
