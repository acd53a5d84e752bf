"""Files: a run sees the system and the packages, read-only, and nothing else of the machine."""

import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from harness.tracks.track import Track
from tests.attacks.attempts import AS_ROOT, THROUGH, Attempt, Found, at_each_level, each_level
from tests.attacks.inside import ends

Make = Callable[..., Found]


def read_the_user_database(hidden: str) -> str:
    return open("/etc/passwd").read()


def read_a_hidden_file(hidden: str) -> str:
    return open(hidden).read()


def read_it_through_the_root_of_a_process(hidden: str) -> str:
    last = OSError("no process at all")
    for process in filter(str.isdigit, os.listdir("/proc")):
        try:
            return open("/proc/" + process + "/root" + hidden).read()
        except OSError as error:
            last = error
    raise last


def read_it_past_the_root(hidden: str) -> str:
    return open("/proc/self/root/../.." + hidden).read()


def read_it_through_a_link(hidden: str) -> str:
    os.symlink(hidden, "link")
    return open("link").read()


def read_it_through_a_hard_link(hidden: str) -> str:
    os.link(hidden, "link")
    return open("link").read()


def look_whether_it_is_there(hidden: str) -> int:
    return os.stat(hidden).st_size


def list_its_folder(hidden: str) -> list[str]:
    return os.listdir(os.path.dirname(hidden))


@at_each_level(
    {
        read_the_user_database: {"full": "ENOENT", "syscall": "EACCES", "none": THROUGH},
        read_a_hidden_file: {"full": "ENOENT", "syscall": "EACCES", "none": THROUGH},
        read_it_through_the_root_of_a_process: {"full": "EACCES|ENOENT", "syscall": "EACCES", "none": THROUGH},
        read_it_past_the_root: {"full": "ENOENT", "syscall": "EACCES", "none": THROUGH},
        read_it_through_a_link: {"full": "ENOENT", "syscall": "EACCES", "none": THROUGH},
        read_it_through_a_hard_link: {"full": "ENOENT", "syscall": "EACCES|EPERM|EXDEV", "none": THROUGH},
        look_whether_it_is_there: {"full": "ENOENT", "syscall": THROUGH, "none": THROUGH},
        list_its_folder: {"full": "ENOENT", "syscall": "EACCES", "none": THROUGH},
    }
)
def test_nothing_hidden_can_be_read(make: Make, attacked: Track, attempt: Attempt, level: str, end: str) -> None:
    found = make(attempt, level=level, hidden=str(attacked.private / "secret"))
    assert found.end in end.split("|")


# ---- writing: what is there is opened for it and left as it is -----------------------------------------------------


def open_to_write(path: str) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_APPEND))


def put_a_file_into(folder: str) -> None:
    path = folder + "/attempt-to-be-removed"
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    os.unlink(path)


def open_all_to_write(paths: list[str]) -> dict[str, str]:
    return ends(open_to_write, paths)


def put_a_file_into_each(paths: list[str]) -> dict[str, str]:
    return ends(put_a_file_into, paths)


FILES = [
    *(torch.__file__, os.__file__, "/usr/bin/tac", "/etc/passwd"),
    *("/proc/sys/kernel/core_pattern", "/proc/sys/vm/drop_caches", "/proc/sysrq-trigger"),
    *("/proc/sys/kernel/ns_last_pid", "/proc/self/autogroup", "/proc/self/clear_refs", "/proc/self/mem"),
]
FOLDERS = ["/", "/usr/bin", "/etc", "/dev", "/var/tmp", str(Path(torch.__file__).parent)]


@each_level
@pytest.mark.parametrize(("attempt", "paths"), [(open_all_to_write, FILES), (put_a_file_into_each, FOLDERS)])
def test_nothing_of_the_machine_can_be_written(
    make: Make, attacked: Track, attempt: Attempt, paths: list[str], level: str
) -> None:
    own = [str(attacked.private / "secret")] if attempt is open_all_to_write else [str(attacked.public)]
    found = make(attempt, level=level, paths=paths + own).value
    if level == "none":
        assert found == attempt(paths + own)  # whatever the harness itself may do
        assert found[own[0]] == THROUGH
    else:
        assert set(found.values()) <= {"EROFS", "ENOENT", "EACCES"}


def read_counters(paths: list[str]) -> dict[str, int]:
    """Return how much each counter of the machine says; a folder says how many it holds."""
    found = {}
    for path in paths:
        try:
            found[path] = len(os.listdir(path)) if os.path.isdir(path) else len(Path(path).read_bytes())
        except OSError:
            found[path] = 0
    return found


