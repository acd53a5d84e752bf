"""Preparation through the command line: whole or not there, resumed, locked, repeatable, growing."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from filelock import FileLock

from data_prep import reference
from data_prep.draft import lay_out
from data_prep.drift import Drift
from data_prep.estimate import estimate
from data_prep.prepare import prepare
from harness.cli.main import cli
from harness.record import Records
from harness.tracks.catalogue import open_track
from harness.tracks.declaration import read_declaration
from harness.tracks.track import Track, load_track

Harness = Callable[..., Result]


@pytest.fixture
def own_home(tmp_path: Path, tiny: Track, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A HARNESS_HOME with a copy of the tiny track, to be changed."""
    shutil.copytree(tiny.folder, tmp_path / "home" / "tracks" / "tiny")
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def call(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments], prog_name="harness")


def are_same_models(ours: Records, theirs: Records) -> bool:
    """Whether each of our models is ten times as near to theirs of its number as to any other one.

    Models that were trained in other stacks are rounded otherwise, which grows with every step: how far they are from
    each other depends on torch and on the machine.
    """
    apart = np.array([np.abs(theirs.forget_logits - logits).mean(axis=(1, 2)) for logits in ours.forget_logits])
    own = np.eye(*apart.shape) == 1
    return bool((apart[own] < np.where(own, np.inf, apart).min(axis=1) / 10).all())


def test_a_prepared_track_holds_what_the_declaration_asks_for(tiny: Track) -> None:
    assert [len(tiny.examples(name)) for name in ("retain", "forget", "val", "test")] == [100, 20, 80, 1797 - 200]
    assert len(tiny.originals()) == 2
    for pool in ("scoring", "ceiling"):
        records = tiny.retrained(pool)
        assert len(set(records.weights_sha256)) == 16
        assert records.forget_logits.shape == (16, 20, 10)
    assert tiny.originals().accuracy_on("forget").mean() > tiny.retrained("scoring").accuracy_on("forget").mean()
    assert not set(tiny.retrained("scoring").weights_sha256) & set(tiny.retrained("ceiling").weights_sha256)


def test_a_ready_track_is_not_prepared_again(own_home: Path, tiny_file: Path) -> None:
    before = (own_home / "tracks" / "tiny" / "manifest.json").stat().st_mtime_ns
    result = call("prepare", tiny_file)
    assert result.exit_code == 0
    assert "16 retrained models in each pool" in result.output
    assert (own_home / "tracks" / "tiny" / "manifest.json").stat().st_mtime_ns == before


@pytest.mark.long
def test_force_prepares_anew_and_reports_no_drift_on_the_same_machine(own_home: Path, tiny_file: Path) -> None:
    result = call("prepare", tiny_file, "--force")
    assert result.exit_code == 0, result.output
    assert "all 32 retrained models are the same as before, and stored scores still hold" in result.output
    page = own_home / "tracks" / "tiny" / "track.html"
    assert f"what it is like: {page}" in result.output.replace("\n", "")
    assert page.stat().st_mode & 0o077 == 0  # it shows the forget set


def test_models_that_differ_from_those_before_ask_for_new_scores() -> None:
    said = str(Drift(n_models=32, identical=2, confidence_shift=0.123, test_accuracy=-0.004))
    assert said.startswith("30 of 32 retrained models differ from those before (mean confidences of forget examples by")
    assert said.endswith("make them anew: harness evaluate FILE, or harness leaderboard run FOLDER")


def test_more_models_are_added_and_the_old_stay(own_home: Path, tiny_file: Path) -> None:
    old = load_track(own_home / "tracks" / "tiny")
    before = old.retrained("scoring").weights_sha256
    public_hash, reference_hash = old.manifest.public_hash, old.manifest.reference_hash
    result = call("prepare", tiny_file, "--retrained", 18)
    assert result.exit_code == 0, result.output
    grown = load_track(own_home / "tracks" / "tiny")
    after = grown.retrained("scoring").weights_sha256
    assert (len(after), len(set(after))) == (18, 18)
    assert np.array_equal(after[:16], before)
    assert grown.manifest.retrained == 18
    assert grown.manifest.public_hash == public_hash  # so that runs made before still count
    assert grown.manifest.reference_hash != reference_hash


