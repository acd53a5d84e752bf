"""What this machine offers, found out by doing it; what happens where a layer is missing, and without root."""

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from harness.errors import MachineError
from harness.runner import isolation
from harness.runner.isolation import ProbeResult, choose, offered
from harness.runner.sandbox.cgroup import PREFIX, find_hierarchies
from harness.runner.sandbox.privileges import is_root
from harness.runs.measure import Recorder
from harness.tracks.track import Track

ROOT = Path(__file__).parents[2]
FACTS = Path(__file__).with_name("isolation_facts.py").read_text()

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux only")
full = pytest.mark.skipif(sys.platform != "linux" or offered().strongest != "full", reason="needs the level full")

# ---- what the machine offers --------------------------------------------------------------------------------------


def test_auto_takes_the_strongest_and_says_why_not_a_stronger_one(monkeypatch: pytest.MonkeyPatch) -> None:
    layers: dict[str, str | None] = {"cgroup": "Permission denied", "seccomp": None}
    levels = {"full": "Permission denied", "userns": None, "syscall": "no Landlock"}
    monkeypatch.setattr(isolation, "offered", lambda device, only_strongest: ProbeResult(layers, levels))
    assert choose() == isolation.Isolation("userns", {"full": "Permission denied"}, layers)
    assert choose("auto", "syscall").level == "userns"  # stronger than required, though that level itself is missing
    assert choose("none").level == "none"
    for requested, required in (("auto", "full"), ("full", None), ("syscall", None), ("none", "userns")):
        with pytest.raises(MachineError, match=r"full|syscall|userns"):
            choose(requested, required)


# A layer is made to fail by a filter around the whole harness, or by hiding a folder: the system call or the folder,
# what is missing then, and the levels that remain.
FAILURES: dict[str, tuple[str, set[str]]] = {
    "unshare": ("mount namespace", {"syscall", "none"}),
    "setresuid": ("own user id", {"none"}),
    "landlock_create_ruleset": ("Landlock", {"full"}),
    "seccomp": ("seccomp", {"none"}),
    "/sys/fs/cgroup": ("cgroup", {"userns"}),
}
NUMBERS = {"unshare": 272, "setresuid": 117, "landlock_create_ruleset": 444, "seccomp": 157}

REFUSING = """
import ctypes, os, struct, sys
number, argument = int(sys.argv[1]), int(sys.argv[2])
tests = [(0x20, 0, 0, 0), (0x15, 0, 3, number), (0x20, 0, 0, 16), (0x15, 1, 0, argument), (0x15, 0, 1, 1 << 31)]
code = tests if argument else tests[:2]
code = [(0x20, 0, 0, 0), (0x15, 0, 3 if argument else 1, number)]
code += [(0x20, 0, 0, 16), (0x15, 0, 1, argument)] if argument else []
code += [(0x06, 0, 0, 0x00050000 | 1), (0x06, 0, 0, 0x7FFF0000)]
content = b"".join(struct.pack("=HBBI", *one) for one in code)
buffer = ctypes.create_string_buffer(content, len(content))
class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_void_p)]
libc = ctypes.CDLL(None)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.byref(Program(len(code), ctypes.addressof(buffer))), 0, 0) == 0
os.execv(sys.executable, [sys.executable, *sys.argv[3:]])
"""


@full
@pytest.mark.skipif(os.uname().machine != "x86_64", reason="numbers of x86-64")
@pytest.mark.parametrize("refused", FAILURES)
def test_a_layer_that_fails_lowers_the_level_and_what_is_required_is_refused(refused: str, tiny_file: Path) -> None:
    script = (
        "from harness.runner.isolation import offered, choose; import json, sys; found = offered();"
        "print(json.dumps([found.strongest, found.layers]), flush=True); choose('auto', 'full')"
    )
    if refused.startswith("/"):
        hide = f'mount -t tmpfs tmpfs {refused} && exec "$0" -c "$1"'
        command = ["unshare", "--mount", "sh", "-c", hide, sys.executable, script]
    else:
        is_prctl = refused == "seccomp"
        arguments = [str(NUMBERS[refused]), "22" if is_prctl else "0"]
        command = [sys.executable, "-c", REFUSING, *arguments, "-c", script]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    layer, possible = FAILURES[refused]
    strongest, layers = json.loads(done.stdout.splitlines()[0])
    assert strongest in possible
    assert layers[layer] is not None
    assert (done.returncode == 0) == (strongest == "full")
    if strongest != "full":
        assert "isolation full is asked for and this machine offers" in done.stderr


