"""Has one run leave a message and another read it: how much came through."""

import json
import math
import os
import secrets
import string
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.channels.submission import large_file
from benchmarks.isolation import launcher_at
from harness.runner.execution import execute
from harness.runner.message import Job
from harness.runner.outcome import Outcome
from harness.runner.process import Launcher
from harness.runs.measure import Recorder
from harness.submission import read_submission
from harness.tracks.track import Track

__all__ = ["CHANNELS", "LEVELS", "Row", "measured"]

LEVELS = ("none", "full")
SUBMISSION = Path(__file__).parent / "submission.py"
LIMIT_SECONDS = 30.0
PAUSE = 3.0  # of runs side by side: the reader begins when the writer has written, and has not ended yet


@dataclass(frozen=True)
class Channel:
    """What is tried over a channel: so many messages of so many bits."""

    bits: int
    messages: int = 1


CHANNELS = {
    "names asked outright": Channel(8192),
    "names by time": Channel(8192),
    "pages asked outright": Channel(2048),
    "pages by faults": Channel(2048),
    "locks": Channel(512),
    "inode numbers": Channel(6, messages=8),
    "count of processes": Channel(6, messages=8),
}


@dataclass(frozen=True)
class Row:
    """What came through a channel at a level."""

    channel: str
    level: str
    side_by_side: bool
    bits: int
    right: int
    seconds: float  # of writer and reader together
    error: str | None  # what stopped the reader

    @property
    def carried(self) -> float:
        """Bits of a message that came through, after what guessing gives; 0 within the noise of guessing."""
        share = self.right / self.bits
        if self.error is not None or abs(share - 0.5) < 2 * math.sqrt(0.25 / self.bits):
            return 0.0
        lost = sum(-part * math.log2(part) for part in (share, 1 - share) if part > 0)
        return self.bits * (1 - lost)

    @property
    def sentence(self) -> str:
        """The row in words."""
        where = "beside it" if self.side_by_side else "later"
        how = self.error or f"{self.carried:.0f} of {self.bits} bits in {self.seconds:.2f} s"
        return f"{self.channel}, {self.level}, to a run {where}: {how}"

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {**asdict(self), "carried": self.carried}


def measured(track: Track, name: str, level: str, *, side_by_side: bool) -> Row:
    """Send messages from one run to another."""
    channel, right, seconds, error = CHANNELS[name], 0, 0.0, None
    for number in range(channel.messages):
        values = {
            "CHANNEL": name,
            "TAG": "".join(secrets.choice(string.ascii_lowercase) for _ in range(8)),
            "SEED": str(number),
            "BITS": str(channel.bits),
            "PAUSE": str(PAUSE if side_by_side else 0.0),
        }
        if name.startswith("pages"):
            _evict(large_file())
        written, read = _exchanged(track, level, values, side_by_side=side_by_side)
        right += read["right"]
        seconds += written["seconds"] + read["seconds"]
        error = error or written["error"] or read["error"]
    return Row(name, level, side_by_side, channel.bits * channel.messages, right, seconds, error)


def _exchanged(
    track: Track, level: str, values: dict[str, str], *, side_by_side: bool
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what the writer and the reader of a message say."""
    processes = launcher_at(track, level)

    def run(role: str, pause: float) -> dict[str, Any]:
        return _run(processes, track, {**values, "ROLE": role, "PAUSE": str(pause)})

    if not side_by_side:
        return run("write", 0.0), run("read", 0.0)
    with ThreadPoolExecutor(2) as pool:
        writer, reader = pool.submit(run, "write", PAUSE), pool.submit(run, "read", PAUSE / 2)
        return writer.result(), reader.result()


def _run(processes: Launcher, track: Track, values: dict[str, str]) -> dict[str, Any]:
    submission = read_submission(SUBMISSION, source_kb=track.declaration.limits.source_kb, constants=values)
    seeds = {"torch": 0, "numpy": 0, "random": 0}
    job = Job(submission.source, SUBMISSION.name, 0, seeds, "cpu", threads=1, time_limit_seconds=LIMIT_SECONDS)
    finished = execute(processes, job, n_values=Recorder(track).n_values)
    assert finished.outcome == Outcome.OK, finished
    line = next(line for line in finished.log.splitlines() if line.startswith("FOUND "))
    found: dict[str, Any] = json.loads(line.removeprefix("FOUND "))
    return found


def _evict(file: str) -> None:
    """Have the kernel forget the pages of a file, as far as nobody has mapped them."""
    descriptor = os.open(file, os.O_RDONLY)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)
