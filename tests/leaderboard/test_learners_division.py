"""Learners on a leaderboard: made in a batch like any other, shown in a table of their own, verified."""

import csv
import io
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from harness.cli.main import cli
from harness.evaluation.evaluate import load_evaluation
from harness.leaderboard.batch.progress import Pace, _time_left
from harness.leaderboard.board.entries import Entry, current, entries
from harness.report.learner_columns import LEARNER_COLUMNS
from harness.runs.stage import Stage
from harness.seal import read_sealed_arrays, sealed, write_sealed_arrays
from harness.storage import read_json, write_json
from harness.submission import read_submission
from harness.tracks.track import Track
from tests.conftest import Once
from tests.learners import EXACT, TRAIN, UNLEARN

Harness = Callable[..., Result]

CLAIMING = f"CERTIFICATE = (8.0, 1e-5)\n{EXACT}"
NO_TRAINING = f"{TRAIN} 1 / 0\n{UNLEARN} pass"
IDENTITY = "def unlearn(net, retain_loader, forget_loader, val_loader): pass"


HANDED_IN = {"ada/exact.py": CLAIMING, "ada/fails.py": NO_TRAINING, "nothing.py": IDENTITY}


def write(folder: Path) -> Path:
    """Write what is handed in: two learners, one of which fails, and an ordinary submission."""
    for name, source in HANDED_IN.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(source)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "handed-in")


@pytest.fixture(scope="session")
def batch_of_learners(prepared_tracks: Path, tiny_file: Path, once: Once) -> Path:
    """A HARNESS_HOME with the leaderboard of 16 runs of each; not to be changed."""

    def fill(home: Path) -> None:
        (home / "tracks").symlink_to(prepared_tracks)
        call = ["leaderboard", "run", str(write(home / "handed-in")), "--track", str(tiny_file), "--runs", "16"]
        result = CliRunner(env={"HARNESS_HOME": str(home)}).invoke(cli, call)
        assert result.exit_code == 0, result.output

    return once("learners", fill)


@pytest.fixture
def board(home: Path, batch_of_learners: Path) -> Path:
    """A copy of that leaderboard."""
    for name in ("results", "leaderboards"):
        shutil.copytree(batch_of_learners / name, home / name)
    return home


@pytest.fixture
def leaderboard(harness: Harness, tiny_file: Path) -> Callable[..., str]:
    """A command about the leaderboard of the tiny track that has to go well; returns what it prints."""

    def call(*arguments: object) -> str:
        result = harness("leaderboard", *arguments, "--track", tiny_file)
        assert result.exit_code == 0, result.output
        return result.output

    return call


def score_file(home: Path) -> Path:
    """Return where the score of the learner lies."""
    entry = on_board(home)["ada/exact.py"]
    (results,) = home.glob(f"results/*/{entry.results}")
    return results / f"{entry.score}.json"


def change_learner(home: Path, **values: object) -> None:
    """Change what is stored of the learner, as whoever wants it to be believed does."""
    found = read_json(score_file(home))
    write_json(score_file(home), sealed({**found, "learner": {**found["learner"], **values}}))


def on_board(home: Path) -> dict[str, Entry]:
    (board,) = home.glob("leaderboards/tiny-*")
    return {entry.submission: entry for entry in current(entries(board))}


def stored(home: Path) -> dict[Path, int]:
    """Return the files of runs and when they were written."""
    return {path: path.stat().st_mtime_ns for path in home.glob("results/*/*/*-????.npz")}


# ---- a batch ------------------------------------------------------------------------------------------------------


def test_learners_are_made_beside_others_and_one_that_fails_stops_nobody(
    harness: Harness, folder: Path, home: Path, tiny_file: Path, tmp_path: Path
) -> None:
    command = ("leaderboard", "run", folder, "--track", tiny_file, "--runs")
    result = harness(*command, 1)
    assert result.exit_code == 0, result.output
    assert "stage of 1 runs: 3 runs and 8 trainings to make" in result.output
    assert "3 submissions: 2 done, 1 failed" in result.output
    found = on_board(home)
    assert {name: entry.is_learner for name, entry in found.items()} == {
        "ada/exact.py": True,
        "ada/fails.py": True,
        "nothing.py": False,
    }
    assert (found["ada/fails.py"].outcome, found["ada/fails.py"].runs) == ("EXCEPTION", 0)
    assert "train on the training set: ZeroDivisionError" in found["ada/fails.py"].message
    before = stored(home)

    result = harness(*command, 2)
    assert result.exit_code == 0, result.output
    after = stored(home)
    assert {path: after[path] for path in before} == before
    (results,) = home.glob(f"results/*/{on_board(home)['ada/exact.py'].results}")
    made = {stage: len(list(results.glob(f"{stage}-*.npz"))) for stage in Stage}
    assert made == dict.fromkeys(Stage, 2) | {Stage.SWAPPED: 0}

    (results / "twin-0001.npz").unlink()
    assert harness(*command, 2).exit_code == 0
    assert {path for path, time in stored(home).items() if time != after[path]} == {results / "twin-0001.npz"}

    out = tmp_path / "out.json"
    alone = harness("evaluate", folder / "ada/exact.py", "--track", tiny_file, "--runs", 2, "--json", out)
    assert "0 made now, 2 stored before" in alone.output
    assert json.loads(out.read_text())["learner"] == read_json(next(results.glob("score-2-*.json")))["learner"]


