"""What crosses the boundary between the trusted side and a run: one job in, one report out. Standard library only."""

import base64
import dataclasses
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["HEADER", "REPORT_BYTES", "RESULT", "SAID_FIT", "SAID_WHY_NOT", "Job", "RunReport", "not_finite"]

REPORT_BYTES = 64 * 1024
# What a learner's result begins with: the number of nets and the bytes of the state, which come after it.
HEADER = struct.Struct("<QQ")
RESULT = "result"  # the file beside its job, in the foreground, of what another call goes on from
# Exit statuses of a run in the foreground that came to its end: with any other one it died, without a word perhaps.
SAID_FIT, SAID_WHY_NOT = 100, 101
MAX_PLACES = 3  # that are named of those where weights are not finite


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
    call: str = "post-hoc"  # which of `harness.contract.CALLS` is made
    weights: bytes = b""  # float32, of the net that is handed over, or of several; empty: it is the original
    state: bytes = b""  # as safetensors, what `train` kept
    members: int = 1  # the most nets that may be handed in as one model
    state_bytes: int = 0  # the most that a state may have that is handed in
    ids: dict[str, bytes] = field(default_factory=dict)  # int32, by set: where its examples are in the training set
    # Of one deletion request of several, int32, by set: which examples of the training set it is given. A request goes
    # on from the weights and, of a learner, the state that the one before left.
    given: dict[str, bytes] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """Return the job as JSON, in one line."""
        return json.dumps(dataclasses.asdict(self), default=_in_base64).encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> "Job":
        """Return the job in a JSON text."""
        return cls(**json.loads(content, object_hook=_out_of_base64))


def _in_base64(content: bytes) -> dict[str, str]:
    return {"base64": base64.b64encode(content).decode()}


def _out_of_base64(found: dict[str, Any]) -> Any:
    return base64.b64decode(found["base64"]) if found.keys() == {"base64"} else found


@dataclass(frozen=True)
class RunReport:
    """What a run says of itself: a hint for its author, since the submission could have written it."""

    outcome: str
    message: str = ""
    lines: tuple[str, ...] = ()  # traceback lines of the submission's own file
    seconds_inside: float = 0.0  # from the first line of the file to the return of unlearn

    def to_bytes(self) -> bytes:
        """Return the report as JSON of at most REPORT_BYTES, with the last lines that fit."""
        short = dataclasses.replace(self, message=self.message[:2000], lines=tuple(x[:500] for x in self.lines[-20:]))
        while len(content := json.dumps(dataclasses.asdict(short)).encode()) > REPORT_BYTES:  # a letter may take 12
            short = dataclasses.replace(short, lines=short.lines[1:])
        return content

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


def not_finite(is_bad: Any, sizes: Mapping[str, int]) -> str:
    """Return how many values of a net are not finite, and where; nothing if all are.

    is_bad: an array or a tensor (n_values,) of truth values. sizes: of the net's tensors, in the order of the values.
    """
    total, offset, places = int(is_bad.sum()), 0, []
    if not total:
        return ""
    for name, size in sizes.items():
        if count := int(is_bad[offset : offset + size].sum()):
            places.append(f"{count:,} in {name}")
        offset += size
    more = f" and {len(places) - MAX_PLACES} more" if len(places) > MAX_PLACES else ""
    verb = "is" if total == 1 else "are"
    return f"{total:,} of {offset:,} weights {verb} NaN or inf: {', '.join(places[:MAX_PLACES])}{more}"
