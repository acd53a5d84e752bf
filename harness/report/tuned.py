"""A tuning on the terminal: every trial, the best one, and what its score is worth."""

from collections.abc import Iterator
from pathlib import Path
from statistics import NormalDist, fmean

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from harness.constants import literal_of
from harness.evaluation.commands import options
from harness.evaluation.figures import RANKING
from harness.quoting import quoted
from harness.report.escaping import escaped
from harness.report.score_columns import score_column
from harness.report.terminal import ProgressBar
from harness.runner.outcome import Outcome
from harness.runs.run import Run
from harness.scoring.thresholds import FEWEST_RANKED
from harness.scoring.uncertainty import NORMAL_REACH
from harness.tuning.trials import Trial, Tuning

__all__ = ["LiveTrials", "show_tuning"]

SHOWN = ("calibrated_score", "score", "share_of_limit")  # columns of the table


class LiveTrials(ProgressBar):
    """The live line of a tuning, and a line for each trial that is done."""

    def __init__(self, console: Console, n_trials: int, n_runs: int) -> None:
        super().__init__(console, f"{n_trials} trials of {n_runs} runs")
        self._n_trials, self._n_runs = n_trials, n_runs
        self._trials_done, self._runs_done = 0, 0

    def add_run(self, _: Run) -> None:
        """Count a run of the trial that is going on."""
        self._runs_done += 1
        self._show()

    def add_trial(self, trial: Trial) -> None:
        """Count a trial, and say what became of it."""
        self._trials_done, self._runs_done = self._trials_done + 1, 0
        calibrated, _, share = (score_column(field).text(trial) for field in SHOWN)
        found = f"calibrated {calibrated}" if trial.remark is None else _remark(trial)
        self.console.print(
            Text(f"trial {self._trials_done}: {found} ({share} of the limit), {_settings(trial)}"), soft_wrap=True
        )
        self._show()

    def _show(self) -> None:
        done = self._trials_done * self._n_runs + self._runs_done
        self(done, self._n_trials * self._n_runs, f"trial {min(self._trials_done + 1, self._n_trials)}")


def show_tuning(tuning: Tuning, file: Path, *, is_scored_here: bool) -> RenderableType:
    """Return the whole result; is_scored_here: the track that settings are looked for can be evaluated on here."""
    heading = f"{tuning.submission}: {tuning.n_trials} trials of {tuning.n_runs} runs on {tuning.tuning_track}"
    ranges = "  ".join(f"{name}={span}" for name, span in tuning.ranges.items())
    return Group(
        Text(heading, style="bold"),
        Text(
            f"its forget set is not that of {tuning.track}; made on {tuning.made[:10]}, drawn with seed {tuning.seed}"
        ),
        Text(f"from {escaped(ranges)}"),
        _table(tuning),
        *(_line(sentence) for sentence in _conclusion(tuning, file, is_scored_here)),
    )


def _table(tuning: Tuning) -> Table:
    table = Table(box=None, padding=(0, 1))
    for title in ("trial", *(score_column(field).name for field in SHOWN)):
        table.add_column(title, no_wrap=True, justify="right")
    table.add_column("settings", overflow="fold")
    for number, trial in enumerate(tuning.trials, 1):
        figures = (score_column(field).text(trial) for field in SHOWN)
        remark = "" if trial.remark is None else f": {_remark(trial)}"
        style = "bold" if number == tuning.best else ""
        table.add_row(str(number), *figures, Text(f"{_settings(trial)}{remark}"), style=style)
    return table


def _settings(trial: Trial) -> str:
    return escaped("  ".join(f"{name}={value}" for name, value in trial.settings.items())) or "the file as it is"


def _remark(trial: Trial) -> str:
    said = escaped((trial.remark or "").partition("\n")[0])
    return f"{trial.outcome}, {said}" if trial.outcome.is_fault_of_submission else said


def _conclusion(tuning: Tuning, file: Path, is_scored_here: bool) -> Iterator[str]:
    """Yield what to make of the trials, and the command that comes next."""
    best, constants = tuning.best_trial, tuning.best_constants
    if best is None or constants is None:
        yield from _without_score(tuning, file)
        return
    ranking = score_column(RANKING[tuning.rank_by])
    ours, as_it_is = (ranking.text(trial) for trial in (best, tuning.trials[0]))
    beside = "the file as it is" if tuning.best == 1 else f"against {as_it_is} of the file as it is"
    yield f"best: trial {tuning.best}, {ranking.title} {ours}, {beside}"
    yield f"the best of many looks better than it is{_luck(tuning)}; what counts is its score on {tuning.track}"
    if tuning.n_runs < FEWEST_RANKED:
        yield f"trials of {tuning.n_runs} runs hardly tell settings apart; {FEWEST_RANKED} are usual"
    if is_scored_here:
        same = options(tuning.track, device=tuning.device, constants=constants)
        yield f"score it there: {' '.join([f'harness evaluate {quoted(file)}', *same])}"
    elif constants:
        values = ", ".join(f"{name} = {literal_of(value)}" for name, value in constants.items())
        yield f"write this into the file before you hand it in: {escaped(values)}"


def _without_score(tuning: Tuning, file: Path) -> Iterator[str]:
    """Yield what was wrong with the first trial, the file as it is, and what to do about it."""
    first, same = tuning.trials[0], options(tuning.tuning_track, device=tuning.device, constants=tuning.constants)
    yield f"no trial has a score; of the first: {_remark(first)}"
    yield f"remedy: {(first.outcome if first.outcome != Outcome.OK else Outcome.TIME_LIMIT).remedy(file, *same)}"


def _luck(tuning: Tuning) -> str:
    """Return by how much the best of equally good settings would come out too high, where intervals are known."""
    ranking = score_column(RANKING[tuning.rank_by])
    ends = [interval for trial in tuning.trials if (interval := ranking.ends(trial)) is not None]
    n = len(ends)
    if n < 2 or tuning.n_runs < FEWEST_RANKED:
        return ""
    error = fmean(high - low for low, high in ends) / 2 / NORMAL_REACH
    expected = NormalDist().inv_cdf((n - 0.375) / (n + 0.25))  # the largest of n normal values; Blom 1958
    return f", by about {expected * error:.{ranking.digits}f} if all {n} were equally good"


def _line(text: str) -> Text:
    """Return a text that a terminal folds where it ends, so that a command in it can be copied."""
    return Text(text, no_wrap=True, overflow="ignore")
