"""Files of teams: what counts as one, how many a day, which are for the final, and what a team is told."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from click.testing import Result

from harness.errors import UsageError
from harness.leaderboard.batch import folders, reading, watch
from harness.leaderboard.batch.reading import Candidate
from harness.leaderboard.batch.register import register
from harness.leaderboard.batch.teams import (
    DailyQuota,
    SubmissionsFound,
    chosen,
    find_submissions,
    with_faults_of_choices,
)
from harness.leaderboard.board.entries import Entry, current, entries
from harness.runner.outcome import Outcome
from harness.shipped import BASELINES
from harness.submission import submission_of

Harness = Callable[..., Result]

IDENTITY = "def unlearn(net, retain_loader, forget_loader, val_loader): pass"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the folders of two teams."""
    folder = tmp_path / "handed-in"
    for team in ("alpha", "beta"):
        (folder / team).mkdir(parents=True)
        (folder / team / "a.py").write_text(IDENTITY)
    return folder


def names(found: SubmissionsFound) -> list[str]:
    return [each.name for each in found.candidates]


# ---- what counts as a submission ----------------------------------------------------------------------------------


def test_files_of_teams_and_of_nobody_are_found_and_links_are_not(folder: Path, tmp_path: Path) -> None:
    hidden = tmp_path / "hidden.py"
    hidden.write_text("SECRET = 1")
    (folder / "free.py").write_text(IDENTITY)
    (folder / "alpha" / "link.py").symlink_to(hidden)
    (folder / "alpha" / "pipe.py").symlink_to("/dev/null")
    os.mkfifo(folder / "alpha" / "fifo.py")
    os.link(folder / "beta" / "a.py", folder / "alpha" / "stolen.py")
    with (folder / "beta" / "huge.py").open("wb") as file:
        file.truncate(1 << 30)
    (folder / "beta" / "a.py").unlink()
    (folder / "alpha" / "notes.txt").write_text("")
    (folder / "alpha" / ".a.py").write_text(IDENTITY)
    (folder / "alpha" / "odd\nname.py").write_text(IDENTITY)
    (folder / "alpha" / "package.py").mkdir()
    (folder / "linked-team").symlink_to(folder / "alpha")
    found = find_submissions([folder], source_kb=256)
    assert names(found) == ["alpha/a.py", "alpha/stolen.py", "free.py"]
    assert [each.team for each in found.candidates] == ["alpha", "alpha", None]
    told = "\n".join(found.passed_over)
    for name, reason in {
        "alpha/link.py": "a link",
        "alpha/pipe.py": "a link",
        "alpha/fifo.py": "not a regular file",
        "alpha/package.py": "directory",
        "beta/huge.py": "more than",
    }.items():
        assert any(line.startswith(name) and reason in line for line in found.passed_over), told


