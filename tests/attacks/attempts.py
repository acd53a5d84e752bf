"""Attempts at breaking out of a run: plain functions of the tests, sent as submissions through the real evaluation.

An attempt returns what it got hold of, or raises OSError where it was stopped. It is written in a test file like any
function; its text, and that of what it uses, becomes a participant's file.
"""

import ast
import inspect
import itertools
import json
import os
import shutil
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import pytest

from harness.evaluation.evaluate import Evaluation, evaluate
from harness.runner import isolation
from harness.runner.isolation import LEVELS
from harness.runner.outcome import Outcome
from harness.runs.run import Conditions, Limit
from harness.submission import read_submission
from harness.tracks.track import Track

__all__ = [
    "AS_ROOT",
    "SIGNATURE",
    "THROUGH",
    "TRIED",
    "Attacks",
    "Attempt",
    "Found",
    "at_each_level",
    "conditions",
    "each_level",
    "skip_unless_offered",
    "source_of",
    "submission_of",
]

Attempt = Callable[..., Any]
THROUGH = "got through"
AS_ROOT = "got through as root"  # and is not tried as anybody else
SIGNATURE = "def unlearn(net, retain_loader, forget_loader, val_loader):"

# `userns` is `full` without a cgroup: what does not need one is tried there only where the machine offers no more.
TRIED = [level for level in LEVELS if level != "userns" or isolation.offered().levels["full"] is not None]
each_level = pytest.mark.parametrize("level", TRIED)

SUBMISSION = """
{sources}

{signature}
    import errno, json
    try:
        found = {{"value": {attempt}(**{values!r})}}
    except OSError as error:
        found = {{"error": errno.errorcode.get(error.errno, str(error))}}
    print("FOUND", json.dumps(found))
"""


@dataclass(frozen=True)
class Found:
    """What an attempt gave: the name of the error that stopped it, or what it returned."""

    error: str | None = None
    value: Any = None

    @property
    def end(self) -> str:
        """How it ended, as tables of expectations say it."""
        return THROUGH if self.error is None else self.error


@dataclass(frozen=True)
class Attacks:
    """Evaluates participants' files, each in a home of its own that holds somebody else's results."""

    track: Track
    earlier: Path
    folder: Path
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def evaluate(
        self, source: str, *, level: str, runs: int = 1, limit_seconds: float = 10.0, device: str = "cpu"
    ) -> Evaluation:
        """Evaluate a file; whatever it does, the track and the results of others stay as they are."""
        skip_unless_offered(level)
        home = self.folder / f"home{next(self._numbers)}"
        shutil.copytree(self.earlier, home)
        file = home / "foo.py"
        file.write_text(source)
        before = _contents(home, self.track.folder)
        evaluation = evaluate(
            read_submission(file, source_kb=self.track.declaration.limits.source_kb),
            self.track,
            conditions(level, limit_seconds, device),
            runs=runs,
            home=home,
            required_isolation=level,
        )
        after = _contents(home, self.track.folder)
        assert {path: after.get(path) for path in before} == before
        assert {run.info.isolation for run in evaluation.runs} <= {level}
        return evaluation

    def make(self, attempt: Attempt, *, level: str, **values: object) -> Found:
        """Make an attempt that ends by itself, in one run, and return what it gave."""
        return self.repeat(attempt, level=level, runs=1, **values)[0]

    def repeat(self, attempt: Attempt, *, level: str, runs: int, **values: object) -> list[Found]:
        """Make an attempt in several runs of one submission, one after the other."""
        evaluation = self.evaluate(submission_of(attempt, values), level=level, runs=runs)
        assert evaluation.outcome == Outcome.OK, [run.info for run in evaluation.runs]
        assert evaluation.scored is not None
        return [_found_in(run.info.log) for run in evaluation.runs]


def skip_unless_offered(level: str) -> None:
    """Skip the test where the machine does not offer a level, saying why."""
    reason = None if level == "none" else isolation.offered().levels[level]
    if reason is not None:
        pytest.skip(f"this machine does not offer {level}: {reason}")


def conditions(level: str, limit_seconds: float, device: str = "cpu") -> Conditions:
    """Return conditions at a level; runs follow one another."""
    return Conditions(Limit(limit_seconds, 0.1), isolation.choose(level, device=device), device=device)


def _contents(*folders: Path) -> dict[Path, bytes]:
    files = (path for folder in folders for path in folder.rglob("*"))
    return {path: path.read_bytes() for path in files if path.is_file()}


def submission_of(attempt: Attempt, values: Mapping[str, object]) -> str:
    """Return a participant's file that makes an attempt with some arguments and prints what it gave."""
    sources = source_of(attempt)
    return SUBMISSION.format(sources=sources, signature=SIGNATURE, attempt=attempt.__name__, values=dict(values))


def _found_in(log: str) -> Found:
    line = next(line for line in reversed(log.splitlines()) if line.startswith("FOUND "))
    return Found(**json.loads(line.removeprefix("FOUND ")))


def source_of(function: Attempt) -> str:
    """Return the text of a function after that of all it uses: modules, constants and other functions of the tests."""
    imports: dict[str, str] = {}
    texts: dict[str, str] = {}

    def add(one: Any) -> None:
        text = textwrap.dedent(inspect.getsource(one))
        texts[one.__name__] = ""  # known: functions may call one another
        for name in sorted({node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)}):
            used = one.__globals__.get(name)
            if isinstance(used, ModuleType):
                imports[name] = f"import {used.__name__} as {name}"
            elif isinstance(used, type):
                imports[name] = f"from {used.__module__} import {used.__name__}"
            elif isinstance(used, FunctionType) and name not in texts:
                add(used)
            elif isinstance(used, str | int | list | dict):
                texts[name] = f"{name} = {used!r}"
        texts[one.__name__] = text

    add(function)
    return "\n".join([*imports.values(), *texts.values()])


def at_each_level(cases: Mapping[Attempt, Mapping[str, str]]) -> pytest.MarkDecorator:
    """Parametrise a test by (attempt, level, end): the errors that may stop it there, with | between, or THROUGH.

    `userns` is expected to answer as `full` does, unless a case says otherwise; any other level that a case leaves out
    is not tried. At `none` an attempt must get through: nothing else shows that a layer stopped it.
    """
    rows = []
    for attempt, ends in cases.items():
        for level in TRIED:
            end = ends.get(level, ends.get("full") if level == "userns" else None)
            if end is None:
                continue
            marks = [pytest.mark.skipif(os.geteuid() != 0, reason="the control takes root")] if end == AS_ROOT else []
            end = THROUGH if end == AS_ROOT else end
            rows.append(pytest.param(attempt, level, end, id=f"{attempt.__name__}-{level}", marks=marks))
    return pytest.mark.parametrize(("attempt", "level", "end"), rows)