@pytest.mark.long
def test_a_preparation_may_begin_with_fewer_models_than_declared(
    tiny: Track, tiny_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path))
    (tmp_path / "idle.py").write_text("def unlearn(net, retain_loader, forget_loader, val_loader):\n    pass\n")
    assert "6 models" in call("prepare", tiny_file, "--estimate", "--retrained", 2).output
    result = call("prepare", tiny_file, "--retrained", 2)
    assert result.exit_code == 0, result.output
    assert "2 retrained models in each pool" in result.output
    assert "adding" not in result.output
    track = load_track(tmp_path / "tracks" / "tiny")
    assert track.manifest.fingerprint == tiny.manifest.fingerprint
    assert are_same_models(track.retrained("scoring"), tiny.retrained("scoring"))
    result = call("evaluate", tmp_path / "idle.py", "--track", "tiny")
    assert result.exit_code == 0, result.output
    assert track.usual_runs == 2
    result = call("evaluate", tmp_path / "idle.py", "--track", "tiny", "--runs", 3)
    assert result.exit_code == 2
    assert "add models with: harness prepare tiny --retrained 3" in result.output


def test_how_many_models_there_are_to_be_may_change_on_the_way(tiny_file: Path, tmp_path: Path) -> None:
    declaration, tracks = read_declaration(tiny_file), tmp_path / "tracks"
    draft = lay_out(declaration, tiny_file, tracks / ".tiny.partial", cache=tmp_path)
    (draft.folder / "way.json").write_text('{"stack": 1}')
    prepared = prepare(declaration, tiny_file, tracks, jobs=2, retrained=1)
    assert prepared.track.manifest.prepared["stack"] == 1  # as the interrupted one noted it
    assert len(prepared.track.retrained("ceiling")) == 1
    again = prepare(declaration, tiny_file, tracks, jobs=2, retrained=2)  # of which one of each pool can be compared
    assert again.drift is not None
    assert again.drift.n_models == 2
    assert "the 2 retrained models of both preparations are the same" in str(again.drift)


@pytest.mark.long
def test_an_interrupted_preparation_goes_on_and_ends_the_same(tiny: Track, tiny_file: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    command = [sys.executable, "-m", "harness", "prepare", str(tiny_file), "--jobs", "1"]
    environment = os.environ | {"HARNESS_HOME": str(home)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, start_new_session=True)
    parts = home / "tracks" / ".tiny.partial" / "parts"
    deadline = time.monotonic() + 60
    try:
        while not (parts.is_dir() and list(parts.glob("[a-z]*.npz"))):
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert not (home / "tracks" / "tiny").exists()
    finished = {path: path.stat().st_mtime_ns for path in parts.glob("[a-z]*.npz")}
    assert subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=False).returncode == 0
    again = load_track(home / "tracks" / "tiny")
    assert finished
    for pool in ("scoring", "ceiling"):
        ours, theirs = again.retrained(pool), tiny.retrained(pool)
        assert len(ours) == 16
        assert are_same_models(ours, theirs)


