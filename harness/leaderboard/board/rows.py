"""The rows of a leaderboard, whatever they are shown as: a pure function of its folder."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.evaluation.score_file import ScoreFile, round_off
from harness.leaderboard.board.ranking import Boundary, ExactTest, Ranked, rank
from harness.leaderboard.board.reviews import Review
from harness.leaderboard.board.stored import Board, ScoredEntry
from harness.runner.outcome import Outcome
from harness.scoring.ceiling import Ceiling
from harness.scoring.ranks import Places
from harness.scoring.score import Score, calibrated_score
from harness.submission import read_submission

__all__ = ["Leaderboard", "Row", "baseline_hashes", "leaderboard"]

SOURCE_KB = 1 << 20  # no limit: what was entered has been checked


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row. Only submissions are ranked; baselines and the ends of the scale stand beside them."""

    rank: str | None = None  # "2", or "1-3" for those that cannot be told apart
    rank_best: int | None = None
    rank_worst: int | None = None
    submission: str
    team: str | None = None
    kind: str  # submission, baseline, ceiling or floor
    state: str | None = None
    outcome: Outcome | None = None
    unranked_because: str | None = None
    calibrated_score: float | None = None
    calibrated_interval: tuple[float, float] | None = None
    score: float | None = None
    score_interval: tuple[float, float] | None = None
    share_of_ceiling: float | None = None  # official score over that of retrained models
    forgetting_quality: float | None = None
    retain_ratio: float | None = None
    test_ratio: float | None = None
    share_of_limit: float | None = None  # mean of seconds over the time limit
    alarms: tuple[str, ...] = ()
    review: str | None = None
    runs: int | None = None
    device: str | None = None
    isolation: str | None = None
    scorer_version: str | None = None
    message: str | None = None
    entered: str | None = None
    code_hash: str | None = None
    key: str | None = None  # of the entry


@dataclass(frozen=True)
class Leaderboard:
    """A leaderboard as it is shown."""

    board: Board
    rows: tuple[Row, ...]
    boundaries: tuple[Boundary, ...]
    half_samples: dict[str, tuple[float, ...]]  # of the score that ranks, by key; empty where scores are rounded
    rounded: int | None


def baseline_hashes(folder: Path) -> frozenset[str]:
    """Return the code hashes of the baselines in a folder."""
    files = sorted(folder.glob("*.py"))
    return frozenset(read_submission(file, source_kb=SOURCE_KB).code_hash for file in files)


def leaderboard(
    board: Board,
    *,
    reviews: dict[str, Review],
    baselines: Collection[str] = (),
    rounded: int | None = None,
    hidden: bool = False,
    exact_test: ExactTest | None = None,
) -> Leaderboard:
    """Return a leaderboard; its rows are the ranked ones and what stands beside them, unranked, failed, unfinished.

    baselines: code hashes of those that are marked and not ranked. rounded: digits that scores are rounded to, before
    they are ranked, so that neither they nor the order say more. hidden: failures say no more than their remedy.
    exact_test: settles prize boundaries, as far as scores are not rounded.
    """
    entries = [_rounded_entry(entry, rounded) for entry in board.current]
    comparable = _newest_scorer(entries)
    reasons = {entry.key: _unranked_because(entry, board, comparable, reviews.get(entry.key)) for entry in entries}
    kinds = {entry.key: "baseline" if entry.code_hash in baselines else "submission" for entry in entries}
    contenders = [
        _contender(entry, board) for entry in entries if reasons[entry.key] is None and kinds[entry.key] == "submission"
    ]
    exact = None if rounded is not None else exact_test
    ranking = rank(contenders, board.terms.boundaries, exact)
    held = {one.entry.key: places for one, places in zip(ranking.ranked, ranking.places, strict=True)}
    rows = [
        _row(entry, kinds[entry.key], reasons[entry.key], held.get(entry.key), reviews.get(entry.key), hidden=hidden)
        for entry in entries
    ]
    rows += _ends_of_scale(board, entries, comparable)
    halves = {} if rounded is not None else _half_samples(board, entries)
    in_order = tuple(_rounded_row(row, rounded) for row in _in_order(rows, board))
    return Leaderboard(board, in_order, ranking.boundaries, halves, rounded)


# ---- who is ranked -------------------------------------------------------------------------------------------------


def _newest_scorer(entries: Iterable[ScoredEntry]) -> str | None:
    """Return the newest version that scored any of the entries: scores of older ones are not compared with it."""
    versions = {entry.scored.scorer_version for entry in entries if entry.scored is not None}
    return max(versions, key=lambda version: (len(version), version), default=None)


