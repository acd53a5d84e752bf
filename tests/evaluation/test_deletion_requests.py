"""Deletion requests one after the other, through the real command line: what each is given, handed on, and shown."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from rich.console import Console

from data_prep.prepare import prepare
from data_prep.sources.dataset import Dataset
from data_prep.splits import cut_into_requests
from harness.errors import UsageError
from harness.evaluation.evaluate import evaluate
from harness.report.page import render_page
from harness.report.terminal import show
from harness.runner.isolation import choose
from harness.runner.outcome import Outcome
from harness.runs.conditions import conditions_here
from harness.runs.local import Runner
from harness.runs.run import Conditions, Limit, Run
from harness.runs.run_set import Task
from harness.runs.stage import Stage
from harness.storage import read_arrays
from harness.submission import read_submission
from harness.tracks.declaration import Forget, Split, parse_declaration, read_declaration
from harness.tracks.track import Examples, Track, load_track
from harness.tracks.tuning_track import tuning_declaration
from tests.conftest import TINY
from tests.learners import EXACT, TRAIN
from tests.learners import UNLEARN as OF_LEARNER

Harness = Callable[..., Result]
Write = Callable[[str], Path]
Once = Callable[[str, Callable[[Path], None]], Path]

UNLEARN = "def unlearn(net, retain_loader, forget_loader, val_loader):"
N_REQUESTS, SIZES, N_TRAINING = 3, (7, 7, 6), 120
# Adds 1 to a weight at each request, and finds nothing of a request before in its process or folder.
COUNTS = f"""
import builtins, pathlib
{UNLEARN}
    assert not hasattr(builtins, "called") and not pathlib.Path("left").exists() and not net.training
    builtins.called = True
    pathlib.Path("left").touch()
    net.fc.bias.data[0] += 1
"""


@pytest.fixture(scope="session")
def stream_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The declaration of the tiny track with three requests."""
    file = tmp_path_factory.mktemp("stream") / "stream.toml"
    file.write_text(TINY.replace('"tiny"', '"stream"').replace("count = 20", f"count = 20\nrequests = {N_REQUESTS}"))
    return file


@pytest.fixture(scope="session")
def stream_tracks(stream_file: Path, once: Once) -> Path:
    """A folder of prepared tracks with that one; not to be changed."""

    def fill(folder: Path) -> None:
        prepare(read_declaration(stream_file), stream_file, folder / "tracks", jobs=2)

    return once("stream", fill) / "tracks"


@pytest.fixture
def stream(stream_tracks: Path) -> Track:
    """The prepared track."""
    return load_track(stream_tracks / "stream")


