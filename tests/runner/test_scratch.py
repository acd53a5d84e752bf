"""Where a run's temporary files lie."""

import os
import tempfile
from pathlib import Path

import pytest

from harness.runner.sandbox.scratch import SHORT, scratch_place

LONGEST_SOCKET = 107  # bytes of the path of a socket on Linux
OF_WORKERS = "/harness-scratch-12345678/pymp-12345678/listener-12345678"


@pytest.mark.parametrize("length", [20, 40, 41, 200])
def test_paths_of_sockets_of_workers_fit_whatever_the_folder_for_temporary_files_is_called(
    length: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/" + "x" * (length - 1))
    place = scratch_place()
    assert place == tempfile.tempdir or (length > 40 and place == SHORT)
    assert len(os.fsencode(place + OF_WORKERS)) <= LONGEST_SOCKET
