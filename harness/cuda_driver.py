"""NVIDIA's driver, asked without torch: is there one, what does its library say, which version is it."""

import ctypes
import os
import re
from pathlib import Path

__all__ = [
    "CODES",
    "LIBRARY",
    "NOT_INITIALIZED",
    "initialisation_code",
    "initialise",
    "is_present",
    "meaning",
    "supported_cuda",
    "version",
]

LIBRARY = "libcuda.so.1"
NODE, FOLDER, WSL_NODE = "/dev/nvidiactl", "/proc/driver/nvidia", "/dev/dxg"
VERSION_FILE = f"{FOLDER}/version"
NOT_INITIALIZED = 3  # what every call in a fork of a process answers that has used a GPU

# What cuInit answers, and what to do about it. Names and numbers: CUresult in cuda.h.
CODES = {
    2: "CUDA_ERROR_OUT_OF_MEMORY: others have taken the GPU's memory; end them, or choose another GPU",
    34: "CUDA_ERROR_STUB_LIBRARY: this libcuda.so.1 is the toolkit's stub; take its folder out of LD_LIBRARY_PATH",
    100: "CUDA_ERROR_NO_DEVICE: no GPU is visible; check CUDA_VISIBLE_DEVICES and the device nodes",
    101: "CUDA_ERROR_INVALID_DEVICE: CUDA_VISIBLE_DEVICES names a GPU that is not there",
    304: "CUDA_ERROR_OPERATING_SYSTEM: it was refused a file, a device node or a system call",
    802: "CUDA_ERROR_SYSTEM_NOT_READY: start nvidia-fabricmanager, and wait until it is up",
    803: "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH: library and kernel module differ; reboot after an update of the driver",
    804: "CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE: install a torch built for a CUDA this driver has",
    999: "CUDA_ERROR_UNKNOWN: the kernel log says more (dmesg); reloading nvidia-uvm often helps",
}


def is_present() -> bool:
    """Whether anything here says that there is a GPU: a device node or the driver's folder. Takes no time."""
    return any(os.path.exists(path) for path in (NODE, FOLDER, WSL_NODE))


def initialise() -> str | None:
    """Initialise the driver in this process, and return why it cannot be, with what to do; None if all is well.

    Forks of this process cannot use a GPU afterwards.
    """
    return meaning(initialisation_code())


def initialisation_code() -> int | None:
    """Initialise the driver in this process, and return what it answers; None without a driver."""
    try:
        code: int = ctypes.CDLL(LIBRARY).cuInit(0)
    except OSError:
        return None
    return code


def meaning(code: int | None) -> str | None:
    """Return what an answer of cuInit means, with what to do; None if all is well. code: None without a driver."""
    if code is None:
        return (
            f"there is no NVIDIA driver ({LIBRARY} is not found); install one, in a container start it with --gpus all"
        )
    return None if code == 0 else f"cuInit: {code}, {CODES.get(code, 'see CUresult in cuda.h')}"


def supported_cuda() -> tuple[int, int] | None:
    """Return the newest CUDA the driver supports, such as (12, 8); None without a driver."""
    number = ctypes.c_int()
    try:
        code = ctypes.CDLL(LIBRARY).cuDriverGetVersion(ctypes.byref(number))
    except OSError:
        return None
    return (number.value // 1000, number.value % 1000 // 10) if code == 0 else None


def version() -> str:
    """Return the version of the driver's kernel module, such as 580.159.03, or `unknown`."""
    try:
        found = re.search(r"Module(?: for \S+)?\s+(\d+(?:\.\d+)+)", Path(VERSION_FILE).read_text())
    except OSError:
        return "unknown"
    return found.group(1) if found else "unknown"
