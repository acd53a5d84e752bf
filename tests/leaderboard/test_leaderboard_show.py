"""A leaderboard as people and programs read it: real runs on the tiny track, shown through the command line."""

import csv
import io
import json
import random
import re
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from rich.console import Console

from harness.evaluation.figures import Figures
from harness.leaderboard.board.rows import leaderboard
from harness.leaderboard.board.stored import read_board
from harness.leaderboard.pages.text import as_table
from harness.report.score_columns import SCORE_COLUMNS
from harness.scoring.score import SCORER_VERSION
from harness.seal import write_sealed
from harness.shipped import TEMPLATE
from harness.storage import read_json, write_json
from harness.submission import read_submission
from harness.tracks.track import Track
from tests.leaderboard.boards import BoardWriter, names_in_forms

Show = Callable[..., str]
HOSTILE = "=cmd|' /C calc'!A0<img src=x onerror=alert(1)>[red]**x**\x1b[2J.py"


@pytest.fixture
def board(home: Path, evaluated_home: Path, tiny: Track) -> BoardWriter:
    """A leaderboard of the evaluated submissions, in a HARNESS_HOME of its own."""
    names = ("ada/finetune.py", "bob/nothing.py", "bob/noise.py", "cy/broken.py")
    writer = BoardWriter.of_evaluated(home, tiny, evaluated_home, names)
    writer.add("dee/waiting.py")
    return writer


@pytest.fixture
def show(harness: Callable[..., Result], tiny_file: Path) -> Show:
    def call(*options: object) -> str:
        result = harness("leaderboard", "show", "--track", tiny_file, *options)
        assert result.exit_code == 0, result.output
        return result.output

    return call


@pytest.fixture
def rows(show: Show) -> Callable[..., dict[str, dict[str, Any]]]:
    """The rows by submission, in their order, as programs read them."""

    def call(*options: object) -> dict[str, dict[str, Any]]:
        return {row["submission"]: row for row in json.loads(show("--format", "json", *options))}

    return call


# ---- what is shown --------------------------------------------------------------------------------------------------


def test_rows_hold_all_that_is_known_in_the_order_of_the_scores(
    board: BoardWriter, rows: Callable[..., Any], evaluated_home: Path
) -> None:
    shown = rows()
    assert list(shown)[-2:] == ["cy/broken.py", "dee/waiting.py"]
    values = [row["calibrated_score"] for row in list(shown.values())[:-2]]
    assert values == sorted(values, reverse=True)
    stored = read_json(evaluated_home / "finetune.json")
    row = shown["ada/finetune.py"]
    for name in ("score", "calibrated_score", "calibrated_interval", "forgetting_quality", "retain_ratio"):
        assert row[name] == stored[name]
    assert row["share_of_ceiling"] == pytest.approx(stored["score"] / stored["ceiling"])
    assert row["share_of_limit"] == pytest.approx(stored["seconds"]["mean"] / stored["seconds"]["limit"], rel=1e-6)
    assert (row["runs"], row["device"], row["outcome"]) == (16, "cpu", "OK")
    assert row["rank_best"] <= row["rank_worst"] <= 3
    assert shown["cy/broken.py"]["outcome"] == "EXCEPTION"
    assert shown["cy/broken.py"]["rank"] is None
    assert shown["dee/waiting.py"]["unranked_because"] == "queued"
    assert shown["retrained models"]["score"] == stored["ceiling"]
    assert shown["original models as they are"]["score"] == stored["floor"]
    assert shown["original models as they are"]["calibrated_score"] == pytest.approx(
        shown["bob/nothing.py"]["calibrated_score"], rel=1e-3
    )


def test_every_figure_of_a_score_that_has_a_column_is_shown_in_every_form(
    board: BoardWriter, show: Show, rows: Callable[..., Any], evaluated_home: Path
) -> None:
    row, stored = rows()["ada/finetune.py"], Figures.of(read_json(evaluated_home / "finetune.json"))
    csv = show("--format", "csv").splitlines()[0].split(",")
    heads = {form: show("--format", form).splitlines()[0] for form in ("table", "markdown")}
    for column in SCORE_COLUMNS:
        assert row[column.field] == column.value(stored)
        assert column.field in csv
        assert all(column.name in head for head in heads.values())
        if column.interval is not None:
            assert tuple(row[column.interval]) == column.ends(stored)
            assert {f"{column.interval}_low", f"{column.interval}_high"} <= set(csv)
    assert set(Figures.single()) - {column.field for column in SCORE_COLUMNS} == {"ceiling", "floor"}


