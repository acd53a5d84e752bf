"""What lets anyone check a final ranking: hashes published at the opening, and scores recomputed at the end.

At the opening the organizer publishes what the final track is, without showing it. At the end the track with its
private part, the runs and the leaderboard are released, and everything is computed again from the arrays alone.
"""

import json
import math
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import joblib
from pydantic import ValidationError

import harness
from harness.errors import MachineError, UsageError
from harness.evaluation.evaluate import conditions_of
from harness.evaluation.figures import Figures
from harness.evaluation.learner_figures import LearnerFigures
from harness.evaluation.own_reference import reference_of
from harness.evaluation.reference import Reference, load_reference, outputs
from harness.evaluation.score_file import HalfSampleScores, ScoreFile, figures_of
from harness.evaluation.stored_score import unranked_because
from harness.leaderboard.board.known_code import SOURCE_KB
from harness.leaderboard.board.rows import Leaderboard
from harness.leaderboard.board.stored import Board, ScoredEntry
from harness.leaderboard.pages.text import as_json
from harness.parallel import processes_may_end
from harness.quoting import quoted
from harness.runner.outcome import Outcome
from harness.runs.learner_runs import run_set_of, trainings_of
from harness.runs.run import RUNNER_VERSION, Run, records_of
from harness.runs.run_set import N_SWAPPED, RunSet, seal_of, until_failed
from harness.runs.stage import Stage
from harness.runs.store import Results
from harness.scoring.score import SCORER_VERSION
from harness.storage import read_json
from harness.submission import read_submission
from harness.tracks.declaration import TomlSection
from harness.tracks.hashes import secret_commitment
from harness.tracks.track import Track

__all__ = ["Commitment", "commit", "differences_of_tables", "differences_of_track", "read_commitment", "recomputed"]

COMPARED = ("rank", "outcome", "unranked_because", "score", "calibrated_score")  # of published tables
COMPARED_OF_LEARNERS = ("own_floor", "exact", "certificate_refuted")
TOLERANCE = 1e-6  # relative: another machine's logarithms differ in their last digits


class Commitment(TomlSection):
    """What is published at the opening. None of it can be changed later without being found out."""

    purpose: Literal["leaderboard commitment"] = "leaderboard commitment"
    track: str
    fingerprint: str  # declaration, data and split
    public_hash: str  # what submissions see
    reference_hash: str  # retrained models, test set
    secret_commitment: str  # sha256 of the secret that all seeds come from, which is at least 32 random bytes
    rank_by: Literal["calibrated", "official"]
    runs: int
    boundaries: tuple[int, ...] | None  # None if no leaderboard names them yet
    scorer_version: str
    runner_version: str
    harness: str


def commit(track: Track, board: Board | None) -> Commitment:
    """Return the commitment to a track and, if there is a leaderboard of it, to its terms."""
    evaluation, manifest = track.declaration.evaluation, track.manifest
    if manifest.reference_hash is None:
        raise UsageError(f"{track.name} has no private part here; commit where it was prepared")
    return Commitment(
        track=track.name,
        fingerprint=manifest.fingerprint,
        public_hash=manifest.public_hash,
        reference_hash=manifest.reference_hash,
        secret_commitment=secret_commitment(track.secret),
        rank_by=evaluation.rank_by if board is None else board.terms.rank_by,
        runs=track.usual_runs if board is None else board.terms.runs,
        boundaries=None if board is None else board.terms.boundaries,
        scorer_version=SCORER_VERSION,
        runner_version=RUNNER_VERSION,
        harness=harness.__version__,
    )


def read_commitment(file: Path) -> Commitment:
    """Return a published commitment. Raises UsageError if the file is none."""
    try:
        return Commitment.model_validate(read_json(file))
    except FileNotFoundError:
        remedy = f"the organizer writes it with: harness leaderboard verify --publish {quoted(file)}"
        raise UsageError(f"no file {file}; {remedy}") from None
    except (OSError, ValueError, ValidationError) as error:
        raise UsageError(f"{file} is no commitment to a leaderboard ({error})") from None


