"""The scores that the shipped baselines were measured to have."""

from pydantic import BaseModel

from harness.shipped import MEASURED
from harness.storage import read_json

__all__ = ["Measured", "MeasuredBaseline", "read_measured"]


class MeasuredBaseline(BaseModel):
    """What one baseline got."""

    calibrated_score: float | None = None
    score: float | None = None
    fraction_of_training: float | None = None


class Measured(BaseModel):
    """What `benchmarks.baselines` measured."""

    track: str
    runs: int
    machine: str
    device: str
    rows: dict[str, MeasuredBaseline]


def read_measured() -> Measured:
    """Return what ships with the harness."""
    return Measured.model_validate(read_json(MEASURED))
