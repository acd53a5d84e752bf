"""The sandbox: what the machine offers, what each level does, and what is left when everything ends badly."""

import dataclasses
import errno
import json
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.runner import launch
from harness.runner.execution import Finished, execute
from harness.runner.fork import ForkLauncher
from harness.runner.isolation import offered
from harness.runner.message import Job
from harness.runner.outcome import Outcome
from harness.runner.process import Launcher
from harness.runner.sandbox import cgroup
from harness.runner.sandbox.cgroup import Cgroups, Hierarchy
from harness.runner.sandbox.plan import packages
from harness.runner.sandbox.privileges import is_root
from harness.runner.sandbox.sandboxes import Quota, Sandboxes
from harness.runs.measure import Recorder
from harness.tracks.track import Track

Run = Callable[..., Finished]
ROOT = Path(__file__).parents[2]
FACTS = Path(__file__).with_name("isolation_facts.py").read_text()
SIGNATURE = "def unlearn(net, retain_loader, forget_loader, val_loader):"
QUOTA = Quota(memory_mb=512, processes=60, scratch_mb=32, threads=1)

linux = pytest.mark.skipif(sys.platform != "linux", reason="Linux only")
full = pytest.mark.skipif(sys.platform != "linux" or offered().strongest != "full", reason="needs the level full")

pytestmark = linux


def made(level: str, track: Track, *, quota: Quota = QUOTA, hidden: tuple[Path, ...] = ()) -> Launcher:
    """Return a launcher of a level; that of the quota of all tests is shared."""
    if hidden:
        sandboxes = Sandboxes(level, quota, hidden=hidden, device="cpu")
        return ForkLauncher(track.public, device="cpu", log_bytes=1 << 16, sandboxes=sandboxes)
    key = track.manifest.public_hash
    return launch.launcher(track.public, public_hash=key, device="cpu", log_kb=64, isolation=level, quota=quota)


def run(launcher: Launcher, track: Track, source: str, *, seconds: float = 20.0, device: str = "cpu") -> Finished:
    """Run a file once; `seconds` is the limit, and twice that ends it."""
    seeds = {"torch": 1, "numpy": 2, "random": 3}
    job = Job(source, "foo.py", 0, seeds, device, threads=1, time_limit_seconds=seconds)
    return execute(launcher, job, n_values=Recorder(track).n_values)


# ---- what each level does, read back from inside ------------------------------------------------------------------


def facts_of(finished: Finished) -> dict[str, Any]:
    assert finished.outcome == Outcome.OK, finished
    found: dict[str, Any] = json.loads(finished.log)
    return found


@full
def test_full_puts_every_layer_on(tiny: Track) -> None:
    facts = facts_of(run(made("full", tiny), tiny, FACTS))
    assert facts["CapEff"] == facts["CapBnd"] == facts["CapPrm"] == "0" * 16
    assert (facts["NoNewPrivs"], facts["Seccomp"]) == ("1", "2")
    assert 300_000 <= facts["uid"] == facts["gid"] < 400_000
    assert facts["groups"] == []
    assert facts["processes"] == [1, facts["pid"]]  # its first process and itself
    assert facts["writable"] == ["/cache", "/dev/shm", "/proc", "/tmp"]
    ways_to_packages = {Path(folder).parts[1] for folder in packages()}
    assert not {"home", "sys", "run", "var", "srv", "mnt", "opt", ROOT.parts[1]} & set(facts["root"]) - ways_to_packages
    assert facts["descriptors"] == [0, 1, 2, 3, 4]  # nothing, the log twice, the weights, the report
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    assert facts["limits"]["CORE"] == (1 if hard == resource.RLIM_INFINITY else min(1, hard))
    assert facts["limits"]["MSGQUEUE"] == 0
    assert (facts["limits"]["NPROC"], facts["limits"]["NOFILE"]) == (QUOTA.processes, 1024)
    assert facts["passwd"] == "No such file or directory"
    assert facts["socket"] == os.strerror(errno.EAFNOSUPPORT)
    assert facts["cwd"] == facts["environment"]["HOME"] == facts["environment"]["TMPDIR"] == "/tmp"
    assert not [name for name in facts["environment"] if "HARNESS" in name]


@full
def test_two_runs_in_a_row_have_different_users(tiny: Track) -> None:
    launcher = made("full", tiny)
    assert len({facts_of(run(launcher, tiny, FACTS))["uid"] for _ in range(3)}) == 3


