"""What a team hands in harms nobody else: hostile files and names in a batch, in the final and in a watched folder."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import unicodedata
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from harness.leaderboard.batch.teams import DailyQuota, chosen, find_submissions
from harness.leaderboard.board.entries import Entry, current, entries
from harness.leaderboard.board.names import listed, name_key, name_problem
from tests.ground.bombs import FINALS, SOURCES, UNLEARN

Harness = Callable[..., Result]

NOISE = f"""
import torch

{UNLEARN[: UNLEARN.index(":")]}:
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
"""
HONEST = {"alpha/a.py": NOISE, "beta/b.py": UNLEARN, "free.py": NOISE.replace("0.02", "0.05")}
COMPUTED_BY_THE_COMPILER = ('x = "a" * 10**10', "x = (((2**9999)**9999)**9999)**9999", "x = 1 << 10**9")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the files of two honest teams and of nobody."""
    folder = tmp_path / "handed-in"
    for name, source in HONEST.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(source)
    for name in ("alpha/a.py", "beta/b.py"):
        (folder / name).with_name("final.toml").write_text(f'choices = ["{Path(name).name}"]')
    return folder


def add_hostile(folder: Path) -> None:
    """Put in a team of hostile sources, and for each hostile final.toml a team of its own."""
    sources = [*SOURCES.values(), *(f"{line}\n{UNLEARN}".encode() for line in COMPUTED_BY_THE_COMPILER)]
    (folder / "mallory").mkdir()
    for number, source in enumerate(sources):
        (folder / "mallory" / f"m{number}.py").write_bytes(source)
    for number, final in enumerate(FINALS.values()):
        (folder / f"team{number}").mkdir()
        (folder / f"team{number}" / "a.py").write_text(UNLEARN)
        (folder / f"team{number}" / "final.toml").write_bytes(final)


def scores(home: Path) -> dict[str, dict[str, Any]]:
    """Return what is stored of the honest files' scores, but for the clock."""
    board = next(home.glob("leaderboards/tiny-*"))
    found = {}
    for entry in current(entries(board)):
        if entry.submission in HONEST:
            file = home / "results" / board.name / entry.results / f"{entry.score}.json"
            stored = json.loads(file.read_text())
            clock = ("seconds", "share_of_limit", "environment", "full_stack", "submission", "sha256")
            of_times = (*clock, "seal", "runs_seal")  # hashes of what holds them
            found[entry.submission] = {name: value for name, value in stored.items() if name not in of_times}
    return found


@pytest.mark.long
def test_a_batch_with_every_hostile_file_in_it_scores_the_honest_as_one_without(
    harness: Harness, folder: Path, home: Path, tiny_file: Path
) -> None:
    options = ("--track", tiny_file, "--runs", 2, "--jobs", 2)
    alone = harness("leaderboard", "run", folder, *options)
    assert alone.exit_code == 0, alone.output
    without = scores(home)
    shutil.rmtree(home / "results")
    shutil.rmtree(home / "leaderboards")
    add_hostile(folder)
    beside = harness("leaderboard", "run", folder, *options)
    assert beside.exit_code == 0, beside.output
    assert scores(home) == without
    assert set(without) == set(HONEST)
    board = next(home.glob("leaderboards/tiny-*"))
    theirs = {entry.submission: entry for entry in entries(board) if entry.team == "mallory"}
    for number in range(len(SOURCES)):
        name = f"mallory/m{number}.py"
        if name in theirs:
            assert theirs[name].outcome == "INVALID_SUBMISSION", theirs[name]
            assert theirs[name].message.isprintable()
        else:
            told = next(line for line in beside.output.splitlines() if line.startswith(f"{name} is passed over: "))
            assert "it has more than" in told or "the file defines no function" in told
    shutil.rmtree(home / "results")
    shutil.rmtree(home / "leaderboards")
    final = harness("leaderboard", "run", folder, "--final", *options)
    assert final.exit_code == 0, final.output
    assert scores(home) == without
    for number in range(len(FINALS)):
        assert f"team{number} has nothing in the final: final.toml" in final.output
    assert "mallory has nothing in the final: no final.toml" in final.output
    assert "Traceback" not in alone.output + beside.output + final.output


