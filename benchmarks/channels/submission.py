"""Leaves a message in the kernel for a later run, or reads it: a submission that `benchmarks.channels` measures.

Every channel is a pair of functions: one leaves bits, the other reads as many back. Both know what the message is, so
that the reader can count the bits that came through.
"""

import contextlib
import ctypes
import errno
import fcntl
import glob
import importlib.util
import json
import mmap
import os
import random
import resource
import threading
import time
from collections.abc import Callable, Iterator
from typing import BinaryIO

CHANNEL = "names asked outright"
ROLE = "write"
TAG = "tag"  # of the names: readers that share a writer's find its message
SEED = 0  # of the message
BITS = 8192
PAUSE = 0.0  # seconds before a reader begins, and after a writer has ended: for runs side by side

PROBES = 400  # known names or pages that a reader learns the difference of times from
PAGE = mmap.PAGESIZE
BATCH = 1024  # inode numbers that a processor takes at once

Bits = list[bool]

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long


class How(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("flags", "mode", "resolve")]


# ---- names of files that are not there ------------------------------------------------------------------------------


def name(place: int) -> str:
    return f"/usr/lib/{TAG}-{place}"


def look_up(path: str) -> None:
    with contextlib.suppress(OSError):
        os.stat(path)


def write_names(bits: Bits) -> None:
    for place, bit in enumerate(bits):
        if bit:
            look_up(name(place))


def read_names_outright(count: int) -> Bits:
    """openat2 with RESOLVE_CACHED answers from memory: the name is known not to be there, or nothing is known."""
    found = []
    how = How(os.O_PATH, 0, 0x20)
    for place in range(count):
        result = libc.syscall(437, ctypes.c_long(-100), name(place).encode(), ctypes.byref(how), ctypes.c_long(24))
        if result == -1 and ctypes.get_errno() not in (errno.ENOENT, errno.EAGAIN):
            raise OSError(ctypes.get_errno(), "openat2")
        found.append(result == -1 and ctypes.get_errno() == errno.ENOENT)
    return found


def nanoseconds_of(path: str) -> int:
    encoded, exists = path.encode(), os.path.exists
    started = time.perf_counter_ns()
    exists(encoded)
    return time.perf_counter_ns() - started


def read_names_by_time(count: int) -> Bits:
    """A name in memory is answered sooner. Each can be asked for once: then it is in memory."""
    fresh = [f"/usr/lib/{TAG}-probe-{os.urandom(8).hex()}" for _ in range(PROBES)]
    absent, present = ([nanoseconds_of(path) for path in fresh] for _ in range(2))
    limit = best_limit(present, absent)
    return [nanoseconds_of(name(place)) < limit for place in range(count)]


def best_limit(low: list[int], high: list[int]) -> int:
    """Return the value that tells two lists of times apart with the fewest errors."""
    return min(sorted(low + high), key=lambda limit: sum(x >= limit for x in low) + sum(x < limit for x in high))


# ---- pages of files -------------------------------------------------------------------------------------------------


def large_file() -> str:
    """Return a large file of the packages, most of which nobody reads."""
    spec = importlib.util.find_spec("torch")
    assert spec is not None
    assert spec.origin is not None
    return max(glob.glob(f"{os.path.dirname(spec.origin)}/lib/*.so*"), key=os.path.getsize)


