"""An evaluation on the terminal: a compact table, what went wrong, and how the score compares."""

import statistics
import time
from collections.abc import Iterator
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from harness.evaluation.commands import options
from harness.evaluation.evaluate import Evaluation
from harness.evaluation.score_file import ScoreFile
from harness.quoting import quoted
from harness.report.escaping import escaped
from harness.report.excerpt_lines import excerpt_lines
from harness.report.numbers import WITHHELD, number
from harness.report.score_columns import SCORE_COLUMNS
from harness.report.summary import alarm_sentences, remarks
from harness.runner.outcome import Outcome
from harness.runs.run import Run, percent
from harness.scoring.alarms import MAX_CODE, MAX_LITERALS
from harness.scoring.full_stack import Metric

__all__ = ["PLAIN_SECONDS", "LiveRuns", "ProgressBar", "show", "show_check", "stored_failure"]

PLAIN_SECONDS = 10.0  # between two lines where there is no terminal
OUTPUT_LINES = 20


def show(evaluation: Evaluation, comparisons: list[str]) -> RenderableType:
    """Return the whole result of an evaluation; comparisons are sentences to end with."""
    heading = f"{evaluation.submission.name} on {evaluation.track.name}"
    constants = ", ".join(f"{name}={value}" for name, value in evaluation.submission.constants.items())
    title = Text(f"{heading} ({constants})" if constants else heading, style="bold")
    if evaluation.outcome != Outcome.OK:
        return Group(title, *_failure(evaluation))
    return Group(
        title,
        _table(evaluation),
        *(Text(remark, style="yellow") for remark in remarks(evaluation)),
        *(Text(sentence, style="yellow") for sentence in alarm_sentences(evaluation)),
        *(_line(sentence) for sentence in comparisons),
    )


def show_check(evaluation: Evaluation) -> RenderableType:
    """Return the result of a check: what is wrong with the file, or what one run used of its limits."""
    title = Text(f"{evaluation.submission.name} on {evaluation.track.name}", style="bold")
    submission = evaluation.submission
    excerpt = [Text(escaped(line)) for line in excerpt_lines(submission.path.name, submission.excerpt)]
    if evaluation.outcome != Outcome.OK:
        return Group(title, *excerpt, *_failure(evaluation))
    limits = evaluation.track.declaration.limits
    table = _grid()
    table.add_row("one run", "OK")
    table.add_row("time", f"{_mean_seconds(evaluation):.2f} s, {_time_used(evaluation)}")
    for row in (*_learner(evaluation.score_file), *_stream(evaluation.score_file)):
        table.add_row(row[0], "; ".join(row[1:]))
    table.add_row("isolation", Text("; ").join(filter(None, (Text(evaluation.isolation), _isolation(evaluation)))))
    table.add_row("threads", str(limits.threads))
    table.add_row("memory", f"{limits.memory_mb} MB, of all processes together")
    table.add_row("processes", f"{limits.processes}, threads included")
    table.add_row("temporary files", f"{limits.scratch_mb} MB")
    table.add_row("file", f"{len(submission.source.encode()) / 1024:.1f} of {limits.source_kb} KB")
    said = submission.information
    for name, taken, most in (("literals", said.literals, MAX_LITERALS), ("code", said.code, MAX_CODE)):
        table.add_row(name, f"{taken / 1024:.1f} KB when compressed, an alarm above {most / 1024:g} KB")
    table.add_row("output", f"{len(evaluation.runs[0].info.log) / 1024:.1f} of {limits.log_kb} KB kept")
    next_step = _line(f"score it: {_evaluate(evaluation)}")
    warnings = [Text(sentence, style="yellow") for sentence in (*_warnings(evaluation), *alarm_sentences(evaluation))]
    return Group(title, *excerpt, table, *warnings, next_step)


