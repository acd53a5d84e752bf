"""What crosses the boundary between the trusted side and a run: one job in, one report out. Standard library only."""

import dataclasses
import json
from dataclasses import dataclass

__all__ = ["REPORT_BYTES", "Job", "RunReport"]

REPORT_BYTES = 64 * 1024


@dataclass(frozen=True)
class Job:
    """One run, as the process that runs it gets it. It holds no run index, no secret and nothing of the reference."""

    source: str
    filename: str  # shown in tracebacks
    original: int  # index of the original model it starts from
    seeds: dict[str, int]  # one per random stream: torch, numpy, random
    device: str
    threads: int
    time_limit_seconds: float
    scratch: str = ""  # an empty folder of its own, once it has been started
    cache: str = ""  # a folder for what compilers make
    swap_forget_set: bool = False  # forget as many other examples instead

    def to_bytes(self) -> bytes:
        """Return the job as JSON."""
        return json.dumps(dataclasses.asdict(self)).encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> "Job":
        """Return the job in a JSON text."""
        return cls(**json.loads(content))


@dataclass(frozen=True)
class RunReport:
    """What a run says of itself: a hint for its author, since the submission could have written it."""

    outcome: str
    message: str = ""
    lines: tuple[str, ...] = ()  # traceback lines of the submission's own file
    seconds_inside: float = 0.0  # from the first line of the file to the return of unlearn

    def to_bytes(self) -> bytes:
        """Return the report as JSON of at most REPORT_BYTES."""
        short = dataclasses.replace(self, message=self.message[:2000], lines=tuple(x[:500] for x in self.lines[-20:]))
        return json.dumps(dataclasses.asdict(short)).encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> "RunReport | None":
        """Return the report in untrusted bytes, or None if there is none."""
        try:
            fields = json.loads(content.rstrip(b"\0"))
            return cls(
                outcome=str(fields["outcome"]),
                message=str(fields["message"]),
                lines=tuple(str(line) for line in fields["lines"]),
                seconds_inside=float(fields["seconds_inside"]),
            )
        except (ValueError, TypeError, KeyError, RecursionError, OverflowError):
            return None
