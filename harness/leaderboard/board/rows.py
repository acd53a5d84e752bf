"""The rows of a leaderboard, whatever they are shown as: a pure function of its folder."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from harness.evaluation.figures import RANKING, Figures
from harness.evaluation.learner_figures import OF_ANOTHER_DIVISION, LearnerFigures
from harness.evaluation.reference import Ends
from harness.evaluation.score_file import ScoreFile
from harness.leaderboard.board.ranking import Boundary, ExactTest, Ranked, rank
from harness.leaderboard.board.reviews import Review
from harness.leaderboard.board.stored import Board, ScoredEntry
from harness.runner.outcome import Outcome
from harness.scoring.ranks import Places
from harness.scoring.score import calibrated_score

__all__ = ["Leaderboard", "Row", "leaderboard"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row. Only submissions are ranked; baselines and the ends of the scale stand beside them, learners apart."""

    rank: str | None = None  # "2", or "1-3" for those that cannot be told apart
    rank_best: int | None = None
    rank_worst: int | None = None
    submission: str
    team: str | None = None
    kind: str  # submission, baseline, ceiling or floor
    state: str | None = None
    outcome: Outcome | None = None
    unranked_because: str | None = None
    figures: Figures
    alarms: tuple[str, ...] = ()
    review: str | None = None
    runs: int | None = None
    device: str | None = None
    isolation: str | None = None
    scorer_version: str | None = None
    message: str | None = None
    entered: str | None = None
    same_code: tuple[str, ...] = ()  # files of others that hold its code
    baseline: str | None = None  # whose code it is
    sha256: str | None = None  # of the file
    code_hash: str | None = None
    key: str | None = None  # of the entry
    is_learner: bool = False
    learner: LearnerFigures | None = None  # what is known of one beside its score

    @property
    def is_in_place(self) -> bool:
        """Whether it is ranked, or a learner that nothing keeps from its table."""
        return self.rank is not None or (self.is_learner and self.unranked_because is None)


@dataclass(frozen=True)
class Leaderboard:
    """A leaderboard as it is shown."""

    board: Board
    rows: tuple[Row, ...]
    learners: tuple[Row, ...]  # a division of their own, the best first, without ranks: each has its own reference
    boundaries: tuple[Boundary, ...]
    half_samples: dict[str, tuple[float, ...]]  # of the score that ranks, by key; empty where scores are rounded
    rounded: int | None


