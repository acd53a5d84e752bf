"""The sandbox of runs on a GPU, without one: what libcuda does goes to nodes of /dev/zero and to a stand-in in C."""

import ctypes.util
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from click.testing import Result

from harness import accelerator, cuda_driver
from harness.errors import MachineError
from harness.runner import isolation, launch
from harness.runner.execution import execute
from harness.runner.isolation import LEVELS, ProbeResult, choose, offered
from harness.runner.message import Job
from harness.runner.outcome import Outcome
from harness.runner.process import run_environment
from harness.runner.sandbox import gpu, privileges, probe
from harness.runner.sandbox.plan import Plan
from harness.runner.sandbox.sandboxes import Quota
from harness.runs.measure import Recorder
from harness.tracks.track import Track

ROOT = Path(__file__).parents[2]
ACCESSES = Path(__file__).with_name("gpu_accesses.py").read_text()
STUB = Path(__file__).with_name("stub_libcuda.c")
QUOTA = Quota(memory_mb=4096, processes=60, scratch_mb=32, threads=1)
NAMES = ("nvidiactl", "nvidia0", "nvidia-uvm")

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux only")


# ---- what libcuda does, at every level ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def nodes() -> Iterator[Path]:
    """A folder below /dev with device nodes that are those of /dev/zero."""
    folder = Path(f"/dev/harness-fake-{os.getpid()}")
    try:
        folder.mkdir(mode=0o755)
        for name in NAMES:
            os.mknod(folder / name, stat.S_IFCHR | 0o666, os.makedev(1, 5))
            (folder / name).chmod(0o666)  # whatever the umask
            (folder / name).open("rb").close()
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        pytest.skip(f"no device nodes can be made here: {error}")
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def pretended(nodes: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A GPU of those nodes without a driver, in this process and in those it starts."""
    monkeypatch.setenv(accelerator.FAKE_VARIABLE, json.dumps({"nodes": f"{nodes}/*"}))
    offered.cache_clear()
    yield
    offered.cache_clear()


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.usefixtures("pretended")
def test_a_run_may_do_what_libcuda_does(level: str, tiny: Track) -> None:
    skip_unless_offered(level)
    launcher = launch.launcher(
        tiny.public, public_hash="accesses", device="fake", log_kb=64, isolation=level, quota=QUOTA
    )
    try:
        seeds = {"torch": 1, "numpy": 2, "random": 3}
        job = Job(ACCESSES, "foo.py", 0, seeds, "fake", threads=1, time_limit_seconds=20.0)
        finished = execute(launcher, job, n_values=Recorder(tiny).n_values)
    finally:
        launcher.close()
    assert finished.outcome == Outcome.OK, finished
    assert {name: how for name, how in json.loads(finished.log).items() if how != "ok"} == {}


def skip_unless_offered(level: str) -> None:
    if (reason := offered().levels.get(level)) is not None:
        pytest.skip(f"this machine does not offer {level}: {reason}")


# ---- a stand-in for libcuda, through the command line -------------------------------------------------------------

Build = Callable[..., Path]


@pytest.fixture(scope="module")
def build(nodes: Path) -> Iterator[Build]:
    """build(ANSWER=802) returns a folder, open to all, with a stand-in for libcuda whose cuInit answers that."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    made: dict[str, Path] = {}

    def call(**values: object) -> Path:
        defined = {"NODES": f'"{nodes}"', "ANSWER": 0, "SECONDS": 0.05} | values
        arguments = [f"-D{name}={value}" for name, value in defined.items()]
        if (key := " ".join(arguments)) not in made:
            folder = Path(tempfile.mkdtemp(prefix="stub-libcuda-"))
            folder.chmod(0o755)
            made[key] = folder
            library = ["-shared", "-fPIC", "-pthread", "-o", str(folder / "libcuda.so.1"), str(STUB)]
            subprocess.run([compiler, "-Wall", "-Werror", *arguments, *library], check=True)
        return made[key]

    yield call
    for folder in made.values():
        shutil.rmtree(folder)


@dataclass
class Machine:
    """A machine with a pretended GPU, and its command line; each call is a process of its own."""

    home: Path
    nodes: str
    libraries: Path | None

    @property
    def environment(self) -> dict[str, str]:
        """What says so to a process of the harness."""
        said = {accelerator.FAKE_VARIABLE: json.dumps({"nodes": self.nodes, "driver": True})}
        return said | ({"LD_LIBRARY_PATH": str(self.libraries)} if self.libraries is not None else {})

    def call(self, *arguments: object) -> "subprocess.CompletedProcess[str]":
        inherited = {name: value for name, value in os.environ.items() if name != "LD_LIBRARY_PATH"}
        whole = inherited | {"HARNESS_HOME": str(self.home), "PYTHONPATH": str(ROOT)} | self.environment
        command = [sys.executable, "-m", "harness", *map(str, arguments), "--device", "fake"]
        done = subprocess.run(command, cwd="/", env=whole, capture_output=True, text=True, check=False)
        assert "Traceback" not in done.stderr, done.stderr
        return done


@pytest.fixture
def machine(home: Path, nodes: Path, build: Build) -> Machine:
    """A machine on which all is well."""
    return Machine(home, f"{nodes}/*", build())


@pytest.fixture
def here(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """That machine as this process sees it, with the processes that it starts."""
    for name, value in machine.environment.items():
        monkeypatch.setenv(name, value)
    offered.cache_clear()
    yield
    offered.cache_clear()


def lines_of(said: str) -> dict[str, str]:
    """Return what doctor says, by topic."""
    return {line[:13].strip(): line[13:] for line in said.splitlines()}


def test_doctor_shows_the_driver_the_nodes_and_where_it_works(machine: Machine, nodes: Path) -> None:
    said = lines_of(machine.call("doctor").stdout)
    there = [level for level in LEVELS if offered().levels.get(level) is None]
    assert said["GPU"] == "fake GPU"
    assert "CUDA 13.0; torch is built for" in said["driver"]
    assert said["nodes"] == f"{', '.join(f'{nodes}/{name}' for name in sorted(NAMES))}: mode 0666"
    assert said["cuInit"].split("; ")[0] == f"works at {', '.join(there)}"
    assert said["isolation"] == offered().strongest


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.usefixtures("here")
def test_submissions_are_evaluated_on_it(
    level: str,
    harness: Callable[..., Result],
    submission: Callable[[str], Path],
    tiny_file: Path,
    tmp_path: Path,
) -> None:
    skip_unless_offered(level)
    file, out = submission("def unlearn(*_): pass"), tmp_path / "out.json"
    options = ["--runs", 2, "--isolation", level, "--device", "fake", "--json", out]
    done = harness("evaluate", file, "--track", tiny_file, *options)
    assert done.exit_code == 0, done.output
    said = json.loads(out.read_text())
    assert (said["outcome"], said["isolation"]["level"]) == ("OK", level)


# What is wrong with a machine, and the sentence it gets. Nothing is evaluated.
FAULTS: dict[str, str] = {
    "no driver": "there is no NVIDIA driver (libcuda.so.1 is not found); install one",
    "not ready": "cuInit: 802, CUDA_ERROR_SYSTEM_NOT_READY: start nvidia-fabricmanager",
    "unknown": "cuInit: 77, see CUresult in cuda.h",
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("level", ["auto", "none"])
def test_a_gpu_that_works_nowhere_is_said_and_not_taken_for_a_fault_of_the_isolation(
    fault: str, level: str, machine: Machine, build: Build, submission: Callable[[str], Path], tiny_file: Path
) -> None:
    if fault == "no driver" and ctypes.util.find_library("cuda") is not None:
        pytest.skip("there is a driver")
    machine.libraries = {"no driver": None, "not ready": build(ANSWER=802), "unknown": build(ANSWER=77)}[fault]
    done = machine.call("evaluate", submission("def unlearn(*_): pass"), "--track", tiny_file, "--isolation", level)
    assert done.returncode == 4
    assert done.stderr.startswith(f"Error: the GPU cannot be used: {FAULTS[fault]}")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.skipif(not privileges.is_root(), reason="needs root, whose runs have users of their own")
def test_nodes_that_runs_may_not_open_are_named(
    machine: Machine, nodes: Path, submission: Callable[[str], Path], tiny_file: Path
) -> None:
    (nodes / "nvidiactl").chmod(0o660)
    try:
        said = lines_of(machine.call("doctor").stdout)
        file = submission("def unlearn(*_): pass")
        done = machine.call("evaluate", file, "--track", tiny_file, "--isolation", "full")
    finally:
        (nodes / "nvidiactl").chmod(0o666)
    sentence = f"{nodes}/nvidiactl has mode 0660 and runs have users of their own; load its kernel module with NVreg_"
    assert said["isolation"] == "none"
    assert said["no full"].startswith(sentence)
    assert f"{nodes}/nvidiactl: mode 0660" in said["nodes"]
    assert done.returncode == 4
    assert f"this machine offers none (full: {sentence}" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_level_at_which_the_driver_is_refused_something_is_not_there(machine: Machine, nodes: Path) -> None:
    machine.nodes = f"{nodes}/nvidiactl"  # runs get this node alone, and the driver wants others
    said = lines_of(machine.call("doctor").stdout)
    assert said["isolation"] == "none"
    assert "works at none" in said["cuInit"]
    for level, code in {"full": 100, "userns": 100, "syscall": 304}.items():
        if offered().levels[level] is None:
            assert said[f"no {level}"].startswith(f"cuInit: {code}, CUDA_ERROR_")


def test_a_library_that_runs_do_not_see_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_driver, "LIBRARY", "libnowhere.so.1")
    in_child = partial(probe._initialise, [], Plan("full"))  # it ends with its parent
    assert probe._reason(in_child) == "runs do not see libnowhere.so.1; add its folder to LD_LIBRARY_PATH"


def test_a_driver_that_hangs_or_crashes_does_not_hold_the_probe_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "DRIVER_SECONDS", 1)
    monkeypatch.setattr(cuda_driver, "initialisation_code", partial(time.sleep, 60))
    assert probe._why_not_initialised([]) == "cuInit took more than 1 s"
    monkeypatch.setattr(cuda_driver, "initialisation_code", lambda: os.kill(os.getpid(), signal.SIGKILL))
    assert probe._why_not_initialised([]) == "cuInit ended with status -9"


# ---- a choice of isolation where the GPU fails --------------------------------------------------------------------


@pytest.mark.parametrize("requested", ["auto", "full", "none"])
def test_no_isolation_is_chosen_for_a_gpu_that_fails_everywhere(
    requested: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = ProbeResult({}, {"full": None}, accelerator="cuInit: 999, CUDA_ERROR_UNKNOWN")
    monkeypatch.setattr(isolation, "offered", lambda device, only_strongest: found)
    with pytest.raises(MachineError, match="the GPU cannot be used: cuInit: 999"):
        choose(requested, device="cuda")


def test_a_level_the_gpu_fails_at_is_passed_over_and_its_reason_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    found = ProbeResult({}, {"full": "cuInit: 304", "userns": None})
    monkeypatch.setattr(isolation, "offered", lambda device, only_strongest: found)
    assert choose(device="cuda") == isolation.Isolation("userns", {"full": "cuInit: 304"})


# ---- forks of the warm process ------------------------------------------------------------------------------------

ZYGOTE = """
import ctypes, sys
sys.path.insert(0, sys.argv[1])
from harness.runner.sandbox import gpu
library = ctypes.CDLL("libcuda.so.1")
if sys.argv[2] == "initialised":
    assert library.cuInit(0) == 0
gpu.check_untouched()
gpu.check_forks(10)
assert library.cuDeviceGetCount(ctypes.byref(ctypes.c_int())) == (0 if sys.argv[2] == "initialised" else 3)
"""


@pytest.mark.parametrize("state", ["untouched", "initialised"])
def test_a_process_that_has_used_the_driver_is_no_zygote(state: str, build: Build) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ZYGOTE, str(ROOT), state],
        env={"LD_LIBRARY_PATH": str(build())},
        capture_output=True,
        text=True,
        check=False,
    )
    if state == "untouched":
        assert done.returncode == 0, done.stderr
    else:
        assert "RuntimeError: CUDA is initialised before the first fork" in done.stderr


