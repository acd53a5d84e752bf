"""The filter of system calls, executed as the kernel would, on both architectures."""

import errno
import signal
import struct

import pytest

from harness.runner.sandbox import seccomp
from harness.runner.sandbox.seccomp_tables import ARCHITECTURES, DENIED, LOOKED_AT


def decided(program: bytes, architecture: int, number: int, arguments: tuple[int, ...] = ()) -> int:
    """Return what a filter says to a system call, by executing it as the kernel would."""
    data = struct.pack("=IIQ6Q", number, architecture, 0, *arguments, *[0] * (6 - len(arguments)))
    code = list(struct.iter_unpack("=HBBI", program))
    at, loaded = 0, 0
    while True:
        kind, if_true, if_false, value = code[at]
        at += 1
        if kind == seccomp.LOAD:
            (loaded,) = struct.unpack_from("=I", data, value)
        elif kind == seccomp.RETURN:
            return int(value)
        else:
            holds = {
                seccomp.IF_EQUAL: loaded == value,
                seccomp.IF_AT_LEAST: loaded >= value,
                seccomp.IF_BITS: bool(loaded & value),
            }[kind]
            at += if_true if holds else if_false


@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_the_filter_refuses_what_is_listed_and_nothing_else(machine: str) -> None:
    architecture = ARCHITECTURES[machine]
    program = seccomp.program(machine, has_pid_namespace=False)
    with_namespace = seccomp.program(machine, has_pid_namespace=True)
    numbers = {name: both[architecture.column] for name, both in (DENIED | LOOKED_AT).items()}

    def answer(name: str, *arguments: int) -> int:
        number = numbers[name]
        assert number is not None
        return decided(program, architecture.audit, number, arguments)

    refused = seccomp.FAIL_WITH
    for name in DENIED:
        if numbers[name] is not None:
            assert answer(name) == refused | errno.EPERM, name
    listed = {number for number in numbers.values() if number is not None}
    others = [number for number in range(480) if number not in listed]
    assert {decided(program, architecture.audit, number) for number in others} == {seccomp.ALLOW}
    assert {answer(name) for name in ("clone3", "openat2")} == {refused | errno.ENOSYS}
    assert answer("fcntl", 3, 1026) == refused | errno.EPERM
    assert {answer("fcntl", 3, command) for command in (0, 1, 6, 1033)} == {seccomp.ALLOW}
    assert answer("clone", signal.SIGCHLD) == seccomp.ALLOW
    assert answer("clone", signal.SIGCHLD | 0x10000000) == refused | errno.EPERM
    for name in ("socket", "socketpair"):
        assert answer(name, 1) == seccomp.ALLOW
        assert {answer(name, family) for family in (2, 10, 16, 17, 40)} == {refused | errno.EAFNOSUPPORT}
    assert answer("ioctl", 0, 0x5401) == seccomp.ALLOW
    assert {answer("ioctl", 0, request) for request in (0x5412, 0x541C, 0x5412 | 1 << 32)} == {refused | errno.EPERM}
    assert answer("prlimit64", 0) == seccomp.ALLOW
    assert answer("prlimit64", 7) == refused | errno.EPERM
    assert decided(with_namespace, architecture.audit, numbers["prlimit64"] or 0, (7,)) == seccomp.ALLOW
    other = next(each for name, each in ARCHITECTURES.items() if name != machine)
    assert decided(program, other.audit, 1) == seccomp.KILL
    x32 = decided(program, architecture.audit, 0x40000001)
    assert x32 == (seccomp.KILL if architecture.has_x32 else seccomp.ALLOW)
