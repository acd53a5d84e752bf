"""The Python API: what the command line does, as functions. `import harness` offers all of it.

import harness

result = harness.evaluate("submissions/foo.py", runs=16)
print(result.score_file.calibrated_score)
harness.plot(result)
"""

import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from harness.accelerator import resolve
from harness.environment import home as default_home
from harness.environment import require_writable
from harness.errors import UsageError
from harness.evaluation import compare as comparing
from harness.evaluation import evaluate as evaluating
from harness.evaluation.compare import RETRAINED, Comparison, Side
from harness.evaluation.evaluate import Evaluation
from harness.evaluation.make import check_runs
from harness.evaluation.reference import Reference, load_reference
from harness.evaluation.score_file import ScoreFile
from harness.runner.isolation import choose, stronger
from harness.runs.conditions import conditions_here, require_share
from harness.runs.run import Run, records_of
from harness.runs.store import Results
from harness.scoring.arrays import score_arrays
from harness.shipped import submission_path
from harness.submission import Submission, read_submission
from harness.tracks import catalogue
from harness.tracks.track import Track
from harness.tracks.track_names import DEFAULT_TRACK
from harness.tracks.tuning_track import open_tuning_track, runs_of_a_trial
from harness.tuning.ranges import require_trials
from harness.tuning.trials import Trial, Tuning, plan_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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

Announce = Callable[[str], None]  # hears, in a sentence, of what takes a while or is not as asked


def open_track(track: str | Path = DEFAULT_TRACK, *, home: Path | None = None) -> Track:
    """Return a prepared track by its name or its TOML file.

    home: the folder that holds tracks and results, by default HARNESS_HOME or `.harness` here. Raises UsageError if
    there is no such track, or if it has to be prepared first.
    """
    return catalogue.open_track(str(track), (home or default_home()) / "tracks")


