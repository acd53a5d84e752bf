"""`harness tune` and the track that it uses, through the command line and the API."""

import io
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from rich.console import Console

import harness as api
from data_prep.draft import lay_out
from harness.cli.main import cli
from harness.errors import UsageError
from harness.evaluation.figures import Figures
from harness.report.tuned import show_tuning
from harness.runner.outcome import Outcome
from harness.storage import read_json
from harness.submission import read_submission
from harness.tracks.archive import export_track, import_track
from harness.tracks.catalogue import find_tracks
from harness.tracks.declaration import Forget, Trojan, read_declaration
from harness.tracks.track import Examples, Track, load_track
from harness.tracks.tuning_track import open_tuning_track, tuning_declaration, write_tuning_source
from harness.tuning.trials import Trial, Tuning, plan_of
from tests.conftest import Once

Harness = Callable[..., Result]
Write = Callable[[str], Path]

# Of its settings one is over the limit of 2 s, one raises; the others are told apart by what they do to the net.
FILE = """
import time, torch

RATE = 0.05
MODE = "noise"

def unlearn(net, retain_loader, forget_loader, val_loader):
    if MODE == "broken":
        raise RuntimeError("no such mode")
    if MODE == "slow":
        time.sleep(2.1)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += RATE * torch.randn_like(parameter)
"""
SEARCH = shlex.split("--track quick --trials 4 --runs 2 --range MODE=noise,broken,slow,quiet --set RATE=0.01 --json")


@pytest.fixture(scope="session")
def tunable_tracks(tiny_file: Path, once: Once) -> Path:
    """A folder of prepared tracks: quick, which trains for one epoch, and the one on which settings for it are tuned.

    Not to be changed.
    """

    def fill(folder: Path) -> None:
        text = tiny_file.read_text().replace('"tiny"', '"quick"').replace("epochs = 8", "epochs = 1")
        (folder / "quick.toml").write_text(text.replace("retrained = 16", "retrained = 4"))
        for arguments in ([str(folder / "quick.toml")], ["quick", "--for-tuning"]):
            call = ["prepare", *arguments, "--jobs", "1"]
            result = CliRunner(env={"HARNESS_HOME": str(folder)}).invoke(cli, call, prog_name="harness")
            assert result.exit_code == 0, result.output
        assert "quick-tuning is ready: 16 retrained models in each pool" in result.output

    return once("tunable", fill) / "tracks"


@pytest.fixture(scope="session")
def tuned_home(tunable_tracks: Path, once: Once) -> Path:
    """A HARNESS_HOME with a tuning of foo.py, what it printed, and what --json wrote; not to be changed."""

    def fill(folder: Path) -> None:
        (folder / "tracks").symlink_to(tunable_tracks)
        (folder / "foo.py").write_text(FILE)
        call = ["tune", str(folder / "foo.py"), *SEARCH, str(folder / "out.json")]
        result = CliRunner(env={"HARNESS_HOME": str(folder)}).invoke(cli, call, prog_name="harness")
        assert result.exit_code == 0, result.output
        (folder / "printed.txt").write_text(result.output)

    return once("tuned", fill)