def test_doctor_names_the_level_and_a_remedy_for_each_missing_layer(
    harness: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    layers: dict[str, str | None] = {
        "mount namespace": "no",
        "pid namespace": "no",
        "cgroup": "read-only",
        "Landlock": None,
    }
    levels: dict[str, str | None] = {"full": "no", "userns": "no", "syscall": "no"}
    monkeypatch.setattr(isolation, "offered", lambda device="cpu": ProbeResult(layers, levels))
    output = harness("doctor").output
    assert "isolation    none" in output
    assert "  no full" in output
    assert "  no mount namespace, pid namespace no. Remedy: " in output
    assert "docker run --privileged" in output


# ---- without root -------------------------------------------------------------------------------------------------

# In a mount namespace of its own the folders of the interpreter, which may lie below a closed home, are opened up.
AS_ORDINARY_USER = """
set -e
mount -t tmpfs -o mode=755 tmpfs {place}
{save}
{hide}
{restore}
exec setpriv --reuid 65534 --regid 65534 --clear-groups "$@"
"""


def is_open(folder: str) -> bool:
    """Whether an ordinary user gets to a folder."""
    return all(parent.stat().st_mode & 0o001 for parent in (Path(folder), *Path(folder).parents))


@pytest.fixture(scope="module")
def ordinary(tiny: Track, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., dict[str, Any]]]:
    """Runs FACTS at a level in a harness of an ordinary user, with a cgroup handed to it if asked for."""
    if not is_root() or shutil.which("setpriv") is None or shutil.which("unshare") is None:
        pytest.skip("needs root, to become somebody else")
    folder = Path("/tmp") / f"ordinary-{os.getpid()}"
    shutil.copytree(tiny.public, folder / "public")
    (folder / "place").mkdir()
    subprocess.run(["chmod", "-R", "a+rX", str(folder)], check=True)
    script = folder / "script.py"
    script.write_text(
        f"""
import json, pathlib, sys
sys.path.insert(0, {str(ROOT)!r})
from harness.runner import launch
from harness.runner.isolation import offered
from harness.runner.execution import execute
from harness.runner.message import Job
from harness.runner.sandbox.sandboxes import Quota
found = offered()
levels = {{}}
for level in sys.argv[1:]:
    launcher = launch.launcher(pathlib.Path({str(folder / "public")!r}), public_hash="x", device="cpu", log_kb=64,
                               isolation=level, quota=Quota(512, 60, 32, 1))
    job = Job({FACTS!r}, "foo.py", 0, dict(torch=1, numpy=2, random=3), "cpu", 1, 20.0)
    finished = execute(launcher, job, n_values={Recorder(tiny).n_values})
    levels[level] = [finished.outcome, finished.log or finished.message]
    launcher.close()
print(json.dumps([found.strongest, found.layers, levels]))
"""
    )

    def call(*levels: str, inside: str = "") -> dict[str, Any]:
        prefixes = sorted({sys.prefix, sys.base_prefix})
        hidden = sorted({f"/{Path(prefix).parts[1]}" for prefix in prefixes if not is_open(prefix)})
        if "/tmp" in hidden:
            pytest.skip("the interpreter lies in a closed folder of /tmp, which the test itself needs")
        place = folder / "place"
        save, restore = [], []
        for number, prefix in enumerate(prefixes):
            if f"/{Path(prefix).parts[1]}" in hidden:
                save.append(f"mkdir {place}/{number}; mount --bind {prefix} {place}/{number}")
                restore.append(f"mkdir -p {prefix}; mount --bind {place}/{number} {prefix}")
        shell = AS_ORDINARY_USER.format(
            place=place,
            save="\n".join(save),
            hide="\n".join(f"mount -t tmpfs -o mode=755 tmpfs {home}" for home in hidden),
            restore="\n".join(restore),
        )
        command = ["unshare", "--mount", "sh", "-c", inside + shell, "sh", sys.executable, str(script), *levels]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, cwd="/", env={"PATH": "/usr/bin:/bin"}
        )
        assert done.returncode == 0, done.stderr
        strongest, layers, found = json.loads(done.stdout)
        return {"strongest": strongest, "layers": layers, **found}

    yield call
    shutil.rmtree(folder)


def test_an_ordinary_user_gets_userns_and_syscall(ordinary: Callable[..., dict[str, Any]]) -> None:
    found = ordinary("userns", "syscall")
    assert found["strongest"] == "userns"
    assert found["layers"]["cgroup"] is not None
    outcome, log = found["userns"]
    assert outcome == "OK", log
    facts = json.loads(log)
    assert facts["CapEff"] == facts["CapBnd"] == "0" * 16
    assert facts["processes"] == [1, facts["pid"]]
    assert facts["writable"] == ["/cache", "/dev/shm", "/proc", "/tmp"]
    assert facts["limits"]["NPROC"] == 60
    outcome, log = found["syscall"]
    assert outcome == "OK", log
    facts = json.loads(log)
    assert (facts["CapEff"], facts["NoNewPrivs"], facts["Seccomp"]) == ("0" * 16, "1", "2")
    assert facts["passwd"] == "Permission denied"
    assert facts["socket"] == os.strerror(errno.EAFNOSUPPORT)
    assert facts["environment"]["HOME"] == facts["cwd"] != "/tmp"


def test_an_ordinary_user_with_a_cgroup_handed_to_it_gets_full(ordinary: Callable[..., dict[str, Any]]) -> None:
    folders = [one.folder / f"handed-{os.getpid()}" for one in find_hierarchies()]
    for folder in folders:
        folder.mkdir()
        subprocess.run(["chown", "-R", "65534:65534", str(folder)], check=True)
    try:
        found = ordinary("full", inside="\n".join(f"echo $$ > {folder}/cgroup.procs" for folder in folders))
        assert found["strongest"] == "full", found["layers"]
        outcome, log = found["full"]
        assert outcome == "OK", log
        facts = json.loads(log)
        assert (facts["CapBnd"], facts["uid"], facts["Seccomp"]) == ("0" * 16, 65534, "2")
        assert not [path for folder in folders for path in folder.glob(f"{PREFIX}*")]
    finally:
        for folder in folders:
            folder.rmdir()