@pytest.mark.long
def test_a_watched_folder_goes_on_after_hostile_files(folder: Path, home: Path, tiny_file: Path) -> None:
    (folder / "mallory").mkdir()
    for name in ("4000 hexadecimal digits", "minus", "open braces", "null byte"):
        (folder / "mallory" / f"{name[:4].strip()}.py").write_bytes(SOURCES[name])
    (folder / "mallory" / "\N{GREEK CAPITAL LETTER ALPHA}lpha.py").write_text(UNLEARN)
    watching = subprocess.Popen(
        [sys.executable, "-m", "harness", "leaderboard", "run", folder, "--track", tiny_file, "--runs", "1", "--watch"],
        env=os.environ | {"HARNESS_HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        logs = [file.with_name(f"{file.name}.log") for file in folder.rglob("*.py")]
        deadline = time.monotonic() + 120
        while not all(log.exists() and "queued" not in log.read_text() for log in logs):
            assert time.monotonic() < deadline, [log for log in logs if not log.exists()]
            time.sleep(0.2)
        (folder / "beta" / "later.py").write_text(f"x = 1\n{UNLEARN}")
        log = folder / "beta" / "later.py.log"
        while not (log.exists() and "done, 1 runs" in log.read_text()):
            assert time.monotonic() < deadline
            time.sleep(0.2)
        watching.send_signal(signal.SIGINT)
        output, _ = watching.communicate(timeout=30)
    finally:
        watching.kill()
        watching.wait()
    assert watching.returncode == 130
    assert "Traceback" not in output
    told = {file.name: file.read_text() for file in (folder / "mallory").glob("*.log")}
    assert len(told) == 5
    refused = told.pop("\N{GREEK CAPITAL LETTER ALPHA}lpha.py.log")
    assert "is not evaluated: its name mixes letters of Greek and Latin" in refused
    assert all("failed, INVALID_SUBMISSION" in text for text in told.values()), told


# ---- names --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Alpha", "alpha"),
        ("Zürich", unicodedata.normalize("NFD", "Zürich")),
        ("straße", "STRASSE"),
        ("team\N{FULLWIDTH DIGIT ONE}", "team1"),
        ("\N{MATHEMATICAL BOLD SMALL A}lpha", "alpha"),
        (" team  1 ", "team 1"),
        ("\N{LATIN SMALL LIGATURE FI}ne", "fine"),
        ("\N{KELVIN SIGN}it", "kit"),
        ("\N{GREEK CAPITAL LETTER ALPHA}", "A"),
        ("\N{CYRILLIC CAPITAL LETTER ES}\N{CYRILLIC CAPITAL LETTER O}", "co"),
        ("\N{GREEK SMALL LETTER SIGMA}", "\N{GREEK SMALL LETTER FINAL SIGMA}"),
    ],
)
def test_spellings_of_one_name_are_one_name(first: str, second: str) -> None:
    assert first != second
    assert name_key(first) == name_key(second)


@pytest.mark.parametrize(
    "name", ["alpha", "Zürich", "team 1", "東京チーム", "unlearn_東京", "άλφα", "команда", "x<y>.v2", "서울"]
)
def test_names_in_one_script_are_fine(name: str) -> None:
    assert name_problem(name) is None
    assert name_problem(unicodedata.normalize("NFD", name)) is None