COUNTERS = [f"/proc/{name}" for name in ("vmstat", "loadavg", "interrupts", "locks", "sys/fs", "diskstats", "zoneinfo")]


@pytest.mark.parametrize("level", ["full", "userns"])
def test_counters_of_the_machine_say_nothing(make: Make, level: str) -> None:
    assert make(read_counters, level="none", paths=COUNTERS).value["/proc/vmstat"] > 0
    assert set(make(read_counters, level=level, paths=COUNTERS).value.values()) == {0}


def touch_a_file_of_the_system() -> None:
    status = os.stat("/usr/bin/tac")
    os.utime("/usr/bin/tac", ns=(status.st_atime_ns, status.st_mtime_ns))


def note_something_on_a_file_of_the_system() -> None:
    os.setxattr("/usr/bin/tac", "user.attempt", b"note")
    os.removexattr("/usr/bin/tac", "user.attempt")


@at_each_level(
    {
        touch_a_file_of_the_system: {"full": "EROFS|EPERM", "syscall": "EPERM|EACCES", "none": AS_ROOT},
        note_something_on_a_file_of_the_system: {"full": "EROFS|EACCES|EPERM", "syscall": "EACCES|EPERM"},
    }
)
def test_nothing_is_noted_on_files_of_the_system(make: Make, attempt: Attempt, level: str, end: str) -> None:
    assert make(attempt, level=level).end in end.split("|")


# ---- devices and control files -------------------------------------------------------------------------------------


def reach_a_control_group() -> str:
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    mounted = [line.split()[4] for line in mounts if " - cgroup" in line]
    points = [*mounted, "/sys/fs/cgroup/memory", "/sys/fs/cgroup"]
    return open(next(filter(os.path.exists, points), points[-1]) + "/cgroup.procs", "a").name


def make_a_device() -> None:
    os.mknod("disk", stat.S_IFBLK | 0o600, os.makedev(8, 0))


@at_each_level(
    {
        reach_a_control_group: {"full": "ENOENT", "syscall": "EACCES", "none": AS_ROOT},
        make_a_device: {"full": "EACCES|EPERM", "syscall": "EACCES|EPERM", "none": AS_ROOT},
    }
)
def test_no_device_and_no_control_group_is_within_reach(make: Make, attempt: Attempt, level: str, end: str) -> None:
    assert make(attempt, level=level).end in end.split("|")


def open_device(path: str) -> None:
    os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))


def open_devices(paths: list[str]) -> dict[str, str]:
    return ends(open_device, paths)


@each_level
def test_a_run_has_no_devices_but_harmless_ones(make: Make, level: str) -> None:
    paths = ["/dev/kvm", "/dev/fuse", "/dev/vsock", "/dev/kmsg", "/dev/mem", "/dev/net/tun", "/dev/null"]
    found = make(open_devices, level=level, paths=paths).value
    assert found.pop("/dev/null") == THROUGH
    if level == "none":
        assert found == open_devices(paths[:-1])
        assert os.geteuid() != 0 or THROUGH in found.values()
    else:
        assert set(found.values()) <= {"ENOENT", "EACCES"}


def list_folders() -> dict[str, list[str]]:
    return {folder: os.listdir(folder) for folder in ("/", "/dev", "/etc", "/tmp", "/cache", "/dev/shm")}


@pytest.mark.parametrize("level", ["full", "userns"])
def test_the_root_of_a_run_holds_the_system_and_the_packages_only(make: Make, level: str) -> None:
    seen = {folder: set(names) for folder, names in make(list_folders, level=level).value.items()}
    of_packages = {Path(prefix).parts[1] for prefix in (sys.prefix, sys.base_prefix)}
    of_the_system = {"usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "etc", "dev", "proc", "tmp", "cache"}
    assert seen["/"] <= of_the_system | of_packages
    assert seen["/dev"] == {"null", "zero", "full", "random", "urandom", "shm", "fd", "stdin", "stdout", "stderr"}
    assert seen["/etc"] <= {"ld.so.cache", "localtime"}
    ways_to_packages = {Path(prefix).parts[2] for prefix in (sys.prefix, sys.base_prefix) if prefix.startswith("/tmp/")}
    assert (seen["/tmp"], seen["/cache"], seen["/dev/shm"]) == (ways_to_packages, set(), set())
