"""Is the metric sound on this track? What an organizer asks before the opening.

The second pool of retrained models stands for a perfect submission, the originals for one that does nothing, and games
are played with the outputs of the former: all of that is stored. Two methods that belong between them are run like any
submission.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from harness.errors import UsageError
from harness.evaluation.evaluate import Evaluation
from harness.evaluation.findings import Findings, findings_of
from harness.evaluation.reference import Reference, in_turns, outputs
from harness.record import Records
from harness.runner.outcome import Outcome
from harness.runs.run import Run, RunInfo
from harness.scoring.alarms import Alarm, Behaviour, Standing, alarms
from harness.scoring.games import GAMES
from harness.scoring.score import (
    Outputs,
    calibrated_score,
    half_sample_qualities,
    min_count_quality,
    official_score,
    score,
)
from harness.scoring.thresholds import FEWEST_RANKED
from harness.scoring.uncertainty import CONFIDENCE, Difference, difference, interval, standard_error
from harness.tracks.declaration import Training
from harness.tracks.track import POOLS, Track

__all__ = ["Check", "Known", "check_enough", "known_methods", "selfcheck"]


DRAWS = 20  # of two equal submissions
SURE = 0.99  # a rate is called too high if chance would give it less often than 1 in 100


@dataclass(frozen=True)
class Known:
    """A method of which it is known what it does: a file of the baselines, and what it is run with."""

    what: str
    file: str
    constants: dict[str, str] = field(default_factory=dict)
    time_limit: float | None = None  # a share of a training; None for the track's


def known_methods(training: Training) -> tuple[Known, ...]:
    """Return methods that do some of what retraining does."""
    half = {"EPOCHS": str(max(1, training.epochs // 2)), "BUDGET": "1.0"}
    if training.optimizer == "sgd":  # as the file has it: then all of the track's own recipe
        half |= {name.upper(): str(getattr(training, name)) for name in ("learning_rate", "momentum", "weight_decay")}
    return (
        Known("fine-tuning", "finetune.py"),
        Known("half a retraining", "retrain_within_budget.py", half, time_limit=1.0),
    )


@dataclass(frozen=True)
class Check:
    """One thing that has to hold, what was found, and whether it holds; None where it cannot be told."""

    what: str
    found: str
    holds: bool | None


def selfcheck(track: Track, reference: Reference, known: Mapping[str, Evaluation]) -> Iterator[Check]:
    """Yield the checks of a track at the number of models of its reference, as they are done.

    known: evaluations of methods by what they are, such as those of `known_methods`.
    """
    n = len(reference.scoring)
    perfect = _found(track.retrained(POOLS[1])[:n], track, reference)
    idle = _found(in_turns(track.originals(), n), track, reference)
    yield _retraining_gets_1(perfect)
    yield _no_alarm(perfect)
    yield _floor(idle, reference)
    yield _told_apart(perfect, idle)
    yield from _between(idle, known, perfect)
    yield from _equal_ones(track, reference, idle)
    for name in GAMES:
        yield _game(name, reference, perfect)


def check_enough(runs: int) -> None:
    """Raise UsageError for a number of runs at which scores are not ranked."""
    if runs < FEWEST_RANKED:
        raise UsageError(f"{runs} runs are not ranked, so there is nothing to check; ask for --runs {FEWEST_RANKED}")


def _found(models: Records, track: Track, reference: Reference) -> Findings:
    """Return what is found of models that are scored as if they were runs."""
    runs = [
        Run(index, Outcome.OK, 0.0, RunInfo(1.0, "none", order=index), models[index : index + 1])
        for index in range(len(models))
    ]
    return findings_of(runs, [], track.originals(), reference)


def _retraining_gets_1(perfect: Findings) -> Check:
    value, halves = perfect.scored.calibrated, perfect.scored.halves
    assert halves is not None
    low, high = interval(value, halves.calibrated_score)
    found = f"{value:.2f} ± {(high - low) / 2:.2f}"
    return Check("retrained models get a calibrated score of 1", found, low <= 1 <= high)


def _no_alarm(perfect: Findings) -> Check:
    raised = [alarm.name for alarm in perfect.alarms or ()]
    return Check("they raise no alarm", ", ".join(raised) or "none", not raised)


def _floor(idle: Findings, reference: Reference) -> Check:
    """Doing nothing gets the floor, and is noticed."""
    value, floor = idle.scored.score.score, reference.floor.score
    noticed = "weights unchanged" in {alarm.name for alarm in idle.alarms or ()}
    same = value == floor or (value is not None and floor is not None and bool(np.isclose(value, floor)))
    said = "withheld" if value is None else f"{value:.3f}"
    found = f"{said}, {'noticed' if noticed else 'not noticed'}"
    return Check("doing nothing gets the floor and raises an alarm", found, same and noticed)


def _told_apart(perfect: Findings, idle: Findings) -> Check:
    gap, found = _gap(perfect, idle)
    return Check("doing nothing is told from retraining", found, gap.is_significant and gap.value > 0)


def _between(idle: Findings, known: Mapping[str, Evaluation], perfect: Findings) -> Iterator[Check]:
    """Yield whether methods that do some of a retraining get no less than nothing of it, and no more than all of it."""
    for what, evaluation in known.items():
        own = evaluation.score_file.findings
        if own is None:
            yield Check(f"{what} runs on this track", str(evaluation.outcome), False)
            continue
        for name, (gap, found) in {
            f"{what} gets no less than doing nothing": _gap(own, idle),
            f"{what} gets no more than retraining": _gap(perfect, own),
        }.items():
            yield Check(name, found, not (gap.is_significant and gap.value < 0))


def _gap(first: Findings, second: Findings) -> tuple[Difference, str]:
    """Return by how much the first is above the second in the calibrated score, and that in words."""
    ours, theirs = first.scored, second.scored
    assert ours.halves is not None
    assert theirs.halves is not None
    gap = difference(ours.calibrated, theirs.calibrated, ours.halves.calibrated_score, theirs.halves.calibrated_score)
    evidence = f"p = {gap.p_value:.2g}" if gap.p_value >= 0.0001 else "p < 0.0001"
    return gap, f"{ours.calibrated:.2f} against {theirs.calibrated:.2f}, {evidence}"


def _equal_ones(track: Track, reference: Reference, idle: Findings) -> Iterator[Check]:
    """Yield how often equal submissions are called different, and what difference these runs show.

    Of both pools together two are drawn for submissions and one to score them against; a third of all models each.
    """
    from scipy.stats import binom  # a second's import

    records = Records.concatenate(track.retrained(pool)[: len(reference.scoring)] for pool in POOLS)
    together = outputs(records, reference.forget_labels)
    n = len(together) // 3
    if n < FEWEST_RANKED:
        needed = -(-3 * FEWEST_RANKED // 2)
        yield Check("equal submissions are called equal", f"cannot be told below {needed} models in each pool", None)
        return
    generator = np.random.default_rng(0)
    drawn = [_difference_of_equal_ones(together, n, generator) for _ in range(DRAWS)]
    different = sum(p_value < 1 - CONFIDENCE for p_value, _ in drawn)
    most = int(binom.ppf(SURE, DRAWS, 1 - CONFIDENCE))
    found = f"{different} of {DRAWS} called different; more than {most} would be too many"
    yield Check("equal submissions are called equal", found, different <= most)
    # Noise falls with the root of the number of models.
    visible = float(np.median([reach for _, reach in drawn])) / reference.ceiling.smooth_quality
    visible *= np.sqrt(n / len(reference.scoring))
    room = 1 - idle.scored.calibrated
    found = f"{visible:.2f}, of {room:.2f} between doing nothing and retraining"
    yield Check("smallest difference these runs show", found, bool(visible < room))


def _difference_of_equal_ones(together: Outputs, n: int, generator: np.random.Generator) -> tuple[float, float]:
    """Return p-value and smallest visible difference of Q for two submissions of n retrained models each."""
    first, second, scoring = (together[rows] for rows in generator.permutation(len(together))[: 3 * n].reshape(3, n))
    halves = [half_sample_qualities(side, scoring) for side in (first, second)]
    found = difference(min_count_quality(first, scoring), min_count_quality(second, scoring), *halves)
    return found.p_value, found.visible


def _game(name: str, reference: Reference, perfect: Findings) -> Check:
    """Say whether a game is noticed; one that gains less than the noise of either score is of no use unnoticed."""
    models = reference.ceiling_outputs
    gamed = replace(models, confidences=GAMES[name](models.confidences, np.random.default_rng(0)))
    scored, halves = score(gamed, reference.scoring), perfect.scored.halves
    assert halves is not None
    calibrated = calibrated_score(scored, reference.ceiling.smooth_quality)
    raised = [alarm.name for alarm in _alarms_of(gamed, calibrated, reference)]
    played, honest = (official_score(side, reference.scoring).score for side in (gamed, models))
    gains = calibrated - perfect.scored.calibrated > standard_error(
        halves.calibrated_score
    ) or played - honest > standard_error(halves.score)
    noticed = f"alarm: {', '.join(raised)}" if raised else "no alarm" if gains else "gains nothing"
    official = "withheld" if scored.score is None else f"{scored.score:.3f}"
    found = f"official {official}, calibrated {calibrated:.2f}; {noticed}"
    return Check(f"a game is noticed or gains nothing: {name}", found, bool(raised) or not gains)


def _alarms_of(gamed: Outputs, calibrated: float, reference: Reference) -> list[Alarm]:
    """Return the alarms of runs in which nothing but the confidences is to be seen."""
    n, null = len(gamed), reference.null
    assert null is not None
    runs = Behaviour(
        confidences=gamed.confidences,
        weights=np.arange(n).astype(str),
        distance=np.ones(n),
        order=np.arange(n),
        original=gamed.original,
        val_accuracy=gamed.test_accuracy + null.val_advantage,  # as retrained models have it
        test_accuracy=gamed.test_accuracy,
        change_under_swap=None,
    )
    # Noise is left out: a score above 1 alone is no sign of a game.
    return alarms(runs, reference.scoring.confidences, null, Standing(calibrated - 1, 0.0, ()))
