"""Making what submissions lack, for one of them or for a whole batch."""

from collections.abc import Callable, Iterator, Sequence

from harness.errors import UsageError
from harness.runs.queue import Executor, make_runs
from harness.runs.run import Run
from harness.runs.run_set import RunSet
from harness.tracks.track import Track

__all__ = ["check_runs", "make_missing"]


def check_runs(track: Track, runs: int) -> None:
    """Raise UsageError if a track has fewer retrained models in a pool than there are to be runs."""
    if runs > track.manifest.retrained:
        raise UsageError(
            f"{runs} runs need {runs} retrained models in each pool, {track.name} has {track.manifest.retrained}; "
            f"add models with: harness prepare {track.name} --retrained {runs}"
        )


def make_missing(
    run_sets: Sequence[RunSet], executor: Callable[[], Executor], *, one_by_one: bool = False
) -> Iterator[tuple[RunSet, Run]]:
    """Make the runs that are missing, and yield them as they are done, those of `run_set.swapped` too.

    executor is called if there is anything to make. one_by_one: no two submissions at once, since their runs would
    share a GPU. An interruption loses at most the runs in flight; the same call again goes on from there.
    """
    lacking = [each for each in run_sets if not each.is_complete]
    at_once = [each for each in lacking if len(each.parts) == 1]
    for queue in [[each] for each in at_once] if one_by_one else [at_once]:
        if queue:
            yield from make_runs(queue, executor())
    for each in lacking:
        if len(each.parts) > 1:
            yield from _make_parts(each, executor())


def _make_parts(run_set: RunSet, executor: Executor) -> Iterator[tuple[RunSet, Run]]:
    """Make the runs of a learner part by part: each needs what those before left, or is of no use once one failed."""
    for part, most in run_set.parts:
        if run_set.failed is not None or run_set.is_ended:
            return
        yield from make_runs([part], executor, most=most)
