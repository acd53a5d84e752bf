"""Batches through the command line: every file an entry, nothing run twice, nothing lost, nobody stopped by another."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pytest
from click.testing import Result

from harness.leaderboard.batch import watch
from harness.leaderboard.batch.batch import SubmissionBatch, stages_of
from harness.leaderboard.batch.elimination import in_reach
from harness.leaderboard.board.entries import Entry, current, entries
from harness.locks import locked
from harness.runner.fork import ForkLauncher
from harness.runner.forked import ForkedProcess
from harness.runner.message import Job
from harness.runner.process import LaunchError
from harness.runs.local import LocalExecutor
from harness.runs.run import Run
from harness.runs.run_set import RunSet, Task, seal_of
from harness.runs.store import Results
from harness.storage import read_arrays
from harness.submission import read_submission

Harness = Callable[..., Result]

SIGNATURE = "def unlearn(net, retain_loader, forget_loader, val_loader):"
IDENTITY = f"{SIGNATURE} pass"
NOISE = f"""
import torch

SCALE = 0.02

{SIGNATURE}
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += SCALE * torch.randn_like(parameter)
"""
DESTROY = NOISE.replace("0.02", "10.0")
MISBEHAVED = {
    "raises.py": (f"{SIGNATURE} 1 / 0", "EXCEPTION", "ZeroDivisionError"),
    "no_python.py": ("def unlearn(:", "INVALID_SUBMISSION", "line 1"),
    "imports.py": (f"import nowhere\n{SIGNATURE} pass", "IMPORT_ERROR", "nowhere"),
    "exits.py": (f"import os\n{SIGNATURE} os._exit(0)", "CRASHED", "exit status"),
    "returns.py": (f"{SIGNATURE} return 3", "BAD_OUTPUT", "int"),
    "is_nan.py": (f"{SIGNATURE} net.fc.bias.data[:] = float('nan')", "NON_FINITE", "NaN"),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder for submissions and teams' folders."""
    folder = tmp_path / "handed-in"
    folder.mkdir()
    return folder


def write(folder: Path, files: dict[str, str]) -> None:
    for name, source in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(source)


def board(home: Path) -> Path:
    return next(home.glob("leaderboards/tiny-*"))


def on_board(home: Path) -> dict[str, Entry]:
    return {entry.submission: entry for entry in current(entries(board(home)))}


def stored_score(home: Path, entry: Entry) -> dict[str, Any]:
    file = home / "results" / board(home).name / entry.results / f"{entry.score}.json"
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def run_files(home: Path) -> dict[str, int]:
    """Return the stored runs and when they were written."""
    return {str(path.relative_to(home)): path.stat().st_mtime_ns for path in home.glob("results/*/*/*-????.npz")}


def what_counts(home: Path) -> dict[str, Any]:
    """Return all of a board that must not depend on how its batch went: not when, how fast, in which order."""
    found = {}
    for name, entry in on_board(home).items():
        kept = {field: getattr(entry, field) for field in ("state", "stage", "runs", "outcome", "score")}
        kept["message"] = entry.message.partition(":")[0]  # what follows may tell seconds
        score = None if entry.score is None else stored_score(home, entry)
        names = ("score", "calibrated_score", "half_samples", "n_runs", "forgetting_quality", "score_interval")
        found[name] = kept | {field: score[field] for field in names if score is not None}
    return found


# ---- a batch ------------------------------------------------------------------------------------------------------