def test_the_table_says_once_what_holds_for_all_rows(board: BoardWriter, show: Show) -> None:
    shown = show()
    for text in ("rank", "ada/finetune.py", "bob/nothing.py", "EXCEPTION", "ceiling", "floor", "±", "queued"):
        assert text in shown
    assert "ranked by calibrated score, runs 16, device cpu" in " ".join(shown.split())
    assert "weights unchanged" in shown


def test_a_narrow_terminal_leaves_out_columns_and_says_which(board: BoardWriter, home: Path, tiny: Track) -> None:
    shown = leaderboard(read_board(home, tiny), reviews={})
    narrow, wide = (Console(width=width, file=io.StringIO()) for width in (90, 300))
    for console in (narrow, wide):
        console.print(as_table(shown, console))
    texts = [console.file.getvalue() for console in (narrow, wide)]  # type: ignore[attr-defined]
    assert all(len(line) <= 90 for line in texts[0].splitlines())
    for text in texts:
        assert "calibrated" in text
        assert "ada/finetune.py" in text
    assert "left out for lack of room: F, retain, test" in " ".join(texts[0].split())
    assert "left out" not in texts[1]


def test_the_same_results_give_the_same_bytes(board: BoardWriter, show: Show) -> None:
    for form in ("table", "csv", "json", "markdown"):
        assert show("--format", form) == show("--format", form)


def test_baselines_are_marked_and_not_ranked(
    board: BoardWriter, rows: Callable[..., Any], evaluated_home: Path, tmp_path: Path
) -> None:
    mine = tmp_path / "own-baselines"
    mine.mkdir()
    (mine / "noise.py").write_text("# a comment\n" + (evaluated_home / "submissions/bob/noise.py").read_text())
    row = rows("--baselines", mine)["bob/noise.py"]
    assert (row["kind"], row["rank"]) == ("baseline", None)
    row = rows()["bob/nothing.py"]  # the harness has that one itself
    assert (row["kind"], row["rank"]) == ("baseline", None)


def test_only_the_newest_version_of_a_file_stands_on_the_board(board: BoardWriter, rows: Callable[..., Any]) -> None:
    board.add_failed("ada/finetune.py", "TIME_LIMIT", "killed after 4.0 s")
    shown = rows()
    assert shown["ada/finetune.py"]["outcome"] == "TIME_LIMIT"
    assert shown["ada/finetune.py"]["message"] == "killed after 4.0 s"
    assert len([name for name in shown if name == "ada/finetune.py"]) == 1


@pytest.mark.parametrize("form", ["table", "csv", "json", "markdown"])
def test_why_a_file_failed_is_told_in_every_form_but_not_of_a_hidden_set(
    form: str, board: BoardWriter, show: Show
) -> None:
    board.add_failed("eve/leak.py", "EXCEPTION", "run 0: ValueError: pixels of\nthe hidden set" + " or so" * 100)
    shown = " ".join(show("--format", form).replace("\\n", " ").replace("\\", "").split())
    assert "run 0: ValueError: pixels of the hidden set" in shown
    assert "hidden set" not in show("--format", form, "--hidden")
    if form in ("table", "markdown"):
        assert " ".join(shown.split("eve/leak.py: ")[1].split()).startswith("run 0: ValueError: pixels")
        assert "or so …" in shown


def test_an_appeal_finds_its_file_by_its_hash(board: BoardWriter, rows: Callable[..., Any], show: Show) -> None:
    board.add_failed("eve/odd.py", "EXCEPTION", "")
    assert rows()["eve/odd.py"]["sha256"] == "0" * 64
    assert "sha256" in show("--format", "csv").splitlines()[0]