@contextlib.contextmanager
def mapped() -> Iterator[mmap.mmap]:
    """Map the file so that a page is read when it is touched, and none beside it."""
    with open(large_file(), "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as whole:
        whole.madvise(mmap.MADV_RANDOM)
        yield whole


def page_of(place: int, size: int) -> int:
    first = int(TAG, 36) % (size // PAGE // 2)  # somewhere in the first half
    return (first + 2 * place) % (size // PAGE) * PAGE


def write_pages(bits: Bits) -> None:
    with mapped() as whole:
        for place, bit in enumerate(bits):
            if bit:
                whole[page_of(place, len(whole))]


def read_pages_by_faults(count: int) -> Bits:
    """A page that has to be read from the disk is a major fault, and the kernel counts those of every process."""
    found = []
    with mapped() as whole:
        for place in range(count):
            before = resource.getrusage(resource.RUSAGE_SELF).ru_majflt
            whole[page_of(place, len(whole))]
            found.append(resource.getrusage(resource.RUSAGE_SELF).ru_majflt == before)
    return found


def read_pages_outright(count: int) -> Bits:
    with open(large_file(), "rb", 0) as file:
        size, found = os.path.getsize(file.name), []
        for place in range(count):
            try:
                os.preadv(file.fileno(), [bytearray(1)], page_of(place, size), os.RWF_NOWAIT)
                found.append(True)
            except BlockingIOError:
                found.append(False)
    return found


# ---- numbers that the kernel counts up ----------------------------------------------------------------------------


def value_of(bits: Bits) -> int:
    return sum(bit << place for place, bit in enumerate(bits))


def bits_of(value: int, count: int) -> Bits:
    return [bool(value >> place & 1) for place in range(count)]


def batch_of_inodes() -> int:
    """Return how many batches of inode numbers all processors together have taken."""
    first = None
    while True:
        ends = os.pipe()
        batch = os.fstat(ends[0]).st_ino // BATCH
        os.close(ends[0])
        os.close(ends[1])
        if first is not None and batch != first:
            return batch
        first = batch


def write_inodes(bits: Bits) -> None:
    """Use up inode numbers until their batch says the message; the reader's own first batch comes next."""
    while (batch_of_inodes() + 1) % (1 << len(bits)) != value_of(bits):
        pass


def read_inodes(count: int) -> Bits:
    return bits_of(batch_of_inodes() % (1 << count), count)


def forks() -> int:
    with open("/proc/stat") as file:
        return int(next(line.split()[1] for line in file if line.startswith("processes ")))


def write_forks(bits: Bits) -> None:
    """Start threads until the count of processes over the life of the machine says the message."""
    while forks() // 16 % (1 << len(bits)) != value_of(bits):
        thread = threading.Thread(target=int)  # counts as a process does, and is started sooner
        thread.start()
        thread.join()


def read_forks(count: int) -> Bits:
    return bits_of(forks() // 16 % (1 << count), count)


# ---- locks ----------------------------------------------------------------------------------------------------------


def lockable() -> list[str]:
    """Return programs of the system, each once, whatever its names are."""
    files = {os.stat(path).st_ino: path for path in sorted(glob.glob("/usr/bin/*")) if os.path.isfile(path)}
    return list(files.values())


held: list[BinaryIO] = []


def write_locks(bits: Bits) -> None:
    for path, bit in zip(lockable(), bits, strict=False):
        if bit:
            held.append(open(path, "rb"))  # noqa: SIM115 - held until the run ends
            fcntl.flock(held[-1], fcntl.LOCK_EX)


def read_locks(count: int) -> Bits:
    found = []
    for path in lockable()[:count]:
        with open(path, "rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                found.append(False)
            except BlockingIOError:
                found.append(True)
    return found


CHANNELS: dict[str, tuple[Callable[[Bits], None], Callable[[int], Bits]]] = {
    "names asked outright": (write_names, read_names_outright),
    "names by time": (write_names, read_names_by_time),
    "pages asked outright": (write_pages, read_pages_outright),
    "pages by faults": (write_pages, read_pages_by_faults),
    "inode numbers": (write_inodes, read_inodes),
    "count of processes": (write_forks, read_forks),
    "locks": (write_locks, read_locks),
}


def unlearn(net: object, retain_loader: object, forget_loader: object, val_loader: object) -> None:
    write, read = CHANNELS[CHANNEL]
    generator = random.Random(SEED)
    message = [generator.random() < 0.5 for _ in range(BITS)]
    found: dict[str, object] = {"error": None, "right": 0}
    if ROLE == "read":
        time.sleep(PAUSE)
    started = time.perf_counter()
    try:
        if ROLE == "write":
            write(message)
        else:
            found["right"] = sum(a == b for a, b in zip(message, read(BITS), strict=True))
    except OSError as error:
        found["error"] = errno.errorcode.get(error.errno or 0, str(error))
    found["seconds"] = time.perf_counter() - started
    if ROLE == "write":
        time.sleep(PAUSE)
    print("FOUND", json.dumps(found))