@pytest.mark.parametrize(
    "char",
    [
        *(
            "\N{HANGUL FILLER}",
            "\N{HALFWIDTH HANGUL FILLER}",
            "\N{HANGUL CHOSEONG FILLER}",
            "\N{BRAILLE PATTERN BLANK}",
        ),
        *("\N{ZERO WIDTH SPACE}", "\N{ZERO WIDTH JOINER}", "\N{WORD JOINER}", "\N{SOFT HYPHEN}", "\ufeff", "\ue000"),
        *("\N{RIGHT-TO-LEFT OVERRIDE}", "\N{LEFT-TO-RIGHT ISOLATE}", "\N{COMBINING GRAPHEME JOINER}", "\udc80", "\n"),
        *("\N{VARIATION SELECTOR-1}", "\N{MONGOLIAN FREE VARIATION SELECTOR ONE}", "\N{KHMER VOWEL INHERENT AQ}"),
        *("\N{NO-BREAK SPACE}", "\N{EN SPACE}", "\N{FULLWIDTH FULL STOP}", "\N{DIVISION SLASH}", "\x1b", "\x7f"),
    ],
)
def test_a_sign_that_is_not_to_be_seen_or_looks_like_another_is_named(char: str) -> None:
    assert f"its name holds U+{ord(char):04X}" in (name_problem(f"a{char}b") or "")


@pytest.mark.parametrize("name", ["\N{GREEK CAPITAL LETTER ALPHA}lpha", "p\N{CYRILLIC SMALL LETTER A}y"])
def test_a_name_of_two_alphabets_is_refused(name: str) -> None:
    assert "its name mixes letters of" in (name_problem(name) or "")


def test_of_two_spellings_the_second_is_passed_over_and_everybody_else_is_read(folder: Path) -> None:
    composed, apart = (unicodedata.normalize(form, "é.py") for form in ("NFC", "NFD"))
    for name in (
        f"alpha/{composed}",
        f"alpha/{apart}",
        "alpha/A.py",
        "ALPHA/x.py",
        "b\N{HANGUL FILLER}/x.py",
        "ALPHA/y.py",
    ):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(UNLEARN)
    (folder / "alpha" / "a.py").unlink()
    found = find_submissions([folder], source_kb=256)
    assert [each.name for each in found.candidates] == ["ALPHA/x.py", "ALPHA/y.py", "beta/b.py", "free.py"]
    assert all(sentence.isprintable() and sentence.isascii() for sentence in found.passed_over)
    assert [line for line in found.passed_over if "alpha/A.py" in line] == [
        "'alpha/A.py' is passed over: its name is another spelling of 'ALPHA'"
    ]
    assert any("HANGUL FILLER" in line for line in found.passed_over)
    shutil.rmtree(folder / "ALPHA")
    found = find_submissions([folder], source_kb=256)
    assert [each.name for each in found.candidates] == ["alpha/A.py", "alpha/é.py", "beta/b.py", "free.py"]
    (line,) = (line for line in found.passed_over if "another spelling" in line)
    assert "'alpha/\\xe9.py'" in line


def test_a_sentence_lists_no_more_names_than_can_be_read() -> None:
    assert listed(["a", "b"]) == "a and b"
    assert listed(["a", "b", "c"]) == "a, b and c"
    assert listed([*"abcdefghijklm"]) == "a, b, c, d, e, f, g, h, i, j and 3 more"


def test_a_final_may_spell_a_name_otherwise(folder: Path) -> None:
    (folder / "alpha" / unicodedata.normalize("NFD", "Méthode.py")).write_text(UNLEARN)
    (folder / "alpha" / "final.toml").write_text('choices = ["méthode.py"]')
    assert [each.name for each in chosen(find_submissions([folder], source_kb=256)).candidates][:1] == [
        "alpha/Méthode.py"
    ]


def test_another_spelling_of_a_team_has_the_same_quota() -> None:
    now = datetime(2026, 6, 1, 12, tzinfo=UTC)
    entry = Entry(
        submission="alpha/a.py",
        team="alpha",
        file="a.py",
        sha256="",
        code_hash="0",
        constants={},
        device="cpu",
        results="a",
        entered=now,
    )
    assert DailyQuota(1).is_used_up("Alpha", [entry], now)
    assert not DailyQuota(1).is_used_up("beta", [entry], now)
    newer = entry.model_copy(update={"submission": "Alpha/a.py", "code_hash": "1"})
    assert current([entry, newer]) == [newer]
