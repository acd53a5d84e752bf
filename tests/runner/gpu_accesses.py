"""A submission that does what libcuda does, as far as a sandbox can refuse it; it prints how each access ended.

Each access has its public trace beside it: an issue where somebody saw libcuda do it, or saw it refused. Device nodes
are pretended by nodes of /dev/zero, whose pattern stands in HARNESS_FAKE_GPU.
"""

import ctypes
import errno
import fcntl
import glob
import json
import mmap
import os
import platform
import threading
from collections.abc import Callable
from pathlib import Path

MB, GB, TB = 1 << 20, 1 << 30, 1 << 40
RM_ALLOC_OBJECT = 0xC04846C8  # an ioctl of 72 bytes in and out, as those to the driver are
MAP_NORESERVE = 0x4000  # Python 3.13 has it in mmap
WRITABLE = mmap.PROT_READ | mmap.PROT_WRITE
NUMA_CALLS = {"x86_64": (237, 238, 239), "aarch64": (235, 237, 236)}  # mbind, set_mempolicy, get_mempolicy
FOLDER = Path(json.loads(os.environ["HARNESS_FAKE_GPU"])["nodes"]).parent
NODES = [FOLDER / name for name in ("nvidiactl", "nvidia0", "nvidia-uvm")]

accesses: list[Callable[[], None]] = []


def access(function: Callable[[], None]) -> Callable[[], None]:
    accesses.append(function)
    return function


def name_thread(thread: int) -> None:
    descriptor = os.open(f"/proc/self/task/{thread}/comm", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.write(descriptor, b"cuda-EvtHandlr")
    os.close(descriptor)


def in_child(action: Callable[[], None]) -> None:
    """Do it in a child, and raise its OSError here."""
    child = os.fork()
    if child == 0:
        number = 0
        try:
            action()
        except OSError as error:
            number = error.errno or errno.EIO
        finally:
            os._exit(number)
    if number := os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        raise OSError(number, os.strerror(number))


# Names of threads: drivers from 570 on write them, opening comm with O_WRONLY|O_CREAT|O_TRUNC, and cuInit returns 304
# where that is refused. NVIDIA/OpenShell#710 and #1486, nolabs-ai/nono#673 (A100, driver 570.211), #924 (a grandchild
# refused) and #1276 (T4).


@access
def name_of_a_thread_by_itself() -> None:
    ended: list[OSError | None] = []

    def name_itself() -> None:
        try:
            name_thread(threading.get_native_id())
        except OSError as error:
            ended.append(error)

    thread = threading.Thread(target=name_itself)
    thread.start()
    thread.join()
    if ended and ended[0] is not None:
        raise ended[0]


@access
def name_of_a_thread_by_another() -> None:
    enough = threading.Event()
    thread = threading.Thread(target=enough.wait)
    thread.start()
    try:
        assert thread.native_id is not None
        name_thread(thread.native_id)
        assert Path(f"/proc/self/task/{thread.native_id}/comm").read_text() == "cuda-EvtHandlr\n"
    finally:
        enough.set()
        thread.join()


@access
def name_of_a_thread_of_a_grandchild() -> None:
    in_child(lambda: in_child(lambda: name_thread(threading.get_native_id())))


# Memory. Files in memory: NVIDIA/OpenShell#1696 (memfd_create refused, RTX 5080, driver 570.169: 304). Pinned memory
# counts as shared, as such files do: MakazhanAlpamys/Soup#655. Address space is reserved with PROT_NONE:
# NVIDIA/cuda-checkpoint#10. That some of it is writable was not seen; it need not be refused.


@access
def file_in_memory_of_1_mb() -> None:
    file_in_memory(MB)


@access
def file_in_memory_of_2_gb() -> None:
    file_in_memory(2 * GB)


def file_in_memory(n_bytes: int) -> None:
    descriptor = os.memfd_create("cuda")
    try:
        os.ftruncate(descriptor, n_bytes)
        with mmap.mmap(descriptor, n_bytes) as mapped:
            mapped[-1] = 1
    finally:
        os.close(descriptor)


@access
def reservation_of_1_tb() -> None:
    mmap.mmap(-1, TB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE, prot=0).close()


@access
def private_mapping_larger_than_the_memory_limit() -> None:
    mmap.mmap(-1, 8 * GB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE, prot=WRITABLE).close()


@access
def shared_mapping_of_2_gb() -> None:
    mmap.mmap(-1, 2 * GB, flags=mmap.MAP_SHARED | mmap.MAP_ANONYMOUS | MAP_NORESERVE, prot=WRITABLE).close()


# Device nodes, opened O_RDWR: NVIDIA/OpenShell#710, nolabs-ai/nono#651 (nvidia-uvm-tools as well). Where Landlock
# refuses an ioctl the answer is EACCES; /dev/zero itself answers ENOTTY to one it does not know.


@access
def device_nodes() -> None:
    for path in NODES:
        descriptor = os.open(path, os.O_RDWR)
        try:
            fcntl.ioctl(descriptor, RM_ALLOC_OBJECT, bytes(72))
        except OSError as error:
            if error.errno != errno.ENOTTY:
                raise
        finally:
            os.close(descriptor)


@access
def mapping_of_a_device_node() -> None:
    descriptor = os.open(NODES[0], os.O_RDWR)
    try:
        mmap.mmap(descriptor, MB, flags=mmap.MAP_SHARED, prot=WRITABLE).close()
    finally:
        os.close(descriptor)


# What it looks up and sets: /proc/driver/nvidia in nolabs-ai/nono#673 and canonical/lxd#5433 (params), the folders of
# NUMA nodes and get_mempolicy in NVIDIA/cuda-checkpoint#10. Of the others no trace was found; none gives anything away.


@access
def numa_policy() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    mbind, set_policy, get_policy = NUMA_CALLS[platform.machine()]
    page, size = mmap.mmap(-1, mmap.PAGESIZE), ctypes.c_ulong(mmap.PAGESIZE)
    start = ctypes.addressof(ctypes.c_char.from_buffer(page))
    mode, zero = ctypes.c_int(), ctypes.c_ulong(0)
    for arguments in (
        (set_policy, zero, None, zero),
        (get_policy, ctypes.byref(mode), None, zero, None, zero),
        (mbind, ctypes.c_void_p(start), size, zero, None, zero, zero),
    ):
        # A kernel without NUMA has no such calls, and libcuda does without.
        if libc.syscall(*arguments) != 0 and ctypes.get_errno() != errno.ENOSYS:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


@access
def affinity() -> None:
    os.sched_setaffinity(0, os.sched_getaffinity(0))


@access
def event() -> None:
    os.close(os.eventfd(0))


@access
def files_of_the_system() -> None:
    assert "Character devices" in Path("/proc/devices").read_text()
    os.listdir("/sys/devices/system")
    for folder in ("/proc/driver", "/proc/driver/nvidia", "/sys/devices/system/node", "/sys/bus/pci/devices"):
        if os.path.exists(folder):
            os.listdir(folder)
    for file in glob.glob("/proc/driver/nvidia/params") + glob.glob("/sys/devices/system/node/online"):
        Path(file).read_text()
    for link in glob.glob("/sys/bus/pci/devices/*"):
        Path(link, "vendor").read_text()


def ended(action: Callable[[], None]) -> str:
    try:
        action()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    except Exception as error:  # noqa: BLE001 - whatever it is, it is told
        return f"{type(error).__name__}: {error}"
    return "ok"


def unlearn(net: object, retain_loader: object, forget_loader: object, val_loader: object) -> None:
    print(json.dumps({one.__name__: ended(one) for one in accesses}))