def test_every_file_becomes_an_entry_and_a_failing_one_stops_nobody(
    harness: Harness, folder: Path, home: Path, tiny_file: Path, tmp_path: Path
) -> None:
    good = {"alpha/noise.py": NOISE, "beta/same.py": f"# the same code\n{NOISE}", "identity.py": IDENTITY}
    write(folder, good | {f"gamma/{name}": source for name, (source, _, _) in MISBEHAVED.items()})
    result = harness("leaderboard", "run", folder, "--track", tiny_file, "--runs", 4)
    assert result.exit_code == 0, result.output
    found = on_board(home)
    assert set(found) == {*good, *(f"gamma/{name}" for name in MISBEHAVED)}
    for name in good:
        entry = found[name]
        assert (entry.state, entry.outcome, entry.runs, entry.stage) == ("done", "OK", 4, 4)
        assert stored_score(home, entry)["n_runs"] == 4
        assert f"{name}: done, 4 runs" in result.output
    for name, (_, outcome, message) in MISBEHAVED.items():
        entry = found[f"gamma/{name}"]
        assert (entry.state, entry.outcome, entry.score) == ("failed", outcome, None)
        assert message in entry.message
        assert f"gamma/{name}: failed, {outcome}" in result.output
    assert (found["alpha/noise.py"].team, found["identity.py"].team) == ("alpha", None)
    assert found["alpha/noise.py"].results == found["beta/same.py"].results
    assert len([name for name in run_files(home) if found["alpha/noise.py"].results in name]) == 4
    assert "9 submissions: 3 done, 6 failed" in result.output

    out = tmp_path / "out.json"
    alone = harness("evaluate", folder / "identity.py", "--track", tiny_file, "--runs", 4, "--json", out)
    assert "0 made now, 4 stored before" in alone.output
    assert json.loads(out.read_text())["score"] == stored_score(home, found["identity.py"])["score"]


def test_the_same_batch_runs_nothing_and_more_files_or_runs_add_only_the_new(
    harness: Harness, folder: Path, home: Path, tiny_file: Path
) -> None:
    write(folder, {"noise.py": NOISE, "raises.py": MISBEHAVED["raises.py"][0]})
    first = harness("leaderboard", "run", folder, "--track", tiny_file, "--runs", 3)
    assert first.exit_code == 0, first.output
    stored, counted = run_files(home), what_counts(home)
    harness("leaderboard", "run", folder, "--track", tiny_file, "--runs", 3)
    assert (run_files(home), what_counts(home)) == (stored, counted)
    write(folder, {"identity.py": IDENTITY})
    harness("leaderboard", "run", folder, "--track", tiny_file, "--runs", 5)
    assert {name: time for name, time in run_files(home).items() if name in stored} == stored
    assert len(run_files(home)) == len(stored) + 2 + 5
    assert {entry.runs for entry in on_board(home).values()} == {5, 0}


def test_a_new_version_of_a_file_is_a_new_entry_and_other_comments_are_not(
    harness: Harness, folder: Path, home: Path, tiny_file: Path
) -> None:
    for source in (IDENTITY, f"# why\n{IDENTITY}", NOISE):
        write(folder, {"foo.py": source})
        result = harness("leaderboard", "run", folder / "foo.py", "--track", tiny_file, "--runs", 2)
        assert result.exit_code == 0, result.output
    versions = entries(board(home))
    assert len(versions) == 2
    assert current(versions) == versions[1:]
    write(folder, {"foo.py": IDENTITY})
    harness("leaderboard", "run", folder / "foo.py", "--track", tiny_file, "--runs", 2)
    assert on_board(home)["foo.py"].code_hash == versions[0].code_hash


def test_what_cannot_be_run_as_asked_says_so(harness: Harness, folder: Path, tiny_file: Path) -> None:
    def refused(*arguments: object) -> str:
        result = harness("leaderboard", "run", *arguments, "--track", tiny_file)
        assert result.exit_code == 2, result.output
        return result.output

    assert "no submission" in refused(folder)
    assert "no file or folder" in refused(folder / "missing.py")
    write(folder, {"a.py": IDENTITY, "alpha/a.py": IDENTITY})
    assert "the same name" in refused(folder / "a.py", folder / "alpha" / "a.py")
    assert "harness prepare tiny --retrained 17" in refused(folder, "--runs", 17)
    assert "such as 3/8" in refused(folder, "--shard", "9/8")
    assert "such as 16,64" in refused(folder, "--stages", "few")
    assert "Europe/Zurich" in refused(folder, "--timezone", "Mars")
    assert "leave out" in refused(folder, "--watch", "--boundary", 3)


# ---- nothing is lost ----------------------------------------------------------------------------------------------

SLOW = NOISE.replace("with torch", "__import__('time').sleep(0.1)\n    with torch")
KILLED_BATCH = {
    "alpha/slow.py": SLOW,
    "alpha/slower.py": SLOW.replace("0.02", "0.03"),
    "beta/raises.py": MISBEHAVED["raises.py"][0],
    "beta/third.py": f"COUNT = 0\n{SLOW}",
}


