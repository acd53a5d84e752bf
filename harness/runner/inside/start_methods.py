"""How a run starts processes of its own: by fork, and in no other way.

A forked process has all that the run has. One that is spawned, or comes from a fork server, is a new interpreter, and
would have to import the submission and the harness's data sets. A run has neither as files, and the time to import
torch again would count. So that is refused at once; it would fail half a minute later, with an error about other files.
"""

import multiprocessing
from multiprocessing import context
from typing import Any, NoReturn

__all__ = ["fork_only"]

METHODS = multiprocessing.get_all_start_methods()
INSTEAD = (
    'multiprocessing_context="fork" in a loader, multiprocessing.get_context("fork") elsewhere, or the default'
    if "fork" in METHODS
    else "num_workers=0 in a loader, threads elsewhere"
)


def fork_only() -> None:
    """Let fork be the default in this process, which it is no more from Python 3.14 on, and refuse other ways."""
    if "fork" in METHODS:
        # multiprocessing.set_start_method would fix it, and refuse a submission that sets what it wants.
        default: Any = context._default_context
        default._default_context, default._actual_context = multiprocessing.get_context("fork"), None
    for method in METHODS:
        if method != "fork":
            other: Any = multiprocessing.get_context(method)
            other.Process._Popen = staticmethod(_refuse)


def _refuse(process: object) -> NoReturn:
    raise RuntimeError(f"processes are not spawned here, a new interpreter could not import this file: use {INSTEAD}")
