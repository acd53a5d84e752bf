"""Batches on a Dask cluster: a real scheduler and two workers on loopback, one of which lacks the track."""

import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from harness.errors import MachineError, UsageError
from harness.leaderboard.batch import cluster_calls
from harness.leaderboard.batch.cluster import check_address
from harness.leaderboard.batch.cluster_calls import make_calls

pytest.importorskip("distributed", reason='needs Dask: pip install "unlearning-harness[cluster]"')

Harness = Callable[..., Result]

NOISE = """
import time
import torch

SCALE = 0.02

def unlearn(net, retain_loader, forget_loader, val_loader):
    time.sleep(0.1)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += SCALE * torch.randn_like(parameter)
"""
LEARNER = """
import torch

def train(net, train_loader, val_loader):
    return net, {"start": torch.ones(3)}

def unlearn(net, retain_loader, forget_loader, val_loader, state):
    assert state["start"].sum() == 3
"""
RAISES = "def unlearn(net, retain_loader, forget_loader, val_loader): 1 / 0"


@dataclass(frozen=True)
class Running:
    """A cluster of processes, which end with the stack."""

    stack: ExitStack
    scratch: Path
    address: str
    workers: dict[str, "subprocess.Popen[str]"] = field(default_factory=dict)

    def start_worker(self, name: str, home: Path) -> None:
        """Start a worker and wait until it is there."""
        options = ("--host", "127.0.0.1", "--no-dashboard", "--nthreads", "1", "--no-nanny")
        command = ("worker", self.address, *options, "--local-directory", str(self.scratch))
        self.workers[name], _ = dask(self.stack, *command, home=home, until="Registered to:")