def test_the_time_left_counts_trainings_once_it_is_known_what_they_take() -> None:
    left, runs = {"runs": 10, "trainings": 5}, Pace(made=5, seconds=8.0)
    assert _time_left(left, {}) == ""
    assert _time_left(left, {"runs": runs, "trainings": Pace(made=3, seconds=9.0)}) == (
        ", 0:00:20 left without the trainings"
    )
    assert _time_left(left, {"runs": runs, "trainings": Pace(made=4, seconds=30.0)}) == ", 0:01:10 left"


def test_a_learner_whose_training_is_over_its_limit_is_stopped(
    harness: Harness, folder: Path, home: Path, tiny_file: Path
) -> None:
    command = ("leaderboard", "run", folder / "ada/exact.py", "--track", tiny_file, "--runs")
    assert harness(*command, 1).exit_code == 0
    (original,) = home.glob("results/*/*/original-0000.npz")
    arrays, _ = read_sealed_arrays(original)
    info = json.loads(str(arrays["info"]))
    info["seconds"] = 2.5 * info["limit_seconds"]
    write_sealed_arrays(original, arrays | {"info": np.array(json.dumps(info))})
    before = stored(home)
    result = harness(*command, 2)
    assert "exact.py: stopped after 1 runs: train is over the time limit" in result.output
    assert stored(home) == before


def test_no_prize_rank_drops_a_learner(harness: Harness, folder: Path, home: Path, tiny_file: Path) -> None:
    (folder / "other.py").write_text(f"import torch\n{IDENTITY}")
    command = ("leaderboard", "run", folder, "--track", tiny_file, "--stages", 2)
    assert harness(*command, "--runs", 2).exit_code == 0
    intervals = {"ada/exact.py": (0.0, 0.1), "other.py": (0.0, 0.1), "nothing.py": (0.8, 0.9)}
    for name, interval in intervals.items():
        (path,) = home.glob(f"results/*/{on_board(home)[name].results}/score-2-*.json")
        write_json(path, sealed(read_json(path) | {"calibrated_interval": interval, "ranked": True}))
    result = harness(*command, "--runs", 3, "--boundary", 1)
    assert "other.py: done, 2 runs: rank 1 is out of reach" in result.output
    assert "exact.py: done, 3 runs\n" in result.output


# ---- tables ---------------------------------------------------------------------------------------------------------


def test_learners_have_a_table_of_their_own_and_that_of_others_stays_as_it_is(
    board: Path, leaderboard: Callable[..., str]
) -> None:
    both = {form: leaderboard("show", "--format", form) for form in ("table", "markdown", "json")}
    (division,) = board.glob("leaderboards/*/entries")
    for entry in on_board(board).values():
        if entry.is_learner:
            (division / f"{entry.key}.json").unlink()
    alone = {form: leaderboard("show", "--format", form) for form in both}
    for form, heading in {"table": "\nlearners\n", "markdown": "\n## Learners\n"}.items():
        ordinary, _, learners = both[form].partition(heading)
        assert ordinary == alone[form]
        assert "exact.py" in learners
        assert "EXCEPTION" in learners
        assert "not ranked" in learners
        assert "16/16" not in learners
        assert "4/4" in learners
        assert "(8, 1e-05) claimed" in re.sub(r"\\(.)", r"\1", learners)
        assert "another division" not in learners
    assert [row for row in json.loads(both["json"]) if "division" not in row] == json.loads(alone["json"])


