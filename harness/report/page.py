"""An evaluation as one self-contained page: what was found, how to read it, and the plots a person wants to see.

The page needs nothing beside itself: plots are embedded, and what a participant wrote is escaped.
"""

from collections.abc import Sequence

import numpy as np
from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from harness.evaluation.evaluate import Evaluation
from harness.evaluation.figures import Interval
from harness.evaluation.score_file import ScoreFile
from harness.report.learner_columns import LEARNER_COLUMNS
from harness.report.numbers import WITHHELD, number
from harness.report.score_columns import SCORE_COLUMNS
from harness.report.sections import sections
from harness.report.summary import alarm_sentences, remarks
from harness.runner.outcome import Outcome
from harness.scoring.score import SCORER_VERSION

__all__ = ["pages", "render_page"]


def render_page(evaluation: Evaluation, siblings: Sequence[Evaluation] = ()) -> str:
    """Return the page of an evaluation as HTML; every run has to be OK.

    siblings: evaluations of the same file on tracks with the same original models and other forget sets.
    Takes some seconds: metrics, audit and, for comparison, the audit of retrained models are computed from the records.
    """
    assert evaluation.outcome == Outcome.OK, "a failed submission has no page"
    found = evaluation.score_file
    return (
        pages("harness.report")
        .get_template("page.html")
        .render(
            name=evaluation.submission.name,
            on=f" on {evaluation.track.name}",
            tiles=_tiles(found),
            facts=_facts(evaluation),
            notes=_notes(evaluation),
            sections=sections(evaluation, found, siblings),
        )
    )


def pages(*packages: str) -> Environment:
    """Return the templates of some packages by name; what they show is escaped."""
    return Environment(
        loader=ChoiceLoader([PackageLoader(package, "") for package in packages]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _tiles(found: ScoreFile) -> list[tuple[str, str, list[str]]]:
    """Return what is printed large: name, value, and lines that say how to read it."""
    calibrated = [f"95 % interval {_range(found.calibrated_interval, 2)}", "1.00 is what retraining gets"]
    if found.error_over_subjects is not None:
        calibrated.append(f"± {number(found.error_over_subjects, 2)} had other subjects been forgotten")
    official = [
        f"95 % interval {_range(found.score_interval, 3)}",
        f"ceiling {_score(found.ceiling)} ({_range(found.ceiling_interval, 3)}): retrained models",
        f"floor {_score(found.floor)}: original models as they are",
    ]
    return [
        ("calibrated score", number(found.calibrated_score, 2), calibrated),
        ("official score", _score(found.score), official),
    ]


def _facts(evaluation: Evaluation) -> list[tuple[str, str]]:
    """Return what was evaluated and how, by name."""
    assert evaluation.scored is not None
    submission, track, found = evaluation.submission, evaluation.track, evaluation.score_file
    constants = ", ".join(f"{name} = {value}" for name, value in submission.constants.items())
    versions = evaluation.runs[0].info.environment
    because = found.unranked_because
    median = number(evaluation.scored.score.median_epsilon, 2)
    beside = {"forgetting_quality": f", median epsilon {median}, {len(evaluation.reference.forget_labels)} examples"}
    return [
        ("submission", f"{submission.name} ({constants})" if constants else submission.name),
        ("code", f"{submission.code_hash[:16]}, file sha256 {submission.sha256[:16]}"),
        ("track", f"{track.name}: {track.declaration.title}"),
        ("outcome", str(evaluation.outcome)),
        ("runs", f"N = {len(evaluation.runs)}, against as many retrained models"),
        ("ranked", "yes" if because is None else f"no: {because}"),
        *(
            (column.title, column.text(found, unknown=WITHHELD) + beside.get(column.field, ""))
            for column in SCORE_COLUMNS
            if column.interval is None and not column.is_share
        ),
        *(
            (column.title, column.text(found.learner))
            for column in LEARNER_COLUMNS
            if column.value(found.learner) is not None
        ),
        ("time", _time(evaluation)),
        ("alarms", _alarms(evaluation)),
        ("isolation", evaluation.isolation),
        ("device", evaluation.conditions.device),
        ("versions", ", ".join(f"{name} {version}" for name, version in versions.items())),
        ("scored", f"scorer {SCORER_VERSION}, reference {(track.manifest.reference_hash or '')[:12]}"),
    ]


def _alarms(evaluation: Evaluation) -> str:
    if evaluation.alarms is None:
        return "not looked for: too few runs"
    return ", ".join(alarm.name for alarm in evaluation.alarms) or "none"


def _notes(evaluation: Evaluation) -> list[str]:
    """Return remarks and alarms in words."""
    return remarks(evaluation) + alarm_sentences(evaluation)


def _time(evaluation: Evaluation) -> str:
    mean = np.mean([run.seconds for run in evaluation.runs])
    limit = np.mean([run.info.limit_seconds for run in evaluation.runs])
    what, which = ("run", "") if evaluation.score_file.stream is None else ("request", "the slowest ")
    return f"{mean:.3g} s per {what}, {which}{evaluation.share_of_limit:.0%} of the limit of {limit:.3g} s"


def _score(value: float | None) -> str:
    return WITHHELD if value is None else number(value, 3)


def _range(interval: Interval | None, digits: int) -> str:
    """Return an interval of scores, which are never below 0."""
    if interval is None:
        return "unknown"
    return f"{number(max(interval[0], 0.0), digits)} to {number(interval[1], digits)}"
