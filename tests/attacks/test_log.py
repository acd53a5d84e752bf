"""What a run prints: kept up to a limit, never in its way, shown so that it steers nothing."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from harness.runner.outcome import Outcome
from tests.attacks.attempts import SIGNATURE, Attacks, each_level

LIMIT = 64 * 1024

FLOODS = {
    "by print": "for _ in range(32): print('x' * (1 << 20))",
    "by the system": "for _ in range(32): os.write(2, b'x' * (1 << 20))",
    "by a child that outlives it": "if os.fork() == 0:\n        while True: os.write(1, b'x' * (1 << 16))",
    "of bytes that are no text": "os.write(1, b'\\xff\\x00' * (1 << 20))",
}


@each_level
@pytest.mark.parametrize("flood", FLOODS)
def test_a_flood_is_kept_up_to_the_limit_and_blocks_nothing(attacks: Attacks, flood: str, level: str) -> None:
    evaluation = attacks.evaluate(f"import os\n{SIGNATURE}\n    {FLOODS[flood]}", level=level)
    assert evaluation.outcome == Outcome.OK
    log = evaluation.runs[0].info.log
    kept, _, dropped = log.rpartition("\n[")
    assert len(kept) == LIMIT
    assert dropped.endswith("more bytes were printed]")
    assert evaluation.runs[0].seconds < 8


def test_reading_its_own_log_back_hurts_the_own_run_at_most(attacks: Attacks) -> None:
    steal = "end = os.open('/proc/self/fd/1', os.O_RDONLY | os.O_NONBLOCK)"
    source = f"""
import contextlib, os
{SIGNATURE}
    {steal}
    for _ in range(1000):
        os.write(1, b"x")
        with contextlib.suppress(BlockingIOError):
            os.read(end, 100)
"""
    evaluation = attacks.evaluate(source, level="none", limit_seconds=2.0)
    assert evaluation.outcome in (Outcome.OK, Outcome.TIME_LIMIT)


# What a terminal obeys anywhere; what CI systems obey at the start of a line, blanks aside; what they obey anywhere.
STEERING = {
    "terminal": "\x1b[2J\x1b]0;title\x07\x9b31m\r\b",
    "direction of writing": "\u202eevil\u2066",
    "GitHub": "::set-output name=a::b",
    "GitHub, of old": "##[set-env name=a;]b",
    "Azure": "##vso[task.setvariable variable=a]b",
    "TeamCity": "##teamcity[buildStatus status='SUCCESS']",
}


def steers(line: str) -> bool:
    """Whether a terminal or a CI system would obey a line."""
    is_plain = all(char.isprintable() or char == "\t" for char in line)
    return not is_plain or line.lstrip().startswith("::") or re.search(r"##\w*\[", line) is not None


@pytest.fixture
def shown(
    harness: Callable[..., Result], submission: Callable[[str], Path], tiny_file: Path
) -> Callable[[str], list[str]]:
    """Evaluates a file that raises, and returns the lines shown of it."""

    def show(source: str) -> list[str]:
        result = harness("evaluate", submission(source), "--track", tiny_file, "--runs", 1)
        assert result.exit_code == 3
        assert "EXCEPTION" in result.output
        return result.output.split("\n")

    return show


@pytest.mark.parametrize("kind", STEERING)
def test_what_a_run_prints_steers_nothing(shown: Callable[[str], list[str]], kind: str) -> None:
    text = STEERING[kind]
    lines = shown(f"{SIGNATURE}\n    print({text!r})\n    print('x' * 70, {text!r})\n    1 / 0")
    assert not any(map(steers, lines))


def test_the_message_of_an_exception_steers_nothing(shown: Callable[[str], list[str]]) -> None:
    text = STEERING["GitHub"]
    assert not any(map(steers, shown(f"{SIGNATURE}\n    raise type({text!r}, (Exception,), {{}})(1)")))