def test_what_is_known_of_a_learner_is_in_every_form(board: Path, leaderboard: Callable[..., str]) -> None:
    figures = read_json(score_file(board))["learner"]
    seconds = f"{figures['training_seconds']:.2f} s", f"{figures['unlearning_seconds']:.2f} s"
    assert all(text in leaderboard("show") for text in seconds)  # no training by the recipe is timed on this track
    change_learner(board, training_share=1.25, unlearning_share=0.031, certificate_refuted=True)
    change_learner(board, own_floor=0.9512, nothing_to_forget=True)
    found = read_json(score_file(board))
    rows: dict[str, dict[str, Any]] = {
        row["submission"]: row for row in json.loads(leaderboard("show", "--format", "json"))
    }
    row, failed = rows["ada/exact.py"], rows["ada/fails.py"]
    assert (row["division"], row["rank"], row["unranked_because"]) == ("learners", None, None)
    assert failed.keys() == row.keys()
    assert (failed["outcome"], failed["exact"]) == ("EXCEPTION", None)
    assert "division" not in rows["nothing.py"]
    for name in ("calibrated_score", "score", "forgetting_quality", "retain_ratio", "test_ratio"):
        assert row[name] == found[name]
    fields = [name for column in LEARNER_COLUMNS for name in column.fields]
    assert {name: row[name] for name in fields} == {name: found["learner"][name] for name in fields}
    cells = {each["submission"]: each for each in csv.DictReader(io.StringIO(leaderboard("show", "--format", "csv")))}
    assert (cells["ada/exact.py"]["exact"], cells["ada/exact.py"]["certificate_epsilon"]) == ("4", "8.0")
    assert cells["nothing.py"]["exact"] == ""
    table = leaderboard("show")
    for text in ("0.95", "1.2 x", "3.1 %", "refuted", "nothing to forget"):
        assert text in table.partition("learners\n")[2]
    (folder,) = board.glob("leaderboards/*")
    review = folder / "reviews" / f"{on_board(board)['ada/exact.py'].key}.toml"
    review.parent.mkdir(exist_ok=True)
    review.write_text('submission = "exact.py"\nalarms = []\nstatus = "closed"\ndecision = "disqualified"\n')
    assert "disqualified by review" in leaderboard("show").partition("learners\n")[2]
    rounded = json.loads(leaderboard("show", "--format", "json", "--rounded", 1))
    assert next(row["own_floor"] for row in rounded if row["submission"] == "ada/exact.py") == 1.0


def test_times_are_told_in_trainings_of_the_recipe_where_these_were_timed(
    board: Path, folder: Path, tiny: Track
) -> None:
    for path in score_file(board).parent.glob("run-*.npz"):
        arrays, _ = read_sealed_arrays(path)
        info = json.loads(str(arrays["info"])) | {"calibration": "here"}
        write_sealed_arrays(path, arrays | {"info": np.array(json.dumps(info))})
    submission = read_submission(folder / "ada/exact.py", source_kb=256)
    found = load_evaluation(submission, tiny, "cpu", runs=16, home=board).score_file.learner
    assert found is not None
    training = 2.0 / 0.1  # the limit, and its share of a training
    assert found.training_share == pytest.approx(found.training_seconds / training)
    assert found.unlearning_share == pytest.approx(found.unlearning_seconds / training)
    assert found.speed_up == pytest.approx(found.training_seconds / found.unlearning_seconds)


def test_neither_ceiling_nor_comparison_is_of_learners(board: Path, leaderboard: Callable[..., str]) -> None:
    ends = {row["kind"]: row["score"] for row in json.loads(leaderboard("show", "--format", "json"))}
    ordinary = on_board(board)["nothing.py"]
    (stored_score,) = board.glob(f"results/*/{ordinary.results}/{ordinary.score}.json")
    assert ends["ceiling"] == read_json(stored_score)["ceiling"] != read_json(score_file(board))["ceiling"]


# ---- pages ----------------------------------------------------------------------------------------------------------


def test_the_site_has_a_second_table_and_a_page_of_the_learner(
    board: Path, leaderboard: Callable[..., str], harness: Harness, tiny_file: Path, tmp_path: Path
) -> None:
    change_learner(board, own_floor=0.95, nothing_to_forget=True, certificate_bound=9.25, certificate_refuted=True)
    leaderboard("html", "--output", tmp_path / "site")
    index = (tmp_path / "site" / "index.html").read_text()
    ordinary, _, learners = index.partition('<h2 id="learners">')
    assert "exact.py" not in ordinary.partition("<main>")[2]
    assert "4/4" in learners
    compared = json.loads(index.partition('<script type="application/json" id="data">')[2].partition("</script>")[0])
    assert [each["name"] for each in compared["compared"].values()] == ["nothing.py"]
    page = (tmp_path / "site" / "submissions" / f"{on_board(board)['ada/exact.py'].key}.html").read_text()
    for text in ("<dt>exact</dt><dd><bdi>4/4</bdi></dd>", "What its runs are made of", "with the seeds of the first"):
        assert text in page
    for text in ("nothing to forget: its originals left as they are get 0.95", "refuted: epsilon is at least 9.25"):
        assert text in page
    assert "compare it" not in page
    (cells,) = re.findall(r"<td>twins</td><td>(\d+)</td>", page)
    assert cells == "4"
    report = tmp_path / "report.html"
    mine = write(tmp_path / "handed-in") / "ada/exact.py"
    result = harness("report", mine, "--track", tiny_file, "--runs", 16, "--out", report)
    assert result.exit_code == 0, result.output
    assert all(text in report.read_text() for text in ("What its runs are made of", "own floor", "speed-up"))
    rounded = tmp_path / "rounded"
    leaderboard("html", "--output", rounded, "--rounded", 1)
    assert "What its runs" not in "".join(page.read_text() for page in rounded.glob("submissions/*.html"))