@pytest.mark.skipif(offered().levels["userns"] is not None, reason="needs namespaces")
def test_userns_lacks_the_cgroup_only(tiny: Track) -> None:
    facts = facts_of(run(made("userns", tiny), tiny, FACTS))
    assert facts["CapEff"] == facts["CapBnd"] == "0" * 16
    assert (facts["NoNewPrivs"], facts["Seccomp"]) == ("1", "2")
    assert facts["writable"] == ["/cache", "/dev/shm", "/proc", "/tmp"]
    assert facts["passwd"] == "No such file or directory"
    assert facts["limits"]["DATA"] > QUOTA.memory_mb << 20


def test_none_is_what_it_says(tiny: Track) -> None:
    facts = facts_of(run(made("none", tiny), tiny, FACTS))
    assert facts["Seccomp"] == "0"
    assert facts["passwd"] == "read"


@full
def test_folders_of_the_harness_within_the_packages_are_hidden(tiny: Track) -> None:
    import click

    folder = Path(click.__file__).parent
    launcher = made("full", tiny, hidden=(folder,))
    try:
        source = f"import os\n{SIGNATURE} os.listdir({str(folder)!r})"
        finished = run(launcher, tiny, source)
        assert finished.message.startswith("PermissionError"), finished
    finally:
        launcher.close()


@full
def test_a_submission_sees_nothing_of_the_track_but_what_it_is_given(tiny: Track) -> None:
    source = f"""
import os
{SIGNATURE}
    for path in {[str(tiny.folder), str(tiny.private), str(ROOT / "harness"), str(ROOT / "data_prep")]!r}:
        assert not os.path.exists(path), path
    maps = open("/proc/self/maps").read()
    assert "private" not in maps
"""
    assert run(made("full", tiny), tiny, source).outcome == Outcome.OK


ONE_BY_ONE = """
import errno, os, sys
from harness.runner.sandbox import mounts
from harness.runner.sandbox.syscalls import CLONE_NEWNS, mount, unshare

def refuse(*arguments):
    raise OSError(errno.ENOSYS, "as an older kernel has it")

folder = sys.argv[1]
unshare(CLONE_NEWNS)
mount(None, "/", None, mounts.MS_REC | mounts.MS_PRIVATE)
mounts.mount_setattr, mounts.OLD = refuse, ""
for name in ("shown", "shown/a folder", "seen"):
    os.mkdir(f"{folder}/{name}")
for name in ("library", "shown/library"):
    open(f"{folder}/{name}", "w").write(name)
mount("tmpfs", f"{folder}/shown/a folder", "tmpfs", 0, "size=64k")
open(f"{folder}/shown/a folder/file", "w").write("file")
mount(f"{folder}/library", f"{folder}/shown/library", None, mounts.MS_BIND)
mounts._bind(f"{folder}/shown", f"{folder}/seen", mounts.MOUNT_ATTR_RDONLY)
for name, content in (("library", "library"), ("a folder/file", "file")):
    assert open(f"{folder}/seen/{name}").read() == content
    try:
        open(f"{folder}/seen/{name}", "w")
    except OSError as error:
        assert error.errno == errno.EROFS
    else:
        raise AssertionError(f"{name} can be written")
"""


