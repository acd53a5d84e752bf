"""A baseline's file as a module, for tests of its parts."""

from pathlib import Path
from types import ModuleType
from typing import Any

__all__ = ["BASELINES", "load_baseline", "load_edited"]

BASELINES = Path(__file__).parents[2] / "baselines"


def load_baseline(name: str, **constants: object) -> Any:
    """Return a baseline as a fresh module of its own, some of its constants set as `--set` does."""
    return _load(name, (BASELINES / f"{name}.py").read_text(), constants)


def load_edited(name: str, old: str, new: str, **constants: object) -> Any:
    """Return a baseline as `load_baseline` does, with another text where an old one stands, once."""
    source = (BASELINES / f"{name}.py").read_text()
    assert source.count(old) == 1, f"{old!r} is {source.count(old)} times in {name}"
    return _load(name, source.replace(old, new), constants)


def _load(name: str, source: str, constants: dict[str, object]) -> Any:
    module = ModuleType(f"baseline_{name}")
    exec(compile(source, str(BASELINES / f"{name}.py"), "exec"), module.__dict__)
    for constant, value in constants.items():
        assert hasattr(module, constant)
        setattr(module, constant, value)
    return module
