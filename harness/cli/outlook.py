"""How long training the models of a track takes, and what takes less: said once it shows, for tracks that take long."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from harness.report.escaping import escaped

if TYPE_CHECKING:
    from harness.tracks.catalogue import Declared

__all__ = ["Outlook", "is_long", "pack_instead"]

LONG = 600.0  # seconds that are worth a look for a pack
SHOWS = 30.0  # seconds of training after which the rest can be told


class Outlook:
    """Watches a preparation, and says once how long the rest takes if that is long. Call with (done, total)."""

    def __init__(self, declared: Declared, say: Callable[[str], None]) -> None:
        self.declared, self._say = declared, say
        self._began: tuple[float, int] | None = None
        self._is_told = False

    def __call__(self, done: int, total: int) -> None:
        """Take note of how far it is."""
        now = time.monotonic()
        if self._began is None:
            self._began = now, done
        began, done_before = self._began
        if self._is_told or now - began < SHOWS or done == done_before:
            return
        self._is_told = True
        left = (total - done) * (now - began) / (done - done_before)
        if is_long(left):
            self._say(f"training the models of {self.declared.name} takes about {_duration(left)}{self._instead}")

    @property
    def _instead(self) -> str:
        """What takes less; nothing where there is a pack and it was not to be used, or did not fit."""
        return "" if self.declared.pack is not None else f"; {pack_instead(self.declared)}"


def is_long(seconds: float) -> bool:
    """Whether a preparation takes so long that a pack is worth looking for."""
    return seconds >= LONG


def pack_instead(declared: Declared) -> str:
    """Return the sentence on where a pack of a track can be had."""
    if declared.pack is not None:
        return f"a pack ships, which {declared.command} completes in minutes with the images it was made from"
    where = escaped(declared.declaration.pack or "ask whoever has prepared it")
    return f"a pack takes minutes instead ({where}): {declared.command} --import FILE"


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"