# ---- processes the GPU still holds --------------------------------------------------------------------------------


@pytest.fixture
def nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """nvidia_smi(script) puts a program of that name on the path."""
    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")

    def write(script: str) -> None:
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)

    return write


def dead_pids(count: int) -> list[int]:
    """Return ids of no process."""
    return [pid for pid in range(4_000_000, 4_000_100) if not Path(f"/proc/{pid}").exists()][:count]


def test_dead_processes_are_waited_for_and_those_of_others_are_not(
    nvidia_smi: Callable[[str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, ours, strange = dead_pids(3)
    nvidia_smi(f"echo {other}; echo {os.getpid()}")
    occupants = gpu.Occupants()
    nvidia_smi(f"echo {other}; test -e {tmp_path}/gone || echo {ours}; touch {tmp_path}/gone")
    started = time.monotonic()
    occupants.wait_until_gone()
    assert (tmp_path / "gone").exists()
    assert time.monotonic() - started < 5.0
    monkeypatch.setattr(gpu, "FREE_SECONDS", 0.5)
    nvidia_smi(f"echo {other}; echo {strange}")  # listed by the machine's id, it is never seen to end
    for least, most in ((0.4, 10.0), (0.0, 0.4)):
        started = time.monotonic()
        occupants.wait_until_gone()
        assert least <= time.monotonic() - started < most


def test_an_nvidia_smi_that_hangs_holds_nothing_up(
    nvidia_smi: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    nvidia_smi("exec sleep 100")
    monkeypatch.setattr(gpu, "QUERY_SECONDS", 0.2)
    monkeypatch.setattr(gpu, "NODES_SECONDS", 0.2)
    started = time.monotonic()
    gpu.make_nodes()
    gpu.Occupants().wait_until_gone()
    assert time.monotonic() - started < 5.0


# ---- what a run inherits, and its limits --------------------------------------------------------------------------


def test_a_run_on_a_gpu_has_the_gpus_of_the_harness(monkeypatch: pytest.MonkeyPatch) -> None:
    choice = {"CUDA_VISIBLE_DEVICES": "1", "CUDA_DEVICE_ORDER": "PCI_BUS_ID", accelerator.FAKE_VARIABLE: "{}"}
    for name, value in choice.items():
        monkeypatch.setenv(name, value)
    inherited = {kind: run_environment(kind) for kind in ("cpu", "cuda", "fake")}
    assert {kind: found["CUDA_VISIBLE_DEVICES"] for kind, found in inherited.items()} == {
        "cpu": "",
        "cuda": "1",
        "fake": "",
    }
    assert all(found["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID" for found in inherited.values())
    assert [kind for kind, found in inherited.items() if accelerator.FAKE_VARIABLE in found] == ["fake"]


def test_address_space_and_files_in_memory_are_the_drivers_to_take() -> None:
    import resource

    memory = 5 << 30
    plans = {on_gpu: Plan("userns", memory_bytes=memory, gpu=on_gpu) for on_gpu in (False, True)}
    limits = {on_gpu: privileges.limits(plan, time_limit_seconds=1, threads=1) for on_gpu, plan in plans.items()}
    assert resource.RLIMIT_DATA in limits[False]
    assert not {resource.RLIMIT_DATA, resource.RLIMIT_AS} & limits[True].keys()
    assert limits[True][resource.RLIMIT_FSIZE] == memory > limits[False][resource.RLIMIT_FSIZE]
    assert Plan.from_bytes(plans[True].to_bytes()) == plans[True]