def start(home: Path, *arguments: object) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "harness", "leaderboard", "run", *map(str, arguments)],
        env=os.environ | {"HARNESS_HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for_runs(home: Path, count: int, batch: "subprocess.Popen[str]") -> None:
    """Wait until so many runs are stored, or the batch has ended well."""
    deadline = time.monotonic() + 300
    while len(run_files(home)) < count and batch.poll() is None:
        assert time.monotonic() < deadline, "no runs were stored"
        time.sleep(0.02)
    assert batch.poll() in (None, 0), batch.communicate()[0]


@pytest.mark.long
def test_a_killed_batch_goes_on_and_ends_as_one_that_was_left_alone(
    harness: Harness, folder: Path, home: Path, tiny_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder, KILLED_BATCH)
    arguments = (folder, "--track", tiny_file, "--runs", 6, "--stages", 3, "--jobs", 2)
    batch = start(home, *arguments)
    try:
        wait_for_runs(home, 8, batch)
    finally:
        batch.kill()
        batch.communicate()
    assert any(entry.state != "done" for entry in on_board(home).values())
    stored = run_files(home)
    result = harness("leaderboard", "run", *arguments)
    assert result.exit_code == 0, result.output
    assert {name: time for name, time in run_files(home).items() if name in stored} == stored

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "tracks").symlink_to(home / "tracks")
    monkeypatch.setenv("HARNESS_HOME", str(elsewhere))
    undisturbed = harness("leaderboard", "run", *arguments)
    assert undisturbed.exit_code == 0, undisturbed.output
    assert what_counts(home) == what_counts(elsewhere)
    assert len(what_counts(home)) == 4


TWENTY = {f"team{scale % 3}/noise{scale}.py": SLOW.replace("0.02", f"0.0{scale}1") for scale in range(1, 13)} | {
    f"team{place % 3}/{name}": source for place, (name, (source, _, _)) in enumerate(MISBEHAVED.items())
}
TWENTY |= {
    "late.py": f"import time\n{SIGNATURE} time.sleep(60)",
    "ends.py": f"import os\n{SIGNATURE} os.kill(os.getpid(), 9)",
}


@pytest.fixture
def undisturbed(
    harness: Harness, folder: Path, home: Path, tiny_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], dict[str, Any]]:
    """Makes a batch of 16 runs of the folder's files in a HARNESS_HOME of its own; returns what counts of it."""

    def make() -> dict[str, Any]:
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        (elsewhere / "tracks").symlink_to(home / "tracks")
        with monkeypatch.context() as patched:
            patched.setenv("HARNESS_HOME", str(elsewhere))
            result = harness("leaderboard", "run", folder, "--track", tiny_file, "--runs", 16, "--stages", 4)
        assert result.exit_code == 0, result.output
        return what_counts(elsewhere)

    return make


@pytest.mark.slow
def test_twenty_submissions_killed_five_times_end_as_if_left_alone(
    harness: Harness, folder: Path, home: Path, tiny_file: Path, undisturbed: Callable[[], dict[str, Any]]
) -> None:
    write(folder, TWENTY)
    arguments = (folder, "--track", tiny_file, "--runs", 16, "--stages", 4, "--jobs", 2)
    moments = random.Random(7)
    for _ in range(5):
        batch = start(home, *arguments)
        try:
            wait_for_runs(home, len(run_files(home)) + moments.randrange(1, 30), batch)
            time.sleep(moments.random())
        finally:
            batch.kill()
            batch.communicate()
    result = harness("leaderboard", "run", *arguments)
    assert result.exit_code == 0, result.output
    found = what_counts(home)
    assert len(found) == 20
    assert [each["state"] for each in found.values()].count("failed") == 8
    assert found == undisturbed()


