"""Which layer of the isolation stops CUDA: its first calls, made in a process of each set of layers.

Where there is no libcuda, what it does to files stands in for it. Torch is not imported. The layers are entered by
the harness's own `enter`, in which those that are left out are replaced by nothing.
"""

import ctypes
import dataclasses
import errno
import fcntl
import json
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from benchmarks.gpu.steps import LeftOutError, Row, Task
from harness.cuda_driver import CODES, LIBRARY
from harness.runner.sandbox import enter, landlock, privileges, processes, seccomp
from harness.runner.sandbox.plan import Plan
from harness.runner.sandbox.sandboxes import Quota, Sandboxes

__all__ = ["LAYERS", "VARIANTS", "bisect"]

LAYERS = frozenset({"root", "user", "limits", "Landlock", "seccomp"})
BY_RESOURCE_LIMIT = "all layers, memory by a resource limit"  # as at `userns`
VARIANTS = {  # those that tell most come first
    "no layer": frozenset[str](),
    "all layers": LAYERS,
    BY_RESOURCE_LIMIT: LAYERS,
    **{f"without {layer}": LAYERS - {layer} for layer in sorted(LAYERS)},
    **{f"only {layer}": frozenset({layer}) for layer in sorted(LAYERS)},
}
PINNING = ("no layer", "all layers", BY_RESOURCE_LIMIT, "without limits")  # it takes a while
SECONDS = 25  # of each variant, at most
QUOTA = Quota(memory_mb=4096, processes=100, scratch_mb=256, threads=4)
SCRATCH = "/tmp"
DRY_NODE = "/dev/zero"  # stands for the driver's nodes where there are none
PINNED_GB = (1, 2)  # is it a file in memory (RLIMIT_FSIZE), anonymous, or shared?
STATUS = ("VmSize", "VmData", "VmRSS", "RssAnon", "RssShmem", "Threads", "VmLck")
CONTROL_CALL = 0xC04846C8  # of the driver; what is no device of its answers ENOTTY


def bisect(task: Task) -> None:
    """Say of each set of layers whether CUDA's first calls work."""
    if sys.platform != "linux":
        raise LeftOutError("isolation takes Linux")
    sandboxes = _sandboxes(task.device)
    try:
        sandbox = sandboxes.new()
        plan = dataclasses.replace(sandbox.plan, gpu=True, devices=sandbox.plan.devices or (DRY_NODE,))
        task.say(level=plan.level, landlock=landlock.abi(), nodes=plan.devices)
        for name in VARIANTS:
            task.say(layers=name, **attempted(plan, name))
        print(*_kernel_log(), sep="\n", flush=True)
        sandbox.close(was_killed=False)
    finally:
        sandboxes.close()


def _sandboxes(device: str) -> Sandboxes:
    """Return those of the strongest level that this machine gives."""
    try:
        return Sandboxes("full", QUOTA, hidden=(), device=device)
    except Exception as error:  # noqa: BLE001 - whatever it is, the next level may do without
        print(f"full: {error}", flush=True)
        return Sandboxes("userns", QUOTA, hidden=(), device=device)


def _kernel_log() -> list[str]:
    """Return the last lines of the kernel's log that may say who refused what."""
    try:
        said = subprocess.run(["dmesg"], capture_output=True, text=True, check=False, timeout=5).stdout
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [line for line in said.splitlines() if re.search("landlock|NVRM|Xid|audit", line, re.IGNORECASE)][-20:]


def attempted(plan: Plan, variant: str) -> Row:
    """Return what the first calls gave under a set of layers, and the seconds until the process was gone."""
    reader, writer = os.pipe()
    started = time.perf_counter()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _be_a_run(plan, variant, writer)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        said = file.read()
    os.waitpid(child, 0)
    found = json.loads(said) if said else {"works": False, "reason": "it died"}
    return found | {"seconds": round(time.perf_counter() - started, 2)}


def _be_a_run(plan: Plan, variant: str, writer: int) -> NoReturn:
    """Be what starts a run: the first process in its namespaces, then the run itself."""
    layers = VARIANTS[variant]
    if variant == BY_RESOURCE_LIMIT:
        plan = dataclasses.replace(plan, has_cgroup=False)
    try:
        signal.alarm(SECONDS)
        os.setsid()
        if "root" in layers:
            processes.move_to_own_pid_namespace()
            first = processes.fork_first()
        else:
            first = os.fork()
        if first == 0:
            signal.alarm(SECONDS)  # a fork has none
            if layers:
                _enter(plan, layers)
            run = os.fork()
            if run == 0:
                signal.alarm(SECONDS)
                privileges.be_dumpable()
                os.write(writer, json.dumps(_first_calls(plan.devices, pins=variant in PINNING)).encode())
                os._exit(0)
            first = run
        os.waitpid(first, 0)
    except Exception as error:  # noqa: BLE001 - every reason is as good
        reason = f"set-up: {type(error).__name__}: {error}"
        os.write(writer, json.dumps({"works": False, "reason": reason}).encode())
    finally:
        os._exit(0)