def evaluate(
    file: str | Path | Submission,
    *,
    track: str | Path | Track = DEFAULT_TRACK,
    runs: int | None = None,
    constants: Mapping[str, object] | None = None,
    jobs: int | None = None,
    device: str = "auto",
    isolation: str = "auto",
    require_isolation: str | None = None,
    time_limit: float | None = None,
    rescore: bool = False,
    again: bool = False,
    home: Path | None = None,
    announce: Announce = lambda sentence: None,
    on_start: Callable[[], object] = lambda: None,
    on_run: Callable[[Run], None] = lambda run: None,
    on_training: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation:
    """Run a submission many times, as far as its runs are not stored, and score it; as `harness evaluate` does.

    file: its path, or the name of a baseline. Options are those of the command: constants by name, time_limit as
    another share of a training, jobs as runs at once. With rescore nothing is run: stored runs are scored, which may be
    those of another machine. on_start is called once the time limit is known, on_run with each run, on_training with
    how many of a learner's trainings are done, and of how many. A submission that fails is no error: `outcome` says so.
    Raises UsageError for what cannot be done as asked, MachineError if the machine fails.
    """
    place, kind = home or default_home(), resolve(device, announce, is_name=rescore)
    opened = track if isinstance(track, Track) else open_track(track, home=place)
    n_runs = runs or opened.usual_runs
    check_runs(opened, n_runs)
    submission = _submission(file, opened, constants or {})
    required = stronger(isolation, require_isolation)
    if rescore:
        require_share(time_limit)
        return evaluating.load_evaluation(
            *(submission, opened, kind),
            runs=n_runs,
            home=place,
            time_limit=time_limit,
            required_isolation=required,
            rescore=True,
        )
    _require_place(place, Results.of(place, opened, submission, kind, time_limit=time_limit))
    conditions = conditions_here(
        *(opened, place),
        device=kind,
        isolation=choose(isolation, require_isolation, device=kind),
        jobs=jobs,
        time_limit=time_limit,
        may_run=not submission.problems,
        announce=announce,
    )
    on_start()
    return evaluating.evaluate(
        *(submission, opened, conditions),
        runs=n_runs,
        home=place,
        required_isolation=required,
        again=again,
        on_run=on_run,
        on_training=on_training,
    )


def _require_place(home: Path, results: Results) -> None:
    require_writable(home, home / "calibration", results.folder)


def _submission(file: str | Path | Submission, track: Track, constants: Mapping[str, object]) -> Submission:
    if not isinstance(file, Submission):
        values = {name: str(value) for name, value in constants.items()}
        path = submission_path(str(file))
        return read_submission(path, source_kb=track.declaration.limits.source_kb, constants=values)
    if constants:
        raise UsageError("constants are set when a file is read; give its path")
    return file


def tune(
    file: str | Path,
    *,
    track: str | Path | Track = DEFAULT_TRACK,
    trials: int = 12,
    runs: int | None = None,
    ranges: Mapping[str, str] | None = None,
    constants: Mapping[str, object] | None = None,
    jobs: int | None = None,
    device: str = "auto",
    isolation: str = "auto",
    require_isolation: str | None = None,
    again: bool = False,
    home: Path | None = None,
    announce: Announce = lambda sentence: None,
    on_start: Callable[[], object] = lambda: None,
    on_run: Callable[[Run], None] = lambda run: None,
    on_trial: Callable[[Trial], None] = lambda trial: None,
) -> Tuning:
    """Try settings of a file's constants on another forget set than that of a track; as `harness tune` does.

    The first trial is the file as it is, the others are drawn from ranges, by default of positive numbers in capitals.
    ranges: texts by name, such as {"LEARNING_RATE": "0.01:1:log", "SCHEDULE": "cosine,constant"}. constants: values
    for all trials. runs: of each trial, by default 16, or fewer if the tuning track has fewer models. on_start is
    called before the first trial, on_run with every run that is made, on_trial with every trial. Other options are as
    of `evaluate`. A tuning that is kept is returned without running anything, unless `again`.
    Raises UsageError for what cannot be done as asked, MachineError if the machine fails.
    """
    require_trials(trials)
    place, kind = home or default_home(), resolve(device, announce)
    scored = track if isinstance(track, Track) else open_track(track, home=place)
    tuning_track = open_tuning_track(scored)
    n_runs = runs or runs_of_a_trial(tuning_track)
    check_runs(tuning_track, n_runs)
    submission = _submission(file, tuning_track, constants or {})
    plan = plan_of(submission, scored, tuning_track, device=kind, trials=trials, runs=n_runs, ranges=ranges or {})
    require_writable(plan.file(place).parent)
    required = stronger(isolation, require_isolation)
    if not again and (stored := plan.stored(place, required)) is not None:
        return stored
    on_start()
    on_track = partial(evaluate, submission.path, track=tuning_track, runs=n_runs, home=place, again=again)
    trial = partial(on_track, jobs=jobs, device=kind, isolation=isolation, require_isolation=require_isolation)
    found = []
    for settings in plan.settings:
        evaluation = trial(constants={**submission.constants, **settings}, announce=announce, on_run=on_run)
        found.append(Trial.from_evaluation(evaluation, settings))
        on_trial(found[-1])
    tuning = plan.result(found)
    plan.keep(place, tuning)
    return tuning


def compare(
    first: Evaluation | str,
    second: Evaluation | str,
    *,
    track: str | Path | Track = DEFAULT_TRACK,
    runs: int | None = None,
    home: Path | None = None,
) -> Comparison:
    """Say whether two evaluations of as many runs on one track differ; either may be the word `retrained`.

    track, runs: where both are that word; else those of the evaluations. Raises UsageError if they cannot be compared.
    """
    opened = track if isinstance(track, Track) else None
    for side in (first, second):
        if isinstance(side, Evaluation):
            opened, runs = side.track, side.n_requested
    opened = opened or open_track(str(track), home=home)
    n_runs = runs or opened.usual_runs
    reference = load_reference(opened, n_runs, Results.cache(home or default_home(), opened))
    return comparing.compare(_side(first, reference), _side(second, reference), reference)


def _side(given: Evaluation | str, reference: Reference) -> Side:
    if isinstance(given, Evaluation):
        if given.scored is None:
            raise UsageError(f"{given.submission.name} has no score to compare: outcome {given.outcome}")
        if given.submission.is_learner:
            raise UsageError(comparing.no_comparison(given.submission))
        if not np.array_equal(given.reference.scoring.confidences, reference.scoring.confidences):
            raise UsageError("both sides have to be of the same track, with as many runs")
        return comparing.submission_side(given.submission.name, records_of(given.runs), given.scored, reference)
    if given != RETRAINED:
        raise UsageError(f"a side is an evaluation or the word {RETRAINED}, not {given!r}")
    return comparing.retrained_side(reference)


def score(unlearned: Mapping[str, np.ndarray], retrained: Mapping[str, np.ndarray]) -> dict[str, float | None]:
    """Score anyone's arrays with the official metric of 2023.

    Each side holds `confidence` (n_models, n_examples), or `logits` (n_models, n_examples, n_classes) and `labels`
    (n_examples,). With `retain_accuracy` and `test_accuracy` (n_models,), shares from 0 to 1, in both the final score
    is there too. Warns of what looks wrong and may be right. Raises ValueError if an array is not what it is called,
    or if the sides do not fit each other.
    """
    return score_arrays(unlearned, retrained, announce=partial(warnings.warn, stacklevel=2))


def plot(evaluation: Evaluation) -> "Figure":
    """Return a figure of the epsilons of the forget examples, beside those that retraining gets.

    Raises UsageError if there is no score.
    """
    if evaluation.scored is None:
        raise UsageError(f"{evaluation.submission.name} has no score to plot: outcome {evaluation.outcome}")
    from harness.report.plots import epsilon_histogram  # imports matplotlib
    from harness.report.sections import Compared

    compared = Compared.of(evaluation)
    return epsilon_histogram(compared.epsilons, compared.ceiling_epsilons, n_models=len(compared.unlearned))
