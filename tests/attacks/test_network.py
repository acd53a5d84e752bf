"""The network: there is none, and no socket of the machine can be reached."""

import contextlib
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.attacks.attempts import AS_ROOT, THROUGH, Attempt, Found, at_each_level

Make = Callable[..., Found]
Addresses = dict[str, object]


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[Addresses]:
    """Sockets of the harness's side that wait for somebody."""
    abstract, path = f"attempt-{os.getpid()}", str(tmp_path / "socket")
    with contextlib.ExitStack() as sockets:
        tcp = sockets.enter_context(socket.create_server(("127.0.0.1", 0)))
        for address in ("\0" + abstract, path):
            unix = sockets.enter_context(socket.socket(socket.AF_UNIX))
            unix.bind(address)
            unix.listen()
        os.chmod(path, 0o777)
        os.chmod(tmp_path, 0o755)
        yield {"port": tcp.getsockname()[1], "abstract": abstract, "path": path}


def connect_by_tcp(port: int, abstract: str, path: str) -> None:
    with socket.socket(socket.AF_INET) as one:
        one.connect(("127.0.0.1", port))


def connect_by_tcp_6(port: int, abstract: str, path: str) -> None:
    with socket.socket(socket.AF_INET6) as one:
        one.connect(("::ffff:127.0.0.1", port))


def send_by_udp(port: int, abstract: str, path: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.sendto(b"hello", ("127.0.0.1", port))


def connect_to_an_abstract_socket(port: int, abstract: str, path: str) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.connect("\0" + abstract)


def connect_to_a_socket_file(port: int, abstract: str, path: str) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.connect(path)


def talk_to_the_host_of_the_machine(port: int, abstract: str, path: str) -> None:
    socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM).close()


def talk_to_the_kernel(port: int, abstract: str, path: str) -> None:
    socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close()


def listen_to_the_wire(port: int, abstract: str, path: str) -> None:
    socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close()


def take_the_card(port: int, abstract: str, path: str) -> None:
    af_xdp = 44
    socket.socket(af_xdp, socket.SOCK_RAW).close()


def use_the_crypto_of_the_kernel(port: int, abstract: str, path: str) -> None:
    socket.socket(socket.AF_ALG, socket.SOCK_SEQPACKET).close()


NO_SOCKET = {"full": "EAFNOSUPPORT", "syscall": "EAFNOSUPPORT"}


@at_each_level(
    {
        connect_by_tcp: {**NO_SOCKET, "none": THROUGH},
        connect_by_tcp_6: {**NO_SOCKET, "none": THROUGH},
        send_by_udp: {**NO_SOCKET, "none": THROUGH},
        connect_to_an_abstract_socket: {"full": "ECONNREFUSED|EPERM", "syscall": "EPERM", "none": THROUGH},
        connect_to_a_socket_file: {"full": "ENOENT", "syscall": THROUGH, "none": THROUGH},
        talk_to_the_host_of_the_machine: {**NO_SOCKET, "none": THROUGH},
        talk_to_the_kernel: {**NO_SOCKET, "none": THROUGH},
        listen_to_the_wire: {**NO_SOCKET, "none": AS_ROOT},
        take_the_card: {**NO_SOCKET, "none": AS_ROOT},
        use_the_crypto_of_the_kernel: {**NO_SOCKET, "none": THROUGH},
    }
)
def test_no_socket_reaches_out_of_a_run(
    make: Make, listening: Addresses, attempt: Attempt, level: str, end: str
) -> None:
    if level == "none":
        _skip_what_this_kernel_lacks(attempt, listening)
    assert make(attempt, level=level, **listening).end in end.split("|")


def _skip_what_this_kernel_lacks(attempt: Attempt, listening: Addresses) -> None:
    try:
        attempt(**listening)
    except OSError as error:
        pytest.skip(f"not on this kernel anyway: {error}")


def speak_among_themselves() -> str:
    left, right = socket.socketpair()
    left.send(b"heard")
    return right.recv(16).decode()


@pytest.mark.parametrize("level", ["full", "userns", "syscall"])
def test_processes_of_a_run_may_speak_among_themselves(make: Make, level: str) -> None:
    assert make(speak_among_themselves, level=level).value == "heard"
