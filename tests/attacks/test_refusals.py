"""What is refused before it runs: a file that could hold a trained net.

A machine that lacks a layer is in tests/runner/test_levels.py, the memory of a GPU in tests/runner/test_isolation.py.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from tests.attacks.attempts import SIGNATURE

Harness = Callable[..., Result]


@pytest.mark.parametrize(("kilobytes", "exit_code"), [(255, 0), (257, 3)])
def test_a_file_too_large_to_be_code_is_refused(
    harness: Harness, submission: Callable[[str], Path], tiny_file: Path, kilobytes: int, exit_code: int
) -> None:
    file = submission(f"{SIGNATURE} pass\nWEIGHTS = '{'x' * (kilobytes * 1024)}'")
    result = harness("evaluate", file, "--track", tiny_file, "--runs", 1)
    assert result.exit_code == exit_code, result.output
    assert ("the limit is 256 KB" in result.output) == (exit_code == 3)
