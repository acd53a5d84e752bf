"""The full-stack metrics and the audit in a report, as rows of text."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import NamedTuple

from harness.evaluation.score_file import ScoreFile
from harness.report.numbers import UNKNOWN, number
from harness.report.score_columns import SCORE_COLUMNS
from harness.scoring.audit import Audit, Estimates
from harness.scoring.full_stack import FullStack, Metric
from harness.scoring.spread import Spread

__all__ = ["Table", "audit_table", "full_stack_table", "sibling_table", "spread_table"]


@dataclass(frozen=True)
class Table:
    """Text in rows below a header; all but the first and the last column are figures."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]


class _Row(NamedTuple):
    """What a value is called, how many digits after the point say something, and what it is."""

    key: str
    label: str
    digits: int
    meaning: str


METRICS = (
    _Row("ua", "UA", 1, "% of forget examples misclassified"),
    _Row("mia_efficacy", "MIA-Efficacy, SVC", 1, "% of forget examples an attack takes for unseen ones"),
    _Row("mia_efficacy_threshold", "MIA-Efficacy, threshold", 1, "the same of the best threshold, on all models"),
    _Row("mia_privacy", "MIA-Privacy, SVC", 1, "% right in telling retain from test examples; 50 is chance"),
    _Row("mia_privacy_threshold", "MIA-Privacy, threshold", 1, "the same of the best threshold, on all models"),
    _Row("ra", "RA", 2, "% of retain examples classified correctly"),
    _Row("ta", "TA", 2, "% of test examples classified correctly"),
    _Row("asr", "ASR", 1, "% of triggered test images called the trojan's target"),
    _Row("sa", "SA", 2, "% of clean test examples classified correctly: TA, beside ASR"),
    _Row("rte", "RTE", 3, "seconds of a run, or of one of its requests, over those of a training"),
    _Row("consistency_y", "consistency, classes", 1, "% of test examples predicted as by a retrained model"),
    _Row("consistency_kl", "consistency, KL", 3, "nats from a retrained model's outputs on test examples"),
)
SCALARS = (
    _Row(
        "disparity_average",
        "disparity average",
        2,
        "mean gap of UA, MIA-Efficacy, RA, TA in % points; 0 is best",
    ),
    _Row("efficiency", "efficiency", 1, "seconds of a training over those of a run, or of a request; higher is better"),
    _Row("effectiveness", "effectiveness", 2, "gap of TA in % points; 0 is best"),
    _Row("certifiability", "certifiability", 3, "relative gap of the accuracy on forget examples; certifies nothing"),
)
ESTIMATES = (
    _Row(
        "epsilon_median",
        "epsilon, min-count, median",
        2,
        "nats, of the best half-line with enough models",
    ),
    _Row("epsilon_95", "epsilon, min-count, 95 % quantile", 2, "the same of the worst forgotten examples"),
    _Row("smooth_quality", "Q", 3, "mean of 2^(-2 epsilon), the smooth forgetting quality"),
    _Row("mu_mean", "mu, mean", 2, "as hard to tell apart as N(0, 1) from N(mu, 1); 0 cannot be told apart"),
    _Row("mu_se", "mu, standard error of the mean", 2, "over redraws of models"),
    _Row("mu_95", "mu, 95 % quantile", 2, "of the worst forgotten examples"),
    _Row("certified_share", "certified share", 3, "examples whose epsilon is above 0 with 95 % confidence"),
    _Row("certified_median", "certified epsilon, median", 2, "lower bound at 95 %, in nats"),
    _Row("lira_accuracy", "U-LiRA, accuracy", 3, "of a per-example attack; 0.5 is chance"),
    _Row("lira_auc", "U-LiRA, AUC", 3, "0.5 is chance"),
    _Row("lira_tpr", "U-LiRA, TPR at 1 % FPR", 3, "0.01 is chance; needs 100 models"),
)
SET_LEVEL = (
    _Row("auc", "set level, AUC", 3, "a classifier on all forget examples of a model at once; 0.5 is chance"),
    _Row("p_value", "set level, p", 3, "of no difference, by permutation"),
)
ALL_LOGITS = (
    _Row("auc", "all logits, AUC", 3, "a classifier on the logits of all classes; 0.5 is chance"),
    _Row("p_value", "all logits, p", 3, "of no difference, by permutation"),
)
TRACES = (
    _Row("retrained_outside", "retrained outside", 3, "share of retrained models outside the range of these"),
    _Row("unlearned_outside", "unlearned outside", 3, "share of these outside the range of retrained models"),
    _Row("tie_fraction", "ties", 3, "share of confidences that repeat"),
    _Row("window_mass", "window mass", 3, "largest share of models in a narrow window"),
    _Row("cramer_von_mises", "Cramér-von Mises", 2, "about 1/6 where nothing differs; below it too good a fit"),
    _Row("klom", "KLoM", 2, "binned divergence, in nats; falls with the number of models"),
)


