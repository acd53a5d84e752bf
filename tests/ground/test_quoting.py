"""Commands that are printed can be copied into a shell, whatever a file is called."""

import subprocess
from pathlib import Path

import pytest

from harness.quoting import quoted

NAMES = (
    "foo.py",
    "with space.py",
    "it's.py",
    '"quoted".py',
    "$HOME.py",
    "a\nb.py",
    "tab\t\\'.py",
    "мой.py",
    "a\udcff.py",
)


@pytest.mark.parametrize("name", NAMES)
def test_a_shell_reads_the_name_that_was_printed(name: str, tmp_path: Path) -> None:
    (tmp_path / name).touch()
    assert "\n" not in quoted(name)
    done = subprocess.run(["bash", "-c", f"ls -1 --zero -- {quoted(name)}"], cwd=tmp_path, capture_output=True)
    assert done.stdout.rstrip(b"\0") == name.encode(errors="surrogateescape")


def test_a_name_that_begins_with_a_dash_is_no_option() -> None:
    assert (quoted("-best.py"), quoted(Path("-x/y z.py"))) == ("./-best.py", "'./-x/y z.py'")
