"""The options of commands that are printed to be copied."""

from collections.abc import Mapping

from harness.cuda_driver import is_present
from harness.quoting import quoted
from harness.tracks.track_names import DEFAULT_TRACK

__all__ = ["options"]


def options(
    track: str, *, device: str, constants: Mapping[str, str] | None = None, time_limit: float | None = None
) -> list[str]:
    """Return the options with which a command is about the same runs of a file; of those that go without saying none.

    No driver is asked what `auto` takes: where anything says that there is a GPU, it is the GPU.
    """
    return [
        *([] if track == DEFAULT_TRACK else [f"--track {track}"]),
        *([] if device == ("cuda" if is_present() else "cpu") else [f"--device {device}"]),
        *(f"--set {quoted(f'{name}={value}')}" for name, value in (constants or {}).items()),
        *([] if time_limit is None else [f"--time-limit {time_limit:g}"]),
    ]