# ---- verification ---------------------------------------------------------------------------------------------------


@pytest.fixture
def opening(board: Path, leaderboard: Callable[..., str], tmp_path: Path) -> Path:
    """What was published at the opening."""
    leaderboard("verify", tmp_path / "opening.json", "--publish")
    return tmp_path / "opening.json"


def test_learners_are_verified_as_others_are(
    opening: Path, board: Path, leaderboard: Callable[..., str], harness: Harness, tiny_file: Path, tmp_path: Path
) -> None:
    table = tmp_path / "final.json"
    table.write_text(leaderboard("show", "--format", "json"))
    said = leaderboard("verify", opening, "--table", table, "--jobs", 1)
    assert "2 scores come out of the runs again" in said
    assert "follows from these scores" in said

    change_learner(board, exact=3, own_floor=0.1)
    write_json(table, [row | ({"exact": 3} if "division" in row else {}) for row in read_json(table)])
    (failed,) = board.glob(f"leaderboards/*/entries/{on_board(board)['ada/fails.py'].key}.json")
    write_json(failed, read_json(failed) | {"outcome": "TIME_LIMIT"})
    verify = ("leaderboard", "verify", opening, "--jobs", 1, "--track", tiny_file)
    result = harness(*verify, "--table", table)
    assert result.exit_code == 4
    for text in (
        "ada/exact.py: exact of the learner is stored as 3, computed again it is 4",
        "ada/exact.py: own floor of the learner is stored as 0.1",
        "ada/exact.py: exact published as 3, now 4",
        "ada/fails.py: entered as TIME_LIMIT, its stored runs say EXCEPTION",
    ):
        assert text in result.output
    score_file(board).with_name("scoring-0003.npz").unlink()
    result = harness(*verify)
    assert result.exit_code == 4
    assert "1 of 16 runs of ada/exact.py are missing or damaged" in result.output
    assert "scoring-0003.npz" in result.output


def test_a_training_of_another_file_is_found_out(opening: Path, board: Path, harness: Harness, tiny_file: Path) -> None:
    results = score_file(board).parent
    shutil.copyfile(results / "ceiling-0000.npz", results / "scoring-0000.npz")
    result = harness("leaderboard", "verify", opening, "--jobs", 1, "--track", tiny_file)
    assert result.exit_code == 4
    assert "ada/exact.py: it was scored from other runs than those that are stored" in result.output


# ---- costs ----------------------------------------------------------------------------------------------------------


def test_a_plan_counts_the_trainings_of_learners(
    board: Path, leaderboard: Callable[..., str], harness: Harness, tiny_file: Path, tmp_path: Path
) -> None:
    def planned(*options: object) -> dict[str, dict[str, Any]]:
        out = tmp_path / "plan.json"
        leaderboard("plan", "--teams", 10, "--tries", 2, "--runs", 8, *options, "--json", out)
        return {figure["name"]: figure for figure in read_json(out)}

    ordinary, found = planned(), planned("--learners", 5)
    assert found["trainings"]["value"] == 5 * (3 * 8 + 4)
    assert found["time limit of a training"]["value"] == pytest.approx(60)
    hours = {name: found[name]["value"] - ordinary[name]["value"] for name in ("CPU worker hours, at most", "disk")}
    assert hours["CPU worker hours, at most"] > 5 * 28 * 60 / 3600
    assert hours["disk"] > 0
    assert found["CPU worker hours"]["value"] > ordinary["CPU worker hours"]["value"]
    assert "8 stored originals of 1 learners" in found["mean time of a training"]["origin"]
    shutil.rmtree(board / "results")
    assert "64 MB of every original, assumed" in planned("--learners", 5)["disk"]["origin"]
    result = harness("leaderboard", "plan", "--teams", 1, "--tries", 1, "--learners", 2, "--track", tiny_file)
    assert (result.exit_code, "give fewer to --learners" in result.output) == (2, True)
