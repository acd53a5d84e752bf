"""A final ranking is checked by strangers: what was published at the opening, and every score from its runs again."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result

from harness import shipped
from harness.seal import read_sealed_arrays, sealed, write_sealed_arrays
from harness.storage import read_arrays, read_json, write_arrays, write_json
from harness.tracks.track import Track
from tests.leaderboard.boards import BoardWriter

Verify = Callable[..., Result]


@pytest.fixture
def board(home: Path, evaluated_home: Path, tiny: Track) -> BoardWriter:
    """A leaderboard of real runs, in a HARNESS_HOME of its own."""
    names = ("ada/finetune.py", "bob/noise.py", "bob/nothing.py", "cy/broken.py")
    return BoardWriter.of_evaluated(home, tiny, evaluated_home, names)


@pytest.fixture
def verify(harness: Callable[..., Result], tiny_file: Path) -> Verify:
    return lambda *arguments: harness("leaderboard", "verify", *arguments, "--track", tiny_file)


@pytest.fixture
def published(verify: Verify, tmp_path: Path, board: BoardWriter) -> Path:
    """What the organizer published at the opening."""
    file = tmp_path / "opening.json"
    result = verify("--publish", file)
    assert result.exit_code == 0, result.output
    return file


@pytest.fixture
def table(harness: Callable[..., Result], tiny_file: Path, tmp_path: Path, board: BoardWriter) -> Path:
    """The published final table."""
    file = tmp_path / "final.json"
    file.write_text(harness("leaderboard", "show", "--track", tiny_file, "--format", "json").output)
    return file


def change(file: Path, **values: object) -> None:
    write_json(file, {**read_json(file), **values})


def seal_changed(file: Path, **values: object) -> None:
    """Change a score as an organizer does who wants it to be believed."""
    write_json(file, sealed({**read_json(file), **values}))


def score_file(board: BoardWriter, key: str) -> Path:
    entry = read_json(board.entry_file(key))
    return board.results / str(entry["results"]) / f"{entry['score']}.json"


def test_what_is_released_as_it_was_published_matches(
    verify: Verify, published: Path, table: Path, tiny: Track
) -> None:
    result = verify(published, "--table", table, "--jobs", 1)
    assert result.exit_code == 0, result.output
    assert "the stored entries and scores are whole" in result.output
    assert "the track and its terms are those published" in result.output
    assert "3 scores come out of the runs again" in result.output
    assert "follows from these scores" in result.output
    assert tiny.secret.hex() not in published.read_text()


def test_a_commitment_is_made_once(verify: Verify, published: Path) -> None:
    before = published.read_bytes()
    result = verify("--publish", published)
    assert result.exit_code == 2
    assert "is there already" in result.output
    assert published.read_bytes() == before


def test_another_track_and_other_terms_than_those_published_are_named(
    verify: Verify, published: Path, board: BoardWriter
) -> None:
    hashes = {
        "secret_commitment": "the secret",
        "reference_hash": "retrained models or test set",
        "fingerprint": "declaration, data or split",
        "public_hash": "what submissions saw",
    }
    change(published, **dict.fromkeys(hashes, "0" * 64))
    change(board.folder / "board.json", rank_by="official", boundaries=[1])
    result = verify(published, "--jobs", 1)
    assert result.exit_code == 4
    for said in hashes.values():
        assert f"{said}: published {'0' * 64}" in result.output
    assert "the score that ranks: published calibrated, now official" in result.output
    assert "the prize boundaries: published (), now (1,)" in result.output
    assert "3 scores come out of the runs again" in result.output


def test_scores_runs_code_and_outcomes_that_were_changed_are_named(
    verify: Verify, published: Path, board: BoardWriter
) -> None:
    finetune, noise, nothing = (score_file(board, key) for key in board.keys[:3])
    seal_changed(finetune, calibrated_score=0.97, unranked_because="over the limit")
    entered = read_json(board.entry_file(board.keys[0]))
    board.entry_file(board.keys[0]).unlink()
    board.add("ada/finetune.py", **{**entered, "code_hash": "c" * 64})
    arrays, _ = read_sealed_arrays(noise.with_name("run-0002.npz"))
    flipped = np.flip(arrays["forget_logits"], axis=-1)
    write_sealed_arrays(noise.with_name("run-0002.npz"), {**arrays, "forget_logits": flipped})
    nothing.with_name("run-0005.npz").unlink()
    change(board.entry_file(board.keys[3]), outcome="TIME_LIMIT")
    result = verify(published, "--jobs", 1)
    assert result.exit_code == 4
    for said in (
        "ada/finetune.py: calibrated score is stored as 0.97",
        "ada/finetune.py: stored as over the limit, the runs say ranked",
        "ada/finetune.py: entered as code cccccccccccccccc",
        "bob/noise.py: half-samples of the calibrated score are not those computed again",
        "bob/noise.py: it was scored from other runs than those that are stored",
        "1 of 16 runs of bob/nothing.py are missing or damaged",
        "cy/broken.py: entered as TIME_LIMIT, its stored runs say EXCEPTION",
    ):
        assert said in result.output
    assert "bob/noise.py: entered as" not in result.output


def test_damaged_scores_and_runs_are_named_and_the_rest_is_verified(
    verify: Verify, published: Path, board: BoardWriter
) -> None:
    finetune, noise, _ = (score_file(board, key) for key in board.keys[:3])
    change(finetune, calibrated_score=0.97)
    run = noise.with_name("run-0002.npz")
    arrays = read_arrays(run)
    write_arrays(run, {**arrays, "forget_logits": np.flip(arrays["forget_logits"], axis=-1)})
    result = verify(published, "--jobs", 1)
    assert result.exit_code == 4
    for said in (
        f"{finetune}: its content does not match its hash",
        f"{run} is damaged",
        "1 of 16 runs of bob/noise.py are missing or damaged",
        "the track and its terms are those published",
        "2 scores: 1 difference\n",
    ):
        assert said in result.output
    assert "0.97" not in result.output


def test_a_table_that_was_rewritten_is_found(verify: Verify, published: Path, table: Path) -> None:
    rows = json.loads(table.read_text())
    by_name = {row["submission"]: row for row in rows}
    by_name["bob/noise.py"]["rank"], by_name["ada/finetune.py"]["rank"] = "2", "1"
    rows = [row for row in rows if row["submission"] != "cy/broken.py"]
    table.write_text(json.dumps(rows))
    result = verify(published, "--table", table, "--jobs", 1)
    assert result.exit_code == 4
    assert "cy/broken.py: missing from the published table" in result.output
    assert "ada/finetune.py: rank published as 1, now 2" in result.output


@pytest.mark.parametrize("content", [None, "", "[]", '{"track": "tiny"}'])
def test_what_is_no_commitment_is_a_wrong_usage(
    content: str | None, verify: Verify, board: BoardWriter, tmp_path: Path
) -> None:
    file = tmp_path / "odd.json"
    if content is not None:
        file.write_text(content)
    result = verify(file)
    assert result.exit_code == 2
    assert "odd.json" in result.output


def test_a_track_without_its_private_part_can_neither_be_committed_to_nor_score(
    home: Path, tiny: Track, tiny_file: Path, harness: Callable[..., Result], tmp_path: Path
) -> None:
    public = tmp_path / "public.track"
    assert harness("prepare", tiny_file, "--export", public).exit_code == 0
    (home / "tracks").unlink()
    assert harness("prepare", tiny_file, "--import", public).exit_code == 0
    result = harness("leaderboard", "verify", "--publish", tmp_path / "opening.json", "--track", tiny_file)
    assert result.exit_code == 2
    assert "no private part" in " ".join(result.output.split())
    whole = ("prepare", "--export-private", tmp_path / "whole.track", "tiny")
    baseline = Path(shipped.BASELINES, "finetune.py")
    commands = [(*command, baseline, "--track", tiny_file) for command in (("check",), ("leaderboard", "run"))]
    for command in (whole, *commands):
        result = harness(*command)
        assert result.exit_code == 2, result.output
        assert "only the public part of tiny is here" in result.output