@pytest.mark.slow
def test_two_batches_at_once_on_one_folder_end_as_one_alone(
    folder: Path, home: Path, tiny_file: Path, undisturbed: Callable[[], dict[str, Any]]
) -> None:
    write(folder, TWENTY)
    arguments = (folder, "--track", tiny_file, "--runs", 16, "--stages", 4, "--jobs", 1)
    batches = [start(home, *arguments) for _ in range(2)]
    for batch in batches:
        output, _ = batch.communicate(timeout=500)
        assert batch.returncode == 0, output
    assert what_counts(home) == undisturbed()


def test_ctrl_c_ends_a_batch_at_once_and_says_how_to_go_on(folder: Path, home: Path, tiny_file: Path) -> None:
    write(folder, {"slow.py": SLOW.replace("0.1", "1.5")})
    batch = start(home, folder, "--track", tiny_file, "--runs", 16)
    try:
        wait_for_runs(home, 1, batch)
        batch.send_signal(signal.SIGINT)
        output, _ = batch.communicate(timeout=30)
    finally:
        batch.kill()
        batch.wait()
    assert batch.returncode == 130, output
    assert "the same command goes on from there" in output
    assert "Traceback" not in output


def test_shards_make_their_parts_and_a_batch_of_all_finds_everything_made(
    harness: Harness, folder: Path, home: Path, tiny_file: Path
) -> None:
    names = [f"noise{scale}.py" for scale in range(5)]
    write(folder, {name: NOISE.replace("0.02", f"0.0{scale}") for scale, name in enumerate(names)})
    made: list[set[str]] = []
    for part in ("1/2", "2/2"):
        result = harness("leaderboard", "run", folder, "--track", tiny_file, "--runs", 2, "--shard", part)
        assert result.exit_code == 0, result.output
        made.append(set(on_board(home)))
    assert 0 < len(made[0]) < len(made[1]) == 5
    stored = run_files(home)
    assert len(stored) == 10
    assert harness("leaderboard", "run", folder, "--track", tiny_file, "--runs", 2).exit_code == 0
    assert run_files(home) == stored


def start_but(is_unlucky: Callable[[Job], bool]) -> Callable[[ForkLauncher, Job, int], ForkedProcess]:
    """Return how runs are started on a machine that fails at some of them."""
    start_run = ForkLauncher.start

    def start(self: ForkLauncher, job: Job, n_bytes: int) -> ForkedProcess:
        if is_unlucky(job):
            raise LaunchError("the machine is on fire")
        return start_run(self, job, n_bytes)

    return start


def test_what_the_harness_fails_at_is_loud_charges_nobody_and_is_tried_again(
    harness: Harness, folder: Path, home: Path, tiny_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder, {"alpha/unlucky.py": NOISE, "beta/fine.py": IDENTITY})
    command = ("leaderboard", "run", folder, "--track", tiny_file, "--runs", 2)
    with monkeypatch.context() as patched:
        patched.setattr(ForkLauncher, "start", start_but(lambda job: job.filename == "unlucky.py"))
        result = harness(*command)
    assert result.exit_code == 4
    assert "the harness failed at alpha/unlucky.py" in result.output
    entry = on_board(home)["alpha/unlucky.py"]
    assert (entry.state, entry.outcome, entry.is_charged) == ("failed", "HARNESS_ERROR", False)
    assert "on fire" in entry.message
    assert on_board(home)["beta/fine.py"].state == "done"
    assert harness(*command).exit_code == 0
    assert on_board(home)["alpha/unlucky.py"].state == "done"


def test_a_submission_is_scored_while_runs_of_others_are_made(
    harness: Harness, folder: Path, home: Path, tiny_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder, {"a.py": NOISE, "b.py": IDENTITY})
    make = LocalExecutor.make

    def slow_at_b(
        self: LocalExecutor, wanted: Iterable[tuple[RunSet, Task]]
    ) -> Generator[tuple[RunSet, Run], None, None]:
        """Make no more runs of b.py until the score of a.py is stored."""
        for run_set, run in make(self, wanted):
            if run.index == 2 and run_set.submission.path.name == "b.py":
                wait_for_score()
            yield run_set, run

    def wait_for_score() -> None:
        deadline = time.monotonic() + 120
        while not list(home.glob("results/*/*/score-*.json")):
            assert time.monotonic() < deadline, "a.py is not scored"
            time.sleep(0.1)

    monkeypatch.setattr(LocalExecutor, "make", slow_at_b)
    monkeypatch.setattr("harness.leaderboard.batch.backend.usable_processors", lambda: 2.0)
    result = harness("leaderboard", "run", folder, "--track", tiny_file, "--runs", 4, "--jobs", 1)
    assert result.exit_code == 0, result.output
    assert {name: entry.state for name, entry in on_board(home).items()} == {"a.py": "done", "b.py": "done"}


