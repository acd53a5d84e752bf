"""An organizer's question before the opening: is the metric sound on this track?"""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import Result

from harness.evaluation.reference import in_turns
from harness.leaderboard.assurance.selfcheck import Known, known_methods
from harness.record import SETS, Records
from harness.storage import write_arrays
from harness.tracks.hashes import reference_hash
from harness.tracks.track import POOLS, Track, load_track, write_manifest

Selfcheck = Callable[..., Result]


@pytest.fixture
def own_tracks(home: Path, prepared_tracks: Path) -> Path:
    """Prepared tracks that a test may change."""
    (home / "tracks").unlink()
    shutil.copytree(prepared_tracks, home / "tracks")
    return home / "tracks"


@pytest.fixture
def selfcheck(harness: Callable[..., Result], tiny_file: Path) -> Selfcheck:
    return lambda *options: harness("leaderboard", "selfcheck", "--track", tiny_file, *options)


def lines(result: Result) -> dict[str, str]:
    """Return the verdicts by what was checked."""
    return {line[5:67].strip(): line[:5].strip() for line in result.output.splitlines()[1:] if line[:1] == " "}


def put_pool(tracks: Path, change: Callable[[Records], Records], *pools: str) -> None:
    """Replace the models of some pools."""
    track = load_track(tracks / "tiny")
    for pool in pools:
        write_arrays(track.records_file(pool), change(track.retrained(pool)).arrays())
    write_manifest(track.folder, track.manifest.model_copy(update={"reference_hash": reference_hash(track.private)}))


def test_a_sound_track_passes(selfcheck: Selfcheck) -> None:
    result = selfcheck("--runs", 16, "--stored")
    assert result.exit_code == 0, result.output
    found = lines(result)
    assert found["doing nothing is told from retraining"] == "yes"
    assert found["a game is noticed or gains nothing: comb"] == "yes"
    assert found["equal submissions are called equal"] == "-"  # 16 models are too few to tell
    assert "NO" not in found.values()
    assert selfcheck("--runs", 16, "--stored").output == result.output


@pytest.mark.long
def test_known_methods_lie_between_doing_nothing_and_retraining(
    selfcheck: Selfcheck, tiny: Track, monkeypatch: pytest.MonkeyPatch
) -> None:
    finetuning, half = known_methods(tiny.declaration.training)
    assert half.constants["EPOCHS"] == "4"
    nearly_all = replace(half, constants={**half.constants, "EPOCHS": "8"})
    destroying = Known("destroying", "finetune.py", {"LEARNING_RATE": "100"})
    methods = (finetuning, nearly_all, destroying)
    monkeypatch.setattr("harness.leaderboard.assurance.selfcheck.known_methods", lambda training: methods)
    result = selfcheck("--runs", 16)
    assert result.exit_code == 4
    found = lines(result)
    for what in ("fine-tuning", "half a retraining"):
        assert found[f"{what} gets no less than doing nothing"] == "yes"
        assert found[f"{what} gets no more than retraining"] == "yes"
    assert found["destroying gets no less than doing nothing"] == "NO"
    assert selfcheck("--runs", 16).output.endswith(result.output[result.output.index("tiny, 16 runs") :])  # is stored


def test_a_method_that_does_not_fit_into_the_limit_is_told(
    selfcheck: Selfcheck, monkeypatch: pytest.MonkeyPatch
) -> None:
    methods = (Known("fine-tuning", "finetune.py", time_limit=0.001),)
    monkeypatch.setattr("harness.leaderboard.assurance.selfcheck.known_methods", lambda training: methods)
    result = selfcheck("--runs", 16)
    assert result.exit_code == 4
    assert lines(result)["fine-tuning runs on this track"] == "NO"
    assert "TIME_LIMIT" in result.output


def test_a_track_whose_retrained_models_do_not_get_1_fails(selfcheck: Selfcheck, own_tracks: Path) -> None:
    def disturbed(pool: Records) -> Records:
        return replace(pool, forget_logits=3 * pool.forget_logits)  # as if trained otherwise than those scored against

    put_pool(own_tracks, disturbed, POOLS[1])
    result = selfcheck("--runs", 16, "--stored")
    assert result.exit_code == 4
    assert lines(result)["retrained models get a calibrated score of 1"] == "NO"
    assert "do not mean what they should" in result.output


def test_a_track_on_which_doing_nothing_is_retraining_fails(selfcheck: Selfcheck, own_tracks: Path) -> None:
    track = load_track(own_tracks / "tiny")
    retrained = track.retrained(POOLS[1])
    write_arrays(track.private / "originals.npz", retrained.arrays())
    write_manifest(track.folder, track.manifest.model_copy(update={"reference_hash": reference_hash(track.private)}))
    result = selfcheck("--runs", 16, "--stored")
    assert result.exit_code == 4
    assert lines(result)["doing nothing is told from retraining"] == "NO"


def test_no_game_is_noticed_by_a_val_set_that_is_harder_than_test(selfcheck: Selfcheck, own_tracks: Path) -> None:
    def harder(pool: Records) -> Records:
        accuracy = pool.accuracy.copy()
        accuracy[:, SETS.index("val")] = accuracy[:, SETS.index("test")] - 0.1
        return replace(pool, accuracy=accuracy)

    put_pool(own_tracks, harder, *POOLS)
    assert "val accuracy" not in selfcheck("--runs", 16, "--stored").output


def test_runs_that_leave_originals_as_they_are_know_which(tiny: Track) -> None:
    idle = in_turns(tiny.originals(), 5)
    assert idle.original.tolist() == [0, 1, 0, 1, 0]
    assert idle.weights_sha256[0] == tiny.originals().weights_sha256[0] == idle.weights_sha256[2]


def test_too_few_or_too_many_runs_name_the_next_command(selfcheck: Selfcheck) -> None:
    few, many = selfcheck("--runs", 8), selfcheck("--runs", 17)
    assert (few.exit_code, many.exit_code) == (2, 2)
    assert "--runs 16" in " ".join(few.output.split())
    assert "--retrained 17" in " ".join(many.output.split())


@pytest.mark.slow
def test_digits_is_sound(home: Path, harness: Callable[..., Result]) -> None:
    (home / "tracks").unlink()
    result = harness("leaderboard", "selfcheck")
    assert result.exit_code == 0, result.output
    found = lines(result)
    assert set(found.values()) == {"yes"}
    assert found["equal submissions are called equal"] == "yes"
