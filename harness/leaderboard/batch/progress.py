"""How far a batch is: live on a terminal, plain lines elsewhere, and one line for each submission that ends."""

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from harness.leaderboard.board.entries import Entry
from harness.report.escaping import escaped
from harness.report.terminal import PLAIN_SECONDS

__all__ = ["Progress"]

MAX_ROWS = 12  # submissions shown at once
MIN_RUNS = 4  # of a kind, before the time that its others take can be told


@dataclass
class Count:
    """How many runs of one kind a submission has, and how many it is to have."""

    done: int
    total: int

    @property
    def left(self) -> int:
        """How many are to be made."""
        return self.total - self.done


@dataclass
class Pace:
    """How fast runs of one kind are made."""

    made: int = 0
    seconds: float = 0.0  # without what comes before the first

    @property
    def seconds_each(self) -> float | None:
        """Seconds from one to the next, None while too few are made."""
        return self.seconds / (self.made - 1) if self.made >= MIN_RUNS else None


class Progress:
    """Shows the runs of a stage as they are made. Use as a context."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._title = ""
        self._counts: dict[str, dict[str, Count]] = {}  # by submission and kind: runs, and trainings of a learner
        self._paces: dict[str, Pace] = {}  # by kind
        self._counted_at = 0.0
        self._ended: dict[str, int] = {}
        self._last_line = time.monotonic()
        self._live = Live(console=console, get_renderable=self._renderable, transient=True)

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.console.is_terminal:
            self._live.stop()

    def begin(self, title: str, counts: Mapping[str, Mapping[str, tuple[int, int]]]) -> None:
        """Start a stage: how many runs each submission has already, and how many it is to have, by kind."""
        self._title, self._paces = title, {}
        self._counts = {name: {kind: Count(*count) for kind, count in kinds.items()} for name, kinds in counts.items()}
        if self._left():
            self._say(self._summary())

    def count(self, name: str, kind: str) -> None:
        """Count a run that was made."""
        pace, count, now = self._paces.setdefault(kind, Pace()), self._counts[name][kind], time.monotonic()
        pace.seconds += now - self._counted_at if pace.made else 0.0
        pace.made += 1
        self._counted_at = now
        count.done += 1
        count.total = max(count.total, count.done)  # of some nothing was expected any more
        if not self.console.is_terminal and time.monotonic() - self._last_line >= PLAIN_SECONDS:
            self._say(self._summary())

    def drop(self, name: str) -> None:
        """Expect no more runs of a submission."""
        for count in self._counts[name].values():
            count.total = count.done

    def end(self, entry: Entry) -> None:
        """Say how a submission ended."""
        self._ended[entry.state] = self._ended.get(entry.state, 0) + 1
        self._say(ending(entry))

    def say(self, sentence: str) -> None:
        """Print a line above what is live."""
        self._say(sentence)

    def _say(self, line: str) -> None:
        self._last_line = time.monotonic()
        self.console.print(Text(escaped(line)), soft_wrap=True)

    def _summary(self) -> str:
        left = self._left()
        if not left:
            return self._title
        queued = sum(done == 0 and total > 0 for done, total in map(self._of_all_kinds, self._counts))
        ended = "".join(f", {count} {state}" for state, count in sorted(self._ended.items()))
        to_make = " and ".join(f"{count} {kind}" for kind, count in left.items())
        return f"{self._title}: {to_make} to make, {queued} queued{ended}{_time_left(left, self._paces)}"

    def _left(self) -> Counter[str]:
        """Return how many runs of each kind are to be made, of the kinds of which there are some."""
        left: Counter[str] = Counter()
        for kinds in self._counts.values():
            left.update({kind: count.left for kind, count in kinds.items()})
        return +left

    def _of_all_kinds(self, name: str) -> tuple[int, int]:
        counts = self._counts[name].values()
        return sum(count.done for count in counts), sum(count.total for count in counts)

    def _renderable(self) -> RenderableType:
        table = Table(show_header=False, box=None, padding=(0, 1))
        counts = {name: self._of_all_kinds(name) for name in self._counts}
        running = [name for name, (done, total) in counts.items() if 0 < done < total]
        for name in running[:MAX_ROWS]:
            table.add_row(Text(escaped(name)), "running {}/{}".format(*counts[name]))
        more = [Text(f"and {len(running) - MAX_ROWS} more")] if len(running) > MAX_ROWS else []
        return Group(table, *more, Text(self._summary(), style="bold"))


def _time_left(left: Mapping[str, int], paces: Mapping[str, Pace]) -> str:
    """Return the time that runs take which are to be made, as far as others of their kinds tell it."""
    each = {kind: pace.seconds_each for kind, pace in paces.items()}
    told = [count * seconds for kind, count in left.items() if (seconds := each.get(kind)) is not None]
    if not told:
        return ""
    seconds, untold = round(sum(told)), [kind for kind in left if each.get(kind) is None]
    without = f" without the {' and '.join(untold)}" if untold else ""
    return f", {seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d} left{without}"


def ending(entry: Entry) -> str:
    """Return a line on an entry that has come to an end."""
    reason = f": {entry.message}" if entry.message else ""
    what = {
        "done": f"done, {entry.runs} runs{reason}",
        "failed": f"failed, {entry.outcome}{reason}",
        "stopped": f"stopped after {entry.runs} runs{reason}",
    }
    return f"{escaped(entry.submission)}: {what[entry.state]}"
