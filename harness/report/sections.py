"""The sections of a report: a plot or a table each, with what it shows and how to read it."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from harness.evaluation.evaluate import Evaluation
from harness.evaluation.own_reference import ceiling_models_of, models_of
from harness.evaluation.reference import outputs
from harness.evaluation.score_file import ScoreFile
from harness.evaluation.stream_figures import StreamFigures
from harness.record import SETS, Records
from harness.report import plots
from harness.report.learner_table import stages_table
from harness.report.numbers import number
from harness.report.style import ORIGINAL_STYLE, RETRAINED_STYLE, UNLEARNED_STYLE, svg
from harness.report.tables import Table, audit_table, full_stack_table, sibling_table, spread_table
from harness.runs.learner_runs import LearnerRunSet
from harness.runs.run import records_of
from harness.scoring.attacks import gaussian_log_ratios
from harness.scoring.audit import Audit, audit
from harness.scoring.official import example_epsilons
from harness.scoring.spread import spread
from harness.scoring.tradeoff import trade_off

__all__ = ["Section", "embedded", "picture", "sections"]

MIN_ATTACKED_RUNS = 4  # fewer cannot be split into folds
RATES = np.linspace(0, 1, 101)
N_SHOWN = 2  # examples of the lowest, of the middle and of the highest epsilons
BYTE = 255  # the largest value of images that come as they are, and are not divided by a scale


@dataclass(frozen=True)
class Section:
    """One part of the page: a plot or a table, and how to read it."""

    title: str
    reading: str
    figure: str | None = None  # a data URI
    alt: str = ""  # the figure in words
    table: Table | None = None


def sections(
    evaluation: Evaluation, found: ScoreFile, siblings: Sequence[Evaluation] = (), *, hidden: bool = False
) -> list[Section]:
    """Return the sections of an evaluation whose runs are all OK, in the order of the page.

    found: its score. siblings: evaluations of the same file on tracks with the same originals, other forget sets.
    hidden: without those that show forget examples, or of which classes and subjects they are.
    """
    compared = Compared.of(evaluation)
    return [
        _scale(found),
        _epsilons(compared),
        *([] if hidden else [_examples(evaluation, compared)]),
        *_trade_off(compared),
        *([] if hidden else _groups(evaluation, compared)),
        _accuracies(compared),
        _seconds(evaluation) if found.stream is None else _requests(evaluation, found.stream),
        *_made_of(evaluation),
        _spread([evaluation, *siblings]),
        *_siblings(found, siblings),
        *_tables(evaluation, found, compared),
    ]


@dataclass(frozen=True)
class Compared:
    """The arrays that the plots are made of: unlearned models beside the two pools of retrained ones."""

    unlearned: Records
    retrained: Records  # those scored against
    originals: Records
    confidences: np.ndarray  # (n, n_forget) of the unlearned models
    scoring: np.ndarray  # (n, n_forget) of the retrained ones
    ceiling: np.ndarray  # (n, n_forget) of the second pool, a perfect submission
    epsilons: np.ndarray  # (n_forget,) official
    ceiling_epsilons: np.ndarray  # (n_forget,) of the second pool

    @classmethod
    def of(cls, evaluation: Evaluation) -> "Compared":
        """Return the arrays of an evaluation whose runs are all OK; a learner's with models of its own."""
        reference, records = evaluation.reference, records_of(evaluation.runs)
        originals, retrained = models_of(evaluation.run_set, evaluation.track)
        confidences = outputs(records, reference.forget_labels).confidences
        scoring, ceiling = reference.scoring.confidences, reference.ceiling_outputs.confidences
        return cls(
            unlearned=records,
            retrained=retrained[: len(records)],
            originals=originals,
            confidences=confidences,
            scoring=scoring,
            ceiling=ceiling,
            epsilons=example_epsilons(confidences, scoring),
            ceiling_epsilons=example_epsilons(ceiling, scoring),
        )