def full_stack_table(found: FullStack) -> Table:
    """Return the full-stack metrics of a submission, beside those of retrained models."""
    header = ("metric", "unlearned", "retrained", "gap", "what it is")
    metrics = []
    for row in METRICS:
        metric: Metric | None = getattr(found, row.key)
        if metric is None:  # of tracks with a trojan alone
            continue
        metrics.append(
            (
                row.label,
                _plus_minus(metric.mean, metric.sd, row.digits),
                _plus_minus(metric.retrained_mean, metric.retrained_sd, row.digits),
                _plus_minus(metric.gap, metric.gap_standard_error, row.digits, sign="+"),
                row.meaning,
            )
        )
    scalars = [
        (row.label, number(getattr(found, row.key), row.digits), UNKNOWN, UNKNOWN, row.meaning) for row in SCALARS
    ]
    return Table(header, metrics + scalars)


def audit_table(found: Audit, ceiling: Audit) -> Table:
    """Return the audit of a submission beside that of retrained models scored as one."""
    rows = [_pair(row, found.traces, ceiling.traces) for row in TRACES]
    ours, theirs = found.estimates, ceiling.estimates
    if ours is not None and theirs is not None:
        profile = [
            _Row(
                epsilon,
                f"divergence at epsilon {epsilon}",
                3,
                "largest P(unlearned) - e^epsilon P(retrained)",
            )
            for epsilon in ours.divergences
        ]
        rows = [
            *(_pair(row, ours, theirs) for row in ESTIMATES),
            *(_divergence(row, ours, theirs) for row in profile),
            *(_pair(row, ours.set_level, theirs.set_level) for row in SET_LEVEL),
            *(_pair(row, ours.all_logits, theirs.all_logits) for row in ALL_LOGITS),
            *rows,
        ]
    return Table(("estimate", "unlearned", "retrained", "what it is"), rows)


def sibling_table(evaluations: Sequence[ScoreFile]) -> Table:
    """Return the scores of a file on sibling tracks, with their mean and spread."""
    shown = [column for column in SCORE_COLUMNS if not column.is_share]
    rows = [
        (one.track, *(number(column.value(one), 3) for column in shown), f"{one.n_runs} runs") for one in evaluations
    ]
    found = [[value for one in evaluations if (value := column.value(one)) is not None] for column in shown]
    for name, statistic in (("mean", fmean), ("standard deviation", stdev)):
        over = [statistic(values) if len(values) > 1 else None for values in found]
        rows.append((name, *(number(value, 3) for value in over), "forget sets"))
    return Table(("track", *(column.title for column in shown), "of"), rows)


def spread_table(found: Sequence[tuple[str, Spread, str]]) -> Table:
    """Return where values differ between runs, as name, spread and meaning each."""
    header = ("value", "between forget sets", "between originals", "between runs", "what it is")
    rows = [
        (name, number(one.forget_sets, 3), number(one.originals, 3), number(one.runs, 3), meaning)
        for name, one, meaning in found
    ]
    return Table(header, rows)


def _plus_minus(value: float | None, spread: float | None, digits: int, sign: str = "") -> str:
    return number(value, digits, sign) + ("" if value is None or spread is None else f" ± {number(spread, digits)}")


def _divergence(row: _Row, ours: Estimates, theirs: Estimates) -> tuple[str, ...]:
    """Return divergences as they are shown: below 0 they say no more than 0."""
    values = [number(max(side.divergences[row.key], 0.0), row.digits) for side in (ours, theirs)]
    return row.label, *values, row.meaning


def _pair(row: _Row, ours: object, theirs: object) -> tuple[str, ...]:
    """Return the row of a field that both sides have; a dash for a side that is None."""
    values = [number(getattr(side, row.key, None), row.digits) for side in (ours, theirs)]
    return row.label, *values, row.meaning
