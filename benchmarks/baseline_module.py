"""A file of baselines/ as a module, for studies that call its functions themselves."""

import importlib.util
from collections.abc import Mapping
from typing import Any

from benchmarks.pages import ROOT

__all__ = ["baseline_module"]


def baseline_module(name: str, constants: Mapping[str, object]) -> Any:
    """Return a file as a fresh module with some of its constants set, as `--set` does.

    name: as below baselines/, such as l1_sparse or learners/sisa.
    """
    spec = importlib.util.spec_from_file_location(name, ROOT / "baselines" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for constant, value in constants.items():
        assert hasattr(module, constant), constant
        setattr(module, constant, value)
    return module