def _unranked_because(entry: ScoredEntry, board: Board, scorer: str | None, review: Review | None) -> str | None:
    """Return why an entry is not ranked, or None if it is."""
    score = entry.scored
    if entry.state == "queued":
        return "queued"
    if entry.state == "running":
        return f"running, {entry.runs} of {board.terms.runs} runs"
    if entry.state == "stopped":
        return f"stopped over the time limit, {entry.runs} of {board.terms.runs} runs"
    if score is None or entry.state == "failed":
        return f"outcome {entry.outcome}"
    reasons = {
        str(score.unranked_because): score.unranked_because is not None,
        "disqualified by review": review is not None and review.decision == "disqualified",
        "scored against another reference": score.reference_hash != board.terms.reference_hash,
        f"scored by version {score.scorer_version}, not {scorer}": score.scorer_version != scorer,
        "the official score is withheld": board.terms.rank_by == "official" and score.score is None,
        "too few runs": score.half_samples is None,
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def _contender(entry: ScoredEntry, board: Board) -> Ranked:
    value = _value(entry.scored, board)
    assert value is not None
    return Ranked(entry, value, _halves(entry.scored, board))


def _value(score: ScoreFile | Row | None, board: Board) -> float | None:
    """Return the score that ranks."""
    if score is None:
        return None
    return score.score if board.terms.rank_by == "official" else score.calibrated_score


def _halves(score: ScoreFile | None, board: Board) -> tuple[float, ...]:
    if score is None or score.half_samples is None:
        return ()
    halves = score.half_samples
    return halves.score if board.terms.rank_by == "official" else halves.calibrated_score


def _half_samples(board: Board, entries: Iterable[ScoredEntry]) -> dict[str, tuple[float, ...]]:
    return {entry.key: halves for entry in entries if (halves := _halves(entry.scored, board))}


def _in_order(rows: Iterable[Row], board: Board) -> list[Row]:
    def place(row: Row) -> tuple[Any, ...]:
        value = _value(row, board)
        beside = row.rank is not None or (row.kind != "submission" and row.unranked_because is None)
        group = 0 if beside else 1 if row.outcome == Outcome.OK else 2 if row.state == "failed" else 3
        best = 0.0 if value is None else -value
        return group, -(row.runs or 0) if group == 0 else 0, best, row.submission, row.kind

    return sorted(rows, key=place)


# ---- rows ----------------------------------------------------------------------------------------------------------


def _row(
    entry: ScoredEntry,
    kind: str,
    unranked_because: str | None,
    held: Places | None,
    review: Review | None,
    *,
    hidden: bool,
) -> Row:
    remedy = entry.outcome.remedy if entry.outcome is not None else ""
    row = Row(
        rank=None if held is None else str(held),
        rank_best=None if held is None else held.best,
        rank_worst=None if held is None else held.worst,
        submission=entry.submission,
        team=entry.team,
        kind=kind,
        state=entry.state,
        outcome=entry.outcome,
        unranked_because=unranked_because,
        review=None if review is None else review.standing(entry),
        runs=entry.runs,
        device=entry.device,
        message=remedy if hidden else entry.message or remedy,
        entered=entry.entered.isoformat(),
        code_hash=entry.code_hash,
        key=entry.key,
    )
    return row if entry.scored is None else _with_score(row, entry.scored)


def _with_score(row: Row, score: ScoreFile) -> Row:
    return replace(
        row,
        calibrated_score=score.calibrated_score,
        calibrated_interval=score.calibrated_interval,
        score=score.score,
        score_interval=score.score_interval,
        share_of_ceiling=_share(score.score, score.ceiling),
        forgetting_quality=score.forgetting_quality,
        retain_ratio=score.retain_ratio,
        test_ratio=score.test_ratio,
        share_of_limit=score.share_of_limit,
        alarms=score.alarm_names,
        runs=score.n_runs,
        isolation=score.isolation.level,
        scorer_version=score.scorer_version,
    )


def _ends_of_scale(board: Board, entries: Iterable[ScoredEntry], scorer: str | None) -> list[Row]:
    """Return the rows of the ceiling and of the floor, at the largest number of runs that anybody was scored with."""
    comparable = [
        (entry.scored, entry.score)
        for entry in entries
        if entry.scored is not None
        and entry.score is not None
        and entry.scored.reference_hash == board.terms.reference_hash
        and entry.scored.scorer_version == scorer
    ]
    if not comparable:
        return []
    score, name = max(comparable, key=lambda one: one[0].n_runs)
    ceiling = Row(
        submission="retrained models",
        kind="ceiling",
        calibrated_score=1.0,
        score=score.ceiling,
        score_interval=score.ceiling_interval,
        share_of_ceiling=1.0,
        retain_ratio=1.0,
        test_ratio=1.0,
        runs=score.n_runs,
        scorer_version=scorer,
    )
    floor = Row(
        submission="original models as they are",
        kind="floor",
        score=score.floor,
        share_of_ceiling=_share(score.floor, score.ceiling),
        runs=score.n_runs,
        scorer_version=scorer,
    )
    stored = board.reference_values(name)
    if stored is not None:
        original, quality = Score(**stored["floor"]), Ceiling.from_json(stored["ceiling"]).smooth_quality
        floor = replace(
            floor,
            calibrated_score=calibrated_score(original, quality),
            forgetting_quality=original.forgetting_quality,
            retain_ratio=original.retain_ratio,
            test_ratio=original.test_ratio,
        )
    return [ceiling, floor]


def _share(score: float | None, ceiling: float | None) -> float | None:
    return None if score is None or not ceiling else score / ceiling


# ---- rounding ------------------------------------------------------------------------------------------------------


def _rounded_entry(entry: ScoredEntry, digits: int | None) -> ScoredEntry:
    """Return an entry whose score says no more than so many digits."""
    if digits is None or entry.scored is None:
        return entry
    return entry.model_copy(update={"scored": entry.scored.rounded(digits)})


def _rounded_row(row: Row, digits: int | None) -> Row:
    """Return a row whose figures have so many digits, those included that are not of an entry or follow from others."""
    names = ("share_of_ceiling", *ScoreFile.ROUNDED)
    values: dict[str, Any] = {name: round_off(getattr(row, name), digits) for name in names}
    return replace(row, **values)