def test_a_link_to_a_file_takes_nothing_from_its_owner_and_is_told(folder: Path, tmp_path: Path) -> None:
    os.link(folder / "beta" / "a.py", folder / "alpha" / "stolen.py")
    os.link(folder / "alpha" / "a.py", tmp_path / "backup.py")
    found = find_submissions([folder], source_kb=256)
    assert names(found) == ["alpha/a.py", "alpha/stolen.py", "beta/a.py"]
    assert found.passed_over == ["alpha/stolen.py and beta/a.py are hard links to one file"]


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files to other users")
def test_a_link_in_the_folder_of_another_user_is_passed_over_and_the_file_is_not(folder: Path) -> None:
    os.link(folder / "beta" / "a.py", folder / "alpha" / "stolen.py")
    for user, name in enumerate(("alpha", "alpha/a.py", "beta", "beta/a.py")):
        os.chown(folder / name, 4000 + user // 2, -1)
    found = find_submissions([folder], source_kb=256)
    assert names(found) == ["alpha/a.py", "beta/a.py"]
    assert found.passed_over == [
        "alpha/stolen.py is passed over: it is a link to the file of another user; a copy of one's own would count",
        "alpha/stolen.py and beta/a.py are hard links to one file",
    ]


def test_no_team_has_more_files_than_may_be_opened_or_takes_more_time_than_there_is_for_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        (folder / "alpha" / f"bomb{number}.py").write_text("x = " + "[" * 100)
    for number in range(7):
        (folder / "beta" / f"b{number}.py").write_text(f"x = {number}\n{IDENTITY}")
    clock = iter(range(0, 10_000, 20))  # each file takes 20 s
    monkeypatch.setattr(reading, "seconds_taken", lambda: float(next(clock)))
    monkeypatch.setattr(folders, "MAX_FILES", 6)
    found = find_submissions([folder], source_kb=256)
    assert names(found)[:4] == ["alpha/a.py", "alpha/bomb0.py", "alpha/bomb1.py", "beta/a.py"]
    assert len(names(found)) == 6
    assert found.passed_over == [
        "beta/b5.py is passed over: a team may have 6 files, and from this one on 2 are not opened",
        "3 more are passed over: the files of alpha took 60 s to be parsed, all that a team has on one day",
        "3 more are passed over: the files of beta took 60 s to be parsed, all that a team has on one day",
    ]


def test_a_file_below_submissions_belongs_to_its_team(tmp_path: Path) -> None:
    (tmp_path / "submissions" / "alpha").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    files = [tmp_path / "submissions" / "alpha" / "a.py", tmp_path / "elsewhere" / "b.py"]
    for file in files:
        file.write_text(IDENTITY)
    assert [(each.name, each.team) for each in find_submissions(files, source_kb=256).candidates] == [
        ("alpha/a.py", "alpha"),
        ("b.py", None),
    ]


@pytest.mark.parametrize(
    ("here", "named", "expected"),
    [
        ("alpha", "a.py", "alpha"),
        ("alpha", "../beta/a.py", "beta"),
        ("alpha/notes", "../a.py", "alpha"),
        (".", "a.py", None),
        (".", "alpha", "alpha"),
        ("alpha", ".", "alpha"),
        ("alpha", "../beta", "beta"),
    ],
)
def test_a_file_belongs_to_its_team_from_wherever_it_or_its_folder_is_named(
    here: str, named: str, expected: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    submissions = tmp_path / "submissions"
    for folder in ("alpha/notes", "beta"):
        (submissions / folder).mkdir(parents=True)
    for file in ("a.py", "alpha/a.py", "beta/a.py"):
        (submissions / file).write_text(IDENTITY)
    monkeypatch.chdir(submissions / here)
    found = find_submissions([Path(named)], source_kb=256)
    assert [(each.name, each.team) for each in found.candidates] == [
        (f"{expected}/a.py" if expected else "a.py", expected)
    ]
    faults = [f"{expected} has nothing in the final: no final.toml"] if expected else []
    said = [sentence.partition(";")[0] for sentence in chosen(found).passed_over]
    assert [sentence for sentence in said if "alpha/notes is passed over" not in sentence] == faults


@pytest.mark.parametrize("named", ["submissions/round", "submissions/submissions"])
def test_a_folder_below_submissions_that_has_folders_of_teams_is_no_team(named: str, tmp_path: Path) -> None:
    folder = tmp_path / named
    (folder / "alpha").mkdir(parents=True)
    for file in ("a.py", "alpha/b.py"):
        (folder / file).write_text(IDENTITY)
    found = find_submissions([folder], source_kb=256)
    assert [(each.name, each.team) for each in found.candidates] == [("a.py", None), ("alpha/b.py", "alpha")]
    assert found.passed_over == []


def test_two_files_of_one_name_are_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match="the same name"):
        find_submissions([folder / "alpha" / "a.py", folder / "beta" / "a.py"], source_kb=256)


# ---- the final ----------------------------------------------------------------------------------------------------


def test_in_the_final_are_the_files_that_teams_chose_two_at_most(folder: Path) -> None:
    for name in ("b.py", "c.py"):
        (folder / "alpha" / name).write_text(IDENTITY)
    (folder / "alpha" / "final.toml").write_text('choices = ["a.py", "c.py"]')
    found = chosen(find_submissions([folder], source_kb=256))
    assert names(found) == ["alpha/a.py", "alpha/c.py"]
    assert "beta has nothing in the final: no final.toml" in found.passed_over[0]


def test_a_choice_that_would_not_count_is_told_before_the_final(folder: Path) -> None:
    (folder / "alpha" / "final.toml").write_text('choices = ["a.py", "gone.py"]')
    found = with_faults_of_choices(find_submissions([folder], source_kb=256))
    assert names(found) == ["alpha/a.py", "beta/a.py"]
    (sentence,) = found.passed_over  # beta has not chosen yet
    assert sentence.startswith("alpha would have nothing in the final: final.toml names 'gone.py'")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('choices = ["a.py", "b.py", "c.py"]', "names 3 files"),
        ("choices = []", "names 0 files"),
        ('choices = ["missing.py"]', "'missing.py'"),
        ('choices = ["../beta/a.py"]', "'../beta/a.py'"),
        ('choices = "a.py"', "has to hold choices"),
        ('choice = ["a.py"]', "has to hold choices"),
        ("choices = [", "is not TOML"),
    ],
)
def test_a_final_that_cannot_be_read_keeps_its_team_out_and_says_why(
    content: str, reason: str, folder: Path, home: Path, tiny_file: Path, harness: Harness
) -> None:
    (folder / "alpha" / "final.toml").write_text(content)
    result = harness("leaderboard", "run", folder, "--track", tiny_file, "--final")
    assert result.exit_code == 2
    assert "alpha has nothing in the final" in result.output
    assert reason in result.output