def test_code_that_several_teams_hand_in_raises_an_alarm_unless_it_is_a_baseline(
    board: BoardWriter, rows: Callable[..., Any], show: Show
) -> None:
    shared, baseline = "a" * 64, rows()["bob/nothing.py"]["code_hash"]
    template = read_submission(TEMPLATE, source_kb=256).code_hash
    for place, name in enumerate(("eve/own.py", "eve/again.py", "fay/same.py", "same.py")):
        board.add_synthetic(name, 0.5 - place / 10, code_hash=shared)
    board.add_synthetic("fay/same.py", 0.6)  # a newer version; that of before counts too
    board.add_synthetic("gil/nothing.py", 0.1, code_hash=baseline)
    for team in ("eve", "fay"):
        board.add(f"{team}/template.py", code_hash=template)
    shown = rows()
    assert shown["eve/own.py"]["same_code"] == ["fay/same.py", "same.py"]
    assert shown["same.py"]["same_code"] == ["eve/again.py", "eve/own.py", "fay/same.py"]
    assert {name for name, row in shown.items() if "same code" in row["alarms"]} == {
        *("eve/own.py", "eve/again.py", "same.py")
    }
    assert shown["eve/own.py"]["review"] == "open"
    assert shown["gil/nothing.py"]["baseline"] == "identity"
    assert "eve/again.py, eve/own.py, fay/same.py and same.py hold the same code" in " ".join(show().split())
    assert "baseline identity" in " ".join(show().split())


def test_failures_stand_below_scores_without_a_rank_in_the_same_order_in_every_form(
    home: Path, tiny: Track, harness: Callable[..., Result], tiny_file: Path, tmp_path: Path, show: Show
) -> None:
    writer = BoardWriter(home, tiny)
    writer.add("a/queued.py")
    writer.add("a/running.py", state="running", runs=3)
    for name in ("b/second.py", "a/third.py"):
        writer.add_failed(name, "EXCEPTION", "")
    writer.add_failed("A/first.py", "INVALID_SUBMISSION", "")
    writer.add_failed("z/fourth.py", "HARNESS_ERROR", "")
    writer.add("a/stopped.py", state="stopped", outcome="OK", runs=5)
    for name, truth in (("a/slow.py", 0.3), ("a/slower.py", 1.2)):
        entry = read_json(writer.entry_file(writer.add_synthetic(name, truth, noise=1e-4)))
        path = writer.results / entry["results"] / f"{entry['score']}.json"
        write_sealed(path, {**read_json(path), "unranked_because": "over the limit"})
    writer.add_synthetic("z/tied.py", 0.5, noise=1e-9)
    writer.add_synthetic("y/tied.py", 0.5, noise=1e-9)
    writer.add_synthetic("z/best.py", 0.9, noise=1e-9)
    ranked = ["z/best.py", "y/tied.py", "z/tied.py"]
    unranked = ["a/slower.py", "a/slow.py", "a/stopped.py"]
    failed = ["A/first.py", "a/third.py", "b/second.py", "z/fourth.py"]
    forms = names_in_forms(harness, tiny_file, tmp_path / "site")
    forms["table"] = sorted(forms["json"], key=show().index)
    for names in forms.values():
        assert [name for name in names if "/" in name] == [*ranked, *unranked, *failed, "a/queued.py", "a/running.py"]


# ---- cells that mean nothing but themselves -------------------------------------------------------------------------


def test_a_hostile_name_is_text_in_every_format(board: BoardWriter, show: Show) -> None:
    board.add_failed(HOSTILE, "EXCEPTION", "=1+1")
    (row,) = [row for row in csv.DictReader(io.StringIO(show("--format", "csv"))) if "calc" in row["submission"]]
    assert row["submission"].startswith("'=cmd")
    assert row["message"] == "'=1+1"
    table = show()
    assert "\x1b" not in table
    assert "[red]" in table
    markdown = show("--format", "markdown")
    row_of_it, why = [line for line in markdown.splitlines() if "calc" in line]
    assert row_of_it.count("|") - row_of_it.count("\\|") == markdown.splitlines()[0].count("|")
    assert not re.search(r"(?<!\\)[<*\[]", row_of_it + why)


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t=", " =", "＝", "\r+"])  # noqa: RUF001
def test_no_cell_of_the_csv_is_a_formula(start: str, board: BoardWriter, show: Show) -> None:
    board.add_failed(f"{start}1.py", "EXCEPTION", "")
    cells = [cell for row in csv.reader(io.StringIO(show("--format", "csv"))) for cell in row]
    found = [cell for cell in cells if cell.endswith("1.py") and "harness check" not in cell]
    assert found
    assert all(cell[0] == "'" or cell[0] == "\\" for cell in found)


def test_a_range_of_ranks_is_no_date_in_the_csv(board: BoardWriter, show: Show) -> None:
    board.add_synthetic("x.py", 0.4)
    board.add_synthetic("y.py", 0.4)
    ranks = {row["rank"] for row in csv.DictReader(io.StringIO(show("--format", "csv")))}
    assert any(re.fullmatch(r"\d+ to \d+", rank) for rank in ranks)


