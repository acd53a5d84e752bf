"""A competition harness for machine unlearning: run submissions, isolate them, time them, score them.

    import harness

    result = harness.evaluate("submissions/foo.py", runs=16)

What `harness.api` offers is offered here, and loaded when it is first asked for: the process of a submission loads this
file too, and none of that.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

__all__ = [
    "Comparison",
    "Evaluation",
    "ScoreFile",
    "Track",
    "Tuning",
    "compare",
    "evaluate",
    "open_track",
    "plot",
    "score",
    "tune",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(importlib.import_module("harness.api"), name)
    raise AttributeError(f"module 'harness' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