@pytest.fixture
def home(stream_tracks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty HARNESS_HOME with that track."""
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "tracks").symlink_to(stream_tracks)
    monkeypatch.setenv("HARNESS_HOME", str(folder))
    return folder


@pytest.fixture
def make(stream: Track, home: Path) -> Callable[[Path, Task], Run]:
    """Makes one run."""
    runner = Runner(stream, conditions_here(stream, home, device="cpu", isolation=choose(), jobs=1))
    return lambda file, task: runner.run(task)


@pytest.fixture
def run(make: Callable[[Path, Task], Run], submission: Write) -> Callable[..., Run]:
    """Makes run 1 of a source."""

    def call(source: str, stage: Stage = Stage.RUN) -> Run:
        file = submission(source)
        return make(file, Task(read_submission(file, source_kb=256), 1, 0, stage))

    return call


# ---- what a request is given --------------------------------------------------------------------------------------


def sees(n_retained: int) -> str:
    """Return a submission that says what it is given when so many examples are retained."""
    return f"""
import sys
{UNLEARN}
    if len(retain_loader.dataset) != {n_retained}: return
    frame = sys._getframe()
    while "world" not in frame.f_locals:
        frame = frame.f_back
    given = [(data.ids.tolist(), data.labels.tolist()) for data in (retain_loader.dataset, forget_loader.dataset)]
    job = frame.f_locals["job"]
    raise ValueError(str((given, sorted(frame.f_locals["world"].sets), sorted(job.given), job.ids)))
"""


@pytest.mark.parametrize("number", range(N_REQUESTS))
def test_a_request_is_given_its_part_and_nothing_says_what_later_ones_forget(
    number: int, run: Callable[..., Run], stream: Track
) -> None:
    said = run(sees(N_TRAINING - sum(SIZES[: number + 1]))).info.message
    assert said.startswith(f"request {number + 1} of 3: ValueError: ")
    ((retained, labels), (forgotten, own_labels)), sets, given, ids = eval(said.partition("ValueError: ")[2])
    assert (sets, given, ids) == (["train", "val"], ["forget", "retain"], {})
    positions, numbers = stream.training_ids(), stream.requests()
    assert np.bincount(numbers).tolist() == list(SIZES)
    assert forgotten == sorted(positions["forget"][numbers == number])
    later = positions["forget"][numbers > number]
    assert retained == sorted([*positions["retain"], *later])  # in the order of the data: they are not apart
    known = {
        place: label
        for name in ("retain", "forget")
        for place, label in zip(positions[name].tolist(), stream.examples(name).labels.tolist(), strict=True)
    }
    assert labels == [known[place] for place in retained]
    assert own_labels == [known[place] for place in forgotten]


def test_with_other_examples_to_forget_as_many_others_come_in_as_many_requests(
    run: Callable[..., Run], stream: Track
) -> None:
    seen, positions = list[int](), stream.training_ids()
    for number in range(N_REQUESTS):
        said = run(sees(N_TRAINING - sum(SIZES[: number + 1])), Stage.SWAPPED).info.message
        ((retained, _), (forgotten, _)), *_ = eval(said.partition("ValueError: ")[2])
        assert len(forgotten) == SIZES[number]
        seen += forgotten
        assert sorted(retained + seen) == list(range(N_TRAINING))
    assert set(seen) <= set(positions["retain"].tolist())


# ---- what is handed on --------------------------------------------------------------------------------------------


def test_the_net_is_handed_on_through_processes_that_share_nothing_else(run: Callable[..., Run]) -> None:
    made = run(COUNTS)
    assert made.outcome == Outcome.OK, made.info.message
    assert made.record is not None
    assert made.record.distance[0] == pytest.approx(N_REQUESTS)
    assert made.requests is not None
    assert made.seconds == pytest.approx(made.requests.seconds.mean())
    assert made.requests.accuracy.shape == (N_REQUESTS, 3)
    assert made.requests.accuracy[-1].tolist() == [
        made.record.accuracy_on("retain")[0],
        made.record.accuracy_on("test")[0],
        made.record.accuracy_on("forget")[0],
    ]


def test_requests_differ_in_their_seeds_and_a_run_is_the_same_again(run: Callable[..., Run]) -> None:
    source = f"""
import torch
{UNLEARN}
    number = {[N_TRAINING - sum(SIZES[: number + 1]) for number in range(N_REQUESTS)]}.index(len(retain_loader.dataset))
    net.fc.bias.data[number] = torch.randint(1 << 20, (1,))[0]
    if number == 2: raise ValueError(str(net.fc.bias[:3].tolist()))
"""
    first, again = run(source).info.message, run(source).info.message
    assert first == again
    assert len(set(eval(first.partition("ValueError: ")[2]))) == N_REQUESTS


GROWS = f"""
import torch
{TRAIN} return net, dict(seen=torch.zeros(0), kept=torch.ones(3))
{OF_LEARNER}
    assert state["kept"].tolist() == [1, 1, 1] and len(state["seen"]) in (0, 7, 14)
    state["seen"] = torch.cat([state["seen"], forget_loader.dataset.ids.float()])
    net.fc.bias.data[0] += 1
    if len(state["seen"]) < 20: return net, state
"""


def test_a_learner_goes_on_from_the_state_it_returned_or_else_from_the_one_it_had(
    make: Callable[[Path, Task], Run], submission: Write
) -> None:
    for source in (GROWS, GROWS.replace('    if len(state["seen"]) < 20: return net, state\n', "")):
        file = submission(source)
        read = read_submission(file, source_kb=256)
        original = make(file, Task(read, 1, 0, Stage.ORIGINAL))
        made = make(file, Task(read, 1, 0, Stage.RUN, original.trained))
        assert made.outcome == Outcome.OK, made.info.message
        assert made.requests is not None
        sizes = np.array([original.state_bytes, *made.requests.state_bytes])
        assert np.diff(sizes)[:2].tolist() == [28, 28]  # of 7 more positions
        assert made.record is not None
        assert made.record.distance[0] == pytest.approx(N_REQUESTS)


# ---- whole evaluations --------------------------------------------------------------------------------------------


def test_an_ordinary_submission_is_scored_after_the_last_request_and_goes_on_where_it_was(
    harness: Harness, submission: Write, stream_file: Path, home: Path, tmp_path: Path
) -> None:
    file, out = submission(COUNTS), tmp_path / "out.json"
    call = ("evaluate", file, "--track", stream_file, "--runs", 2, "--json", out)
    result = harness(*call)
    assert result.exit_code == 0, result.output
    assert "of 6 to 7 examples each" in " ".join(result.output.split())
    found = json.loads(out.read_text())
    shown = found["stream"]
    assert shown["examples"] == list(SIZES)
    assert shown["state_mb"] is None
    assert [len(shown[name]) for name in ("seconds", "max_seconds", "forgotten_accuracy")] == [N_REQUESTS] * 3
    assert found["share_of_limit"] == pytest.approx(max(shown["seconds"]) / 2)
    assert found["seconds"]["max"] == pytest.approx(max(shown["max_seconds"]))
    assert shown["distance"] == found["full_stack"]["consistency_kl"]["mean"]
    track, stored = load_track(home / "tracks" / "stream"), sorted(home.glob("results/*/*-cpu-*/run-*.npz"))
    first = track.requests() == 0
    logits = np.stack([read_arrays(path)["request_forget_logits"][0] for path in stored])[:, first]
    retrained = track.retrained("scoring").forget_logits[: len(stored), first]
    expected = [divergence(ours, theirs).mean() for ours in logits.astype(float) for theirs in retrained.astype(float)]
    assert shown["forgotten_distance"][0] == pytest.approx(np.mean(expected), rel=1e-4)
    assert shown["retrained_forgotten_distance"][0] == pytest.approx(
        (divergence(*retrained.astype(float)).mean() + divergence(*retrained[::-1].astype(float)).mean()) / 2, rel=1e-4
    )
    runs = sorted(home.glob("results/*/*-cpu-*/run-*.npz"))
    before = [read_arrays(path) for path in runs]
    runs[1].unlink()
    assert harness(*call).exit_code == 0
    again = read_arrays(runs[1])
    assert np.array_equal(again["weights_sha256"], before[1]["weights_sha256"])
    assert np.array_equal(again["request_accuracy"], before[1]["request_accuracy"])
    assert np.array_equal(read_arrays(runs[0])["request_seconds"], before[0]["request_seconds"])


def few(stream_file: Path) -> str:
    """Return the declaration of another track with the same requests, which is prepared in a moment."""
    text = stream_file.read_text()
    less = {"epochs = 8": "epochs = 1", "retrained = 16": "retrained = 2", "runs = 4": "runs = 2"}
    for old, new in {'"stream"': '"other"', **less}.items():
        text = text.replace(old, new)
    return text


def test_runs_of_other_requests_do_not_count(
    harness: Harness, submission: Write, stream_file: Path, home: Path, tmp_path: Path
) -> None:
    file, declaration, public = submission(COUNTS), tmp_path / "other.toml", set[str]()
    one = few(stream_file).replace("count = 20", "count = 20\nforget_sets = 2\nindex = 0")  # with originals of any cut
    (home / "tracks").unlink()
    for requests in (3, 4):
        declaration.write_text(one.replace("requests = 3", f"requests = {requests}"))
        prepared = harness("prepare", declaration, "--jobs", 1, "--force")
        assert prepared.exit_code == 0, prepared.output
        public.add(load_track(home / "tracks" / "other").manifest.public_hash)
        result = harness("evaluate", file, "--track", declaration, "--runs", 2)
        assert result.exit_code == 0, result.output
        assert "2 made now, 0 stored before" in " ".join(result.output.split())
    assert len(public) == 1  # which says nothing of the requests


def test_time_is_the_mean_over_requests_and_its_share_of_the_limit_that_of_the_slowest(
    stream: Track, submission: Write, home: Path
) -> None:
    file = submission(f"import time\n{UNLEARN}\n    if len(retain_loader.dataset) == 100: time.sleep(0.5)")
    limit = Limit(2.0, 0.1, training_seconds=20.0, calibration="given")
    read = read_submission(file, source_kb=256)
    found = evaluate(read, stream, Conditions(limit, choose()), runs=2, home=home)
    seconds, shown = found.score_file.seconds, found.score_file.stream
    assert shown is not None
    assert seconds.mean == pytest.approx(np.mean(shown.seconds))
    assert seconds.fraction_of_training == pytest.approx(np.mean(shown.seconds) / 20)
    assert seconds.spread == pytest.approx(np.std([run.seconds for run in found.runs], ddof=1))
    assert found.share_of_limit == pytest.approx(max(shown.seconds) / 2)
    said = io.StringIO()
    Console(file=said, width=200).print(show(found, []))
    assert f"slowest request {max(shown.seconds) / 20:.1%} of a training" in said.getvalue()
    assert f"s per request, the slowest {max(shown.seconds) / 2:.0%} of the limit" in render_page(found)


def divergence(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Return the KL divergence of each example, (n,), for logits (n, n_classes)."""
    log_p, log_q = (logits - np.logaddexp.reduce(logits, axis=1, keepdims=True) for logits in (ours, theirs))
    found: np.ndarray = (np.exp(log_p) * (log_p - log_q)).sum(axis=1)
    return found


def test_an_exact_learner_is_exact_after_the_last_request(
    harness: Harness, submission: Write, stream_file: Path, tmp_path: Path
) -> None:
    file, out = submission(EXACT), tmp_path / "out.json"
    result = harness("evaluate", file, "--track", stream_file, "--runs", 2, "--json", out)
    assert result.exit_code == 0, result.output
    found = json.loads(out.read_text())
    assert found["learner"]["exact"] == 2
    assert found["stream"]["distance_of_twins"] == 0
    assert len(found["stream"]["state_mb"]) == N_REQUESTS + 1
    assert len(set(found["stream"]["state_mb"])) == 1  # it returns no other
    page = tmp_path / "page.html"
    assert harness("report", file, "--track", stream_file, "--runs", 2, "--out", page).exit_code == 0
    assert "Deletion requests" in page.read_text()


@pytest.mark.long
def test_alarms_page_board_and_plan_of_a_track_with_requests(
    harness: Harness, submission: Write, stream_file: Path, home: Path, tmp_path: Path
) -> None:
    file = submission(COUNTS)
    evaluated = harness("evaluate", file, "--track", stream_file, "--runs", 16, "--json", tmp_path / "out.json")
    assert evaluated.exit_code == 0, evaluated.output
    assert json.loads((tmp_path / "out.json").read_text())["alarms"] is not None
    assert len(list(home.glob("results/*/*-cpu-*/swapped-*.npz"))) == 2
    page = tmp_path / "page.html"
    assert harness("report", file, "--track", stream_file, "--runs", 16, "--out", page).exit_code == 0
    assert "Deletion requests" in page.read_text()
    assert "Time of the runs" not in page.read_text()
    board = harness("leaderboard", "run", file.parent, "--track", stream_file, "--runs", 16)
    assert board.exit_code == 0, board.output
    shown = harness("leaderboard", "show", "--track", stream_file, "--format", "json")
    assert [row["outcome"] for row in json.loads(shown.output) if row["outcome"]] == ["OK"]  # beside floor and ceiling
    plan = harness("leaderboard", "plan", "--track", stream_file, "--teams", 2, "--tries", 1, "--runs", 16)
    assert plan.exit_code == 0, plan.output
    assert "requests of a run" in " ".join(plan.output.split())


@pytest.mark.long
def test_all_requests_run_in_the_foreground(harness: Harness, submission: Write, stream_file: Path) -> None:
    for source in (COUNTS, GROWS):
        assert harness("check", submission(source), "--track", stream_file, "--debug").exit_code == 0
    broken = f"{UNLEARN} 1 / (len(retain_loader.dataset) - 106)"
    assert harness("check", submission(broken), "--track", stream_file, "--debug").exit_code == 3


# ---- faults -------------------------------------------------------------------------------------------------------

AT_THE_SECOND = f"import torch, os, time\n{UNLEARN}\n    if len(retain_loader.dataset) == 106:"
FAULTS = {
    "an exception": (f"{AT_THE_SECOND} 1 / 0", "EXCEPTION", "request 2 of 3: ZeroDivisionError"),
    "no net": (f"{AT_THE_SECOND} return 3", "BAD_OUTPUT", "request 2 of 3: unlearn returned int"),
    "NaN": (f"{AT_THE_SECOND} net.fc.bias.data[0] = float('nan')", "NON_FINITE", "request 2 of 3: 1 of"),
    "outputs that overflow": (
        f"{AT_THE_SECOND} net.fc.weight.data[:] = 3e38\n    else: net.fc.weight.data[:] = 0",
        "NON_FINITE",
        "request 2 of 3: the weights are finite, the outputs of the net are not",
    ),
    "the end of the process": (f"{AT_THE_SECOND} os._exit(0)", "CRASHED", "request 2 of 3: the process ended"),
    "too long": (f"{AT_THE_SECOND} time.sleep(1000)", "TIME_LIMIT", "request 2 of 3: killed after"),
}


@pytest.mark.parametrize(("source", "outcome", "message"), FAULTS.values(), ids=FAULTS)
def test_a_fault_says_at_which_request_it_was(
    source: str, outcome: str, message: str, harness: Harness, submission: Write, stream_file: Path
) -> None:
    result = harness("evaluate", submission(source), "--track", stream_file, "--runs", 2, "--jobs", 1)
    assert result.exit_code == 3, result.output
    assert outcome in result.output
    assert message in " ".join(result.output.split())
    assert "Traceback" not in result.output


def test_with_a_hidden_forget_set_the_class_of_an_exception_is_told_of_any_request(
    harness: Harness, submission: Write, stream_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.json"
    file = submission(f"{AT_THE_SECOND} raise ValueError(forget_loader.dataset.ids)")
    result = harness("evaluate", file, "--track", stream_file, "--runs", 2, "--hidden", "--json", out)
    assert result.exit_code == 3, result.output
    assert json.loads(out.read_text())["failure"]["message"] == "ValueError"


def test_the_limit_is_of_each_request(run: Callable[..., Run]) -> None:
    made = run(f"import time\n{UNLEARN} time.sleep(1.5)")  # killed at 4 s; all three take more
    assert made.outcome == Outcome.OK, made.info.message
    assert made.requests is not None
    assert made.requests.seconds.min() >= 1.5
    assert made.info.limit_seconds == 2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("requests = 0", "forget.requests: Input should be greater than 0"),
        ("requests = 2.5", "forget.requests: "),
        ("requests = 21", "forget: requests = 21 is more than there are examples to forget: 20"),
    ],
)
def test_a_number_of_requests_that_cannot_be_is_refused(
    change: str, said: str, harness: Harness, stream_file: Path, tmp_path: Path
) -> None:
    file = tmp_path / "other.toml"
    file.write_text(stream_file.read_text().replace("requests = 3", change).replace('"stream"', '"other"'))
    result = harness("prepare", file)
    assert result.exit_code == 2, result.output
    assert said in " ".join(result.output.split())