def leaderboard(
    board: Board,
    *,
    reviews: dict[str, Review],
    baselines: Mapping[str, str] | None = None,
    rounded: int | None = None,
    hidden: bool = False,
    exact_test: ExactTest | None = None,
) -> Leaderboard:
    """Return a leaderboard; its rows are the ranked ones and what stands beside them, unranked, failed, unfinished.

    baselines: names by code hash of those that are marked and not ranked. rounded: digits that scores are rounded to,
    before they are ranked, so that neither they nor the order say more. hidden: failures say no more than their remedy.
    exact_test: settles prize boundaries, as far as scores are not rounded.
    """
    all_entries = [_rounded_entry(entry, rounded) for entry in board.current]
    entries = [entry for entry in all_entries if not entry.is_learner]
    comparable = _newest_scorer(all_entries)
    reasons = {entry.key: _unranked_because(entry, board, comparable, reviews.get(entry.key)) for entry in all_entries}
    baseline = {entry.key: (baselines or {}).get(entry.code_hash) for entry in all_entries}
    contenders = [
        _contender(entry, board) for entry in entries if reasons[entry.key] is None and baseline[entry.key] is None
    ]
    exact = None if rounded is not None else exact_test
    ranking = rank(contenders, board.terms.boundaries, exact)
    held = {one.entry.key: places for one, places in zip(ranking.ranked, ranking.places, strict=True)}
    rows = [
        _row(entry, baseline[entry.key], reasons[entry.key], held.get(entry.key), reviews.get(entry.key), hidden=hidden)
        for entry in all_entries
    ]
    learners = [row for row in rows if row.is_learner]
    rows = [row for row in rows if not row.is_learner] + _ends_of_scale(board, entries, comparable, rounded)
    halves = {} if rounded is not None else _half_samples(board, entries)
    ordered, division = (tuple(_in_order(each, board)) for each in (rows, learners))
    return Leaderboard(board, ordered, division, ranking.boundaries, halves, rounded)


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
    is_told_apart = entry.is_learner and score.unranked_because == OF_ANOTHER_DIVISION  # where it is shown, says it
    reasons = {
        str(score.unranked_because): score.unranked_because is not None and not is_told_apart,
        "disqualified by review": review is not None and review.decision == "disqualified",
        f"run on {entry.device}, not {board.terms.device}": entry.device != board.terms.device,
        "scored against another reference": score.reference_hash != board.terms.reference_hash,
        f"scored by version {score.scorer_version}, not {scorer}": score.scorer_version != scorer,
        "the official score is withheld": board.terms.rank_by == "official" and score.score is None,
        "too few runs": score.half_samples is None,
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def _contender(entry: ScoredEntry, board: Board) -> Ranked:
    assert entry.scored is not None
    value = _value(entry.scored, board)
    assert value is not None
    return Ranked(entry, value, _halves(entry.scored, board))


def _value(figures: Figures, board: Board) -> float | None:
    """Return the score that ranks."""
    value: float | None = getattr(figures, RANKING[board.terms.rank_by])
    return value


def _halves(score: ScoreFile | None, board: Board) -> tuple[float, ...]:
    if score is None or score.half_samples is None:
        return ()
    halves: tuple[float, ...] = getattr(score.half_samples, RANKING[board.terms.rank_by])
    return halves


def _half_samples(board: Board, entries: Iterable[ScoredEntry]) -> dict[str, tuple[float, ...]]:
    return {entry.key: halves for entry in entries if (halves := _halves(entry.scored, board))}


def _in_order(rows: Iterable[Row], board: Board) -> list[Row]:
    def place(row: Row) -> tuple[Any, ...]:
        value = _value(row.figures, board)
        beside = row.rank is not None or (row.kind != "submission" and row.unranked_because is None)
        group = 0 if beside else 1 if row.outcome == Outcome.OK else 2 if row.state == "failed" else 3
        best = (True, 0.0) if value is None else (False, -value)
        return group, -(row.runs or 0) if group == 0 else 0, best, row.submission, row.kind

    return sorted(rows, key=place)


# ---- rows ----------------------------------------------------------------------------------------------------------


def _row(
    entry: ScoredEntry,
    baseline: str | None,
    unranked_because: str | None,
    held: Places | None,
    review: Review | None,
    *,
    hidden: bool,
) -> Row:
    remedy = "" if entry.outcome is None else entry.outcome.remedy(entry.file)
    score = entry.scored
    return Row(
        rank=None if held is None else str(held),
        rank_best=None if held is None else held.best,
        rank_worst=None if held is None else held.worst,
        submission=entry.submission,
        team=entry.team,
        kind="submission" if baseline is None else "baseline",
        state=entry.state,
        outcome=entry.outcome,
        unranked_because=unranked_because,
        figures=Figures.of({} if score is None else dict(score)),
        alarms=entry.alarm_names,
        review=None if review is None else review.standing(entry),
        runs=entry.runs if score is None else score.n_runs,
        device=entry.device,
        isolation=None if score is None else score.isolation.level,
        scorer_version=None if score is None else score.scorer_version,
        message=remedy if hidden else entry.message or remedy,
        entered=entry.entered.isoformat(),
        same_code=entry.same_code,
        baseline=baseline,
        sha256=entry.sha256,
        code_hash=entry.code_hash,
        key=entry.key,
        is_learner=entry.is_learner,
        learner=None if score is None else score.learner,
    )


def _ends_of_scale(board: Board, entries: Iterable[ScoredEntry], scorer: str | None, rounded: int | None) -> list[Row]:
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
    ends = {"ceiling": _of_ceiling(score), "floor": _of_floor(score, board.reference_ends(name))}
    titles = {"ceiling": "retrained models", "floor": "original models as they are"}
    return [
        Row(
            submission=titles[kind],
            kind=kind,
            figures=figures if rounded is None else figures.rounded(rounded),
            runs=score.n_runs,
            scorer_version=scorer,
        )
        for kind, figures in ends.items()
    ]


def _of_ceiling(score: ScoreFile) -> Figures:
    """Return the figures of retrained models: what a perfect submission gets, by definition."""
    known = {"calibrated_score": 1.0, "retain_ratio": 1.0, "test_ratio": 1.0, "ceiling": score.ceiling}
    return Figures.of({**known, "score": score.ceiling, "score_interval": score.ceiling_interval})


def _of_floor(score: ScoreFile, ends: Ends | None) -> Figures:
    """Return the figures of original models left as they are; less of them where the reference is not stored."""
    known = {"score": score.floor, "ceiling": score.ceiling}
    if ends is None:
        return Figures.of(known)
    calibrated = calibrated_score(ends.floor, ends.ceiling.smooth_quality)
    return Figures.of({**vars(ends.floor), **known, "calibrated_score": calibrated})


# ---- rounding ------------------------------------------------------------------------------------------------------


def _rounded_entry(entry: ScoredEntry, digits: int | None) -> ScoredEntry:
    """Return an entry whose score says no more than so many digits."""
    if digits is None or entry.scored is None:
        return entry
    return entry.model_copy(update={"scored": entry.scored.rounded(digits)})