def _enter(plan: Plan, layers: frozenset[str]) -> None:
    """Enter the sandbox without the layers that are left out."""

    def replace(module: Any, name: str, by: Callable[..., object]) -> None:
        setattr(module, name, by)

    if "root" not in layers:
        plan = dataclasses.replace(plan, level="syscall")
    if "limits" not in layers:
        replace(privileges, "limits", lambda *_, **__: {})
    if "user" not in layers:
        replace(privileges, "drop", _only_limits)
    if "Landlock" not in layers:
        replace(landlock, "restrict", lambda *_, **__: None)
    if "seccomp" not in layers:
        replace(seccomp, "install", lambda *_, **__: None)
    if layers != LAYERS:
        replace(enter, "_check", lambda *_, **__: None)  # it asks for all of them
    enter.enter(plan, scratch=SCRATCH, time_limit_seconds=SECONDS, threads=QUOTA.threads)


def _only_limits(plan: Plan, *, time_limit_seconds: float, threads: int) -> None:
    """Set the resource limits, and stay the user that this is."""
    for limit, value in privileges.limits(plan, time_limit_seconds=time_limit_seconds, threads=threads).items():
        resource.setrlimit(limit, (value, value))
    privileges.no_new_privileges()


def _first_calls(devices: tuple[str, ...], *, pins: bool) -> Row:
    """Return what CUDA's first calls give, else whether its accesses to files are allowed."""
    try:
        library = ctypes.CDLL(LIBRARY)
    except OSError:
        answers = _accesses(devices)
        refused = [name for name, answer in answers.items() if answer != "ok"]
        return {"works": not refused, "reason": ", ".join(refused), "libcuda": "none", **answers}
    found = _calls(library, pins=pins)
    reason = CODES.get(found["cuInit"], f"code {found['cuInit']}") if found["cuInit"] else ""
    return {"works": found.get("cuMemAlloc_v2") == 0, "reason": reason, **found, **_mappings()}


def _calls(library: ctypes.CDLL, *, pins: bool) -> Row:
    """Return the code of each call and its ms: a context, 64 MB of the card, pinned memory of the machine."""
    found: Row = {}

    def call(name: str, *arguments: Any, label: str = "") -> bool:
        started = time.perf_counter()
        found[label or name] = getattr(library, name)(*arguments)
        found[f"{label or name} ms"] = round(1000 * (time.perf_counter() - started), 1)
        return bool(found[label or name] == 0)

    device, context, pointer = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_uint64()
    if not (
        call("cuInit", 0)
        and call("cuDeviceGet", ctypes.byref(device), 0)
        and call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
        and call("cuCtxSetCurrent", context)
    ):
        return found
    call("cuMemAlloc_v2", ctypes.byref(pointer), ctypes.c_size_t(64 << 20))
    for gb in PINNED_GB if pins else ():
        pinned = ctypes.byref(ctypes.c_void_p())
        call("cuMemHostAlloc", pinned, ctypes.c_size_t(gb << 30), 0, label=f"pinned {gb} GB")
    return found


def _mappings() -> Row:
    """Return what the process has mapped."""
    memory = {line.split(None, 5)[-1].strip() for line in Path("/proc/self/maps").read_text().splitlines()}
    status = privileges.status()
    shared = sorted(name for name in memory if "memfd:" in name or name.startswith("/dev/zero"))
    return {**{name: status.get(name) for name in STATUS}, "shared": shared[:6]}


def _accesses(devices: tuple[str, ...]) -> dict[str, str]:
    """Return `ok` or the error of what libcuda does to files when it starts."""
    comm = f"/proc/self/task/{threading.get_native_id()}/comm"

    def tried(action: Callable[[], object]) -> str:
        try:
            action()
        except OSError as error:
            return errno.errorcode.get(error.errno or 0, str(error))
        return "ok"

    return {
        "name of a thread": tried(lambda: os.close(os.open(comm, os.O_WRONLY | os.O_CREAT | os.O_TRUNC))),
        "file in memory": tried(lambda: os.close(os.memfd_create("cuda"))),
        "list of devices": tried(lambda: Path("/proc/devices").read_text()),
        **{path: tried(partial(_control, path)) for path in devices},
    }


def _control(path: str) -> None:
    """Open a device node and make a call of the driver's. Raises OSError, unless it is just no device of the driver."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        fcntl.ioctl(descriptor, CONTROL_CALL, bytes(72))
    except OSError as error:
        if error.errno != errno.ENOTTY:
            raise
    finally:
        os.close(descriptor)
