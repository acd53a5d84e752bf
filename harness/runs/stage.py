"""What a run of a submission is for; a stage names the files that its runs are kept in."""

from enum import StrEnum

__all__ = ["Stage"]


class Stage(StrEnum):
    """What runs are made for. Those of `train` are a learner's alone."""

    RUN = "run"  # what is scored
    SWAPPED = "swapped"  # the same with other examples to forget
    ORIGINAL = "original"  # `train` on the whole training set: what the run of the same index starts from
    SCORING = "scoring"  # `train` on the retain set: a pool to score against
    CEILING = "ceiling"  # and one to score as if it were a submission
    TWIN = "twin"  # `train` on the retain set with the seeds of the original of the same index

    @property
    def trained_on(self) -> tuple[str, ...]:
        """The sets that `train` is given as one; none where nothing is trained."""
        if self in (Stage.RUN, Stage.SWAPPED):
            return ()
        return ("retain", "forget") if self == Stage.ORIGINAL else ("retain",)

    @property
    def seeded_as(self) -> str:
        """The name in a run's seeds, which makes them independent of those of other stages."""
        if not self.trained_on:
            return ""
        return Stage.ORIGINAL if self == Stage.TWIN else self