def _warnings(evaluation: Evaluation) -> Iterator[str]:
    """Yield what one run that went well may not have been meant to do."""
    run = evaluation.runs[0]
    if evaluation.share_of_limit > 1:
        yield "over the time limit: with a mean above it a submission is shown and not ranked"
    if run.record is not None and run.record.distance[0] == 0:
        yield "the weights are those of the original model: was a copy of the net changed, or nothing?"
    if run.info.log:
        yield f"to see what it printed: {_command('check --debug', evaluation)}"


def stored_failure(evaluation: Evaluation) -> Text:
    """Return when a failure that was not made now was, and the command that makes it again."""
    run = evaluation.failed
    assert run is not None
    when = f"stored on {run.info.made[:10]}" if run.info.made else "stored before"
    return _line(f"this failure was {when}; run it again: {_evaluate(evaluation)} --again")


def _evaluate(evaluation: Evaluation) -> str:
    """Return the command that evaluates a file as it was, but for the number of runs."""
    return _command("evaluate", evaluation, evaluation.conditions.own_time_limit)


def _command(name: str, evaluation: Evaluation, time_limit: float | None = None) -> str:
    """Return a command on the file as it was evaluated."""
    return " ".join([f"harness {name} {quoted(evaluation.submission.path)}", *_options(evaluation, time_limit)])


def _options(evaluation: Evaluation, time_limit: float | None = None) -> list[str]:
    """Return the options that every command on the file takes: the same track, device and constants."""
    return options(
        evaluation.track.name,
        device=evaluation.conditions.device,
        constants=evaluation.submission.constants,
        time_limit=time_limit,
    )


def _line(text: str) -> Text:
    """Return a text that a terminal folds where it ends, so that a command in it can be copied."""
    return Text(text, no_wrap=True, overflow="ignore")


def _table(evaluation: Evaluation) -> Table:
    scored, figures = evaluation.scored, evaluation.score_file
    assert scored is not None
    beside = {
        "calibrated_score": "1.00 is what retraining gets",
        "score": f"floor {_number(figures.floor)}, ceiling {_number(figures.ceiling)}",
        "forgetting_quality": f"median epsilon {_number(scored.score.median_epsilon, 2)}, "
        f"{len(evaluation.reference.forget_labels)} examples",
    }
    table = _grid()
    for column in SCORE_COLUMNS:
        if not column.is_share:
            text = Text(column.text(figures, unknown=WITHHELD), style="bold" if column.interval else "")
            table.add_row(column.title, text, beside.get(column.field, column.meaning))
    for row in _trojan(figures):
        table.add_row(*row)
    for row in (*_learner(figures), *_stream(figures)):
        table.add_row(*row)
    table.add_row("time", _seconds(evaluation), _time_used(evaluation))
    limit = evaluation.conditions.limit
    if limit is not None and limit.floor_seconds is not None:
        floor = f"{limit.floor_seconds:.2f} s"
        table.add_row("idle run", floor, f"what doing nothing takes, {limit.floor_share:.1%} of the limit")
    made = f"{evaluation.n_made} made now, {len(evaluation.runs) - evaluation.n_made} stored before"
    table.add_row("runs", str(len(evaluation.runs)), made)
    table.add_row("isolation", evaluation.isolation, _isolation(evaluation))
    return table


def _trojan(found: ScoreFile) -> Iterator[tuple[str, str, str]]:
    """Yield the rows of ASR and SA, on tracks with a trojan."""
    assert found.full_stack is not None
    meanings = {"asr": "triggered test images called the target", "sa": "clean test images classified correctly"}
    for name, meaning in meanings.items():
        metric: Metric | None = getattr(found.full_stack, name)
        if metric is not None:
            beside = f"{meaning}; retrained models {number(metric.retrained_mean, 1)} %"
            yield name.upper(), f"{number(metric.mean, 1)} %", beside


