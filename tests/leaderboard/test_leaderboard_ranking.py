"""Who is ranked where: known groups are separated, ties share ranges, prize boundaries are settled exactly."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result

from harness.evaluation.score_file import ScoreFile
from harness.leaderboard.board.ranking import Ranked, rank
from harness.leaderboard.board.stored import ScoredEntry
from harness.seal import write_sealed
from harness.storage import read_json
from harness.tracks.track import Track
from tests.leaderboard.boards import BoardWriter

Rows = Callable[[], dict[str, dict[str, Any]]]
NOISE = 0.03


@pytest.fixture
def rows(harness: Callable[..., Result], tiny_file: Path) -> Rows:
    def call() -> dict[str, dict[str, Any]]:
        result = harness("leaderboard", "show", "--track", tiny_file, "--format", "json")
        assert result.exit_code == 0, result.output
        return {row["submission"]: row for row in json.loads(result.output)}

    return call


def contender(name: str, value: float, *, runs: int = 16) -> Ranked:
    """Return a contender whose half-samples have noise of their own."""
    generator = np.random.default_rng([*name.encode()])
    scored = ScoreFile.model_construct(n_runs=runs)
    entry = ScoredEntry.model_construct(submission=name, code_hash="", scored=scored)
    return Ranked(entry, value, tuple(generator.normal(value, NOISE, 200)))


def held(ranking: Any) -> dict[str, str]:
    return {one.entry.submission: str(held) for one, held in zip(ranking.ranked, ranking.places, strict=True)}


# ---- groups ---------------------------------------------------------------------------------------------------------


def ranked_groups(home: Path, track: Track, rows: Rows, sizes: tuple[int, ...]) -> None:
    """Write groups with true scores of their own, and check that ranks separate them and nothing else."""
    writer = BoardWriter(home, track)
    names: list[list[str]] = []
    for group, size in enumerate(sizes):
        names.append([f"group{group}/{place}.py" for place in range(size)])
        for name in names[-1]:
            writer.add_synthetic(name, 0.9 - 0.4 * group, noise=NOISE)
    shown = rows()
    first = 1
    for group_names in names:
        last = first + len(group_names) - 1
        ranges = [(shown[name]["rank_best"], shown[name]["rank_worst"]) for name in group_names]
        assert min(best for best, _ in ranges) == first
        assert max(worst for _, worst in ranges) == last
        assert np.mean([worst - best + 1 for best, worst in ranges]) > 0.8 * len(group_names)
        first = last + 1


def test_known_groups_of_60_stored_submissions_are_separated(home: Path, tiny: Track, rows: Rows) -> None:
    ranked_groups(home, tiny, rows, (5, 15, 40))


@pytest.mark.slow
def test_known_groups_of_500_stored_submissions_are_separated(home: Path, tiny: Track, rows: Rows) -> None:
    ranked_groups(home, tiny, rows, (10, 90, 400))


def test_ranking_by_the_official_score_ranks_by_it(home: Path, tiny: Track, rows: Rows) -> None:
    writer = BoardWriter(home, tiny, rank_by="official")
    for name, truth in (("low.py", 0.2), ("high.py", 0.9)):
        key = writer.add_synthetic(name, truth)
        entry = read_json(writer.folder / "entries" / f"{key}.json")
        path = writer.results / entry["results"] / f"{entry['score']}.json"
        write_sealed(path, {**read_json(path), "calibrated_score": 1 - truth})
    shown = rows()
    assert (shown["high.py"]["rank"], shown["low.py"]["rank"]) == ("1", "2")


def test_a_submission_out_of_reach_follows_those_that_went_on(home: Path, tiny: Track, rows: Rows) -> None:
    writer = BoardWriter(home, tiny)
    writer.add_synthetic("finalist.py", 0.5, runs=64)
    writer.add_synthetic("early.py", 0.8, runs=16)  # few runs make everything look alike
    shown = rows()
    assert (shown["finalist.py"]["rank"], shown["early.py"]["rank"]) == ("1", "2")


def test_a_submission_stopped_over_the_time_limit_is_not_ranked_by_what_it_scored_before(
    home: Path, tiny: Track, rows: Rows
) -> None:
    writer = BoardWriter(home, tiny)
    writer.add_synthetic("good.py", 0.5)
    writer.add_synthetic("slow.py", 0.8, state="stopped", runs=4)
    writer.add("slower.py", state="stopped", outcome="OK", runs=3)
    shown = rows()
    assert [name for name, row in shown.items() if row["kind"] == "submission"] == ["good.py", "slow.py", "slower.py"]
    assert shown["slow.py"]["rank"] is None
    assert shown["slower.py"]["unranked_because"] == "stopped over the time limit, 3 of 16 runs"


def test_the_same_code_entered_twice_is_a_tie(home: Path, tiny: Track, rows: Rows) -> None:
    writer = BoardWriter(home, tiny)
    key = writer.add_synthetic("ada/a.py", 0.5, noise=1e-6)
    entry = read_json(writer.folder / "entries" / f"{key}.json")
    writer.add("bob/b.py", **{name: entry[name] for name in ("state", "runs", "outcome", "score", "results")})
    shown = rows()
    assert (shown["ada/a.py"]["rank"], shown["bob/b.py"]["rank"]) == ("1-2", "1-2")


# ---- prize boundaries -----------------------------------------------------------------------------------------------


def test_only_candidates_of_a_boundary_are_tested_and_only_across_it() -> None:
    values = {"a": 0.95, "b": 0.52, "c": 0.50, "d": 0.49, "e": 0.10}
    tested: list[tuple[str, str]] = []

    def exact(first: Ranked, second: Ranked, n_permutations: int) -> float:
        tested.append((first.entry.submission, second.entry.submission))
        assert n_permutations >= 999
        return 0.001 if second.entry.submission == "d" else 0.4

    contenders = [contender(name, value) for name, value in values.items()]
    assert held(rank(contenders, [2])) == {"a": "1", "b": "2-4", "c": "2-4", "d": "2-4", "e": "5"}
    ranking = rank(contenders, [2], exact)
    assert tested == [("b", "c"), ("b", "d")]
    assert held(ranking) == {"a": "1", "b": "2-3", "c": "2-4", "d": "3-4", "e": "5"}
    assert [one.entry.submission for one in ranking.boundaries[0].tied] == ["b", "c"]


def test_a_boundary_that_half_samples_settle_needs_no_exact_test() -> None:
    def exact(first: Ranked, second: Ranked, n_permutations: int) -> float:
        raise AssertionError("not needed")

    ranking = rank([contender("a", 0.9), contender("b", 0.5), contender("c", 0.1)], [1, 2], exact)
    assert [boundary.tied for boundary in ranking.boundaries] == [(), ()]


def test_more_pairs_get_more_permutations_since_fewer_could_reject_none() -> None:
    asked = set()

    def exact(first: Ranked, second: Ranked, n_permutations: int) -> float:
        asked.add(n_permutations)
        return 1 / (n_permutations + 1)

    contenders = [contender(f"{place:02d}", 0.5 - place / 1e4) for place in range(20)]
    ranking = rank(contenders, [10], exact)
    assert asked == {2000}  # 10 x 10 pairs at 5 %
    assert ranking.boundaries[0].tied == ()
    assert held(ranking)["00"] == "1-10"


@pytest.fixture(params=["calibrated", pytest.param("official", marks=pytest.mark.slow)])
def tied(request: pytest.FixtureRequest, home: Path, evaluated_home: Path, tiny: Track) -> BoardWriter:
    """Two submissions of real runs, one place apart, below one that is clear of them; the prize ends at place 2."""
    shutil.copytree(evaluated_home / "results", home / "results")
    writer = BoardWriter(home, tiny, boundaries=[2], rank_by=request.param)
    writer.add_synthetic("best.py", 0.95)
    writer.add_evaluated("ada/finetune.py", evaluated_home / "finetune.json", code_hash="a" * 64)
    writer.add_evaluated("bob/nothing.py", evaluated_home / "nothing.json", code_hash="b" * 64)
    return writer


def test_a_tie_across_a_boundary_is_tested_on_stored_runs_once(
    tied: BoardWriter, harness: Callable[..., Result], tiny_file: Path
) -> None:
    first = harness("leaderboard", "show", "--track", tiny_file)
    assert first.exit_code == 0, first.output
    assert "prize boundary after place 2" in first.stdout
    assert sorted(first.stderr.split()[3::2]) == ["ada/finetune.py", "bob/nothing.py"]
    (kept,) = tied.folder.glob("exact/*.json")
    p_value = read_json(kept)["p_value"]
    assert 0 < p_value <= 1
    assert ("tied across it" in first.stdout) == (p_value >= 0.05)
    again = harness("leaderboard", "show", "--track", tiny_file)
    assert (again.stdout, again.stderr) == (first.stdout, "")
    kept.write_text(kept.read_text().replace(str(p_value), str(p_value / 100)))
    damaged = harness("leaderboard", "show", "--track", tiny_file)
    assert f"{kept} is damaged" in damaged.stderr
    assert damaged.stdout == first.stdout
    assert read_json(kept)["p_value"] == p_value


def test_a_candidate_whose_runs_are_gone_is_named(
    tied: BoardWriter, harness: Callable[..., Result], tiny_file: Path, evaluated_home: Path
) -> None:
    code_hash = read_json(evaluated_home / "finetune.json")["code_hash"]
    (path,) = tied.results.glob(f"{code_hash[:16]}-*/run-0003.npz")
    path.unlink()
    result = harness("leaderboard", "show", "--track", tiny_file)
    assert result.exit_code == 4
    assert "1 of 16 runs of ada/finetune.py" in result.output
    assert path.name in result.output
    assert "harness leaderboard run" in result.output
    file = evaluated_home / "submissions" / "ada" / "finetune.py"
    assert harness("leaderboard", "run", file, "--track", tiny_file, "--runs", 16).exit_code == 0
    assert path.is_file()
