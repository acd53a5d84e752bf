"""Processes that a submission starts: forked under every Python; whatever would be a new interpreter is refused."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.runner.execution import Finished
from harness.runner.outcome import Outcome

Ran = Callable[[str], Finished]
ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux only")

HEAD = """
import multiprocessing, torch
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context, set_start_method
from torch.utils.data import DataLoader, Dataset

class Noisy(Dataset):
    def __init__(self, inner):
        self.inner = inner
    def __len__(self):
        return len(self.inner)
    def __getitem__(self, index):
        image, label = self.inner[index]
        return image + torch.randn_like(image), label

class Broken(Noisy):
    def __getitem__(self, index):
        return self.inner.classes

def double(x):
    return 2 * x

def inverse(x):
    return 1 / x

def read(data, **options):
    assert sum(len(labels) for _, labels in DataLoader(data, batch_size=16, num_workers=2, **options)) == len(data)

def unlearn(net, retain_loader, forget_loader, val_loader):
    data = retain_loader.dataset
    """

WORKS = {
    "default": "assert multiprocessing.get_start_method() == 'fork'",
    "own data set": "read(Noisy(data))",
    "fork by name": "read(Noisy(data), multiprocessing_context='fork')",
    "fork set": "set_start_method('fork'); read(data)",
    "executor": "assert list(ProcessPoolExecutor(2).map(double, [1, 2])) == [2, 4]",
    "torch": "torch.multiprocessing.start_processes(print, nprocs=2, start_method='fork')",
    "joblib": "import joblib; joblib.Parallel(2, backend='multiprocessing')(joblib.delayed(double)(i) for i in [1, 2])",
}

REFUSED = {
    "spawned workers": "read(Noisy(data), multiprocessing_context='spawn')",
    "workers of a server": "read(data, multiprocessing_context='forkserver')",
    "spawn set": "set_start_method('spawn'); read(data)",
    "server set": "torch.multiprocessing.set_start_method('forkserver', force=True); read(data)",
    "process": "get_context('spawn').Process(target=print).start()",
    "pool": "get_context('forkserver').Pool(2)",
    "manager": "get_context('spawn').Manager()",
    "executor": "ProcessPoolExecutor(2, mp_context=get_context('spawn')).submit(double, 1).result()",
    "processes for one task each": "ProcessPoolExecutor(2, max_tasks_per_child=1).submit(double, 1).result()",
    "torch": "torch.multiprocessing.spawn(print, nprocs=2)",
}


@pytest.mark.parametrize("body", WORKS.values(), ids=WORKS)
def test_forked_processes_work(body: str, ran: Ran) -> None:
    finished = ran(HEAD + body)
    assert finished.outcome == Outcome.OK, finished


@pytest.mark.parametrize("body", REFUSED.values(), ids=REFUSED)
def test_spawned_processes_are_refused_with_a_way_out(body: str, ran: Ran) -> None:
    finished = ran(HEAD + body)
    assert finished.outcome == Outcome.EXCEPTION
    assert 'use multiprocessing_context="fork" in a loader' in finished.message
    assert "foo.py, line " in finished.lines[0]
    assert finished.seconds < 10


@pytest.mark.parametrize(
    ("body", "line", "said"),
    [
        (
            "read(Broken(data))",
            "in __getitem__: return self.inner.classes",
            "worker process 0. AttributeError: the data",
        ),
        ("list(ProcessPoolExecutor(2).map(inverse, [0]))", "in inverse: return 1 / x", "ZeroDivisionError: division"),
    ],
)
def test_an_exception_in_a_worker_names_the_line_there(body: str, line: str, said: str, ran: Ran) -> None:
    finished = ran(HEAD + body)
    assert finished.outcome == Outcome.EXCEPTION
    assert finished.lines[-1].endswith(line)
    assert said in finished.message
    assert "\n" not in finished.message.strip()  # no traceback, which has lines of packages and of the harness


def test_a_task_that_a_new_interpreter_cannot_read_is_told_why(ran: Ran) -> None:
    """joblib's own processes are new interpreters; functions of packages work in them."""
    finished = ran(HEAD + "import joblib; joblib.Parallel(2)(joblib.delayed(double)(i) for i in [1, 2])")
    assert finished.outcome == Outcome.EXCEPTION
    assert 'use joblib.Parallel(..., backend="multiprocessing") or threads' in finished.message


def test_fork_is_the_default_where_python_has_another_one() -> None:
    """As from Python 3.14 on; set again, it may still be changed."""
    program = """
import multiprocessing
from multiprocessing import context
context._default_context._default_context = multiprocessing.get_context("forkserver")
assert multiprocessing.get_start_method() == "forkserver"
from harness.runner.inside.start_methods import fork_only
fork_only()
assert multiprocessing.get_start_method(allow_none=True) is None
assert multiprocessing.get_start_method() == "fork"
process = multiprocessing.Process(target=print)
process.start()
process.join()
assert process.exitcode == 0
"""
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == 0