@pytest.fixture
def home(tunable_tracks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty HARNESS_HOME with these tracks."""
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "tracks").symlink_to(tunable_tracks)
    monkeypatch.setenv("HARNESS_HOME", str(folder))
    return folder


# ---- the track ----------------------------------------------------------------------------------------------------


def pictures(track: Track, *names: str) -> set[bytes]:
    return {image.tobytes() for name in names for image in track.examples(name).images}


def test_a_tuning_track_has_nothing_of_what_is_forgotten_and_tested(tunable_tracks: Path) -> None:
    scored, tuning = (load_track(tunable_tracks / name) for name in ("quick", "quick-tuning"))
    theirs = pictures(tuning, "retain", "forget", "val", "test")
    assert theirs == pictures(scored, "retain", "val")
    assert not theirs & pictures(scored, "forget", "test")
    assert [len(tuning.examples(name)) for name in ("retain", "forget", "val", "test")] == [83, 17, 40, 40]
    ours = {sha for part in (scored.originals(), scored.retrained("scoring")) for sha in part.weights_sha256}
    assert not ours & set(tuning.originals().weights_sha256)
    assert len(tuning.originals()) == 2
    assert [path.name for path in tunable_tracks.iterdir() if path.name.startswith(".tuning")] == []


def test_whoever_has_the_public_part_alone_prepares_the_same_track(tunable_tracks: Path, tmp_path: Path) -> None:
    tuning = load_track(tunable_tracks / "quick-tuning")
    export_track(load_track(tunable_tracks / "quick"), tmp_path / "public.track", private=False)
    public = import_track(tmp_path / "public.track", tmp_path / "tracks")
    assert not public.private.exists()
    with pytest.raises(UsageError, match=r"run: harness prepare quick --for-tuning; --estimate says"):
        open_tuning_track(public)
    file = write_tuning_source(public, tmp_path / "source")
    declaration = read_declaration(file)
    assert declaration == tuning_declaration(public) == tuning.declaration
    draft = lay_out(declaration, file, tmp_path / "draft", cache=tmp_path)
    assert draft.manifest.fingerprint == tuning.manifest.fingerprint
    assert draft.secret == tuning.secret


KINDS = {
    Forget(kind="random", count=20): Forget(kind="random", count=17),
    Forget(kind="indices", file="forget.txt"): Forget(kind="random", count=17),
    Forget(kind="subject", count=2): Forget(kind="subject", count=2),
    Forget(kind="class", label=3): Forget(kind="class", label=4),
    Forget(kind="class", label="nine"): Forget(kind="class", label=0),
}


@pytest.mark.parametrize(("declared", "expected"), KINDS.items(), ids=lambda forget: f"{forget.kind}-{forget.label}")
def test_it_forgets_another_set_of_the_same_kind(
    declared: Forget, expected: Forget, tiny: Track, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forgotten = {3: 3, "nine": 9}.get(declared.label or "")

    def examples(track: Track, name: str, read: Callable[[Track, str], Examples] = Track.examples) -> Examples:
        found = read(track, name)
        found = Examples(found.images, found.labels, np.arange(len(found.labels)) % 9)
        return found if forgotten is None else found[found.labels != forgotten]

    monkeypatch.setattr(Track, "examples", examples)
    declaration = tiny.declaration.model_copy(update={"forget": declared})
    track = Track(tiny.folder, declaration, tiny.manifest)
    found = tuning_declaration(track)
    assert found.forget == expected
    file = write_tuning_source(track, tmp_path)
    assert read_declaration(file) == found
    draft = lay_out(found, file, tmp_path / "draft", cache=tmp_path)
    assert draft.manifest.n_classes == 10


def test_settings_for_a_poisoned_track_are_tuned_on_a_poisoned_one(tiny: Track, tmp_path: Path) -> None:
    trojan = Trojan(target=3, size=2, margin=0, value=16)
    track = Track(tiny.folder, tiny.declaration.model_copy(update={"trojan": trojan}), tiny.manifest)
    file = write_tuning_source(track, tmp_path)
    declaration = read_declaration(file)
    assert declaration.trojan == trojan
    draft = lay_out(declaration, file, tmp_path / "draft", cache=tmp_path)
    assert set(draft.examples("forget").labels) == {3}


NET = """
from torch import nn

def build(n_classes, channels):
    return nn.Sequential(nn.Flatten(), nn.Linear(64 * channels, n_classes))
"""


def test_a_net_in_a_folder_of_its_own_comes_along(
    tiny_file: Path, tmp_path: Path, submission: Write, monkeypatch: pytest.MonkeyPatch, harness: Harness
) -> None:
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path / "own"))
    text = tiny_file.read_text().replace('"tiny"', '"nested"').replace("epochs = 8", "epochs = 1")
    text = text.replace('"small_resnet"\nwidth = 4', '"nets/net.py:build"').replace("retrained = 16", "retrained = 4")
    (tmp_path / "nets").mkdir()
    (tmp_path / "nets" / "net.py").write_text(NET)
    (tmp_path / "nested.toml").write_text(text)
    for arguments in ([tmp_path / "nested.toml"], ["nested", "--for-tuning"]):
        result = harness("prepare", *arguments, "--jobs", 1)
        assert result.exit_code == 0, result.output
    search = shlex.split("--track nested --trials 2 --runs 2 --range MODE=noise,quiet")
    tuned = harness("tune", submission(FILE), *search)
    assert tuned.exit_code == 0, tuned.output


def test_a_val_set_of_one_is_too_small_to_tune_with(tiny: Track, monkeypatch: pytest.MonkeyPatch) -> None:
    one = tiny.examples("val")[:1]
    monkeypatch.setattr(Track, "examples", lambda *_: one)
    with pytest.raises(UsageError, match="tiny has a val set of 1; tuning needs two"):
        tuning_declaration(tiny)


# ---- trials -------------------------------------------------------------------------------------------------------


def test_a_trial_that_fails_or_is_over_the_limit_is_one_like_others_and_has_no_score(tuned_home: Path) -> None:
    found, printed = Tuning.from_json(read_json(tuned_home / "out.json")), (tuned_home / "printed.txt").read_text()
    as_it_is, *others = found.trials
    assert (found.n_trials, found.n_runs, found.constants, as_it_is.settings) == (4, 2, {"RATE": "0.01"}, {})
    by_mode = {trial.settings["MODE"]: trial for trial in others}
    assert set(by_mode) == {"'broken'", "'slow'", "'quiet'"}
    broken, slow = by_mode["'broken'"], by_mode["'slow'"]
    assert (broken.outcome, broken.calibrated_score) == ("EXCEPTION", None)
    assert (slow.outcome, slow.remark, slow.calibrated_score, slow.score) == ("OK", "over the time limit", None, None)
    assert (slow.share_of_limit or 0) > 1
    assert found.best_trial in (as_it_is, by_mode["'quiet'"])
    assert re.search(r"^ +1 .* the file as it is *$", printed, re.MULTILINE)
    assert "EXCEPTION, RuntimeError: no such mode" in printed
    assert "what counts is its score on quick" in printed
    assert "trials of 2 runs hardly tell settings apart; 16 are usual" in printed


def test_the_best_trial_is_that_of_the_score_which_ranks_on_the_track(tiny: Track, tmp_path: Path) -> None:
    (tmp_path / "method.py").write_text(FILE)
    submission = read_submission(tmp_path / "method.py", source_kb=256)
    for rank_by, best, said in (("calibrated", 1, "calibrated score 0.60"), ("official", 2, "official score 0.090")):
        evaluation = tiny.declaration.evaluation.model_copy(update={"rank_by": rank_by})
        track = Track(tiny.folder, tiny.declaration.model_copy(update={"evaluation": evaluation}), tiny.manifest)
        plan = plan_of(submission, tiny, track, device="cpu", trials=2, runs=2, ranges={"RATE": "0.01:0.1"})
        tuning = plan.result([trial(0.6, 0.05), trial(0.5, 0.09)])
        printed = io.StringIO()
        Console(file=printed, width=200).print(show_tuning(tuning, submission.path, is_scored_here=True))
        assert (tuning.rank_by, tuning.best) == (rank_by, best)
        assert f"best: trial {best}, {said}" in printed.getvalue()


def trial(calibrated: float, official: float) -> Trial:
    figures = Figures.of({"calibrated_score": calibrated, "score": official})
    return Trial(**dict(figures), settings={}, outcome=Outcome.OK, remark=None, isolation="full")


def test_the_same_command_shows_what_is_kept_and_a_damaged_file_is_made_of_stored_runs(
    tuned_home: Path, harness: Harness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, out = tmp_path / "copy", tmp_path / "out.json"
    shutil.copytree(tuned_home, place, symlinks=True)
    monkeypatch.setenv("HARNESS_HOME", str(place))
    monkeypatch.setattr("harness.runs.local.LocalExecutor", lambda *_: pytest.fail("something is run"))
    call = ("tune", place / "foo.py", *SEARCH, out)
    again = harness(*call)
    assert again.exit_code == 0, again.output
    assert read_json(out) == read_json(tuned_home / "out.json")
    assert again.output in (tuned_home / "printed.txt").read_text().replace(str(tuned_home), str(place))
    (kept,) = place.glob("tuning/quick-tuning-*/*.json")
    kept.write_text(kept.read_text().replace('"n_runs": 2', '"n_runs": 3'))
    assert harness(*call).exit_code == 0
    assert Tuning.from_json(read_json(out)).trials == Tuning.from_json(read_json(tuned_home / "out.json")).trials
    assert read_json(kept) == read_json(out)


def test_the_command_that_is_printed_scores_the_best_on_the_track(
    tuned_home: Path, harness: Harness, tmp_path: Path
) -> None:
    (line,) = re.findall(r"^score it there: harness (.*)$", (tuned_home / "printed.txt").read_text(), re.MULTILINE)
    out = tmp_path / "out.json"
    result = harness(*shlex.split(line), "--runs", 2, "--json", out)
    assert result.exit_code == 0, result.output
    assert read_json(out)["track"] == "quick"
    assert read_json(out)["constants"] == Tuning.from_json(read_json(tuned_home / "out.json")).best_constants


def test_the_command_names_the_device_that_auto_would_not_take(
    tuned_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.evaluation.commands.is_present", lambda: True)
    said = io.StringIO()
    tuning = Tuning.from_json(read_json(tuned_home / "out.json"))
    Console(file=said, width=200).print(show_tuning(tuning, Path("foo.py"), is_scored_here=True))
    assert "score it there: harness evaluate foo.py --track quick --device cpu --set" in said.getvalue()


def test_a_participant_without_the_private_part_is_told_what_to_hand_in(
    tuned_home: Path, harness: Harness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "participant"
    export_track(load_track(tuned_home / "tracks" / "quick"), tmp_path / "public.track", private=False)
    import_track(tmp_path / "public.track", place / "tracks")
    (place / "tracks" / "quick-tuning").symlink_to(tuned_home / "tracks" / "quick-tuning")
    shutil.copytree(tuned_home / "tuning", place / "tuning")
    monkeypatch.setenv("HARNESS_HOME", str(place))
    result = harness("tune", tuned_home / "foo.py", *SEARCH, place / "out.json")
    assert result.exit_code == 0, result.output
    said = re.search(r"^write this into the file before you hand it in: (.*)$", result.output, re.MULTILINE)
    assert said is not None
    assert re.fullmatch("RATE = 0.01(, MODE = 'quiet')?", said[1])
    assert "harness evaluate" not in result.output


def test_more_trials_begin_with_those_there_are_and_the_api_does_the_same(home: Path, submission: Write) -> None:
    file, ranges = submission(FILE), {"RATE": "0.001:0.1:log"}
    two = api.tune(file, track="quick", trials=2, runs=2, ranges=ranges)
    made: list[object] = []
    three = api.tune(file, track="quick", trials=3, runs=2, ranges=ranges, on_run=made.append)
    assert (three.trials[:2], len(made)) == (two.trials, 2)
    assert (
        api.tune(
            file, track="quick", trials=3, runs=2, ranges=ranges, on_run=lambda _: pytest.fail("a run is made again")
        )
        == three
    )
    by_default = api.tune(file, track="quick", trials=2, runs=2, constants={"MODE": "quiet"})
    assert by_default.ranges == {"RATE": "0.005:0.5:log"}
    assert by_default.best_constants is not None
    assert by_default.best_constants["MODE"] == "quiet"


@pytest.mark.long
def test_trials_make_as_many_runs_as_the_tuning_track_has_models(
    tunable_tracks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, submission: Write, harness: Harness
) -> None:
    shutil.copytree(tunable_tracks / "quick", tmp_path / "tracks" / "quick")
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path))
    assert harness("prepare", "quick", "--for-tuning", "--retrained", 1).exit_code == 0
    result = harness("tune", submission(FILE), "--track", "quick", "--trials", 2)
    assert result.exit_code == 2
    assert "2 runs need 2 retrained models" in result.output
    assert harness("prepare", "quick-tuning", "--retrained", 2).exit_code == 0
    result = harness("tune", submission(FILE), "--track", "quick", "--trials", 2, "--set", "MODE=quiet")
    assert result.exit_code == 0, result.output
    assert "2 trials of 2 runs on quick-tuning" in result.output


def test_a_file_without_any_score_fails(home: Path, submission: Write, harness: Harness) -> None:
    invalid = harness("tune", submission("x ="), "--track", "quick", "--trials", 2)
    assert invalid.exit_code == 3
    assert "INVALID_SUBMISSION, syntax error in line 1" in invalid.output
    assert "put that right" in invalid.output
    failing = submission("RATE = 0.1\ndef unlearn(net, retain_loader, forget_loader, val_loader): 1 / RATE / 0")
    failed = harness("tune", failing, "--track", "quick", "--trials", 2, "--runs", 2)
    assert failed.exit_code == 3
    assert "no trial has a score; of the first: EXCEPTION, ZeroDivisionError" in failed.output
    assert f"harness check --debug {failing} --track quick-tuning\n" in failed.output
    assert len(list(home.glob("tuning/*/*.json"))) == 1  # of the second: the first was no tuning


# ---- what cannot be done as asked ---------------------------------------------------------------------------------

WRONG = [
    (["--trials", 1], "--trials 1 tunes nothing.* 12 are usual: harness tune FILE --trials 12"),
    (["--trials", -3], "--trials -3 tunes nothing"),
    (["--runs", 17], "17 runs need 17 retrained models.* harness prepare quick-tuning --retrained 17"),
    (["--range", "RATE"], "--range takes NAME=LOW:HIGH.* such as --range LEARNING_RATE=0.01:1:log, not 'RATE'"),
    (["--range", "RATE=0.1"], "RATE=0.1 is one value; set it with --set RATE=0.1"),
    (["--range", "RATE=low:high"], "RATE=low:high has no two numbers; write NAME=LOW:HIGH"),
    (["--range", "RATE=0.1:inf"], "has no two numbers"),
    (["--range", "RATE=0.1:1:ln"], "after the two numbers only :log may stand"),
    (["--range", "RATE=0.1:0.1"], "the first number has to be below the second; write --range RATE=LOW:HIGH"),
    (["--range", "RATE=0:1:log"], "a logarithmic range begins above 0; write --range RATE=LOW:HIGH:log"),
    (["--range", "MODE=1:2"], "MODE is no number; name its values: --range MODE=A,B,C"),
    (["--range", "MODE=noise,noise"], "a value is there twice, or is empty; write each once"),
    (["--range", "MODE=noise,"], "a value is there twice, or is empty"),
    (["--range", "STEPS=1.5:3"], "STEPS is a whole number in the file, so both ends are"),
    (["--range", "RATIO=1:2"], r"--range RATIO \(did you mean RATE\?\): the file sets no such constant"),
    (["--range", "RATE=1:2", "--range", "RATE=1:3"], "--range RATE is there twice; give one of them"),
    (["--range", "RATE=1:2", "--set", "RATE=1"], "RATE has a value for all trials, by --set, and a --range"),
    (["--range", "STEPS=1:2"], "1200 draws from these ranges gave 3 different settings.* --trials 3"),
    (["--set", "RATE=0", "--set", "STEPS=1"], "there is nothing to tune: .*its constants: RATE, STEPS, MODE.*--range"),
    (["--set", "SPEED=1"], "--set SPEED: the file sets no such constant"),
    (["--json", "/proc/out.json"], "cannot be written"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG, ids=lambda value: " ".join(map(str, value))[:40])
def test_what_cannot_be_tuned_is_a_usage_error(
    arguments: list[object], message: str, home: Path, submission: Write, harness: Harness
) -> None:
    file = submission(FILE.replace("RATE = 0.05", "RATE = 0.05\nSTEPS = 3"))
    result = harness("tune", file, "--track", "quick", *arguments)
    assert result.exit_code == 2, result.output
    assert re.search(message, " ".join(result.output.split())), result.output
    assert not (home / "tuning").exists()
    assert not list(home.glob("results/*/*"))


def test_a_place_that_cannot_be_used_is_named_before_anything_is_run(
    home: Path, submission: Write, harness: Harness
) -> None:
    (home / "tuning").write_text("a file")
    result = harness("tune", submission(FILE), "--track", "quick")
    assert result.exit_code == 4
    assert f"cannot use {home / 'tuning'}: Not a directory. Set HARNESS_HOME" in result.output.replace("\n", "")


def test_a_tuning_track_is_handed_on_without_its_images(
    tunable_tracks: Path, harness: Harness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracks, pack = tmp_path / "own" / "tracks", tmp_path / "quick-tuning.pack"
    shutil.copytree(tunable_tracks, tracks)
    monkeypatch.setenv("HARNESS_HOME", str(tracks.parent))
    before = load_track(tracks / "quick-tuning").manifest
    assert find_tracks("quick-tuning", tracks)[0].command == "harness prepare quick --for-tuning"
    exported = harness("prepare", "quick-tuning", "--export-private", pack, "--without-images")
    assert exported.exit_code == 0, exported.output
    shutil.rmtree(tracks / "quick-tuning")
    for name, file in (("quick-tuning", "FILE"), ("quick", str(pack))):
        wrong = harness("prepare", name, "--import", pack)
        assert wrong.exit_code == 2
        command = f"run: harness prepare quick --for-tuning --import {file}"
        assert command.replace(" ", "") in "".join(wrong.output.split())
    assert not (tracks / "quick-tuning").exists()
    shutil.copytree(tracks / "quick", tracks / "quick-tuning")  # another track in its place
    there = harness("prepare", "quick", "--for-tuning", "--import", pack)
    assert there.exit_code == 2
    replacing = ["prepare", "quick", "--for-tuning", "--import", str(pack), "--force"]
    assert f"harness{''.join(replacing)}" in "".join(there.output.split())
    imported = harness(*replacing)
    assert imported.exit_code == 0, imported.output
    assert load_track(tracks / "quick-tuning").manifest == before
    for option in (["--jobs", 1], ["--device", "cpu"], ["--estimate"]):
        other = harness(*replacing, *option)
        assert other.exit_code == 2
        assert "--import goes with no other option but --force, --data and --for-tuning" in " ".join(
            other.output.split()
        )


@pytest.mark.long
def test_a_tuning_track_of_another_preparation_is_not_imported(
    tunable_tracks: Path, tiny_file: Path, harness: Harness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracks, pack = tmp_path / "own" / "tracks", tmp_path / "quick-tuning.pack"
    monkeypatch.setenv("HARNESS_HOME", str(tunable_tracks.parent))
    assert harness("prepare", "quick-tuning", "--export-private", pack, "--without-images").exit_code == 0
    monkeypatch.setenv("HARNESS_HOME", str(tracks.parent))
    text = tiny_file.read_text().replace('"tiny"', '"quick"').replace("epochs = 8", "epochs = 2")
    (tmp_path / "quick.toml").write_text(text.replace("retrained = 16", "retrained = 4"))
    assert harness("prepare", tmp_path / "quick.toml", "--jobs", 1).exit_code == 0
    other = harness("prepare", "quick", "--for-tuning", "--import", pack)
    assert other.exit_code == 2
    said = " ".join(other.output.split())
    assert "was made for another preparation of quick than the one here" in said
    assert "harness prepare quick --for-tuning" in said


def test_a_tuning_track_is_prepared_first_and_made_anew_with_its_track(
    tunable_tracks: Path, submission: Write, harness: Harness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracks = tmp_path / "own" / "tracks"
    shutil.copytree(tunable_tracks / "quick", tracks / "quick")
    monkeypatch.setenv("HARNESS_HOME", str(tracks.parent))
    missing = harness("tune", submission(FILE), "--track", "quick")
    assert missing.exit_code == 2
    assert "is not prepared; run: harness prepare quick --for-tuning" in missing.output
    shutil.copytree(tracks / "quick", tracks / "quick-tuning")  # as of another version
    for command in (["tune", submission(FILE), "--track", "quick"], ["prepare", "quick", "--for-tuning"]):
        old = harness(*command)
        assert old.exit_code == 2
        said = " ".join(old.output.split())
        assert "quick-tuning was made for another version of quick; make it anew: harness prepare quick" in said
        assert "--for-tuning --force" in said
    assert "leave out --data" in harness("prepare", "quick", "--for-tuning", "--data", tmp_path).output
    shutil.rmtree(tracks / "quick-tuning")
    shutil.copytree(tunable_tracks / "quick-tuning", tracks / "quick-tuning")
    anew = harness("prepare", "quick-tuning", "--force")
    assert anew.exit_code == 2
    assert "quick-tuning is made of quick; run: harness prepare quick --for-tuning --force" in anew.output
    not_there = harness("prepare", "cifar10", "--for-tuning")
    assert not_there.exit_code == 2
    assert "the track cifar10 is not prepared; run: harness prepare cifar10" in not_there.output