@pytest.mark.skipif(not is_root(), reason="needs root")
def test_what_is_mounted_below_a_folder_is_shown_read_only_on_a_kernel_without_mount_setattr(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", ONE_BY_ONE, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr


# ---- limits -------------------------------------------------------------------------------------------------------

HOGS = f"""
import os, time
{SIGNATURE}
    for _ in range(3):
        if os.fork() == 0:
            block = b"x" * (300 << 20)
            time.sleep(30)
    time.sleep(2)
"""


@full
def test_a_helper_killed_for_memory_fails_the_run_though_it_ends_well(tiny: Track) -> None:
    finished = run(made("full", tiny), tiny, HOGS)
    assert finished.outcome == Outcome.MEMORY_LIMIT
    assert finished.weights is None


@pytest.mark.parametrize("level", ["userns", "none"])
def test_where_no_cgroup_limits_memory_it_is_watched(level: str, tiny: Track) -> None:
    if offered().levels.get(level) is not None:
        pytest.skip(f"needs {level}")
    longer = HOGS.replace("time.sleep(2)", "time.sleep(15)")  # than it takes to be noticed on a busy machine
    assert run(made(level, tiny), tiny, longer).outcome == Outcome.MEMORY_LIMIT


@full
@pytest.mark.parametrize("path", ["/tmp", "/dev/shm", "/cache"])
def test_folders_in_memory_are_limited(path: str, tiny: Track) -> None:
    source = f"{SIGNATURE} open('{path}/big', 'wb').write(bytes({(QUOTA.scratch_mb + 1) << 20}))"
    assert "No space left" in run(made("full", tiny), tiny, source).message


@pytest.mark.parametrize("level", ["full", "userns", "none"])
def test_what_a_run_leaves_running_ends_with_it(level: str, tiny: Track) -> None:
    if offered().levels.get(level) is not None:
        pytest.skip(f"needs {level}")
    mark = f"left-by-{level}-{os.getpid()}"
    source = f"""
import os, sys, time
{SIGNATURE}
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.execv("/bin/sh", ["sh", "-c", "sleep 100; : {mark}"])
        os._exit(0)
    time.sleep(0.3)
"""
    assert run(made(level, tiny), tiny, source).outcome == Outcome.OK
    assert not [path for path in Path("/proc").glob("[0-9]*/cmdline") if mark in _text(path)]


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


# ---- honest needs -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", ["full", "userns"])
def test_workers_queues_threads_and_temporary_files_work(level: str, tiny: Track) -> None:
    if offered().levels.get(level) is not None:
        pytest.skip(f"needs {level}")
    source = f"""
import multiprocessing, tempfile, threading
import torch
from torch.utils.data import DataLoader

def put(queue):
    queue.put(3)

{SIGNATURE}
    own = DataLoader(retain_loader.dataset, batch_size=16, num_workers=2)
    assert sum(len(labels) for images, labels in own) == len(retain_loader.dataset)
    queue = multiprocessing.Queue()
    child = multiprocessing.Process(target=put, args=(queue,))
    child.start()
    assert queue.get() == 3
    child.join()
    with tempfile.TemporaryDirectory() as folder:
        open(folder + "/file", "w").close()
    done = []
    thread = threading.Thread(target=lambda: done.append(torch.ones(500, 500) @ torch.ones(500, 500)))
    thread.start()
    thread.join()
    assert len(done) == 1
"""
    assert run(made(level, tiny), tiny, source).outcome == Outcome.OK


@full
@pytest.mark.slow
def test_torch_compile_works(tiny: Track) -> None:
    """It takes a C++ compiler and 20 seconds of a core; how long depends on what else the machine does."""
    source = f"""
import torch
{SIGNATURE}
    doubled = torch.compile(lambda x: torch.sin(x) * 2 + x)
    x = torch.randn(100)
    assert torch.allclose(doubled(x), torch.sin(x) * 2 + x, atol=1e-6)
"""
    finished = run(made("full", tiny, quota=Quota(4096, 100, 256, threads=1)), tiny, source, seconds=200)
    assert finished.outcome == Outcome.OK, finished


# ---- the trusted side ---------------------------------------------------------------------------------------------


@full
def test_a_zygote_outlives_the_thread_that_asked_for_it(tiny: Track) -> None:
    launcher = made("full", tiny, quota=dataclasses.replace(QUOTA, processes=61))
    pids = []

    def ask() -> None:
        assert run(launcher, tiny, f"{SIGNATURE} pass").outcome == Outcome.OK
        assert isinstance(launcher, ForkLauncher)
        assert launcher._zygote is not None
        pids.append(launcher._zygote.process.pid)

    for _ in range(2):
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()
        time.sleep(0.2)
    assert len(set(pids)) == 1
    launcher.close()


@pytest.mark.skipif(not is_root(), reason="needs root")
def test_harness_processes_at_once_have_different_user_ids() -> None:
    code = "from harness.runner.sandbox.users import UserIds as U; u = U(); print(u.next_id(), flush=True); input()"
    holders = [
        subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)
        for _ in range(3)
    ]
    try:
        ids = [int(holder.stdout.readline()) for holder in holders if holder.stdout]
        assert len({number // 1000 for number in ids}) == 3
    finally:
        for holder in holders:
            holder.communicate(b"\n")


@full
def test_cgroups_of_dead_harnesses_are_swept_and_those_of_living_ones_are_not() -> None:
    living = Cgroups()
    run_cgroup = living.create(memory_bytes=1 << 28, processes=10, threads=1)
    parents = [folder.parent for folder in living._folders]
    dead = [parent / f"{cgroup.PREFIX}dead" for parent in parents]
    for folder in dead:
        (folder / "run-0").mkdir(parents=True)
    Cgroups().close()
    assert not any(folder.exists() for folder in dead)
    assert all(folder.exists() for folder in run_cgroup._folders.values())
    living.close()
    assert not any(folder.exists() for folder in run_cgroup._folders.values())


def test_version_2_hands_its_controllers_down_and_sets_every_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On plain files: the machine this was written on has no controllers in version 2."""
    monkeypatch.setattr(cgroup, "REMOVE_SECONDS", 0.0)
    (tmp_path / "cgroup.subtree_control").write_text("")
    real_mkdir = Path.mkdir

    def mkdir(path: Path, *arguments: Any, **options: Any) -> None:
        real_mkdir(path, *arguments, **options)
        (path / "cgroup.subtree_control").write_text("")
        (path / "memory.swap.max").write_text("max")

    monkeypatch.setattr(Path, "mkdir", mkdir)
    made_by_us = Cgroups([Hierarchy(2, tmp_path, ("cpu", "memory", "pids"))])
    one = made_by_us.create(memory_bytes=1000, processes=7, threads=4)
    folder = one._folders["memory"]
    assert (tmp_path / "cgroup.subtree_control").read_text() == "+cpu +memory +pids"
    assert (folder.parent / "cgroup.subtree_control").read_text() == "+cpu +memory +pids"
    limits = {name: (folder / name).read_text() for name in ("memory.max", "memory.swap.max", "memory.oom.group")}
    assert limits == {"memory.max": "1000", "memory.swap.max": "0", "memory.oom.group": "1"}
    assert (folder / "pids.max").read_text() == "7"
    assert (folder / "cpu.max").read_text() == "425000 100000"
    (folder / "memory.events").write_text("low 0\nhigh 0\nmax 3\noom 2\noom_kill 1\n")
    assert one.oom_kills() == 1
    made_by_us.close()


# ---- on a GPU, at the strongest level there is: written without one, to be run on the first machine that has one ---


@pytest.mark.gpu
def test_a_run_on_a_gpu_has_its_context_before_the_clock_starts(tiny: Track) -> None:
    source = f"""
import torch
{SIGNATURE}
    assert next(net.parameters()).is_cuda
    images, labels = next(iter(retain_loader))
    torch.nn.functional.cross_entropy(net(images), labels).backward()
    torch.cuda.synchronize()
"""
    finished = run(_on_gpu(tiny), tiny, source, device="cuda")
    assert finished.outcome == Outcome.OK, finished
    assert finished.seconds < 1.0


@pytest.mark.gpu
def test_memory_of_the_gpu_does_not_carry_from_run_to_run(tiny: Track) -> None:
    launcher = _on_gpu(tiny)
    write = f"import torch\n{SIGNATURE} kept = torch.full((1 << 28,), 1234567, dtype=torch.int32, device='cuda')"
    assert run(launcher, tiny, write, device="cuda").outcome == Outcome.OK
    read = f"""
import torch
{SIGNATURE}
    found = torch.empty(1 << 28, dtype=torch.int32, device="cuda")
    assert not (found == 1234567).any()
"""
    assert run(launcher, tiny, read, device="cuda").outcome == Outcome.OK


@pytest.mark.gpu
def test_an_endless_kernel_is_killed_and_the_gpu_is_free_for_the_next_run(tiny: Track) -> None:
    launcher = _on_gpu(tiny)
    endless = f"import torch\n{SIGNATURE}\n    x = torch.ones(8192, 8192, device='cuda')\n    while True: x = x @ x"
    assert run(launcher, tiny, endless, seconds=1.0, device="cuda").outcome == Outcome.TIME_LIMIT
    assert run(launcher, tiny, f"{SIGNATURE} pass", device="cuda").outcome == Outcome.OK


def _on_gpu(track: Track) -> Launcher:
    key, quota = track.manifest.public_hash, Quota(memory_mb=16384, processes=200, scratch_mb=256, threads=1)
    level = offered("cuda").strongest
    return launch.launcher(track.public, public_hash=key, device="cuda", log_kb=64, isolation=level, quota=quota)
