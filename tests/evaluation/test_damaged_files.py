"""What is stored is believed only if it is whole: a damaged file is named, never shown, and made again."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result

from harness.seal import read_sealed_arrays, write_sealed_arrays
from harness.storage import read_arrays, read_json, write_arrays, write_json

Harness = Callable[..., Result]
Damage = Callable[[Path], None]
NO_RECORD = ("", "{}", "[1, 2]", "null", '{"seal": "0"}')


@pytest.fixture
def stored(home: Path, evaluated_home: Path) -> Path:
    """The results folder of 16 runs of fine-tuning, in a HARNESS_HOME of its own."""
    shutil.copytree(evaluated_home / "results", home / "results")
    code_hash = read_json(evaluated_home / "finetune.json")["code_hash"]
    return next(home.glob(f"results/*/{code_hash[:16]}-*"))


@pytest.fixture
def call(harness: Harness, stored: Path, evaluated_home: Path, tiny_file: Path) -> Harness:
    """call("evaluate", ...) is about these runs."""
    file = evaluated_home / "submissions" / "ada" / "finetune.py"

    def call(command: str, *arguments: object) -> Result:
        result = harness(command, file, *arguments, "--track", tiny_file, "--runs", 16)
        assert result.exit_code == 0, result.output
        return result

    return call


@pytest.fixture
def before(evaluated_home: Path) -> dict[str, Any]:
    """What was said of these runs when they were made."""
    found: dict[str, Any] = read_json(evaluated_home / "finetune.json")
    return found


def change_a_digit(file: Path, name: str) -> str:
    """Change the first digit of a value in JSON, and return the value as it would be shown."""
    text = file.read_text()
    was = re.search(rf'"{name}": 0(\.\d+)', text)
    assert was is not None
    file.write_text(text.replace(was[0], f'"{name}": 7{was[1]}', 1))
    return f"{float(f'7{was[1]}'):.2f}"


# ---- scores -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [("evaluate",), ("compare", "retrained"), ("report", "--out")], ids=" ".join)
def test_a_changed_digit_of_a_score_is_never_shown(
    command: tuple[str, ...], call: Harness, stored: Path, before: dict[str, Any], tmp_path: Path
) -> None:
    (file,) = stored.glob("score-16-*.json")
    now = change_a_digit(file, "calibrated_score")
    page = tmp_path / "page.html"
    said = call(*command, *([page] if "--out" in command else []))
    assert f"{file} is damaged" in said.output
    assert "its content does not match its hash" in said.output
    shown = page.read_text() if "--out" in command else said.output
    assert not re.search(rf"\b{re.escape(now)}\b", shown)
    assert f"{before['calibrated_score']:.2f}" in shown
    assert read_json(file)["calibrated_score"] == before["calibrated_score"]
    assert "damaged" not in call("evaluate").output


@pytest.mark.parametrize("content", NO_RECORD)
def test_a_score_file_that_holds_something_else_is_made_again(content: str, call: Harness, stored: Path) -> None:
    (file,) = stored.glob("score-16-*.json")
    was = file.read_bytes()
    file.write_text(content)
    assert f"{file} is damaged" in call("evaluate").output
    assert read_json(file)["half_samples"] == json.loads(was)["half_samples"]


def test_what_json_wrote_shows_whether_it_was_changed(call: Harness, tmp_path: Path) -> None:
    from harness import ScoreFile

    out = tmp_path / "out.json"
    call("evaluate", "--json", out)
    found = read_json(out)
    assert ScoreFile.from_json(found).n_runs == 16
    with pytest.raises(ValueError, match="does not match its hash"):
        ScoreFile.from_json({**found, "n_runs": 17})


def test_a_score_of_other_runs_than_those_stored_is_computed_again(
    call: Harness, stored: Path, evaluated_home: Path, before: dict[str, Any], tmp_path: Path
) -> None:
    other = read_json(evaluated_home / "noise.json")["code_hash"]
    shutil.copy(next(stored.parent.glob(f"{other[:16]}-*/run-0003.npz")), stored / "run-0003.npz")
    out = tmp_path / "out.json"
    assert "0 made now, 16 stored before" in call("evaluate", "--json", out).output
    assert read_json(out)["calibrated_score"] != before["calibrated_score"]
    assert read_json(next(stored.glob("score-16-*.json"))) == read_json(out)


# ---- runs ---------------------------------------------------------------------------------------------------------


def flip_a_bit_of(text: str) -> Damage:
    """Flip a bit of the last character of a text in the words that a run file keeps."""

    def damage(file: Path) -> None:
        content, coded = bytearray(file.read_bytes()), text.encode("utf-32-le")
        content[content.index(coded) + len(coded) - 4] ^= 1
        file.write_bytes(content)

    return damage


def flip_a_bit_of_an_output(file: Path) -> None:
    content, logits = bytearray(file.read_bytes()), read_arrays(file)["forget_logits"].tobytes()
    content[content.index(logits) + len(logits) // 2] ^= 1
    file.write_bytes(content)


def edit_the_seconds(file: Path) -> None:
    """Write a whole .npz with another time, as an editor of archives does."""
    arrays = read_arrays(file)
    info = json.loads(str(arrays["info"])) | {"seconds": 0.001}
    write_arrays(file, {**arrays, "info": np.array(json.dumps(info))})


def take_the_hash_away(file: Path) -> None:
    arrays, _ = read_sealed_arrays(file)
    write_arrays(file, arrays)


def seal_an_unknown_outcome(file: Path) -> None:
    arrays, _ = read_sealed_arrays(file)
    info = json.loads(str(arrays["info"])) | {"outcome": "FINE"}
    write_sealed_arrays(file, {**arrays, "info": np.array(json.dumps(info))})


@pytest.mark.parametrize(
    "damage",
    [
        *(flip_a_bit_of('"outcome": "O'), flip_a_bit_of('"seconds": 0.'), flip_a_bit_of_an_output),
        *(edit_the_seconds, take_the_hash_away, seal_an_unknown_outcome),
    ],
    ids=["outcome", "seconds", "output", "edited", "of an earlier version", "unknown outcome"],
)
def test_a_run_that_is_not_whole_is_named_and_made_again(
    damage: Damage, call: Harness, stored: Path, before: dict[str, Any], tmp_path: Path
) -> None:
    file = stored / "run-0003.npz"
    damage(file)
    out = tmp_path / "out.json"
    said = call("evaluate", "--json", out).output
    assert f"{file} is damaged" in said
    assert "1 made now, 15 stored before" in said
    found = read_json(out)
    assert (found["n_runs"], found["calibrated_score"]) == (16, before["calibrated_score"])
    assert found["seconds"]["mean"] == pytest.approx(before["seconds"]["mean"], rel=0.5)
    assert "damaged" not in call("evaluate").output


def test_a_damaged_run_with_other_examples_to_forget_is_made_again(call: Harness, stored: Path) -> None:
    file = stored / "swapped-0001.npz"
    edit_the_seconds(file)
    assert f"{file} is damaged" in call("evaluate").output
    assert "damaged" not in call("evaluate").output


# ---- what scores and limits are made with ---------------------------------------------------------------------------


@pytest.mark.parametrize("content", [None, *NO_RECORD])
def test_a_damaged_reference_is_named_and_computed_again(
    content: str | None, call: Harness, stored: Path, before: dict[str, Any], tmp_path: Path
) -> None:
    (file,) = stored.parent.glob("reference-16-*.json")
    was, out = file.read_bytes(), tmp_path / "out.json"
    if content is None:
        change_a_digit(file, "score")
    else:
        file.write_text(content)
    assert f"{file} is damaged" in call("evaluate", "--rescore", "--json", out).output
    assert file.read_bytes() == was
    assert {name: read_json(out)[name] for name in ("ceiling", "floor")} == {
        name: before[name] for name in ("ceiling", "floor")
    }


@pytest.mark.long
def test_a_damaged_calibration_or_floor_is_named_and_measured_again(
    harness: Harness,
    submission: Callable[[str], Path],
    tiny_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path / "own"))
    declared = tmp_path / "short.toml"
    text = tiny_file.read_text().replace("seconds = 2.0", "").replace('"tiny"', '"short"')
    declared.write_text(text.replace("epochs = 8", "epochs = 1"))
    assert harness("prepare", declared, "--jobs", 1).exit_code == 0
    file = submission("def unlearn(net, retain_loader, forget_loader, val_loader): pass")

    def evaluated() -> str:
        options = ("--track", declared, "--runs", 1, "--jobs", 1, "--time-limit", 20)
        result = harness("evaluate", file, *options)
        assert result.exit_code == 0, result.output
        return result.output

    def hold_something_else(path: Path) -> None:
        path.write_text("[1, 2]")

    def write_another_value(path: Path) -> None:
        values = read_json(path)
        name = "median" if "median" in values else "training_seconds"
        write_json(path, {**values, name: values[name] * 100})

    said = evaluated()
    assert "timing trainings" in said
    assert re.search(r"that takes about \d+ s, and is kept", said)
    for damage in (hold_something_else, write_another_value):
        for pattern in ("floor-*.json", "short-*.json"):
            (path,) = (tmp_path / "own" / "calibration").glob(pattern)
            damage(path)
            said = evaluated()
            assert f"{path} is damaged" in said
            assert ("timing trainings" in said) == (pattern == "short-*.json")
            assert "damaged" not in evaluated()