def test_a_finished_preparation_whose_last_rename_fails_trains_nothing_again(
    tiny_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    declaration, tracks = read_declaration(tiny_file), tmp_path / "tracks"

    def failed(*_: object) -> None:
        raise OSError(errno.EBUSY, "Device or resource busy")

    monkeypatch.setattr("data_prep.prepare.replace_folder", failed)
    with pytest.raises(OSError, match="busy"):
        prepare(declaration, tiny_file, tracks, jobs=1, retrained=1)
    monkeypatch.undo()
    assert not (tracks / "tiny").exists()
    monkeypatch.setattr(reference, "train_models", lambda *_: pytest.fail("a model is trained again"))
    prepared = prepare(declaration, tiny_file, tracks, jobs=1, retrained=1)
    assert len(prepared.track.retrained("scoring")) == 1
    left = {path.name for path in prepared.track.folder.iterdir()}
    assert left == {"track.toml", "manifest.json", "public", "private"}
    assert not (tracks / ".tiny.partial").exists()


INTERRUPTED = {
    "other limits of runs": ("seconds = 2.0", "seconds = 2.0\nmemory_mb = 2048", True),
    "another secret": ('"00112233"', '"44556677"', False),
    "no secret": ('published_secret = "00112233"', "", False),
}


@pytest.mark.parametrize("kind", INTERRUPTED)
def test_a_preparation_goes_on_with_the_declaration_as_it_is_now_and_anew_with_another_secret(
    kind: str, tiny_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new, goes_on = INTERRUPTED[kind]
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path))
    file, tracks = tmp_path / "tiny.toml", tmp_path / "tracks"
    file.write_text(tiny_file.read_text())
    draft = lay_out(read_declaration(file), file, tracks / ".tiny.partial", cache=tmp_path)
    (draft.folder / "way.json").write_text('{"stack": 1}')
    secret = draft.secret
    file.write_text(tiny_file.read_text().replace(old, new))
    result = call("prepare", file, "--retrained", 2, "--jobs", 1)
    assert result.exit_code == 0, result.output
    track = open_track(str(file), tracks)
    assert track.declaration == read_declaration(file)
    assert (track.manifest.prepared["stack"] == 1) == goes_on
    assert (track.secret == secret) == goes_on


def test_a_track_whose_replacement_was_killed_half_way_is_put_back(own_home: Path, tiny_file: Path) -> None:
    tracks = own_home / "tracks"
    opened: list[Callable[[], Track]] = [
        lambda: open_track("tiny", tracks),
        lambda: open_track(str(tiny_file), tracks),
        lambda: prepare(read_declaration(tiny_file), tiny_file, tracks, jobs=1, anew=False).track,
    ]
    for open_again in opened:
        (tracks / "tiny").rename(tracks / ".tiny.old")
        assert open_again().folder == tracks / "tiny"
        assert not (tracks / ".tiny.old").exists()


def test_a_track_that_another_process_prepared_meanwhile_is_kept(own_home: Path, tiny_file: Path) -> None:
    before = (own_home / "tracks" / "tiny" / "manifest.json").stat().st_mtime_ns
    found = prepare(read_declaration(tiny_file), tiny_file, own_home / "tracks", jobs=1, anew=False)
    assert found.drift is None
    assert (found.track.folder / "manifest.json").stat().st_mtime_ns == before


def test_a_second_preparation_at_the_same_time_is_refused(own_home: Path, tiny_file: Path, tmp_path: Path) -> None:
    assert call("prepare", tiny_file, "--export-private", tmp_path / "whole.track").exit_code == 0
    with FileLock(own_home / "tracks" / ".tiny.lock"):
        results = [
            call("prepare", tiny_file, "--force"),
            call("prepare", tiny_file, "--import", tmp_path / "whole.track", "--force"),
            call("prepare", "tiny", "--import", tmp_path / "whole.track"),
        ]
    for result in results:
        assert result.exit_code == 2
        assert "another process is preparing" in result.output


def test_export_and_import_move_a_whole_track(own_home: Path, tiny_file: Path, tmp_path: Path) -> None:
    result = call("prepare", tiny_file, "--export-private", tmp_path / "whole.track", "--export", tmp_path / "p.track")
    assert result.exit_code == 0, result.output
    manifest = (own_home / "tracks" / "tiny" / "manifest.json").read_text()
    shutil.rmtree(own_home / "tracks")
    assert call("prepare", "tiny", "--import", tmp_path / "whole.track").exit_code == 0
    assert json.loads((own_home / "tracks" / "tiny" / "manifest.json").read_text()) == json.loads(manifest)
    (tmp_path / "tidy.toml").write_text(tiny_file.read_text().replace('"tiny"', '"tidy"'))
    for other in ("tidy", tmp_path / "tidy.toml"):  # a track that is not in the file
        result = call("prepare", other, "--import", tmp_path / "whole.track")
        assert result.exit_code == 2
        assert "whole.track holds the track tiny, not tidy; run: harness prepare tiny --import" in result.output
    assert call("prepare", tiny_file, "--import", tmp_path / "whole.track").exit_code == 0  # it is there already
    result = call("prepare", "tiny", "--import", tmp_path / "p.track")
    assert result.exit_code == 2
    assert "p.track holds the public part alone; to replace it: harness prepare tiny --import" in result.output
    assert call("prepare", "tiny", "--import", tmp_path / "p.track", "--force").exit_code == 0
    assert "no other option" in call("prepare", "tiny", "--import", tmp_path / "p.track", "--retrained", 20).output
    nonsense = tmp_path / "nonsense.track"
    nonsense.write_text("no track")
    assert call("prepare", "tiny", "--import", nonsense).exit_code == 2


