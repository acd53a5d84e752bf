"""A submission that prints what it finds itself in, as JSON; used by the tests of the isolation."""

import json
import os
import resource
import socket
from collections.abc import Callable
from pathlib import Path


def attempted(action: Callable[[], object]) -> object:
    try:
        return action()
    except OSError as error:
        return error.strerror


def unlearn(net: object, retain_loader: object, forget_loader: object, val_loader: object) -> None:
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    mounts = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    facts = {
        **{name: status[name].strip() for name in ("CapEff", "CapBnd", "CapPrm", "NoNewPrivs", "Seccomp")},
        "uid": os.getuid(),
        "gid": os.getgid(),
        "groups": os.getgroups(),
        "pid": os.getpid(),
        "processes": sorted(int(name) for name in os.listdir("/proc") if name.isdigit()),
        "writable": sorted(line[4] for line in mounts if "rw" in line[5].split(",")),
        "root": attempted(lambda: sorted(os.listdir("/"))),
        "limits": {
            name: resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))[0]
            for name in ("CORE", "NOFILE", "NPROC", "FSIZE", "DATA", "MSGQUEUE")
        },
        "descriptors": sorted(int(name) for name in os.listdir("/proc/self/fd"))[:-1],
        "cwd": os.getcwd(),
        "environment": dict(os.environ),
        "passwd": attempted(lambda: Path("/etc/passwd").read_text() and "read"),
        "socket": attempted(lambda: socket.socket(socket.AF_INET) and "made"),
    }
    print(json.dumps(facts))