# ---- rounding -------------------------------------------------------------------------------------------------------


def test_rounding_hides_further_digits_from_figures_order_and_ranks(
    board: BoardWriter, rows: Callable[..., Any]
) -> None:
    names = [f"probe{place}.py" for place in range(6)]
    for place, name in enumerate(reversed(names)):
        board.add_synthetic(name, 0.38 + place / 100, noise=1e-4)
    exact, rounded = rows(), rows("--rounded", 1)
    assert len({exact[name]["rank"] for name in names}) > 1
    assert {rounded[name]["calibrated_score"] for name in names} == {0.4}
    assert len({rounded[name]["rank"] for name in names}) == 1
    assert [name for name in rounded if name in names] == names
    for row in rounded.values():
        for name, value in row.items():
            if name.endswith(("score", "ratio", "quality", "ceiling")) and value is not None:
                assert value == round(value, 1)
            if name.endswith("_interval") and value is not None:
                assert value == [round(end, 1) for end in value]


# ---- reviews --------------------------------------------------------------------------------------------------------


def test_an_alarm_opens_a_review_that_the_table_shows_and_nobody_overwrites(
    board: BoardWriter, rows: Callable[..., Any]
) -> None:
    before = rows()["bob/noise.py"]
    assert before["alarms"]
    assert before["review"] == "open"
    (path,) = (path for path in board.folder.glob("reviews/*.toml") if "bob/noise.py" in path.read_text())
    written = (
        path.read_text().replace('status = "open"', 'status = "closed"').replace('reason = ""', 'reason = "blind"')
    )
    path.write_text(written.replace('decision = ""', 'decision = "stands"'))
    after = rows()["bob/noise.py"]
    assert after["review"] == "closed: stands"
    assert (after["rank"], after["calibrated_score"]) == (before["rank"], before["calibrated_score"])
    assert tomllib.loads(path.read_text())["reason"] == "blind"
    path.write_text(path.read_text().replace('decision = "stands"', 'decision = "disqualified"'))
    out = rows()["bob/noise.py"]
    assert (out["rank"], out["unranked_because"]) == (None, "disqualified by review")


def test_an_alarm_that_a_closed_review_did_not_know_is_shown(board: BoardWriter, rows: Callable[..., Any]) -> None:
    rows()
    (path,) = (path for path in board.folder.glob("reviews/*.toml") if "bob/noise.py" in path.read_text())
    path.write_text('submission = "bob/noise.py"\nalarms = ["ties"]\nstatus = "closed"\ndecision = "stands"\n')
    assert rows()["bob/noise.py"]["review"] == "closed: stands, new alarm"


def test_a_file_that_holds_a_table_is_on_the_board_with_its_alarm_and_a_review(
    harness: Callable[..., Result], submission: Callable[[str], Path], tiny_file: Path, home: Path
) -> None:
    table = random.Random(0).randbytes(4096)
    file = submission(f"TABLE = {table!r}\ndef unlearn(net, retain_loader, forget_loader, val_loader): pass\n")
    assert harness("leaderboard", "run", file, "--track", tiny_file, "--runs", 2).exit_code == 0
    shown = harness("leaderboard", "show", "--track", tiny_file, "--format", "json").output
    (row,) = (row for row in json.loads(shown) if row["submission"] == file.name)
    assert (row["alarms"], row["review"]) == (["data in the file"], "open")
    (review,) = home.glob("leaderboards/*/reviews/*.toml")
    assert tomllib.loads(review.read_text())["alarms"] == ["data in the file"]


def test_a_review_that_cannot_be_read_is_named(
    board: BoardWriter, show: Show, harness: Callable[..., Result], tiny_file: Path
) -> None:
    show()
    path = next(iter(board.folder.glob("reviews/*.toml")))
    path.write_text('status = "done"\n')
    result = harness("leaderboard", "show", "--track", tiny_file)
    assert result.exit_code == 2
    assert path.name in result.output
    assert "status" in result.output


# ---- what is wrong with a folder ------------------------------------------------------------------------------------


def test_without_a_leaderboard_the_next_command_is_named(
    home: Path, harness: Callable[..., Result], tiny_file: Path
) -> None:
    result = harness("leaderboard", "show", "--track", tiny_file)
    assert result.exit_code == 2
    assert "harness leaderboard run" in result.output