# ---- what it would take -------------------------------------------------------------------------------------------


def folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_an_estimate_says_what_a_preparation_takes_and_prepares_nothing(
    own_home: Path, tiny: Track, tiny_file: Path, tmp_path: Path
) -> None:
    text = tiny_file.read_text().replace("[limits]\nseconds = 2.0\n", "").replace('name = "tiny"', 'name = "other"')
    (tmp_path / "other.toml").write_text(text)
    result = call("prepare", tmp_path / "other.toml", "--estimate", "--jobs", 1)
    assert result.exit_code == 0, result.output
    assert "timing a few steps of other on cpu, one training at a time; nothing is prepared" in result.output
    assert "34 models; a step takes" in result.output
    assert "10% of it" in result.output
    assert [path.name for path in (own_home / "tracks").iterdir()] == ["tiny"]


def test_an_estimate_is_near_what_a_preparation_then_took(tiny: Track, tiny_file: Path, tmp_path: Path) -> None:
    found = estimate(tiny.declaration, tiny_file, tmp_path, jobs=1, device="cpu")
    assert found.track_bytes == pytest.approx(folder_bytes(tiny.folder), rel=0.2)
    assert found.run_bytes == pytest.approx(folder_bytes(tiny.private) / 34, rel=0.5)
    assert found.limit_seconds == 2.0
    assert found.fine_tuning_epochs is not None
    # A whole training is 8 epochs of 5 steps over 120 examples; fine-tuning has 4 steps an epoch over 100.
    step = found.training_seconds / (8 * 5)
    assert 0.2 < found.fine_tuning_epochs * 4 * step / found.limit_seconds < 5
    assert 0.05 < found.preparation_seconds / (34 * 8 * 5 * step) < 5


# ---- siblings -----------------------------------------------------------------------------------------------------