# ---- the cut ------------------------------------------------------------------------------------------------------


def cut(forget: Forget, *, seed: int = 0, subjects: np.ndarray | None = None) -> np.ndarray:
    """Return which request each of the examples 10 to 29 is of."""
    images, labels = np.zeros((40, 2, 2, 1), np.uint8), np.arange(40) % 4
    sets = {"retain": np.arange(10), "forget": np.arange(10, 30)}
    split = Split(train=30, val=5, seed=seed)
    found = cut_into_requests(Dataset(Examples(images, labels, subjects)), split, forget, sets)
    return next(iter(found.values()))


def test_requests_are_drawn_by_the_seed_of_the_split() -> None:
    forget = Forget(kind="random", count=20, requests=3)
    first = cut(forget)
    assert np.bincount(first).tolist() == [7, 7, 6]
    assert np.array_equal(first, cut(forget))
    assert not np.array_equal(first, cut(forget, seed=1))
    assert sorted(cut(Forget(kind="class", label=1, requests=20))) == list(range(20))


def test_a_subject_is_in_one_request() -> None:
    subjects = np.arange(40) % 7
    found = cut(Forget(kind="subject", count=7, requests=3), subjects=subjects)
    of_people = [set(found[subjects[10:30] == person]) for person in range(7)]
    assert all(len(numbers) == 1 for numbers in of_people)
    assert np.bincount([min(numbers) for numbers in of_people]).tolist() == [3, 2, 2]
    with pytest.raises(UsageError, match="requests = 8 is more than there are subjects to forget: 7"):
        cut(Forget(kind="subject", count=7, requests=8), subjects=subjects)


