"""A prepared track on one page, for its organizer: what is forgotten, and whether it can tell methods apart.

It shows examples of the forget set and how retrained models behave: it lies beside the private part, and does not
travel.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from harness.evaluation.figures import Interval
from harness.evaluation.reference import Reference, Scored, unchanged
from harness.record import SETS, Records
from harness.report import plots
from harness.report.numbers import number
from harness.report.page import pages
from harness.report.sections import Section, embedded, picture
from harness.report.style import ORIGINAL_STYLE, RETRAINED_STYLE
from harness.report.tables import Table
from harness.runs.run import percent
from harness.scoring.thresholds import FEWEST_RANKED
from harness.scoring.uncertainty import interval
from harness.storage import write_bytes
from harness.tracks.declaration import Model
from harness.tracks.track import POOLS, Examples, Track, class_name

__all__ = ["PAGE", "TrackPage", "track_page", "write_track_page"]

PAGE = "track.html"
WEAK = 0.8  # ASR of originals, below which a trojan is hardly there to be forgotten

N_EXAMPLES = 8  # shown of the retain and of the forget set
MOST_CLASSES = 30  # counted one by one


class TrackPage(NamedTuple):
    """What is to be said of a track."""

    html: str
    verdict: str  # whether it can tell methods apart, in words


def write_track_page(track: Track, page: TrackPage) -> Path:
    """Write the page into the folder of a track, and return its file."""
    file = track.folder / PAGE
    write_bytes(file, page.html.encode())
    return file


def track_page(track: Track, reference: Reference) -> TrackPage:
    """Return the page of a track; reference: that of as many runs as submissions have by default."""
    sets = {name: track.examples(name) for name in SETS}
    originals = track.originals()
    retrained = Records.concatenate(track.retrained(pool) for pool in POOLS)
    ends = _Ends.of(originals, reference)
    verdict = " ".join([ends.verdict(), *_trojan(originals, retrained)])
    html = (
        pages("harness.report")
        .get_template("page.html")
        .render(
            name=f"The track {track.name}",
            on="",
            tiles=ends.tiles(),
            facts=_facts(track, sets),
            notes=[verdict],
            sections=[
                *_pictures(track, sets),
                _counts(track, sets),
                _accuracies(originals, retrained),
                ends.section(),
            ],
        )
    )
    return TrackPage(html, verdict)


# ---- can it tell methods apart? -----------------------------------------------------------------------------------


class _End(NamedTuple):
    """One end of the scale, with its noise as a submission would have it."""

    scored: Scored
    calibrated: Interval | None
    official: Interval | None

    @classmethod
    def of(cls, scored: Scored) -> "_End":
        halves, official = scored.halves, scored.score.score
        if halves is None:
            return cls(scored, None, None)
        around = None if official is None else interval(official, halves.score)
        return cls(scored, interval(scored.calibrated, halves.calibrated_score), around)


class _Ends(NamedTuple):
    """Original models left as they are, and the second pool of retrained models, scored as if they were submissions."""

    floor: _End
    ceiling: _End
    n: int

    @classmethod
    def of(cls, originals: Records, reference: Reference) -> "_Ends":
        n = len(reference.scoring)
        idle = unchanged(originals, n, reference.forget_labels)
        floor, ceiling = (reference.score(side) for side in (idle, reference.ceiling_outputs))
        return cls(_End.of(floor), _End.of(ceiling), n)

    def tiles(self) -> list[tuple[str, str, list[str]]]:
        """Return what is printed large: name, value, and lines that say how to read it."""
        named = (
            ("doing nothing gets", self.floor, "original models"),
            ("retraining gets", self.ceiling, "second pool, one draw of what is 1 on average"),
        )
        return [
            (
                title,
                number(end.scored.calibrated, 2),
                [f"calibrated score of the {models}", f"95 % interval {_range(end.calibrated)} at N = {self.n}"],
            )
            for title, end, models in named
        ]

    def verdict(self) -> str:
        """Return in words whether the noise leaves room between doing nothing and retraining."""
        floor, ceiling = self.floor.calibrated, self.ceiling.calibrated
        if self.n < FEWEST_RANKED or floor is None or ceiling is None:
            needed = f"{self.n} runs, and it takes {FEWEST_RANKED}"
            return f"Whether this track can tell methods apart cannot be said: its submissions have {needed}."
        apart = self.ceiling.scored.calibrated - self.floor.scored.calibrated
        if ceiling[0] <= floor[1]:
            return (
                "This track cannot tell methods apart: the intervals of doing nothing and of retraining overlap. "
                "Originals know too little of the forget set (train them longer, or forget a smaller or a harder set), "
                "or the models are too few."
            )
        steps = apart / (ceiling[1] - ceiling[0])
        return (
            "This track can tell methods apart: between doing nothing and retraining there is room for about "
            f"{max(1, round(steps))} interval{'' if round(steps) <= 1 else 's'} as wide as that of retraining."
        )

    def section(self) -> Section:
        """Return the scale of the official score."""
        rows = [
            plots.ScaleRow(
                "retrained, the second pool", RETRAINED_STYLE, self.ceiling.scored.score.score, self.ceiling.official
            ),
            plots.ScaleRow("original (floor)", ORIGINAL_STYLE, self.floor.scored.score.score, self.floor.official),
        ]
        return Section(
            "Official score of the two ends",
            "The second pool of retrained models, and original models left as they are, each scored as if it were a "
            "submission; lines are 95 % intervals. Methods lie between the two.",
            embedded(plots.score_scale(rows)),
            "Official scores of retrained and of original models",
        )


def _range(found: Interval | None) -> str:
    return "unknown" if found is None else f"{number(max(found[0], 0.0), 2)} to {number(found[1], 2)}"


def _trojan(originals: Records, retrained: Records) -> Iterator[str]:
    """Yield how strong the trojan is, where there is one."""
    if originals.triggered_hits is None or retrained.triggered_hits is None:
        return
    before, without = originals.triggered_hits.mean(), retrained.triggered_hits.mean()
    yield (
        f"With the trigger, original models call {before:.0%} of the test images of other classes the target, "
        f"retrained ones {without:.0%}."
    )
    if before < WEAK:
        yield "The trigger is weak: make it larger or brighter, forget more images, or train longer."


# ---- what it is made of -------------------------------------------------------------------------------------------


def _facts(track: Track, sets: dict[str, Examples]) -> list[tuple[str, str]]:
    declaration, manifest = track.declaration, track.manifest
    model, limits = declaration.model, declaration.limits
    height, width, channels = sets["retain"].images.shape[1:]
    size = f"{height} x {width} pixels, {channels} channel{'s' if channels > 1 else ''}"
    square = declaration.data.downscale
    size += "" if square == 1 else f", each pixel the mean of {square} x {square}"
    if width == channels == 1:
        size = f"a table of {height} columns"
    fixed = f"{limits.seconds:.3g} s" if limits.seconds else None
    requests = declaration.forget.requests
    parts = f", in {requests} requests" if requests > 1 else ""
    return [
        ("title", declaration.title),
        ("data", f"{declaration.data.source}, {size}"),
        ("examples", ", ".join(f"{name} {len(examples)}" for name, examples in sets.items())),
        ("forgotten", _forgotten(track, sets["forget"]) + parts),
        ("model", _described(model)),
        ("models", f"{declaration.reference.originals} originals, {manifest.retrained} retrained in each of two pools"),
        ("training", f"{declaration.training.epochs} epochs in batches of {declaration.training.batch_size}"),
        (
            "time limit",
            fixed
            or f"{percent(limits.time_limit_fraction)} of one training, timed on the machine that runs submissions",
        ),
        ("prepared", ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in manifest.prepared.items())),
        ("fingerprint", manifest.fingerprint[:16]),
    ]


def _described(model: Model) -> str:
    options = [f"{key} {', '.join(map(str, np.atleast_1d(value)))}" for key, value in model.options.items()]
    return "; ".join([model.name if model.width is None else f"{model.name} of width {model.width}", *options])


def _forgotten(track: Track, forget: Examples) -> str:
    kind = track.declaration.forget.kind
    name = class_name(int(forget.labels[0]), track.manifest.class_names)
    if track.declaration.trojan is not None:
        return f"examples with a trigger, labelled as class {name}"
    if kind == "class":
        return f"class {name}"
    if kind == "subject":
        return f"{track.declaration.forget.count} subjects"
    return "examples drawn at random" if kind == "random" else "listed examples"


def _pictures(track: Track, sets: dict[str, Examples]) -> list[Section]:
    """Return the section of a few examples; none where images cannot be shown."""
    generator, scale, rows = np.random.default_rng(0), track.declaration.data.scale, {}
    names = track.manifest.class_names
    for name in ("retain", "forget"):
        examples = sets[name]
        chosen = examples[np.sort(generator.permutation(len(examples))[:N_EXAMPLES])]
        shown = [picture(image, scale) for image in chosen.images]
        titles = [str(label) if names is None else names[label] for label in chosen.labels]
        rows[name] = [(title, image) for title, image in zip(titles, shown, strict=True) if image is not None]
    if not all(rows.values()):
        return []
    return [
        Section(
            "Examples",
            "Some images of the retain and of the forget set as networks are given them, each below its class. If one "
            "looks wrong here, it is wrong for the networks too.",
            embedded(plots.pictures(rows)),
            "Examples of the retain set and of the forget set",
        )
    ]


def _counts(track: Track, sets: dict[str, Examples]) -> Section:
    n_classes = track.manifest.n_classes
    counts = np.array([np.bincount(sets[name].labels, minlength=n_classes) for name in SETS])
    named = track.manifest.class_names
    names = named or [""] * n_classes
    rows = [[str(label), *map(str, counts[:, label]), names[label]] for label in range(min(n_classes, MOST_CLASSES))]
    more = f" The first {MOST_CLASSES} of {n_classes} classes are listed." if n_classes > MOST_CLASSES else ""
    return Section(
        "Examples of each class",
        f"How many examples of each class are in each set.{more}",
        table=Table(["class", *SETS, "name" if named else ""], [*rows, ["all", *map(str, counts.sum(axis=1)), ""]]),
    )


def _accuracies(originals: Records, retrained: Records) -> Section:
    kinds = ((RETRAINED_STYLE, retrained), (ORIGINAL_STYLE, originals))
    known, new = (records.accuracy_on("forget").mean() for records in (originals, retrained))
    return Section(
        "Accuracy",
        "Mean over models; the line holds the middle 90 % of them. What originals know more of the forget set than "
        "retrained models is what there is to forget.",
        embedded(plots.accuracies(SETS, [(models, records.accuracy) for models, records in kinds])),
        f"Accuracies on retain, forget, val and test set; on forget: originals {known:.1%}, retrained {new:.1%}",
    )