def dask(stack: ExitStack, *arguments: str, home: Path, until: str) -> "tuple[subprocess.Popen[str], str]":
    """Start a process of Dask; return it with the line in which it says that it is there."""
    quick = {"DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False", "HARNESS_HOME": str(home)}
    process = subprocess.Popen(
        [sys.executable, "-m", "dask", *arguments],
        env=os.environ | quick,
        cwd=home,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    stack.callback(process.communicate)
    stack.callback(process.kill)
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if until in line:
            return process, line
    raise AssertionError("".join(said))


def scheduler(stack: ExitStack, folder: Path) -> Running:
    """Start a scheduler on loopback; it has no workers yet."""
    options = ("--host", "127.0.0.1", "--no-dashboard", "--port", "0")
    _, line = dask(stack, "scheduler", *options, home=folder, until="Scheduler at:")
    return Running(stack, folder, line.split()[-1])


@pytest.fixture
def cluster(home: Path, tmp_path: Path) -> Iterator[Running]:
    """A scheduler with a worker that shares our HARNESS_HOME and one whose own is empty."""
    own = tmp_path / "own"
    own.mkdir()
    with ExitStack() as stack:
        running = scheduler(stack, own)
        running.start_worker("shared", home)
        running.start_worker("own", own)
        yield running


def wait_for_runs(count: int, home: Path, batch: "subprocess.Popen[str]") -> None:
    """Wait until a batch has stored so many runs."""
    deadline = time.monotonic() + 90
    while len(list(home.glob("results/*/*/run-*.npz"))) < count:
        assert time.monotonic() < deadline, "no runs were stored"
        assert batch.poll() is None, batch.communicate()[0]
        time.sleep(0.02)


def outcome_of_batch(home: Path) -> dict[str, Any]:
    """Return state and score of every entry of the only board."""
    found = {}
    for path in home.glob("leaderboards/*/entries/*.json"):
        entry = json.loads(path.read_text())
        score = home / "results" / path.parents[1].name / entry["results"] / f"{entry['score']}.json"
        value = json.loads(score.read_text())["half_samples"] if entry["score"] else None
        found[entry["submission"]] = (entry["state"], entry["outcome"], entry["runs"], entry["message"], value)
    return found


@pytest.mark.long
def test_a_cluster_ends_where_one_machine_does_whatever_happens_to_a_worker(
    harness: Harness, cluster: Running, home: Path, tiny_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "handed-in"
    folder.mkdir()
    for name, source in {"noise": NOISE, "more": NOISE.replace("0.02", "0.03"), "raises": RAISES}.items():
        (folder / f"{name}.py").write_text(source)
    command = ["leaderboard", "run", str(folder), "--track", str(tiny_file), "--runs", "8"]
    batch = subprocess.Popen(
        [sys.executable, "-m", "harness", *command, "--scheduler", cluster.address],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert batch.stdout is not None
    empty = tmp_path / "empty"
    empty.mkdir()
    with ExitStack() as stack:
        stack.callback(batch.wait)
        stack.callback(batch.kill)
        wait_for_runs(4, home, batch)
        cluster.workers["own"].kill()
        wait_for_runs(6, home, batch)
        cluster.workers["shared"].kill()
        output = ""
        while "no worker is left" not in output:
            line = batch.stdout.readline()
            assert line, output
            output += line
        cluster.start_worker("without the track", empty)
        while "gets no runs" not in output:
            line = batch.stdout.readline()
            assert line, output
            output += line
        cluster.start_worker("another", home)
        output += batch.communicate(timeout=90)[0]
    assert batch.returncode == 0, output
    assert output.count(": cpu, isolation") == 2
    assert output.count("has joined and gets no runs: it lacks the track") == 1
    assert output.count("has joined\n") == 1
    assert len(list((tmp_path / "own" / "fetched").glob("tiny-*/tiny/private/test.npz"))) == 1

    options = ("--scheduler", cluster.address, "--isolation", "none", "--require-isolation", "full")
    refused = harness(*command, *options)
    assert refused.exit_code == 4
    assert "workers cannot take part" in refused.output
    assert "--isolation none is less than" in refused.output

    added = folder / "added.py"  # the worker that is left makes its runs, not this process
    added.write_text(NOISE.replace("0.02", "0.04"))
    alone = harness(*command, "--scheduler", cluster.address)
    assert alone.exit_code == 0, alone.output
    assert "added.py: done, 8 runs" in alone.output

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "tracks").symlink_to(home / "tracks")
    monkeypatch.setenv("HARNESS_HOME", str(elsewhere))
    assert harness(*command).exit_code == 0
    assert outcome_of_batch(home) == outcome_of_batch(elsewhere)
    assert {state for state, *_ in outcome_of_batch(home).values()} == {"done", "failed"}


@pytest.mark.long
def test_learners_are_made_on_the_workers_of_one_machine_and_passed_over_on_several(
    harness: Harness, cluster: Running, home: Path, tiny_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "exact.py").write_text(LEARNER)
    (tmp_path / "raises.py").write_text(RAISES)
    command = ("leaderboard", "run", tmp_path / "exact.py", tmp_path / "raises.py", "--track", tiny_file, "--runs", 2)
    with monkeypatch.context() as patched:
        patched.setattr("harness.leaderboard.batch.cluster.Cluster.is_one_machine", False)
        several = harness(*command, "--scheduler", cluster.address)
    assert several.exit_code == 0, several.output
    assert "exact.py is passed over: the workers are on several machines" in several.output
    assert set(outcome_of_batch(home)) == {"raises.py"}
    one = harness(*command, "--scheduler", cluster.address)
    assert "exact.py: done, 2 runs" in one.output
    (score,) = home.glob("results/*/*/score-2-*.json")
    assert json.loads(score.read_text())["learner"]["exact"] == 2


def test_calls_are_made_by_the_workers_alone_that_may_have_some() -> None:
    from distributed import Client, LocalCluster, get_worker

    def worker_of_call(number: int) -> str:
        return str(get_worker().address)

    options: dict[str, Any] = {"n_workers": 3, "threads_per_worker": 1, "processes": False, "dashboard_address": None}
    with LocalCluster(**options) as local, Client(local, set_as_default=False) as client:
        stranger, *fit = client.nthreads()
        made = dict(
            make_calls(client, worker_of_call, zip(range(9), range(9), strict=True), lambda: dict.fromkeys(fit, 1))
        )
    assert set(made) == set(range(9))
    assert set(made.values()) == set(fit)
    assert stranger not in fit


def test_a_call_that_kills_its_workers_is_made_by_others_and_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = []

    class Pending:
        def add_done_callback(self, call: object) -> None:
            pass

    class WhereWorkersDie:
        def submit(self, function: object, given: object, *, workers: list[str], pure: bool) -> Pending:
            sent.extend(workers)
            return Pending()

        def cancel(self, futures: object) -> None:
            pass

    monkeypatch.setattr(cluster_calls, "LOOK_SECONDS", 0.0)
    here = itertools.count()
    client: Any = WhereWorkersDie()
    with pytest.raises(MachineError, match="workers died again and again, worker3 the last"):
        list(make_calls(client, print, [("kept", "given")], lambda: {f"worker{next(here)}": 1}))
    assert sent == ["worker0", "worker1", "worker2", "worker3"]


@pytest.mark.parametrize(
    "address",
    [
        "10.0.0.5:8786",
        "tcp://scheduler.example:8786",
        "tcp://127.0.0.1.example:8786",
        "tcp://0.0.0.0:8786",
        "ws://127.0.0.1:8786",
        "ucx://127.0.0.1:8786",
    ],
)
def test_an_open_scheduler_is_refused_and_the_reason_given(
    address: str, harness: Harness, tiny_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "foo.py").write_text(RAISES)
    result = harness("leaderboard", "run", tmp_path / "foo.py", "--track", tiny_file, "--scheduler", address)
    assert result.exit_code == 2
    assert "can run any code" in result.output
    assert "--insecure" in result.output


@pytest.mark.parametrize("address", ["tls://10.0.0.5:8786", "tcp://127.0.0.1:8786", "localhost:1", "tcp://[::1]:8786"])
def test_tls_and_this_machine_are_fine(address: str) -> None:
    check_address(address)


def test_without_a_scheduler_or_workers_the_way_to_some_is_named(
    harness: Harness, home: Path, tiny_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "foo.py").write_text(RAISES)
    command = ("leaderboard", "run", tmp_path / "foo.py", "--track", tiny_file, "--scheduler")
    monkeypatch.setattr("harness.leaderboard.batch.cluster.CONNECT_SECONDS", 1)
    nobody = harness(*command, "tcp://127.0.0.1:1")
    assert nobody.exit_code == 2
    assert "no scheduler answers at tcp://127.0.0.1:1" in nobody.output
    with ExitStack() as stack:
        idle = harness(*command, scheduler(stack, home).address)
    assert idle.exit_code == 2
    assert "dask worker tcp://127.0.0.1:" in idle.output


def test_who_insists_may_use_any_address() -> None:
    check_address("10.0.0.5:8786", is_insecure=True)
    with pytest.raises(UsageError):
        check_address("10.0.0.5:8786")
