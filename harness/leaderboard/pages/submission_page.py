"""What a submission's page shows: its standing, its alarms in words, facts, and the plots of its runs."""

from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import TypeAdapter

import harness
from harness.evaluation.evaluate import load_evaluation
from harness.leaderboard.board.known_code import SOURCE_KB, told_of_shared
from harness.leaderboard.board.reviews import Review
from harness.leaderboard.board.rows import Leaderboard, Row
from harness.leaderboard.board.stored import SAME_CODE, Board, ScoredEntry
from harness.leaderboard.pages.columns import COLUMNS
from harness.report.escaping import escaped
from harness.report.learner_columns import LEARNER_COLUMNS, notes_on_learner
from harness.report.numbers import number
from harness.report.score_columns import SCORE_COLUMNS, score_column
from harness.report.sections import Section, sections
from harness.runs.store import Results
from harness.seal import read_sealed, whole, write_sealed
from harness.submission import read_submission
from harness.tracks.track import Track

__all__ = ["SubmissionPage", "page_of", "submission_page"]

SHARE = "share_of_ceiling"
IN_TILES = ("calibrated_score", "score", SHARE)
KEPT = TypeAdapter(list[Section])  # sections as they are stored


def page_of(key: str) -> str:
    """Return where in a site the page of an entry lies."""
    return f"submissions/{key}.html"


@dataclass(frozen=True)
class SubmissionPage:
    """What the template `submission.html` shows."""

    key: str
    name: str
    is_compared: bool
    tiles: list[tuple[str, str, list[str]]]  # name, value, and lines that say how to read it
    notes: list[str]
    facts: list[tuple[str, str]]  # by name
    sections: list[Section]


def submission_page(
    row: Row, entry: ScoredEntry, shown: Leaderboard, track: Track, review: Review | None, *, hidden: bool
) -> SubmissionPage:
    """Return the page of one row; rounded scores have no plots."""
    return SubmissionPage(
        key=entry.key,
        name=escaped(row.submission),
        is_compared=row.figures.score is not None and not row.is_learner,
        tiles=_tiles(row, shown),
        notes=_notes(row, entry, review, shown),
        facts=_facts(row, entry, shown),
        sections=[] if shown.rounded is not None else _sections(shown.board, entry, track, hidden=hidden),
    )


def _tiles(row: Row, shown: Leaderboard) -> list[tuple[str, str, list[str]]]:
    if row.figures.calibrated_score is None:
        return [("outcome", str(row.outcome or row.unranked_because), [escaped(row.message or "")])]
    place = [row.unranked_because or (f"the code of the baseline {row.baseline}" if row.baseline else "")]
    tied = ["a range: these runs cannot tell it from those beside it"] if row.rank_best != row.rank_worst else []
    calibrated, official, share = (
        score_column(field).text(row.figures, shown.rounded) for field in ("calibrated_score", "score", SHARE)
    )
    return [
        ("division", "learners", [row.unranked_because or "not ranked: each has models of its own"])
        if row.is_learner
        else ("rank", row.rank or "not ranked", tied if row.rank is not None else place),
        ("calibrated score", calibrated, ["1.00 is what retraining gets"]),
        ("official score", official, [f"{share} of what retrained models get"]),
    ]


def _notes(row: Row, entry: ScoredEntry, review: Review | None, shown: Leaderboard) -> list[str]:
    """Return alarms in words and what was found of them; with rounded scores, whose figures they would tell, names."""
    alarms = () if entry.scored is None else entry.scored.alarms or ()
    messages = [
        f"alarm ({alarm.name})" + ("" if shown.rounded is not None else f": {alarm.message}") for alarm in alarms
    ]
    if row.same_code:
        messages.append(f"alarm ({SAME_CODE}): {told_of_shared([row.submission, *row.same_code])}")
    messages += notes_on_learner(row.learner)
    if review is None:
        return messages
    said = [text for text in (review.reason, review.re_run and f"re-run: {review.re_run}") if text]
    return [*messages, ". ".join([f"review: {row.review}", *said])]


def _facts(row: Row, entry: ScoredEntry, shown: Leaderboard) -> list[tuple[str, str]]:
    constants = ", ".join(f"{name} = {value}" for name, value in entry.constants.items())
    earlier = ", ".join(_version(other, shown) for other in shown.board.earlier(entry))
    texts = {column.name: column.text(row, shown.rounded) for column in COLUMNS}
    scored = row.figures.calibrated_score is not None
    figures = [
        (
            column.title,
            column.text(row.figures, shown.rounded) + (" of the limit" if column.field == "share_of_limit" else ""),
        )
        for column in SCORE_COLUMNS
        if column.field not in IN_TILES and column.value(row.figures) is not None
    ]
    remedy = "" if row.outcome is None else row.outcome.remedy(entry.file)
    known = [
        ("team", escaped(row.team or "")),
        ("constants", constants),
        ("remedy", "" if remedy == row.message else escaped(remedy)),
        ("note", escaped(row.message or "") if scored else ""),
        *figures,
        *((column.title, column.text(row.learner, unknown="")) for column in LEARNER_COLUMNS),
        *((name, texts[name]) for name in ("runs", "device", "isolation", "scorer")),
        ("entered", entry.entered.strftime("%d %b %Y, %H:%M %Z")),
        ("earlier versions", earlier),
        ("sha256", entry.sha256[:16]),  # as in its log
        ("code", entry.code_hash[:16]),
    ]
    return [(name, value) for name, value in known if value]


def _version(entry: ScoredEntry, shown: Leaderboard) -> str:
    digits = 2 if shown.rounded is None else shown.rounded
    said = str(entry.outcome or entry.state) if entry.scored is None else number(entry.scored.calibrated_score, digits)
    return f"{said} ({entry.entered.strftime('%d %b')})"


def _sections(board: Board, entry: ScoredEntry, track: Track, *, hidden: bool) -> list[Section]:
    """Return the plots and tables of a scored entry; they take seconds, and are kept. None where runs are not here."""
    if entry.scored is None:
        return []
    kept = board.folder / "pages" / f"{entry.key}-{entry.score}{'-hidden' if hidden else ''}-{harness.__version__}.json"
    if (found := whole(kept, lambda file: KEPT.validate_python(read_sealed(file)["sections"]))) is not None:
        return found
    if made := _made_sections(board, entry, track, hidden=hidden):
        write_sealed(kept, {"sections": KEPT.dump_python(made, mode="json")})
    return made


def _made_sections(board: Board, entry: ScoredEntry, track: Track, *, hidden: bool) -> list[Section]:
    assert entry.scored is not None
    results, n = Results(board.results / entry.results), entry.scored.n_runs
    if len(results.runs(range(n))) < n:
        return []
    submission = read_submission(results.folder / "submission.py", source_kb=SOURCE_KB)
    named = replace(submission, path=Path(entry.file), sha256=entry.sha256, constants=entry.constants)
    evaluation = load_evaluation(named, track, entry.device, runs=n, home=board.results.parents[1])
    return sections(evaluation, entry.scored, hidden=hidden)