def _learner(found: ScoreFile) -> Iterator[tuple[str, str, str]]:
    """Yield what is known of a learner beside its score."""
    learner = found.learner
    if learner is None:
        return
    said = "nothing to forget: the score says little" if learner.nothing_to_forget else "its originals left as they are"
    yield "own floor", number(learner.own_floor, 2), f"calibrated score of {said}"
    share = "" if learner.training_share is None else f", {number(learner.training_share, 1)} of an ordinary one"
    used = f"{learner.share_of_training_limit:.0%} of the limit"
    yield "training", f"{learner.training_seconds:.2f} s{share}", f"{used}, {number(learner.speed_up, 1)} x unlearning"
    yield "state", f"{learner.state_mb:.2f} MB", "the largest that was kept of a training"
    exact = f"exact {learner.exact}/{learner.twins}"
    yield "twins", exact, "unlearned weights that are those of a training without the forget set, bit for bit"
    if learner.certificate is not None:
        epsilon, delta = learner.certificate
        bound, verdict = learner.certificate_bound, "refuted" if learner.certificate_refuted else "not refuted"
        found_bound = f"{verdict}: epsilon is at least {number(bound or 0, 2)}, at 95 %"
        said = "too few runs to tell" if bound is None else found_bound
        yield "certificate", f"epsilon {epsilon:g}, delta {delta:g}", f"claimed; {said}"


def _stream(found: ScoreFile) -> Iterator[tuple[str, str, str]]:
    """Yield what is known of deletion requests: after the first and after the last of them."""
    stream = found.stream
    if stream is None:
        return
    n_requests, sizes = len(stream.examples), sorted({min(stream.examples), max(stream.examples)})
    yield "requests", str(n_requests), f"of {' to '.join(map(str, sizes))} examples each; times are those of one"
    over = sum(count > 0 for count in stream.runs_over_limit)
    slowest, longest = max(stream.seconds), max(stream.max_seconds)
    yield (
        "slowest request",
        f"{slowest:.2f} s",
        f"mean over runs, the longest {longest:.2f} s; in {over} of {n_requests} requests some run was over the limit",
    )
    for name, after, retrained in (
        ("retain accuracy", stream.retain_accuracy, stream.retrained_retain_accuracy),
        ("test accuracy", stream.test_accuracy, stream.retrained_test_accuracy),
        ("on the forgotten", stream.forgotten_accuracy, stream.retrained_forgotten_accuracy[-1]),
    ):
        ends = f"{after[0]:.1%} to {after[-1]:.1%}"
        yield name, ends, f"after the first and the last request; retrained models {retrained:.1%}"
    ends = f"{number(stream.forgotten_distance[0], 3)} to {number(stream.forgotten_distance[-1], 3)} nats"
    beside = "" if (among := stream.retrained_forgotten_distance) is None else f"; {number(among[-1], 3)} between these"
    yield "distance there", ends, f"KL divergence from retrained models on what is forgotten so far{beside}"
    if stream.state_mb is not None:
        ends = f"{number(stream.state_mb[0], 2)} to {number(stream.state_mb[-1], 2)} MB"
        yield "kept state", ends, "after training and after the last request, mean over runs"
    if stream.distance is not None:
        others = [("between these", stream.distance_of_retrained), ("from their own twins", stream.distance_of_twins)]
        beside = "".join(f"; {number(value, 3)} {whose}" for whose, value in others if value is not None)
        said = f"KL divergence from retrained models on the test set, after the last request{beside}"
        yield "distance", f"{number(stream.distance, 3)} nats", said


def _grid() -> Table:
    """Return an empty table in which nothing is cut off, however narrow the terminal is."""
    table = Table(show_header=False, box=None, padding=(0, 1))
    for _ in range(3):
        table.add_column(overflow="fold")
    return table


def _mean_seconds(evaluation: Evaluation) -> float:
    return sum(run.seconds for run in evaluation.runs) / len(evaluation.runs)


def _seconds(evaluation: Evaluation) -> str:
    """Return mean and standard deviation of the runs' seconds."""
    seconds = [run.seconds for run in evaluation.runs]
    spread = f" ± {statistics.stdev(seconds):.2f}" if len(seconds) > 1 else ""
    return f"{_mean_seconds(evaluation):.2f}{spread} s"


