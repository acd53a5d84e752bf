"""A sealed file is read as it was written, or not at all."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.seal import read_sealed, read_sealed_arrays, sealed, unsealed, whole, write_sealed, write_sealed_arrays
from harness.storage import write_json

VALUES = {"score": 0.125, "halves": [0.5, 1e-05], "name": "foo.py", "null": None}
ARRAYS = {"info": np.array('{"outcome": "OK", "seconds": 0.25}'), "logits": np.arange(6, dtype=np.float32)}


def read_arrays_plainly(file: Path) -> dict[str, Any]:
    return {name: (str(array.dtype), array.tolist()) for name, array in read_sealed_arrays(file)[0].items()}


@pytest.mark.parametrize(
    ("write", "read"),
    [
        (lambda file: write_sealed(file, VALUES), read_sealed),
        (lambda file: write_sealed_arrays(file, ARRAYS), read_arrays_plainly),
    ],
    ids=["values", "arrays"],
)
def test_no_flipped_bit_changes_what_is_read(
    write: Callable[[Path], object], read: Callable[[Path], Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    file = tmp_path / "file"
    write(file)
    before, content = read(file), file.read_bytes()
    found = 0
    for place in range(8 * len(content)):
        flipped = bytearray(content)
        flipped[place // 8] ^= 1 << place % 8
        file.write_bytes(flipped)
        after = whole(file, read)
        assert after in (None, before)
        found += after is None
    assert found > 4 * len(content)  # the rest are dates, attributes and the case of hexadecimal digits


def test_values_are_sealed_whatever_their_order_and_sealed_again_once_they_are_changed() -> None:
    first = sealed(VALUES)
    assert unsealed(first) == VALUES
    assert unsealed(dict(reversed(first.items()))) == VALUES
    with pytest.raises(ValueError, match="does not match"):
        unsealed({**first, "score": 0.126})
    assert unsealed(sealed({**first, "score": 0.126}))["score"] == 0.126


def test_arrays_have_the_seal_that_writing_them_told(tmp_path: Path) -> None:
    seals = {write_sealed_arrays(tmp_path / "a.npz", ARRAYS), write_sealed_arrays(tmp_path / "b.npz", ARRAYS)}
    assert {read_sealed_arrays(tmp_path / name)[1] for name in ("a.npz", "b.npz")} == seals
    assert len(seals) == 1


@pytest.mark.parametrize("content", [{}, [1, 2], None, "text", {"seal": ""}, {"seal": [1]}])
def test_what_is_no_sealed_file_is_named_in_one_line(
    content: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "some.json"
    assert whole(file, read_sealed) is None
    assert caplog.messages == []
    write_json(file, content)
    assert whole(file, read_sealed) is None
    (message,) = caplog.messages
    assert str(file) in message
    assert "\n" not in message
