"""What a run is put into: decided on the trusted side, carried out by the run's first process."""

import dataclasses
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

__all__ = ["CACHE", "NAMESPACE_LEVELS", "SCRATCH", "Plan", "packages"]

NAMESPACE_LEVELS = ("full", "userns")  # these have a root and a process table of their own
PACKAGES = ("site-packages", "dist-packages")
SCRATCH = "/tmp"  # the run's folder, where it has a root of its own
CACHE = "/cache"  # for what compilers make, likewise


@dataclass(frozen=True)
class Plan:
    """The sandbox of one run. Nothing in it is secret: a submission may find it in its memory."""

    level: str
    packages: dict[str, str] = dataclasses.field(default_factory=dict)  # folder as the run sees it -> folder here
    hidden: tuple[str, ...] = ()  # folders nothing of is seen, should a package folder hold them
    user: int | None = None  # a user id of its own; None: that of the harness, which is not root's then
    has_cgroup: bool = False  # else its memory and processes are limited one by one, or not at all
    memory_bytes: int = 0
    processes: int = 0
    scratch_bytes: int = 0  # of SCRATCH, and as much again of CACHE and of /dev/shm
    gpu: bool = False  # whether the run uses one
    devices: tuple[str, ...] = ()  # of the GPU, besides those every run has
    trace: str = ""  # a name that its first process looks up: it must be forgotten after the run, see `traces`

    @property
    def has_namespaces(self) -> bool:
        """Whether the run has a root, processes, network and users of its own."""
        return self.level in NAMESPACE_LEVELS

    def to_bytes(self) -> bytes:
        """Return the plan as JSON."""
        return json.dumps(dataclasses.asdict(self)).encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> "Plan":
        """Return the plan in a JSON text."""
        fields = json.loads(content)
        return cls(**fields | {name: tuple(fields[name]) for name in ("hidden", "devices")})


def packages() -> dict[str, str]:
    """Return the folders of this interpreter and its packages: path as Python knows it -> path without links.

    Packages of another environment, which a .pth file names, are among them; folders of sources are not.
    """
    prefixes = dict.fromkeys((sys.base_prefix, sys.base_exec_prefix, sys.prefix, sys.exec_prefix))
    elsewhere = [folder for folder in sys.path if Path(folder).name in PACKAGES and Path(folder).is_dir()]
    seen = [Path("/usr"), *map(Path, prefixes)]
    outside = [prefix for prefix in prefixes if not Path(prefix).is_relative_to("/usr")]
    outside += [folder for folder in elsewhere if not any(Path(folder).is_relative_to(each) for each in seen)]
    return {prefix: os.path.realpath(prefix) for prefix in sorted(outside)}