# ---- a score counts only if it is of the runs that are stored --------------------------------------------------


def results_of(home: Path, name: str) -> Results:
    return Results(home / "results" / board(home).name / on_board(home)[name].results)


def is_of_stored_runs(home: Path, name: str) -> bool:
    """Whether a score is of the runs that are stored, and both of them are whole."""
    runs = results_of(home, name).runs(range(2))
    return len(runs) == 2 and stored_score(home, on_board(home)[name])["runs_seal"] == seal_of(tuple(runs.values()), ())


def flip_a_bit_of_an_output(file: Path) -> None:
    content, logits = bytearray(file.read_bytes()), read_arrays(file)["forget_logits"].tobytes()
    content[content.index(logits)] ^= 1
    file.write_bytes(content)


def test_runs_that_were_made_again_are_scored_again_and_those_that_cannot_be_read_are_made_again(
    harness: Harness, folder: Path, home: Path, tiny_file: Path
) -> None:
    write(folder, {"noise.py": NOISE})
    command = ("leaderboard", "run", folder, "--track", tiny_file, "--runs", 2)
    assert harness(*command).exit_code == 0
    results = results_of(home, "noise.py")
    run = results.runs([0])[0]
    results.save_run(replace(run, seconds=run.seconds / 2))  # as of a batch that was killed before it scored
    assert not is_of_stored_runs(home, "noise.py")
    assert harness(*command).exit_code == 0
    assert is_of_stored_runs(home, "noise.py")
    kept = run_files(home)
    results.run_file(1).write_bytes(b"torn")
    assert harness(*command).exit_code == 0
    assert is_of_stored_runs(home, "noise.py")
    assert [name for name, written in run_files(home).items() if kept[name] != written] == [
        str(results.run_file(1).relative_to(home))
    ]


