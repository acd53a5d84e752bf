"""What a run on a GPU needs besides, and what it may leave behind. Written from documentation: not verified on a GPU.

A run sees every GPU this process sees, so that a machine with several is best divided by containers. The driver's
system-call surface is not filtered: a GPU run is isolated as far as the driver is sound.
"""

import contextlib
import glob
import os
import re
import shutil
import signal
import stat
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterable
from pathlib import Path

from harness import cuda_driver

__all__ = ["Occupants", "check_forks", "check_untouched", "closed_node", "device_nodes", "make_nodes", "read_only"]

# Without these cuInit fails with 304; all of /sys would tell more than it needs.
SYSTEM = ("/sys/module/nvidia*", "/sys/bus/pci", "/sys/devices/pci*", "/sys/devices/system")
NEEDED_NODE = re.compile(r"nvidia(ctl|\d+|-uvm)")  # those of nvidia-caps are parts of GPUs, and may be closed
NODES_SECONDS = 30.0  # the driver's start takes up to 7 s, and each GPU adds to it
QUERY_SECONDS = 10.0
FREE_SECONDS = 30.0


def make_nodes() -> None:
    """Have the driver make its device nodes: within a run the set-user-id program that does so has no effect."""
    for command in (["nvidia-smi"], ["nvidia-modprobe", "-u", "-c0"]):
        _said(command, NODES_SECONDS)


def _said(command: list[str], seconds: float) -> str:
    """Return what a program prints, nothing if it is not there. One that hangs is left: the kernel may hold it."""
    if shutil.which(command[0]) is None:
        return ""
    with tempfile.TemporaryFile() as output:
        try:
            program = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.DEVNULL)
        except OSError:
            return ""
        try:
            program.wait(seconds)
        except subprocess.TimeoutExpired:
            program.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                program.wait(1.0)
        output.seek(0)
        return output.read().decode(errors="replace")


def device_nodes(patterns: Iterable[str]) -> list[str]:
    """Return the device nodes that match."""
    return sorted(path for pattern in patterns for path in glob.glob(pattern))


def closed_node(nodes: Iterable[str]) -> str | None:
    """Return what the mode of the first device node says that this process may not open; None if it may open all."""
    for path in nodes:
        if NEEDED_NODE.fullmatch(os.path.basename(path)) and not os.access(path, os.R_OK | os.W_OK):
            return f"{path} has mode {stat.S_IMODE(os.stat(path).st_mode):04o}"
    return None


def read_only() -> dict[str, str]:
    """Return folders a run reads: what the driver looks up, and libraries outside /usr; path seen -> path here."""
    system = [path for pattern in SYSTEM for path in glob.glob(pattern)]
    libraries = [path for path in os.environ.get("LD_LIBRARY_PATH", "").split(":") if os.path.isdir(path)]
    outside = [path for path in libraries if not Path(path).is_relative_to("/usr")]
    return {path: os.path.realpath(path) for path in sorted({*system, *outside})}


def check_untouched() -> None:
    """Make sure that this process has nothing of a GPU open, or no fork could use one. Raises RuntimeError."""
    maps = Path("/proc/self/maps").read_text()
    links = [os.readlink(link) for link in glob.glob("/proc/self/fd/*") if os.path.lexists(link)]
    if "/dev/nvidia" in maps or any(link.startswith("/dev/nvidia") for link in links):
        raise RuntimeError("something opened the GPU before the first fork")


def check_forks(seconds: int) -> None:
    """Make sure that forks of this process can use a GPU, in one: here it would be what it looks for.

    Other calls than cuInit say the same in a fork of a process that has used one as in any process that has not.
    Raises RuntimeError.
    """
    child = os.fork()
    if child == 0:
        code: int | None = None
        try:
            signal.alarm(seconds)
            code = cuda_driver.initialisation_code()
        finally:
            os._exit(code == cuda_driver.NOT_INITIALIZED)
    if os.waitpid(child, 0)[1] == 1 << 8:  # of its own accord; whatever else fails, the runs will say
        raise RuntimeError("CUDA is initialised before the first fork")


class Occupants:
    """The dead processes that a GPU still holds, but for those that are not ours to wait for.

    In a container the driver may list processes by the machine's ids, which mean nothing there.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._others = _listed_and_gone()

    def wait_until_gone(self) -> None:
        """Wait until the GPU has let go of processes that are dead: an endless kernel takes a while to end."""
        with self._lock:
            deadline = time.monotonic() + FREE_SECONDS
            while (left := _listed_and_gone() - self._others) and time.monotonic() < deadline:
                time.sleep(0.1)
            self._others |= left  # what stays that long is no run of ours


def _listed_and_gone() -> set[int]:
    """Return the processes that the driver lists and this machine does not."""
    said = _said(["nvidia-smi", "--query-compute-apps=pid", "--format=csv,noheader"], QUERY_SECONDS)
    return {int(pid) for pid in said.split() if pid.isdigit() and not Path(f"/proc/{pid}").exists()}