@pytest.fixture
def siblings(tiny_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The declaration of two tracks that forget disjoint sets, in an empty HARNESS_HOME."""
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path / "home"))
    text = tiny_file.read_text().replace("count = 20", "count = 20\nforget_sets = 2")
    text = text.replace('name = "tiny"', 'name = "twins"').replace("retrained = 16", "retrained = 4")
    text = text.replace('published_secret = "00112233"\n', "")
    (tmp_path / "twins.toml").write_text(text.replace("epochs = 8", "epochs = 3"))
    return tmp_path / "twins.toml"


IDENTITY = "def unlearn(net, retain_loader, forget_loader, val_loader): pass"


@pytest.mark.long
def test_one_command_prepares_siblings_that_share_data_and_originals(siblings: Path, tmp_path: Path) -> None:
    result = call("prepare", siblings)
    assert result.exit_code == 0, result.output
    assert "twins-1 has the original models of twins-0" in result.output
    tracks = [load_track(tmp_path / "home" / "tracks" / name) for name in ("twins-0", "twins-1")]
    assert [track.declaration.forget.index for track in tracks] == [0, 1]
    first, second = tracks
    assert first.manifest.family == second.manifest.family
    assert first.manifest.fingerprint != second.manifest.fingerprint
    assert first.secret != second.secret
    assert list(first.originals().weights_sha256) == list(second.originals().weights_sha256)
    assert np.array_equal(first.originals().test_logits, second.originals().test_logits)
    assert not np.array_equal(first.originals().forget_logits, second.originals().forget_logits)
    forgotten = [{image.tobytes() for image in track.examples("forget").images} for track in tracks]
    assert not forgotten[0] & forgotten[1]
    assert not set(first.retrained("scoring").weights_sha256) & set(second.retrained("scoring").weights_sha256)

    (tmp_path / "foo.py").write_text(IDENTITY)
    several = call("evaluate", tmp_path / "foo.py", "--track", siblings, "--runs", 2)
    assert several.exit_code == 2
    assert "declares the tracks twins-0, twins-1; name one of them: --track twins-0" in several.output
    for name in ("twins-0", "twins-1"):
        assert call("evaluate", tmp_path / "foo.py", "--track", name, "--runs", 2).exit_code == 0
    page = tmp_path / "page.html"
    assert call("report", tmp_path / "foo.py", "--track", "twins-1", "--runs", 2, "--out", page).exit_code == 0
    assert "Other forget sets</h2>" in page.read_text()
    assert ">twins-0</td>" in page.read_text()

    exported = tmp_path / "one.track"
    assert "name one of them to export it" in call("prepare", siblings, "--export-private", exported).output
    assert call("prepare", "twins-1", "--export-private", exported).exit_code == 0
    shutil.rmtree(second.folder)
    assert call("prepare", "twins-1", "--import", exported).exit_code == 0
    assert load_track(second.folder).declaration == second.declaration


@pytest.mark.long
def test_runs_of_a_sibling_with_another_secret_do_not_count(siblings: Path, tmp_path: Path) -> None:
    (tmp_path / "foo.py").write_text(IDENTITY)
    assert call("prepare", siblings).exit_code == 0
    public, secrets = set[str](), set[bytes]()
    for options in ((), ("--force",)):
        assert call("prepare", "twins-1", *options).exit_code == 0
        result = call("evaluate", tmp_path / "foo.py", "--track", "twins-1", "--runs", 2)
        assert result.exit_code == 0, result.output
        assert "2 made now, 0 stored before" in " ".join(result.output.split())
        track = load_track(tmp_path / "home" / "tracks" / "twins-1")
        public.add(track.manifest.public_hash)
        secrets.add(track.secret)
    assert (len(public), len(secrets)) == (1, 2)


def test_siblings_of_a_published_secret_draw_the_same_originals_on_their_own(siblings: Path, tmp_path: Path) -> None:
    siblings.write_text(siblings.read_text().replace("originals = 2", 'originals = 2\npublished_secret = "0011"'))
    declared = read_declaration(siblings).siblings
    apart = [prepare(one, siblings, tmp_path / one.name, jobs=1) for one in declared]
    assert [prepared.originals_of for prepared in apart] == [None, None]
    logits = [prepared.track.originals().test_logits for prepared in apart]
    assert np.allclose(logits[0], logits[1], atol=1e-3)


@pytest.mark.parametrize(
    ("old", "new", "shared"),
    [
        ("index = 0", "index = 1", True),
        ('name = "tiny"', 'name = "phase-2"', True),
        ("retrained = 16", "retrained = 17", True),
        ("count = 20", "count = 19", True),
        ("width = 4", "width = 5", False),
        ("epochs = 8", "epochs = 9", False),
        ("train = 120", "train = 121", False),
        ("originals = 2", "originals = 3", False),
    ],
)
def test_tracks_are_siblings_if_their_originals_are_made_alike(
    old: str, new: str, shared: bool, tiny_file: Path, tmp_path: Path
) -> None:
    first = tiny_file.read_text().replace("count = 20", "count = 20\nforget_sets = 2\nindex = 0")
    families = []
    for text in (first, first.replace(old, new)):
        (tmp_path / "one.toml").write_text(text)
        declared = read_declaration(tmp_path / "one.toml")
        draft = lay_out(declared, tmp_path / "one.toml", tmp_path / "draft", cache=tmp_path)
        families.append(draft.manifest.family)
    assert families[0] is not None
    assert (families[0] == families[1]) == shared


def test_a_track_that_was_prepared_is_found_by_its_name(own_home: Path, tmp_path: Path) -> None:
    (tmp_path / "foo.py").write_text(IDENTITY)
    assert call("evaluate", tmp_path / "foo.py", "--track", "tiny", "--runs", 2).exit_code == 0
    result = call("evaluate", tmp_path / "foo.py", "--track", "tini", "--runs", 2)
    assert result.exit_code == 2
    assert "no track 'tini' (did you mean tiny?); there are" in result.output
    assert ", tiny, or give the file of a declaration" in result.output