def test_a_watch_begun_again_makes_a_damaged_run_again(
    harness: Harness, folder: Path, home: Path, tiny_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_until_nothing_waits(self: watch.Watch, batch: SubmissionBatch) -> NoReturn:
        self.poll()
        while self.queue:
            batch.run([self.queue.pop(0)])
        raise KeyboardInterrupt

    monkeypatch.setattr(watch, "SETTLE_SECONDS", -1.0)
    monkeypatch.setattr(watch.Watch, "run", run_until_nothing_waits)
    write(folder, {"noise.py": NOISE})
    command = ("leaderboard", "run", folder, "--track", tiny_file, "--runs", 2, "--watch")
    assert harness(*command).exit_code == 130
    flip_a_bit_of_an_output(results_of(home, "noise.py").run_file(1))
    again = harness(*command)
    assert again.exit_code == 130, again.output
    assert is_of_stored_runs(home, "noise.py")


def test_a_run_with_other_examples_to_forget_that_the_harness_fails_at_is_told_and_tried_again(
    harness: Harness, home: Path, evaluated_home: Path, tiny_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(evaluated_home / "results", home / "results")
    noise = evaluated_home / "submissions" / "bob" / "noise.py"
    (results,) = home.glob(f"results/*/{read_submission(noise, source_kb=256).code_hash[:16]}-*")
    for path in results.glob("swapped-*"):  # as a harness left it that failed at them and said nothing
        path.unlink()
    command = ("leaderboard", "run", noise, "--track", tiny_file, "--runs", 16)
    with monkeypatch.context() as patched:
        patched.setattr(ForkLauncher, "start", start_but(lambda job: job.swap_forget_set))
        result = harness(*command)
        alone = harness("evaluate", noise, "--track", tiny_file, "--runs", 16)
    assert (result.exit_code, alone.exit_code) == (4, 4), result.output + alone.output
    assert "the harness failed at bob/noise.py" in result.output
    entry = on_board(home)["bob/noise.py"]
    assert (entry.state, entry.outcome, entry.score, entry.runs) == ("failed", "HARNESS_ERROR", None, 16)
    assert entry.message.startswith("with other examples to forget: the machine is on fire")
    assert harness(*command).exit_code == 0
    assert on_board(home)["bob/noise.py"].state == "done"
    assert len(list(results.glob("swapped-*"))) == 2


# ---- what a board is of ----------------------------------------------------------------------------------------------


def test_a_board_goes_on_on_another_device_only_if_that_is_asked_for_by_name(
    harness: Harness, folder: Path, home: Path, tiny_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder, {"noise.py": NOISE})
    command = ("leaderboard", "run", folder, "--track", tiny_file, "--runs", 2)
    assert harness(*command).exit_code == 0
    was = results_of(home, "noise.py").folder
    was.rename(was.with_name(was.name.replace("-cpu-", "-cuda-")))
    for file in [*board(home).glob("entries/*.json"), board(home) / "board.json"]:  # as made on a GPU
        file.write_text(file.read_text().replace('"cpu"', '"cuda"').replace("-cpu-", "-cuda-"))
    before = on_board(home)
    refused = harness(*command)
    assert refused.exit_code == 2
    assert "give --device cuda, or --device cpu to make all runs anew" in refused.output
    assert on_board(home) == before
    with monkeypatch.context() as patched:
        patched.setattr(SubmissionBatch, "run", lambda self, batch_entries: None)
        assert harness(*command, "--device", "cpu").exit_code == 0
    shown = harness("leaderboard", "show", "--track", tiny_file, "--format", "json")
    assert [row["unranked_because"] for row in json.loads(shown.output)] == ["queued"]
    assert harness(*command).exit_code == 0
    assert (on_board(home)["noise.py"].state, results_of(home, "noise.py").folder) == ("done", was)


def test_a_board_keeps_the_boundaries_it_was_last_given(
    harness: Harness, folder: Path, home: Path, tiny_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SubmissionBatch, "run", lambda self, batch_entries: None)
    write(folder, {"identity.py": IDENTITY})
    for given, kept in (((), []), (("--boundary", 3, "--boundary", 1), [3, 1]), ((), [3, 1]), (("--boundary", 2), [2])):
        assert harness("leaderboard", "run", folder, "--track", tiny_file, *given).exit_code == 0
        assert json.loads((board(home) / "board.json").read_text())["boundaries"] == kept


# ---- runs are spent where they decide something -------------------------------------------------------------------


@pytest.fixture
def own_tracks(home: Path, prepared_tracks: Path, tmp_path: Path) -> Path:
    """The tracks of HARNESS_HOME as a copy that may be changed."""
    tracks = tmp_path / "tracks"
    shutil.copytree(prepared_tracks, tracks)
    (home / "tracks").unlink()
    (home / "tracks").symlink_to(tracks)
    return tracks


def test_a_second_run_of_a_board_at_once_is_refused(
    harness: Harness, folder: Path, home: Path, tiny_file: Path
) -> None:
    write(folder, {"identity.py": IDENTITY})
    options = ("--track", tiny_file, "--runs", 2)
    assert harness("leaderboard", "run", folder, *options).exit_code == 0
    with locked(board(home) / ".lock"):
        second = harness("leaderboard", "run", folder, *options)
    assert second.exit_code == 2
    assert "another harness leaderboard run is at work on this board" in second.output
    assert harness("leaderboard", "run", folder, *options).exit_code == 0


def test_fewer_runs_than_the_board_ranks_are_refused(
    harness: Harness, folder: Path, home: Path, tiny_file: Path
) -> None:
    write(folder, {"identity.py": IDENTITY})
    assert harness("leaderboard", "run", folder, "--track", tiny_file, "--runs", 3).exit_code == 0
    fewer = harness("leaderboard", "run", folder, "--track", tiny_file, "--runs", 2)
    assert fewer.exit_code == 2
    assert "the board ranks 3 runs of each" in fewer.output
    assert on_board(home)["identity.py"].stage == 3


@pytest.mark.long
def test_only_those_in_reach_of_a_boundary_get_more_runs(
    harness: Harness, folder: Path, home: Path, tiny_file: Path, own_tracks: Path
) -> None:
    assert harness("prepare", tiny_file, "--retrained", 18).exit_code == 0
    write(folder, {"identity.py": IDENTITY, "noise.py": NOISE, "destroy.py": DESTROY})
    options = ("--runs", 18, "--stages", "4,16")
    result = harness("leaderboard", "run", folder, "--track", tiny_file, *options, "--boundary", 2)
    assert result.exit_code == 0, result.output
    found = on_board(home)
    assert {name: (entry.state, entry.stage) for name, entry in found.items()} == {
        "identity.py": ("done", 18),
        "noise.py": ("done", 18),
        "destroy.py": ("done", 16),
    }
    assert found["destroy.py"].message == "rank 2 is out of reach after 16 runs"
    assert json.loads((board(home) / "board.json").read_text())["boundaries"] == [2]
    again = harness("leaderboard", "run", folder, "--track", tiny_file, *options)
    assert again.exit_code == 0, again.output
    assert on_board(home)["destroy.py"].stage == 18


def test_in_reach_are_those_that_fewer_than_so_many_are_surely_above() -> None:
    intervals = [(0.8, 0.9), (0.7, 0.85), (0.5, 0.65), (0.6, 0.75), (0.1, 0.2)]
    assert in_reach(intervals, 1) == [True, True, False, False, False]
    assert in_reach(intervals, 3) == [True, True, True, True, False]
    assert in_reach(intervals, 5) == [True] * 5
    assert in_reach([(float("-inf"), 0.9), (0.1, 0.2)], 1) == [True, True]


def test_stages_end_with_the_runs_asked_for() -> None:
    assert stages_of(512, (16, 64)) == (16, 64, 512)
    assert stages_of(64, (64, 16)) == (16, 64)
    assert stages_of(4, (16, 64)) == (4,)


def test_a_submission_stops_once_its_mean_time_cannot_get_back_under_the_limit(
    harness: Harness, folder: Path, home: Path, tiny_file: Path, own_tracks: Path, tmp_path: Path
) -> None:
    declaration = tiny_file.read_text().replace("seconds = 2.0", "seconds = 1.2")
    file = tmp_path / "tiny.toml"
    file.write_text(declaration)
    (own_tracks / "tiny" / "track.toml").write_text(declaration)
    write(folder, {"slow.py": f"import time\n{SIGNATURE} time.sleep(1.7)"})
    result = harness("leaderboard", "run", folder, "--track", file, "--runs", 4, "--jobs", 1)
    assert result.exit_code == 0, result.output
    entry = on_board(home)["slow.py"]
    assert (entry.state, entry.outcome, entry.runs) == ("stopped", "OK", 3)
    assert "over the time limit" in entry.message


def test_scores_of_an_earlier_version_are_named_and_computed_again_from_their_runs(
    harness: Callable[..., Result], submission: Callable[[str], Path], home: Path, tiny_file: Path
) -> None:
    file = submission("def unlearn(net, retain_loader, forget_loader, val_loader): net.fc.reset_parameters()")
    run = ("leaderboard", "run", file, "--track", tiny_file, "--runs", 2)
    show = ("leaderboard", "show", "--track", tiny_file, "--format", "json")
    assert harness(*run).exit_code == 0
    before = harness(*show).output
    (stored,) = home.glob("results/*/*/score-2-*.json")
    stored.write_text(stored.read_text().replace('"format": 1,', ""))
    assert harness(*show).exit_code == 0  # as it was before versions had a number
    stored.write_text(stored.read_text().replace('"constants": {},', ""))
    refused = harness(*show)
    assert refused.exit_code == 4
    assert stored.name in refused.output
    assert "harness leaderboard run" in refused.output
    runs = {path: path.stat().st_mtime_ns for path in home.glob("results/*/*/run-*.npz")}
    file.write_text(file.read_text() + "\n")  # a new entry of the same code
    assert harness(*run).exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in home.glob("results/*/*/run-*.npz")} == runs
    assert [row["score"] for row in json.loads(harness(*show).output)] == [row["score"] for row in json.loads(before)]
