"""What a participant may see of an evaluation on a hidden forget set.

A run reads that set, and whatever it can put into words that come back to its author leaks it: prints, messages of
exceptions, even their names. What is left is the outcome, and for an exception its class, if it is one of Python's own,
and the line of the file, quoted from the copy that was handed in.
"""

import builtins
import re
from dataclasses import replace

from harness.evaluation.evaluate import Evaluation
from harness.evaluation.score_file import failure_of
from harness.quoting import readable
from harness.runner.outcome import Outcome
from harness.runs.run import Run, RunInfo

__all__ = ["redacted"]

# What the harness writes before a run's own words: where it failed.
WHERE = re.compile(r"(train on the (training|retain) set: )?(request \d+ of \d+: )?")
TELLS_ITS_LINE = (Outcome.EXCEPTION, Outcome.IMPORT_ERROR)
BUILT_IN = {
    name for name, value in vars(builtins).items() if isinstance(value, type) and issubclass(value, BaseException)
}


def redacted(evaluation: Evaluation) -> Evaluation:
    """Return the evaluation without anything its runs could have said; scores stay."""
    lines = evaluation.submission.source.splitlines()
    name = readable(evaluation.submission.path.name)
    runs = tuple(replace(run, info=_without_words(run, name, lines)) for run in evaluation.runs)
    failure = failure_of(evaluation.submission, runs)
    return replace(evaluation, runs=runs, score_file=evaluation.score_file.model_copy(update={"failure": failure}))


def _without_words(run: Run, name: str, source: list[str]) -> RunInfo:
    silent = replace(run.info, message="", lines=(), log="", seconds_inside=0.0)
    if run.outcome not in TELLS_ITS_LINE:
        return silent
    said = WHERE.sub("", run.info.message, count=1).partition(":")[0]
    lines = tuple(f"{name}, line {number}: {source[number - 1].strip()}" for number in _last_line(run, source))
    return replace(silent, message=said if said in BUILT_IN else "an exception", lines=lines)


def _last_line(run: Run, source: list[str]) -> list[int]:
    """Return the number of the innermost line that a run names, if it is one of the file's."""
    named = [re.search(r", line (\d{1,6})\b", line) for line in run.info.lines]
    numbers = [int(match[1]) for match in named if match]
    return [number for number in numbers if 1 <= number <= len(source)][-1:]