def differences_of_track(published: Commitment, track: Track, board: Board) -> list[str]:
    """Return in what a released track and its leaderboard differ from what was published, one line each.

    The files of a track are checked against its hashes when it is opened.
    """
    now = commit(track, board)
    names = {
        "track": "the track's name",
        "fingerprint": "declaration, data or split",
        "public_hash": "what submissions saw",
        "reference_hash": "retrained models or test set",
        "secret_commitment": "the secret",
        "rank_by": "the score that ranks",
        "runs": "the number of runs",
        "scorer_version": "the scorer's version",
        "runner_version": "the runner's version",
    } | ({} if published.boundaries is None else {"boundaries": "the prize boundaries"})
    changed = {name: (getattr(published, name), getattr(now, name)) for name in names}
    return [f"{names[name]}: published {was}, now {found}" for name, (was, found) in changed.items() if was != found]


# ---- scores from runs ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Recomputed:
    """A leaderboard with scores computed again, and in what they differ from those stored, one line each."""

    board: Board
    differences: tuple[str, ...]


def recomputed(
    board: Board, track: Track, *, jobs: int = 1, on_score: Callable[[int, int], None] = lambda done, total: None
) -> Recomputed:
    """Compute the scores of all current entries again, from their runs and the track's records alone.

    Half-samples are what takes time: at 500 examples 6 s a submission for 64 runs, a minute for 512. Nothing that was
    kept of ceiling, floor or scores is used.
    """
    with tempfile.TemporaryDirectory() as folder, processes_may_end():

        @cache
        def reference(n: int) -> Reference:
            return load_reference(track, n, Path(folder))

        entries, work = board.current, joblib.Parallel(n_jobs=jobs, return_as="generator")
        alone = replace(board, entries=())  # what a worker needs of it
        again = work(
            joblib.delayed(_recomputed)(
                alone,
                entry,
                reference(entry.scored.n_runs) if entry.scored else None,
                track if entry.is_learner else None,
            )
            for entry in entries
        )
        checked = []
        for done, found in enumerate(again, start=1):
            checked.append(found)
            on_score(done, len(entries))
    differences = tuple(line for _, lines in checked for line in lines)
    return Recomputed(replace(board, entries=tuple(entry for entry, _ in checked)), differences)


def _recomputed(
    board: Board, entry: ScoredEntry, reference: Reference | None, track: Track | None
) -> tuple[ScoredEntry, list[str]]:
    """Return an entry with its score computed again, and how that differs from what is stored; track: of a learner."""
    results = Results(board.results / entry.results)
    try:
        if reference is None or entry.scored is None:
            return entry, [f"{entry.submission}: {line}" for line in _differences_of_outcome(entry, results)]
        runs = board.runs(entry, entry.scored.n_runs)
        if track is not None:
            score = _score_of_learner(board, entry, entry.scored, reference, track)
        else:
            swapped = until_failed(results.runs(range(N_SWAPPED), stage=Stage.SWAPPED))
            score = _score_of(entry.scored, runs, reference, seal_of(runs, swapped))
        found = [*_differences_of_code(entry, results), *_differences_of_scores(entry.scored, score)]
    except MachineError as error:
        return entry.model_copy(update={"scored": None, "state": "failed"}), [str(error)]
    return entry.model_copy(update={"scored": score}), [f"{entry.submission}: {line}" for line in found]


def _score_of(stored: ScoreFile, runs: list[Run], reference: Reference, runs_seal: str) -> ScoreFile:
    """Return what scoring finds of some runs; what scoring says nothing of stays as it is stored."""
    records = records_of(runs)
    scored = reference.score(outputs(records, reference.forget_labels))
    return stored.model_copy(
        update={
            **dict(figures_of(scored, reference, runs)),
            "runs_seal": runs_seal,
            "unranked_because": unranked_because(runs),
            "half_samples": HalfSampleScores.of(scored.halves),
        }
    )


def _score_of_learner(
    board: Board, entry: ScoredEntry, stored: ScoreFile, reference: Reference, track: Track
) -> ScoreFile:
    """Return what scoring finds of a learner's runs of both functions. Raises MachineError if some are not stored."""
    results = Results(board.results / entry.results)
    for stage, count in trainings_of(stored.n_runs).items():
        board.runs(entry, count, stage)
    run_set = _learner(results, stored.n_runs)
    own = reference_of(run_set, track, reference)
    figures = LearnerFigures.of(run_set, conditions_of(run_set, track, entry.device), own)
    score = _score_of(stored, list(run_set.runs), own, run_set.seal)
    because = unranked_because(run_set.runs, figures)
    return score.model_copy(update={"learner": figures, "unranked_because": because})