def _scale(found: ScoreFile) -> Section:
    official, best, floor = found.score, found.ceiling, found.floor
    rows = [
        plots.ScaleRow("retrained (the ceiling)", RETRAINED_STYLE, best, found.ceiling_interval),
        plots.ScaleRow("unlearned (this submission)", UNLEARNED_STYLE, official, found.score_interval),
        plots.ScaleRow("original (the floor)", ORIGINAL_STYLE, floor),
    ]
    return Section(
        "Score between floor and ceiling",
        "Retrained models, scored as if they were a submission, get the ceiling, and 95 % of them lie on its line; "
        "original models left as they are get the floor. The line of this submission is its 95 % interval over models.",
        embedded(plots.score_scale(rows)),
        f"Official score {number(official, 3)} between floor {number(floor, 3)} and ceiling {number(best, 3)}",
    )


def _epsilons(compared: Compared) -> Section:
    return Section(
        "Epsilon of the forget examples",
        "Epsilon says how well thresholds on one example's confidence tell unlearned from retrained models: the "
        "further left, the better forgotten. The orange outline is what retraining itself gets, so bars should "
        "follow it; the forgetting quality is the mean of the credits printed above the bars.",
        embedded(
            plots.epsilon_histogram(compared.epsilons, compared.ceiling_epsilons, n_models=len(compared.unlearned))
        ),
        f"Histogram of epsilon: median {_median(compared.epsilons)}, of the ceiling "
        f"{_median(compared.ceiling_epsilons)}",
    )


def _examples(evaluation: Evaluation, compared: Compared) -> Section:
    forget = evaluation.track.examples("forget")
    classes = _classes(evaluation)
    original = outputs(compared.originals, forget.labels).confidences
    scale = evaluation.track.declaration.data.scale
    shown = [
        plots.Example(
            f"{rank} epsilon: {compared.epsilons[place]:.2f}\nclass {classes[place]}",
            compared.confidences[:, place],
            compared.scoring[:, place],
            original[:, place],
            picture(forget.images[place], scale),
        )
        for rank, places in _ends(compared.epsilons).items()
        for place in places
    ]
    return Section(
        "Confidences of single forget examples",
        "Each panel is one forget example: how many models have which confidence in its true class. Diamonds are "
        "the original models, which were trained on it. Forgotten means that blue follows orange, in place and width.",
        embedded(plots.confidence_histograms(shown)) if shown else None,
        "Histograms of confidences for examples of the lowest, median and highest epsilon",
    )


