"""The full-stack metrics of a submission's runs, from a track and its records."""

from collections.abc import Sequence

from harness.record import Records
from harness.scoring.full_stack import FullStack, Labels, Predictions, full_stack_metrics
from harness.tracks.track import Track

__all__ = ["full_stack"]


def full_stack(track: Track, records: Records, retrained: Records, *, trainings: Sequence[float] | None) -> FullStack:
    """Return the metrics of n runs beside those of retrained models, of which the first n count.

    trainings: the time of every run, of one training alone; None on tracks with a limit of their own.
    The attacked examples follow from the track alone, so that its submissions are attacked alike.
    """
    retain, forget, test = (track.examples(name).labels for name in ("retain", "forget", "test"))
    return full_stack_metrics(
        _predictions(records),
        _predictions(retrained[: len(records)]),
        Labels(retain, forget, test),
        trainings=trainings,
        seed=int(track.manifest.fingerprint[:16], 16),
    )


def _predictions(records: Records) -> Predictions:
    return Predictions(
        records.forget_logits,
        records.test_logits,
        records.retain_confidence,
        records.retain_correct,
        records.triggered_hits,
    )