# ---- quota --------------------------------------------------------------------------------------------------------


def entry(when: datetime, team: str = "alpha", outcome: Outcome | None = Outcome.OK) -> Entry:
    return Entry(
        submission=f"{team}/a.py",
        team=team,
        file="a.py",
        sha256="",
        code_hash=when.isoformat(),
        constants={},
        device="cpu",
        results="a",
        entered=when,
        outcome=outcome,
    )


def test_a_day_is_counted_in_the_time_zone_that_is_stated() -> None:
    zurich, quota = ZoneInfo("Europe/Zurich"), DailyQuota(1)
    late = datetime(2026, 6, 1, 22, 30, tzinfo=UTC)  # half past midnight in Zurich
    assert quota.is_used_up("alpha", [entry(late)], late.replace(hour=23))
    assert quota.is_used_up("alpha", [entry(late)], datetime(2026, 6, 2, 20, tzinfo=zurich))
    assert not quota.is_used_up("alpha", [entry(late)], datetime(2026, 6, 2, 20, tzinfo=UTC))
    assert not quota.is_used_up("alpha", [entry(late - timedelta(hours=2))], datetime(2026, 6, 2, 20, tzinfo=zurich))


def test_faults_of_participants_are_charged_and_those_of_the_harness_are_not() -> None:
    now = datetime(2026, 6, 1, 12, tzinfo=UTC)
    assert DailyQuota(1).is_used_up("alpha", [entry(now, outcome=Outcome.EXCEPTION)], now)
    assert DailyQuota(1).is_used_up("alpha", [entry(now, outcome=None)], now)
    assert not DailyQuota(1).is_used_up("alpha", [entry(now, outcome=Outcome.HARNESS_ERROR)], now)
    assert not DailyQuota(1).is_used_up("alpha", [entry(now, "beta")], now)
    assert not DailyQuota(2).is_used_up("alpha", [entry(now)], now)


