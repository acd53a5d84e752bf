"""A root of its own for a run: an empty folder in memory, with the system and the packages put in, read-only.

Nothing else of the machine has a path any more: no home folders, no /etc, no /sys, no track and no results.
"""

import errno
import os
import re
from collections.abc import Iterable
from pathlib import Path

from harness.runner.sandbox.plan import CACHE, SCRATCH, Plan
from harness.runner.sandbox.syscalls import mount, mount_setattr, pivot_root, umount2

__all__ = ["DEVICES", "SYSTEM", "WRITABLE", "enter_new_root", "unexpected_mounts"]

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT = 0x1, 0x2, 0x4, 0x8, 0x20
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000
MNT_DETACH = 2
MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC = 0x1, 0x2, 0x4, 0x8

SYSTEM = (
    *("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"),
    *("/etc/ld.so.cache", "/etc/localtime"),
)
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
DEVICE_LINKS = {"fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"}
# Counters of the whole machine, which a run could turn to a value for the next one to read, and who locks what.
COUNTERS = (
    *("buddyinfo", "diskstats", "interrupts", "key-users", "keys", "loadavg", "locks", "pagetypeinfo", "pressure"),
    *("schedstat", "slabinfo", "softirqs", "sys/fs", "sysvipc", "timer_list", "vmallocinfo", "vmstat", "zoneinfo"),
)
SHARED_MEMORY = "/dev/shm"
WRITABLE = (SCRATCH, CACHE, SHARED_MEMORY)
OLD = "/.old"  # where the machine's own root is seen while the new one is built


def enter_new_root(plan: Plan) -> None:
    """Build the new root, make it the root, and let go of the machine's. Needs a mount namespace of its own."""
    mount(None, "/", None, MS_REC | MS_PRIVATE)  # nothing done here is seen outside
    # Any folder will do to build on: what it holds is still seen below OLD.
    mount("tmpfs", SCRATCH, "tmpfs", MS_NOSUID | MS_NODEV, "size=4m,nr_inodes=4k,mode=755")
    os.mkdir(SCRATCH + OLD)
    pivot_root(SCRATCH, SCRATCH + OLD)
    os.chdir("/")

    _memory_folder(SCRATCH, plan.scratch_bytes)  # before the packages: they may lie below it
    # What torch.compile makes is loaded as code. That gives nothing away: a submission can map code without any file.
    # Programs are still not started from here, by Landlock.
    _memory_folder(CACHE, plan.scratch_bytes, noexec=0)
    for path in SYSTEM:
        _show(path)
    for path, real in plan.packages.items():
        _bind(OLD + real, path, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV)
    for path in plan.hidden:
        if os.path.isdir(path):
            mount("tmpfs", path, "tmpfs", MS_RDONLY | MS_NOSUID | MS_NODEV, "size=4k,nr_inodes=2,mode=000")
    _make_dev(plan)
    os.mkdir("/proc")
    mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    _cover_counters()

    umount2(OLD, MNT_DETACH)
    os.rmdir(OLD)
    mount(None, "/", None, MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV, "size=4m,nr_inodes=4k,mode=755")


def _show(path: str) -> None:
    """Show a folder or file of the system at its own path; a link is made again as a link."""
    try:
        target = os.readlink(OLD + path)
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        _bind(OLD + path, path, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV)
    else:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.symlink(target, path)


def _bind(source: str, path: str, attributes: int) -> None:
    """Show a folder or file, with all that is mounted below it, under the given attributes."""
    if os.path.isdir(source):
        os.makedirs(path, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
    mount(source, path, None, MS_BIND | MS_REC)
    try:
        mount_setattr(path, attributes)
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise
        # An older kernel, or gVisor, gives attributes to one mount at a time. Below it there may be others, such as the
        # libraries of a GPU's driver in a container, each mounted as a file.
        umount2(path, MNT_DETACH)
        for below in ("", *_mounted_below(source)):
            mount(source + below, path + below, None, MS_BIND)
            mount(None, path + below, None, MS_BIND | MS_REMOUNT | attributes)  # the four attributes are the same bits


def _mounted_below(folder: str) -> list[str]:
    """Return what is mounted below a folder, relative to it, in the order in which it was."""
    lines = Path(f"{OLD}/proc/self/mountinfo").read_text().splitlines()
    # A space is written as a backslash and 040.
    paths = [re.sub(r"\\(\d{3})", lambda code: chr(int(code[1], 8)), line.split()[4]) for line in lines]
    return [path.removeprefix(folder) for path in paths if path.startswith(f"{folder}/")]


def _make_dev(plan: Plan) -> None:
    os.mkdir("/dev")
    for path in (*DEVICES, *plan.devices):
        _bind(OLD + path, path, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC)
    for name, target in DEVICE_LINKS.items():
        os.symlink(target, f"/dev/{name}")
    _memory_folder(SHARED_MEMORY, plan.scratch_bytes)


def _cover_counters() -> None:
    """Put an empty file or folder over each of the counters that this kernel has."""
    for name in COUNTERS:
        path = f"/proc/{name}"
        if os.path.isdir(path):
            mount("tmpfs", path, "tmpfs", MS_RDONLY | MS_NOSUID | MS_NODEV, "size=4k,nr_inodes=2,mode=555")
        elif os.path.exists(path):
            mount("/dev/null", path, None, MS_BIND)


def _memory_folder(path: str, n_bytes: int, *, noexec: int = MS_NOEXEC) -> None:
    """Mount an empty folder of limited size and number of files that everyone may write to."""
    os.makedirs(path, exist_ok=True)
    mount("tmpfs", path, "tmpfs", MS_NOSUID | MS_NODEV | noexec, f"size={n_bytes},nr_inodes=64k,mode=1777")


def unexpected_mounts() -> Iterable[str]:
    """Yield every mount that is writable and should not be: read back from the kernel."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        _, _, _, _, path, options, *_ = line.split()
        if "rw" in options.split(",") and path not in (*WRITABLE, "/proc"):
            yield path
