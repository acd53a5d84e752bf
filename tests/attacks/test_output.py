"""What comes back: bytes of a fixed number, read when all is over, and nothing else."""

import contextlib
import fcntl
import json
import math
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from harness.runner.message import REPORT_BYTES
from harness.runner.outcome import Outcome
from tests.attacks.attempts import (
    SIGNATURE,
    THROUGH,
    Attacks,
    Found,
    each_level,
    skip_unless_offered,
    source_of,
)
from tests.attacks.inside import ends

Make = Callable[..., Found]


def list_descriptors() -> dict[str, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # that of the folder itself
            found[name] = os.readlink("/proc/self/fd/" + name)
    return found


@each_level
def test_a_run_has_no_descriptors_but_its_log_and_what_it_hands_in(make: Make, level: str) -> None:
    found = make(list_descriptors, level=level).value
    assert found.pop("0") == "/dev/null"
    assert found.pop("1").startswith("pipe:")
    assert found.pop("2").startswith("pipe:")
    assert sorted(found.values()) == ["/memfd:run (deleted)"] * 2


def result_descriptor() -> int:
    """Return the descriptor the weights are handed in by: the memory that is not of a report's size."""
    for name in os.listdir("/proc/self/fd"):
        path = "/proc/self/fd/" + name
        if os.path.islink(path) and "memfd" in os.readlink(path) and os.stat(path).st_size != REPORT_BYTES:
            return int(name)
    raise FileNotFoundError(2, "no result")


def grow(descriptor: int) -> None:
    os.ftruncate(descriptor, os.fstat(descriptor).st_size + 1)


def shrink(descriptor: int) -> None:
    os.ftruncate(descriptor, os.fstat(descriptor).st_size - 4)


def append(descriptor: int) -> None:
    os.pwrite(descriptor, b"x", os.fstat(descriptor).st_size)


def write_far_out(descriptor: int) -> None:
    os.pwrite(descriptor, b"x", 1 << 29)


def reserve(descriptor: int) -> None:
    os.posix_fallocate(descriptor, 0, 1 << 20)


def append_by_another_descriptor(descriptor: int) -> None:
    other = os.open(f"/proc/self/fd/{descriptor}", os.O_RDWR)
    os.pwrite(other, b"x", os.fstat(descriptor).st_size)


def forbid_to_write(descriptor: int) -> None:
    add_seals, seal_write = 1033, 8
    fcntl.fcntl(descriptor, add_seals, seal_write)


def tamper(descriptor: int) -> dict[str, str]:
    attempts = (grow, shrink, append, write_far_out, reserve, append_by_another_descriptor, forbid_to_write)
    return {attempt.__name__: ends(attempt, [descriptor])[descriptor] for attempt in attempts}


def tamper_with_the_result() -> dict[str, str]:
    return tamper(result_descriptor())


@each_level
def test_the_size_of_the_result_is_fixed(make: Make, level: str) -> None:
    assert set(make(tamper_with_the_result, level=level).value.values()) == {"EPERM"}


def test_without_seals_it_would_not_be() -> None:
    descriptor = os.memfd_create("attempt", os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, 4096)
    try:
        assert set(tamper(descriptor).values()) == {THROUGH}
    finally:
        os.close(descriptor)


# ---- a result by other means --------------------------------------------------------------------------------------

SMALL_WEIGHTS = f"""
{SIGNATURE}
    for value in net.state_dict().values():
        value.fill_(1e-3)
"""

SMALL_WEIGHTS_AND_OUT = f"""
import json, numpy, os
REPORT_BYTES = {REPORT_BYTES}
{source_of(result_descriptor)}
{SIGNATURE}
    result = result_descriptor()
    weights = numpy.full(os.fstat(result).st_size // 4, 1e-3, numpy.float32)
    os.pwrite(result, weights.tobytes(), 0)
    os.pwrite(result + 1, json.dumps(dict(outcome="OK", message="", lines=[], seconds_inside=0.0)).encode(), 0)
    os._exit(0)
"""


@each_level
def test_a_run_that_hands_in_weights_itself_hands_in_weights(attacks: Attacks, level: str) -> None:
    sources = (SMALL_WEIGHTS, SMALL_WEIGHTS_AND_OUT)
    honest, early = (attacks.evaluate(source, level=level).runs[0].record for source in sources)
    assert honest is not None
    assert early is not None
    assert list(honest.weights_sha256) == list(early.weights_sha256)


TRICKS = {
    "another file in its place": "os.dup2(os.open('other', os.O_RDWR | os.O_CREAT), result_descriptor())",
    "a link to somebody's file": "os.symlink(HIDDEN, 'link'); os.dup2(os.open('link', os.O_RDWR), result_descriptor())",
    "another memory": "os.dup2(os.memfd_create('big'), result_descriptor())",
    "all descriptors closed": "os.closerange(0, 100)",
    "a pipe": "os.dup2(os.pipe()[1], result_descriptor())",
    "a fifo": "os.mkfifo('fifo'); os.dup2(os.open('fifo', os.O_RDWR), result_descriptor())",
}


@pytest.mark.parametrize("trick", TRICKS)
def test_exchanging_the_result_hurts_the_own_run_at_most(attacks: Attacks, trick: str) -> None:
    source = f"""
import os
REPORT_BYTES, HIDDEN = {REPORT_BYTES}, {str(attacks.track.private / "secret")!r}
{source_of(result_descriptor)}
{SIGNATURE}
    {TRICKS[trick]}
"""
    level = "full" if "somebody" in trick else "none"  # where it would get through to that file
    evaluation = attacks.evaluate(source, level=level, limit_seconds=2.0)
    assert evaluation.outcome in {Outcome.OK, Outcome.EXCEPTION, Outcome.BAD_OUTPUT, Outcome.CRASHED}


FORGED_REPORTS = {
    "the harness's fault": {"outcome": "HARNESS_ERROR", "message": "retry me"},
    "an outcome there is none of": {"outcome": "WINNER"},
    "the time limit of somebody else": {"outcome": "TIME_LIMIT"},
    "half a character": {"outcome": "EXCEPTION", "message": "\ud800", "lines": ["\udfff"]},
    "no text": {"outcome": ["OK"], "message": {}, "lines": 3},
    "no number": {"outcome": "OK", "seconds_inside": "nan"},
    "no time at all": {"outcome": "OK", "seconds_inside": -math.inf},
    "a deep one": "[" * 60_000,
    "a long number": '{"outcome": "OK", "seconds_inside": ' + "9" * 60_000 + "}",
}


@pytest.mark.parametrize("forged", FORGED_REPORTS)
def test_a_forged_report_fails_the_own_run_or_says_less_than_nothing(
    attacks: Attacks, forged: str, harness: Callable[..., Result], tiny_file: Path, tmp_path: Path
) -> None:
    report = FORGED_REPORTS[forged]
    if isinstance(report, dict):
        report = json.dumps({"message": "", "lines": [], "seconds_inside": 0.0, **report})
    file, out = tmp_path / "forged.py", tmp_path / "out.json"
    file.write_text(f"""
import os
REPORT_BYTES = {REPORT_BYTES}
{source_of(result_descriptor)}
{SIGNATURE}
    os.pwrite(result_descriptor() + 1, {report!r}.encode(), 0)
    os._exit(0)
""")
    result = harness("evaluate", file, "--track", tiny_file, "--runs", 1, "--json", out, "--isolation", "none")
    assert result.exit_code in (0, 3), result.output
    assert "HARNESS_ERROR" not in result.output
    assert "TIME_LIMIT" not in result.output

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    json.loads(out.read_text(), parse_constant=refuse)


# ---- what unlearn returns -----------------------------------------------------------------------------------------

RETURNED = {
    "not a number": ("net.fc.bias.data[0] = float('nan'); return net", Outcome.NON_FINITE),
    "infinite": ("net.fc.bias.data[0] = float('inf'); return net", Outcome.NON_FINITE),
    "another shape": ("net.fc = torch.nn.Linear(3, 3); return net", Outcome.BAD_OUTPUT),
    "another architecture": ("return torch.nn.Linear(3, 3)", Outcome.BAD_OUTPUT),
    "something that pickles into a program": ("return Evil()", Outcome.BAD_OUTPUT),
    "a net that pickles into a program": ("net.__class__ = EvilNet; return net", Outcome.OK),
    "a net that lies about its weights": ("net.state_dict = lambda: dict(a=Evil()); return net", Outcome.BAD_OUTPUT),
}


@pytest.mark.parametrize("returned", RETURNED)
def test_only_weights_come_back_and_nothing_is_unpickled(attacks: Attacks, returned: str, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    code, outcome = RETURNED[returned]
    source = f"""
import os, torch
class Evil:
    def __reduce__(self):
        return os.system, ("touch {marker}",)
{SIGNATURE}
    class EvilNet(type(net)):
        __reduce__ = Evil.__reduce__
    {code}
"""
    assert attacks.evaluate(source, level="none").outcome == outcome
    assert not marker.exists()


def test_at_full_the_same_outcomes_are_told(attacks: Attacks) -> None:
    skip_unless_offered("full")
    for code, outcome in (RETURNED["not a number"], RETURNED["another shape"]):
        source = f"import torch\n{SIGNATURE}\n    {code}"
        assert attacks.evaluate(source, level="full").outcome == outcome
