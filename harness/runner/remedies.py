"""What to do where a layer of the isolation is missing: one sentence each."""

from collections.abc import Mapping
from pathlib import Path

from harness.runner.sandbox.privileges import is_root

__all__ = ["remedies"]

# From Docker's documentation (writable-cgroups: Docker 28 on cgroup version 2), not measured.
CONTAINER_FLAGS = (
    "docker run --privileged, or --cap-add SYS_ADMIN --security-opt seccomp=unconfined "
    "--security-opt apparmor=unconfined --security-opt writable-cgroups=true"
)
# What keeps ordinary users from user namespaces: the file, the value that does so, and the one that does not.
SWITCHES = (
    ("/proc/sys/user/max_user_namespaces", "0", "10000"),
    ("/proc/sys/kernel/unprivileged_userns_clone", "0", "1"),
    ("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1", "0"),
)


def remedies(layers: Mapping[str, str | None]) -> dict[str, str]:
    """Return what to do about each layer that is missing, by its name."""
    return {name: _remedy(name) for name, reason in layers.items() if reason is not None}


def _remedy(layer: str) -> str:
    if layer == "Landlock":
        return "boot Linux 6.12 or later with landlock among lsm=; the levels with namespaces do without"
    if layer == "seccomp":
        return "use x86-64 or aarch64, and a kernel with CONFIG_SECCOMP_FILTER"
    if layer in ("cgroup", "processor quota") and not is_root():
        return "run it as root, best in a virtual machine of its own"
    if is_root():
        return f"in a container: {CONTAINER_FLAGS}"
    return _user_namespace_remedy()


def _user_namespace_remedy() -> str:
    for file, off, on in SWITCHES:
        if Path(file).exists() and Path(file).read_text().strip() == off:
            name = file.removeprefix("/proc/sys/").replace("/", ".")
            return f"sysctl -w {name}={on}, or run it as root"
    return f"run it as root, or in a container: {CONTAINER_FLAGS}"