def _learner(results: Results, count: int) -> RunSet:
    """Return the stored runs of a learner. Raises MachineError if it is not there."""
    if not (file := results.folder / "submission.py").is_file():
        raise MachineError(f"what was run, {file}, is missing: what it claims and how it is scored stand in it")
    return run_set_of(read_submission(file, source_kb=SOURCE_KB), results, count, with_records=True)


def _differences_of_code(entry: ScoredEntry, results: Results) -> Iterator[str]:
    """Yield a line if what was run is not the code that was entered."""
    file = results.folder / "submission.py"
    if not file.is_file():
        yield "what was run, submission.py, is not in the results"
        return
    found = read_submission(file, source_kb=SOURCE_KB)
    if found.code_hash != entry.code_hash:
        yield f"entered as code {entry.code_hash[:16]}, what was run is {found.code_hash[:16]}"
    if found.is_learner != entry.is_learner:
        yield f"entered as {_kind(entry.is_learner)}, what was run is {_kind(found.is_learner)}"


def _kind(is_learner: bool) -> str:
    return "a learner" if is_learner else "an ordinary submission"


def _differences_of_outcome(entry: ScoredEntry, results: Results) -> Iterator[str]:
    """Yield a line if a failed entry's stored runs ended otherwise."""
    if entry.state != "failed" or entry.outcome in (Outcome.INVALID_SUBMISSION, Outcome.HARNESS_ERROR):
        return  # no run of theirs is stored
    if entry.is_learner:
        failed = [run for run in [_learner(results, entry.stage).failed] if run is not None]
    else:
        failed = [run for run in results.runs(range(entry.stage)).values() if run.outcome != Outcome.OK]
    if not failed or failed[0].outcome != entry.outcome:
        found = failed[0].outcome if failed else "no failed run"
        yield f"entered as {entry.outcome}, its stored runs say {found}"


def _differences_of_scores(stored: ScoreFile, again: ScoreFile) -> Iterator[str]:
    if stored.runs_seal != again.runs_seal:
        yield "it was scored from other runs than those that are stored"
    for name in Figures.single():
        was, found = getattr(stored, name), getattr(again, name)
        if not _alike(was, found):
            yield f"{name.replace('_', ' ')} is stored as {was}, computed again it is {found}"
    for name in LearnerFigures.model_fields:
        was, found = (getattr(each.learner, name, None) for each in (stored, again))
        if not _same(was, found):
            yield f"{name.replace('_', ' ')} of the learner is stored as {was}, computed again it is {found}"
    if stored.unranked_because != again.unranked_because:
        yield f"stored as {stored.unranked_because or 'ranked'}, the runs say {again.unranked_because or 'ranked'}"
    for name, values in again.half_samples or ():
        if not _all_alike(getattr(stored.half_samples, name, ()), values):
            yield f"half-samples of the {name.replace('_', ' ')} are not those computed again"


def _alike(was: float | None, found: float | None) -> bool:
    return was == found or (was is not None and found is not None and math.isclose(was, found, rel_tol=TOLERANCE))


def _all_alike(was: Iterable[float], found: Iterable[float]) -> bool:
    was, found = list(was), list(found)
    return len(was) == len(found) and all(map(_alike, was, found))


# ---- tables --------------------------------------------------------------------------------------------------------


def differences_of_tables(published: Path, again: Leaderboard) -> list[str]:
    """Return in what a published table, as `show --format json` wrote it, differs from one of recomputed scores."""
    try:
        rows: dict[str, dict[str, Any]] = {row["submission"]: row for row in read_json(published)}
    except (OSError, ValueError, TypeError, KeyError):
        raise UsageError(f"{published} is no table; make one with: harness leaderboard show --format json") from None
    found = {row["submission"]: row for row in json.loads(as_json(again))}
    missing = [f"{name}: in the published table alone" for name in rows.keys() - found.keys()]
    new = [f"{name}: missing from the published table" for name in found.keys() - rows.keys()]
    changed = [
        f"{name}: {field.replace('_', ' ')} published as {row.get(field)}, now {found[name][field]}"
        for name, row in rows.items()
        if name in found
        for field in (*COMPARED, *(own for own in COMPARED_OF_LEARNERS if own in found[name]))
        if not _same(row.get(field), found[name][field])
    ]
    return [*sorted(missing + new), *changed]


def _same(was: Any, found: Any) -> bool:
    return _alike(was, found) if isinstance(was, float) and isinstance(found, float) else bool(was == found)
