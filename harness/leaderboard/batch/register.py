"""Puts files on the board: each version of a file's code is an entry, as far as its team's quota goes.

A file that fails the static check is not run, so its team learns nothing by it, and it takes no try from one that is.
Such files are counted apart, as many a day: a thousand of them do not fill the board.
"""

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from pathlib import Path

from harness.leaderboard.batch.reading import Candidate
from harness.leaderboard.batch.teams import DailyQuota
from harness.leaderboard.board.entries import Entry, current, entries, write_entry
from harness.leaderboard.board.names import name_key
from harness.submission import Submission

__all__ = ["register"]


def register(
    candidates: Iterable[Candidate],
    board: Path,
    *,
    device: str,
    results: Callable[[Submission], str],
    now: datetime,
    quota: DailyQuota | None,
) -> dict[str, Entry]:
    """Return the entries of candidates by name, new ones where there are none; those over their quota have none.

    results: returns the name of a submission's results folder. now: with the time zone that days are counted in.
    A file that goes back to an earlier version of its code is entered anew. One whose runs have another folder by now,
    on another device say, is queued again: what was known is of other runs.
    """
    known = {entry.key: entry for entry in entries(board)}
    latest = {name_key(entry.submission): entry for entry in current(list(known.values()))}
    newest = {entry.key for entry in latest.values()}
    found = {}
    for each in candidates:
        entered = _after(latest.get(name_key(each.name)), now)
        fresh = _entry(each, device=device, results=results(each.submission), now=entered)
        entry = known.get(fresh.key)
        if entry is None or entry.key not in newest:
            alike = (other for other in known.values() if other.is_valid == fresh.is_valid)
            if quota is not None and quota.is_used_up(each.team, alike, now):
                continue
            entry = fresh if entry is None else entry.model_copy(update={"entered": entered})
        now_known = ["team", "sha256", "is_valid", "is_learner", "device", "results"]
        if entry.results != fresh.results:
            now_known += ["state", "stage", "runs", "outcome", "message", "score"]
        entry = entry.model_copy(update={field: getattr(fresh, field) for field in now_known})
        found[each.name] = entry
        if known.get(entry.key) != entry:
            write_entry(board, entry)
            known[entry.key] = entry
    return found


def _after(before: Entry | None, now: datetime) -> datetime:
    """Return the moment at which a version is entered: later than the one before, though a clock may be set back."""
    return now if before is None or before.entered < now else before.entered + timedelta(microseconds=1)


def _entry(candidate: Candidate, *, device: str, results: str, now: datetime) -> Entry:
    submission = candidate.submission
    return Entry(
        submission=candidate.name,
        team=candidate.team,
        file=candidate.path.name,
        sha256=submission.sha256,
        code_hash=submission.code_hash,
        constants=submission.constants,
        device=device,
        results=results,
        entered=now,
        is_valid=not submission.problems,
        is_learner=submission.is_learner,
    )