def test_every_damaged_file_is_named(board: BoardWriter, harness: Callable[..., Result], tiny_file: Path) -> None:
    entries = sorted((board.folder / "entries").iterdir(), key=lambda file: read_json(file)["score"] is not None)
    entries[0].write_text('{"submission": ')
    write_json(entries[1], {**read_json(entries[1]), "state": "asleep"})
    third = read_json(entries[-1])
    (board.results / third["results"] / f"{third['score']}.json").unlink()
    result = harness("leaderboard", "show", "--track", tiny_file)
    assert result.exit_code == 4
    for name in (entries[0].name, entries[1].name, "state", third["score"], "missing"):
        assert name in result.output


def test_a_changed_digit_of_a_score_is_never_shown_and_the_named_command_makes_the_score_again(
    board: BoardWriter, harness: Callable[..., Result], tiny_file: Path, evaluated_home: Path, tmp_path: Path
) -> None:
    show = ("leaderboard", "show", "--track", tiny_file, "--format", "json")
    board.entry_file(board.keys[-1]).unlink()  # the one that waits
    before = json.loads(harness(*show).output)
    entry = read_json(board.entry_file(board.keys[0]))
    file = board.results / entry["results"] / f"{entry['score']}.json"
    file.write_text(file.read_text().replace('"calibrated_score": 0.', '"calibrated_score": 7.', 1))
    for command in (show, ("leaderboard", "html", "--track", tiny_file, "--output", tmp_path / "site")):
        refused = harness(*command)
        assert refused.exit_code == 4
        assert f"{file}: its content does not match its hash" in refused.output
        assert "harness leaderboard run" in refused.output
        assert "7." not in refused.output.replace(str(file), "")
    assert not (tmp_path / "site").exists()
    again = harness("leaderboard", "run", evaluated_home / "submissions", "--track", tiny_file, "--runs", 16)
    assert again.exit_code == 0, again.output
    assert f"{file} is damaged" in again.output
    assert [row["score"] for row in json.loads(harness(*show).output)] == [row["score"] for row in before]


def test_a_damaged_reference_is_named_and_takes_nothing_but_the_floor_with_it(
    board: BoardWriter, harness: Callable[..., Result], tiny_file: Path
) -> None:
    (file,) = board.results.glob("reference-16-*.json")
    file.write_text("[1, 2]")
    result = harness("leaderboard", "show", "--track", tiny_file, "--format", "json")
    assert result.exit_code == 0, result.output
    assert f"{file} is damaged" in result.stderr
    rows = {row["submission"]: row for row in json.loads(result.stdout)}
    assert rows["original models as they are"]["calibrated_score"] is None
    assert rows["ada/finetune.py"]["calibrated_score"] is not None


@pytest.mark.parametrize(
    ("values", "because"),
    [
        ({"reference_hash": "f" * 64}, "scored against another reference"),
        ({"scorer_version": "2"}, f"scored by version 2, not {SCORER_VERSION}"),
        ({"unranked_because": "over the limit"}, "over the limit"),
    ],
)
def test_a_score_that_cannot_be_compared_is_shown_and_not_ranked(
    values: dict[str, str], because: str, board: BoardWriter, rows: Callable[..., Any]
) -> None:
    entry = read_json(board.entry_file(board.add_synthetic("odd.py", 0.9)))
    path = board.results / entry["results"] / f"{entry['score']}.json"
    write_sealed(path, {**read_json(path), **values})
    shown = rows()
    assert (shown["odd.py"]["rank"], shown["odd.py"]["unranked_because"]) == (None, because)
    ranked = [row["submission"] for row in shown.values() if row["rank"] is not None]
    assert list(shown).index("odd.py") > max(list(shown).index(name) for name in ranked)


def test_a_score_of_another_device_is_shown_and_not_ranked(board: BoardWriter, rows: Callable[..., Any]) -> None:
    board.add_synthetic("odd.py", 0.9, device="cuda")
    assert rows()["odd.py"]["unranked_because"] == "run on cuda, not cpu"


@pytest.mark.slow
def test_1000_stored_submissions_are_listed_in_5_seconds_of_a_processor(home: Path, tiny: Track, show: Show) -> None:
    writer = BoardWriter(home, tiny)
    for place in range(1000):
        writer.add_synthetic(f"{place}.py", 1 - place / 1000)
    started = time.process_time()
    assert len(json.loads(show("--format", "json"))) == 1002
    assert time.process_time() - started < 5