def _time_used(evaluation: Evaluation) -> str:
    limit = evaluation.conditions.limit
    assert limit is not None
    slowest = "" if evaluation.score_file.stream is None else "slowest request "
    if limit.training_seconds is None:
        return f"{slowest}{evaluation.share_of_limit:.0%} of the limit of {limit.seconds:g} s"
    used = f"{slowest}{evaluation.share_of_limit * limit.fraction:.1%}"
    return f"{used} of a training ({limit.training_seconds:.1f} s), limit {percent(limit.fraction)}"


def _isolation(evaluation: Evaluation) -> Text:
    """Return what the level is good for, one's own code may always be run; and whether it is that of stored runs."""
    now, said = evaluation.conditions.isolation.level, []
    if evaluation.isolation != "full":
        why = " (harness doctor says why)" if evaluation.isolation == now else ""
        said.append(f"no security boundary: trusted code only{why}")
    if evaluation.isolation != now:
        said.append(f"of the stored runs; new ones would be made at {now}")
    style = {"full": "", "none": "red"}.get(evaluation.isolation, "yellow")
    return Text("; ".join(said), style=style)


def _failure(evaluation: Evaluation) -> list[RenderableType]:
    """Return outcome, what the file itself did wrong, its own output, and the remedy."""
    run = evaluation.failed
    parts: list[RenderableType] = []
    if run is None:
        parts.append(Text(evaluation.outcome, style="bold red"))
        parts += [Text(f"  {escaped(problem)}") for problem in evaluation.submission.problems]
    else:
        place = f" in run {run.index} of {evaluation.n_requested}"
        parts.append(Text.assemble((evaluation.outcome, "bold red"), place))
        parts += [Text(f"  | {escaped(line)}") for line in (*run.info.lines, run.info.message)]
        parts += _output(run)
    parts.append(_line(f"remedy: {evaluation.outcome.remedy(evaluation.submission.path, *_options(evaluation))}"))
    return parts


def _output(run: Run) -> list[RenderableType]:
    lines = run.info.log.splitlines()
    if not lines:
        return []
    shown = [Text(f"  | {escaped(line)}") for line in lines[-OUTPUT_LINES:]]
    head = "its output" if len(lines) <= OUTPUT_LINES else f"the last {OUTPUT_LINES} lines of its output"
    return [Text(f"{head}:"), *shown]


def _number(value: float | None, digits: int = 3) -> str:
    return WITHHELD if value is None else number(value, digits)


class ProgressBar:
    """A bar on a terminal; elsewhere a plain line now and then. Use as a context; call with (done, total)."""

    def __init__(self, console: Console, label: str) -> None:
        self.console, self.label = console, label
        self._last_line = time.monotonic()
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._task = self._bar.add_task(label, total=None)

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._bar.start()
        else:
            self.console.print(f"{self.label} ...")
        return self

    def __exit__(self, *_: object) -> None:
        if self.console.is_terminal:
            self._bar.stop()

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """Show how far it is."""
        if self.console.is_terminal:
            self._bar.update(self._task, completed=done, total=total, description=f"{self.label} {note}".rstrip())
        elif time.monotonic() - self._last_line >= PLAIN_SECONDS:
            self._last_line = time.monotonic()
            self.console.print(f"{self.label}: {done / total:.0%} {note}".rstrip())


class LiveRuns(ProgressBar):
    """The live line of an evaluation: run k of N, and the share of the time limit used so far."""

    def __init__(self, console: Console, n_runs: int) -> None:
        super().__init__(console, f"{n_runs} runs")
        self.n_runs = n_runs
        self._shares: list[float] = []
        self._reached = 0

    def count_training(self, done: int, total: int) -> None:
        """Say how far a learner's trainings are."""
        self(done, total, f"training {done} of {total}")

    def add(self, run: Run) -> None:
        """Count a run."""
        self._shares.append(run.seconds / run.info.limit_seconds)
        share = sum(self._shares) / len(self._shares)
        self._reached = max(self._reached, run.index + 1)
        self(self._reached, self.n_runs, f"run {self._reached} of {self.n_runs}, {share:.0%} of the time limit")
