"""How far a batch is: live on a terminal, plain lines elsewhere, and one line for each submission that ends."""

import time
from collections.abc import Mapping
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
MIN_RUNS = 4  # before the time left can be told


class Progress:
    """Shows the runs of a stage as they are made. Use as a context."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._title = ""
        self._done: dict[str, int] = {}
        self._total: dict[str, int] = {}
        self._made, self._started = 0, 0.0
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

    def begin(self, title: str, done: Mapping[str, int], total: int) -> None:
        """Start a stage: how many of its `total` runs each submission has already."""
        self._title, self._done, self._total = title, dict(done), dict.fromkeys(done, total)
        self._made = 0
        if any(count < total for count in done.values()):
            self._say(self._summary())

    def count(self, name: str) -> None:
        """Count a run that was made."""
        self._started = time.monotonic() if self._made == 0 else self._started  # not with what comes before the first
        self._made += 1
        self._done[name] += 1
        self._total[name] = max(self._total[name], self._done[name])  # of some nothing was expected any more
        if not self.console.is_terminal and time.monotonic() - self._last_line >= PLAIN_SECONDS:
            self._say(self._summary())

    def drop(self, name: str) -> None:
        """Expect no more runs of a submission."""
        self._total[name] = self._done[name]

    def end(self, entry: Entry) -> None:
        """Say how a submission ended."""
        self._ended[entry.state] = self._ended.get(entry.state, 0) + 1
        self._say(ending(entry))

    def say(self, sentence: str) -> None:
        """Print a line above what is live."""
        self._say(sentence)

    def _say(self, line: str) -> None:
        self._last_line = time.monotonic()
        self.console.print(Text(line), soft_wrap=True)

    def _summary(self) -> str:
        left = sum(self._total.values()) - sum(self._done.values())
        if not left:
            return self._title
        queued = sum(count == 0 and self._total[name] > 0 for name, count in self._done.items())
        ended = "".join(f", {count} {state}" for state, count in sorted(self._ended.items()))
        return f"{self._title}: {left} runs to make, {queued} queued{ended}{self._time_left(left)}"

    def _time_left(self, left: int) -> str:
        if self._made < MIN_RUNS or not left:
            return ""
        seconds = round(left * (time.monotonic() - self._started) / (self._made - 1))
        return f", {seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d} left"

    def _renderable(self) -> RenderableType:
        table = Table(show_header=False, box=None, padding=(0, 1))
        running = [name for name, count in self._done.items() if 0 < count < self._total[name]]
        for name in running[:MAX_ROWS]:
            table.add_row(Text(escaped(name)), f"running {self._done[name]}/{self._total[name]}")
        more = [Text(f"and {len(running) - MAX_ROWS} more")] if len(running) > MAX_ROWS else []
        return Group(table, *more, Text(self._summary(), style="bold"))


def ending(entry: Entry) -> str:
    """Return a line on an entry that has come to an end."""
    reason = f": {entry.message}" if entry.message else ""
    what = {
        "done": f"done, {entry.runs} runs{reason}",
        "failed": f"failed, {entry.outcome}{reason}",
        "stopped": f"stopped after {entry.runs} runs{reason}",
    }
    return f"{escaped(entry.submission)}: {what[entry.state]}"