def test_a_team_over_its_quota_waits_and_others_do_not(
    harness: Harness, folder: Path, home: Path, tiny_file: Path
) -> None:
    (folder / "free.py").write_text((BASELINES / "identity.py").read_text())
    for name in ("b.py", "c.py"):
        (folder / "alpha" / name).write_text(f"def unlearn(*arguments): raise ValueError({name!r})")
    options = ("--track", tiny_file, "--runs", 1, "--max-per-day", 2, "--timezone", "Asia/Tokyo")
    result = harness("leaderboard", "run", folder, *options)
    assert result.exit_code == 0, result.output
    assert "alpha/c.py waits: alpha has entered 2 of 2 submissions of" in result.output
    assert "\nalpha/a.py and beta/a.py hold the same code\n" in result.output
    assert "free.py: done, 1 runs: its code is that of the baseline identity, which is shown" in result.output
    assert "(Asia/Tokyo)" in result.output
    board = next(home.glob("leaderboards/*"))
    assert {each.submission for each in entries(board)} == {"alpha/a.py", "alpha/b.py", "beta/a.py", "free.py"}
    assert all(each.entered.utcoffset() == timedelta(hours=9) for each in entries(board))
    again = harness("leaderboard", "run", folder, *options)  # those that are entered are not charged again
    assert "4 submissions: 3 done, 1 failed" in again.output


def test_files_that_are_not_run_take_no_try_and_a_thousand_of_them_do_not_fill_the_board(
    harness: Harness, folder: Path, home: Path, tiny_file: Path
) -> None:
    alpha = folder / "alpha"
    (alpha / "a.py").rename(alpha / "method.py")
    (alpha / "augment.py").write_text("def augment(images): return images")
    (alpha / "big.py").write_text("#" * 300_000)
    for number in range(30):
        (alpha / f"broken{number:02d}.py").write_text(f"def unlearn({number}")
    options = ("--track", tiny_file, "--runs", 1, "--max-per-day", 1)
    result = harness("leaderboard", "run", folder, *options)
    assert result.exit_code == 0, result.output
    board = next(home.glob("leaderboards/*"))
    found = {each.submission: each for each in entries(board)}
    assert set(found) == {"alpha/big.py", "alpha/method.py", "beta/a.py"}
    assert (found["alpha/method.py"].state, found["alpha/big.py"].outcome) == ("done", "INVALID_SUBMISSION")
    assert "alpha/augment.py is passed over: the file defines no function unlearn(" in result.output
    assert "alpha/broken00.py is passed over: syntax error in line 1" in result.output
    assert "alpha has been told of 1 files with a fault" in result.output
    assert "more are passed over" not in result.output
    (alpha / "other.py").write_text(f"x = 1\n{IDENTITY}")
    again = harness("leaderboard", "run", folder, *options)  # one try was used
    assert "alpha/other.py waits: alpha has entered 1 of 1 submissions of" in again.output


# ---- watching -----------------------------------------------------------------------------------------------------


def test_a_clock_that_is_set_back_does_not_make_an_older_version_the_current_one(tmp_path: Path) -> None:
    file, later = tmp_path / "foo.py", datetime(2026, 1, 2, 12, tzinfo=UTC)
    made = []
    for version, now in enumerate((later, later - timedelta(hours=1), later - timedelta(hours=2))):
        content = f"VERSION = {version}\ndef unlearn(net, *loaders): pass".encode()
        candidate = Candidate("foo.py", None, submission_of(file, content, source_kb=256))
        found = register([candidate], tmp_path, device="cpu", results=lambda _: "x", now=now, quota=None)
        made.append(found["foo.py"])
    assert [entry.key for entry in current(entries(tmp_path))] == [made[-1].key]
    assert [entry.key for entry in entries(tmp_path)] == [entry.key for entry in made]


def wait_for_log(file: Path, text: str) -> str:
    deadline = time.monotonic() + 90
    log = file.with_name(f"{file.name}.log")
    while not log.exists() or text not in log.read_text():
        assert time.monotonic() < deadline, log.read_text() if log.exists() else f"no {log}"
        time.sleep(0.05)
    return log.read_text()