def test_one_request_is_as_if_nothing_was_said_of_it() -> None:
    plain, one = (parse_declaration(text) for text in (TINY, TINY.replace("count = 20", "count = 20\nrequests = 1")))
    assert plain.model_dump_json() == one.model_dump_json()
    assert "requests" not in plain.model_dump_json()


def test_the_page_of_a_track_says_in_how_many_requests_it_forgets(
    harness: Harness, stream_file: Path, home: Path, tmp_path: Path
) -> None:
    file = tmp_path / "other.toml"
    file.write_text(few(stream_file).replace('kind = "random"\ncount = 20', 'kind = "class"\nlabel = 3'))
    (home / "tracks").unlink()
    result = harness("prepare", file, "--jobs", 1)
    assert result.exit_code == 0, result.output
    assert ", in 3 requests" in (home / "tracks" / "other" / "track.html").read_text()
    assert np.ptp(np.bincount(load_track(home / "tracks" / "other").requests())) <= 1


def test_settings_are_tuned_on_a_track_with_requests(stream: Track) -> None:
    assert tuning_declaration(stream).forget == Forget(kind="random", count=17, requests=N_REQUESTS)


# ---- handing on a track -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [(), ("--without-images",)], ids=["whole", "pack"])
def test_a_track_that_was_handed_on_has_the_same_requests(
    options: tuple[str, ...],
    harness: Harness,
    submission: Write,
    stream: Track,
    stream_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    exported = tmp_path / "out.track"
    written = harness("prepare", stream_file, "--export-private", exported, *options)
    assert written.exit_code == 0, written.output
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path / "other"))
    read = harness("prepare", stream_file, "--import", exported)
    assert read.exit_code == 0, read.output
    other = load_track(tmp_path / "other" / "tracks" / "stream")
    assert other.manifest == stream.manifest
    assert np.array_equal(other.requests(), stream.requests())
    checked = harness("check", submission(COUNTS), "--track", stream_file)
    assert checked.exit_code == 0, checked.output


def test_of_a_public_part_nothing_is_run(
    harness: Harness, submission: Write, stream_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported = tmp_path / "out.track"
    assert harness("prepare", stream_file, "--export", exported).exit_code == 0
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path / "other"))
    assert harness("prepare", stream_file, "--import", exported).exit_code == 0
    result = harness("check", submission(COUNTS), "--track", stream_file)
    assert result.exit_code == 2, result.output
    assert "only the public part of stream is here" in result.output