def _ends(epsilons: np.ndarray) -> dict[str, np.ndarray]:
    """Return the examples of the lowest, middle and highest epsilons; fewer where there are not enough."""
    order = np.argsort(epsilons, kind="stable")[: np.isfinite(epsilons).sum()]
    middle = max(0, (len(order) - N_SHOWN) // 2)
    ranks = {
        "lowest": order[:N_SHOWN],
        "median": order[middle : middle + N_SHOWN],
        "highest": order[-N_SHOWN:],
    }
    return {rank: places for rank, places in ranks.items() if len(places)}


def picture(image: np.ndarray, scale: float) -> np.ndarray | None:
    """Return an image (height, width, channels) as it can be shown; scale: its largest value, 1 if not known.

    None if it has not 1 or 3 channels, or is a row of a table.
    """
    if image.shape[1] == 1:
        return None
    shown = np.clip(image / (BYTE if scale == 1 < image.max() else scale), 0, 1)
    return shown[..., 0] if shown.shape[-1] == 1 else shown if shown.shape[-1] == 3 else None


def _trade_off(compared: Compared) -> list[Section]:
    if len(compared.unlearned) < MIN_ATTACKED_RUNS:
        return []
    unlearned, ceiling = (_mean_trade_off(side, compared.scoring) for side in (compared.confidences, compared.ceiling))
    return [
        Section(
            "Trade-off of the two errors",
            "Share of unlearned models that an attacker misses, for each share of retrained ones taken for them; "
            "mean over examples, on models the attack was not learnt on. On the diagonal the two cannot be told apart: "
            "the closer to it, the better.",
            embedded(plots.trade_off_curve(RATES, unlearned, ceiling)),
            f"Trade-off curve: at 10 % false positives {unlearned[10]:.0%} false negatives, for the ceiling "
            f"{ceiling[10]:.0%}",
        )
    ]


def _mean_trade_off(unlearned: np.ndarray, retrained: np.ndarray) -> np.ndarray:
    """Return the false negative rate at each of the RATES, of a likelihood ratio fitted on other models."""
    scores = gaussian_log_ratios(unlearned, retrained, generator=np.random.default_rng(0))
    return np.asarray(trade_off(scores.unlearned, scores.retrained, alphas=list(RATES)).false_negative.mean(axis=1))


def _groups(evaluation: Evaluation, compared: Compared) -> list[Section]:
    kinds = {"class": _classes(evaluation), "subject": evaluation.reference.forget_subjects}
    return [_by_group(kind, member, compared) for kind, member in kinds.items() if member is not None]


def _classes(evaluation: Evaluation) -> np.ndarray:
    """Return the class of every forget example, (n_forget,), by its name where the track has names."""
    labels, names = evaluation.reference.forget_labels, evaluation.track.manifest.class_names
    return labels if names is None else np.array(names)[labels]


def _by_group(kind: str, member: np.ndarray, compared: Compared) -> Section:
    """Return the section of one kind of groups; member: (n_forget,) which one each example is of."""
    groups = [
        plots.Group(f"{kind} {name}", compared.epsilons[member == name], compared.ceiling_epsilons[member == name])
        for name in np.unique(member)
    ]
    shown = plots.MOST_GROUPS
    most = f" Of {len(groups)} these are the {shown} with the largest." if len(groups) > shown else ""
    return Section(
        f"Forgetting per {kind}",
        f"Median epsilon of the forget examples of each {kind}, with their number; the line holds the middle half of "
        f"them.{most} The further right of the ceiling's mark, the worse forgotten; below ten examples a median is "
        "uncertain.",
        embedded(plots.epsilons_by_group(groups, n_models=len(compared.unlearned))),
        "Median epsilon: " + ", ".join(f"{group.name} {_median(group.unlearned)}" for group in groups),
    )


def _accuracies(compared: Compared) -> Section:
    kinds = (
        (UNLEARNED_STYLE, compared.unlearned),
        (RETRAINED_STYLE, compared.retrained),
        (ORIGINAL_STYLE, compared.originals),
    )
    means = ", ".join(f"{models.name} {records.accuracy_on('test').mean():.1%}" for models, records in kinds)
    return Section(
        "Accuracy",
        "Mean over models; the line holds the middle 90 % of them. On the forget set the goal is not 0 but what "
        "retrained models have; on retain and test set it is to lose nothing.",
        embedded(plots.accuracies(SETS, [(models, records.accuracy) for models, records in kinds])),
        f"Accuracies on retain, forget, val and test set; on test: {means}",
    )


def _seconds(evaluation: Evaluation) -> Section:
    seconds = np.array([run.seconds for run in evaluation.runs])
    limits = np.array([run.info.limit_seconds for run in evaluation.runs])
    return Section(
        "Time of the runs",
        "Seconds of every run, from the word go to the end of its process. The mean must not exceed the limit; a "
        "single run is killed at twice the limit.",
        embedded(plots.run_seconds(seconds, limits)),
        f"{seconds.mean():.3g} s per run on average, at most {seconds.max():.3g} s; limit {limits.mean():.3g} s",
    )


def _made_of(evaluation: Evaluation) -> list[Section]:
    if not isinstance(evaluation.run_set, LearnerRunSet):
        return []
    return [
        Section(
            "What its runs are made of",
            "A learner makes the models that it is scored against as well. Mean seconds of every kind of run, each in "
            "a process of its own, and their share of the limit: that of a training, or that of unlearning.",
            table=stages_table(evaluation.run_set),
        )
    ]


def _requests(evaluation: Evaluation, stream: StreamFigures) -> Section:
    """Return the section of deletion requests: accuracy after each, and the time that each took."""
    n_requests, limit = len(stream.examples), float(np.mean([run.info.limit_seconds for run in evaluation.runs]))
    accuracies = {
        "retain set": (stream.retain_accuracy, [stream.retrained_retain_accuracy] * n_requests),
        "test set": (stream.test_accuracy, [stream.retrained_test_accuracy] * n_requests),
        "forgotten": (stream.forgotten_accuracy, stream.retrained_forgotten_accuracy),
    }
    shown = [
        plots.ByRequest(f"{name}, %", *([100 * value for value in values] for values in both))
        for name, both in accuracies.items()
    ]
    among = stream.retrained_forgotten_distance or [np.nan] * n_requests
    shown.append(plots.ByRequest("distance, nats", stream.forgotten_distance, among))
    return Section(
        "Deletion requests",
        "Mean accuracy over models after each request: on what is retained in the end, on the test set, and on all "
        "that is forgotten so far. Beside them the distance there: the KL divergence of outputs from those of "
        "retrained models, and of these from one another. They were trained without all that is forgotten in the end; "
        "for the requests in between none were. Below, the seconds of each request: mean over runs, and a line up to "
        "the longest. The mean of every request must not exceed the limit; a call is killed at twice the limit. Beside "
        "them is, of learners, the state that is handed on, beginning with what training left.",
        embedded(plots.requests(shown, stream.seconds, stream.max_seconds, stream.state_mb, limit=limit)),
        f"Accuracy on the test set {stream.test_accuracy[0]:.1%} after the first and {stream.test_accuracy[-1]:.1%} "
        f"after the last of {n_requests} requests; {max(stream.seconds):.3g} s for the slowest, limit {limit:.3g} s",
    )


def _spread(evaluations: Sequence[Evaluation]) -> Section:
    """Return the section of where runs of one file on sibling tracks differ."""
    records = [records_of(evaluation.runs) for evaluation in evaluations]
    forget_sets = np.repeat(np.arange(len(records)), [len(one) for one in records])
    originals = np.concatenate([one.original for one in records])
    confidence = [
        outputs(one, evaluation.reference.forget_labels).confidences.mean(axis=1)
        for one, evaluation in zip(records, evaluations, strict=True)
    ]
    values = {
        "forget confidence": (np.concatenate(confidence), "mean over forget examples, logit-scaled, nats"),
        **{
            f"{name} accuracy": (np.concatenate([100 * one.accuracy_on(name) for one in records]), "% classified right")
            for name in ("forget", "retain", "test")
        },
    }
    others = "" if len(evaluations) > 1 else " Other forget sets are seen once this file is evaluated on siblings."
    return Section(
        "Spread of the runs",
        "Standard deviations of what the forget set, the original model a run starts from, and the run itself "
        f"contribute, apart from each other; a dash where these runs cannot tell.{others}",
        table=spread_table(
            [(name, spread(value, forget_sets, originals), meaning) for name, (value, meaning) in values.items()]
        ),
    )


def _siblings(found: ScoreFile, siblings: Sequence[Evaluation]) -> list[Section]:
    if not siblings:
        return []
    return [
        Section(
            "Other forget sets",
            "The same file on tracks with the same original models and other forget sets: how far its scores carry.",
            table=sibling_table([found, *(sibling.score_file for sibling in siblings)]),
        )
    ]


def _tables(evaluation: Evaluation, found: ScoreFile, compared: Compared) -> list[Section]:
    assert found.full_stack is not None
    sections = [
        Section(
            "Full-stack metrics",
            "Mean over models ± standard deviation between models; the gap with its standard error. No value is good "
            "by itself: the aim is the retrained models' value, and a gap below their own deviation is none.",
            table=full_stack_table(found.full_stack),
        )
    ]
    if found.audit is not None:
        ceiling = _audit_of_ceiling(evaluation, compared)
        sections.append(
            Section(
                "Audit",
                "Further estimates of how far unlearned and retrained models are apart on the forget set. Beside them "
                "what retrained models get when they are scored as a submission: that, not 0, is the mark to reach.",
                table=audit_table(found.audit, ceiling),
            )
        )
    return sections


def _audit_of_ceiling(evaluation: Evaluation, compared: Compared) -> Audit:
    """Return the audit of the second pool of retrained models, scored as if it were a submission."""
    models = ceiling_models_of(evaluation.run_set, evaluation.track)[: len(compared.unlearned)]
    logits = (models.forget_logits, compared.retrained.forget_logits)
    return audit(compared.ceiling, compared.scoring, logits=logits, seed=0)


def embedded(figure: Figure) -> str:
    """Return a figure as a data URI."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg(figure)).decode()


def _median(epsilons: np.ndarray) -> str:
    resolved = epsilons[~np.isnan(epsilons)]
    return f"{np.median(resolved):.2f}" if len(resolved) else "unresolved"