def test_a_watched_team_whose_files_took_all_their_time_waits_until_the_next_day(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("POLL_SECONDS", "SETTLE_SECONDS", "RETRY_SECONDS"):
        monkeypatch.setattr(watch, name, -1.0)
    monkeypatch.setattr(reading, "PARSING_SECONDS", 0)
    took_time: list[str] = []

    def enter(candidate: Candidate) -> str:
        took_time.append(candidate.name)
        return "waits for its quota"

    watched = watch.Watch([folder], source_kb=256, enter=enter)
    watched.poll()
    assert took_time == []
    told = (folder / "beta" / "a.py.log").read_text()
    assert told == "beta/a.py waits: the files of beta took 0 s to be parsed, all that a team has on one day\n"
    monkeypatch.setattr(reading, "_today", lambda: date(2126, 1, 1))
    monkeypatch.setattr(reading, "PARSING_SECONDS", 1e-9)
    for _ in range(3):  # what was read once is not read again
        watched.poll()
    assert took_time == ["alpha/a.py", "beta/a.py"] * 3
    assert "waits for its quota" in (folder / "beta" / "a.py.log").read_text()


@pytest.mark.long
def test_a_dropped_file_is_evaluated_once_complete_and_its_team_is_told(
    folder: Path, home: Path, tiny_file: Path
) -> None:
    alpha, secret = folder / "alpha", "pixels of the hidden set"
    (alpha / "a.py").unlink()
    longest = alpha / f"{'x' * 251}.txt"
    for dropped in (alpha / "Method.PY", alpha / "submission.zip", alpha / "_own.py", longest):
        dropped.write_text(IDENTITY)
    (alpha / "augment.py").write_text("def augment(images): return images")
    for number in range(3):
        (alpha / f"broken{number}.py").write_text(f"def unlearn({number}")
    options = ["--track", str(tiny_file), "--runs", "2", "--watch", "--max-per-day", "2", "--hidden"]
    watching = subprocess.Popen(
        [sys.executable, "-m", "harness", "leaderboard", "run", str(folder), *options],
        env=os.environ | {"HARNESS_HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        log = wait_for_log(folder / "beta" / "a.py", "calibrated score")
        assert "beta/a.py: done, 2 runs" in log
        assert "forgetting quality" not in log  # of a hidden forget set only the rounded score is told
        with (alpha / "growing.py").open("w") as file:  # half a file is not taken
            file.write("def unlearn(net, ")
            file.flush()
            for _ in range(3):
                time.sleep(1)
                file.write(" ")
                file.flush()
            assert not (alpha / "growing.py.log").exists()
            file.write("retain_loader, forget_loader, val_loader): pass")
        wait_for_log(alpha / "growing.py", "growing.py: done, 2 runs")
        for name, reason in {
            "Method.PY": "is passed over and is not evaluated: its name ends in .PY, not in .py",
            "submission.zip": "its name does not end in .py or .ipynb",
            "augment.py": "is passed over and is not evaluated: the file defines no function unlearn(",
            "broken0.py": "failed, INVALID_SUBMISSION: syntax error in line 1",
            "broken2.py": "is passed over: syntax error in line 1",
        }.items():
            assert reason in wait_for_log(alpha / name, reason)
        (log_of_longest,) = alpha.glob("xxx*.log")
        assert "its name does not end in" in log_of_longest.read_text()
        assert not (alpha / "_own.py.log").exists()
        (alpha / "link.py").symlink_to(folder / "beta" / "a.py")
        assert "it is a link" in wait_for_log(alpha / "link.py", "is not evaluated")
        (alpha / "tells.py").write_text(f"def unlearn(a, b, c, d):\n    raise ValueError({secret!r}.upper())")
        log = wait_for_log(alpha / "tells.py", "failed, EXCEPTION")
        assert secret.upper() not in log
        assert "ValueError" in log
        (alpha / "third.py").write_text(IDENTITY)
        wait_for_log(alpha / "third.py", "waits: alpha has entered 2 of 2 submissions of")
        assert oct((alpha / "third.py.log").stat().st_mode)[-3:] == "644"
        watching.send_signal(signal.SIGINT)
        output, _ = watching.communicate(timeout=30)
    finally:
        watching.kill()
        watching.wait()
    assert watching.returncode == 130
    assert secret.upper() not in output
    assert "Traceback" not in output
