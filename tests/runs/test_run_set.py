"""What a submission has and lacks: stored runs, made runs, failures; and that loading an evaluation runs nothing."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.evaluation.evaluate import evaluate, load_evaluation
from harness.runner.isolation import choose
from harness.runner.outcome import Outcome
from harness.runs.run import Conditions, Limit, Run, RunInfo
from harness.runs.run_set import RunSet
from harness.runs.stage import Stage
from harness.runs.store import Results
from harness.submission import Submission, read_submission
from harness.tracks.track import Track

SOURCE = "def unlearn(net, retain_loader, forget_loader, val_loader): pass"
LIMIT_SECONDS = 2.0


@pytest.fixture
def results(tmp_path: Path) -> Results:
    """An empty folder of results."""
    return Results(tmp_path / "results")


def run_of(index: int, outcome: Outcome = Outcome.OK, *, isolation: str = "full", gpu: str | None = None) -> Run:
    return Run(index, outcome, LIMIT_SECONDS / 2, RunInfo(LIMIT_SECONDS, isolation, log="what it printed", gpu=gpu))


def run_set(results: Results, count: int, **options: object) -> RunSet:
    submission = Submission(Path("foo.py"), SOURCE, "0" * 64, "0" * 64, {}, ())
    return RunSet(submission, results, count, **options)  # type: ignore[arg-type]


def test_runs_that_are_not_stored_are_missing_and_made_ones_are_stored(results: Results) -> None:
    found = run_set(results, 4)
    assert [task.index for task in found.tasks()] == [0, 1, 2, 3]
    for index in (2, 0):
        found.add(run_of(index))
    assert (found.missing, found.made, found.n_ok, found.limits_used) == ([1, 3], {0, 2}, 2, 1.0)
    again = run_set(results, 4)
    assert ([run.index for run in again.runs], again.missing, again.made) == ([0, 2], [1, 3], set())
    assert not again.is_complete


def test_after_a_failed_run_nothing_is_wanted_but_those_before_it(results: Results) -> None:
    found = run_set(results, 6)
    tasks = found.tasks()
    assert next(tasks).index == 0
    found.add(run_of(2, Outcome.EXCEPTION))
    found.add(run_of(3))
    assert [task.index for task in tasks] == [1, 2]  # of the queue as it stood
    assert (found.missing, [run.index for run in found.runs]) == ([0, 1], [2])
    again = run_set(results, 6)
    assert (again.missing, again.failed and again.failed.outcome) == ([0, 1], Outcome.EXCEPTION)


def test_what_the_harness_failed_at_is_known_here_and_made_again_next_time(results: Results) -> None:
    found = run_set(results, 2)
    found.add(run_of(0))
    found.add(run_of(1, Outcome.HARNESS_ERROR))
    assert (found.missing, found.failed and found.failed.outcome) == ([], Outcome.HARNESS_ERROR)
    assert run_set(results, 2).missing == [1]


def test_a_run_with_other_examples_to_forget_that_the_harness_failed_at_leaves_no_score_and_is_made_again(
    results: Results,
) -> None:
    found = run_set(results, 16)
    for index in range(16):
        found.add(run_of(index))
    found.swapped.add(run_of(0))
    found.swapped.add(run_of(1, Outcome.HARNESS_ERROR))
    assert (found.missing, found.failed and found.failed.outcome) == ([], Outcome.HARNESS_ERROR)
    assert (found.n_ok, found.is_complete, found.has_stored_failure) == (16, True, False)
    again = run_set(results, 16)
    assert (again.failed, again.missing, again.swapped.missing, again.is_complete) == (None, [], [1], False)
    fails_itself = run_set(results, 16)
    fails_itself.swapped.add(run_of(1, Outcome.HARNESS_ERROR))
    fails_itself.add(run_of(15, Outcome.EXCEPTION))
    assert fails_itself.runs[-1].outcome == Outcome.EXCEPTION


def test_runs_of_a_weaker_level_or_another_gpu_do_not_count(results: Results) -> None:
    found = run_set(results, 3)
    found.add(run_of(0, gpu="card, driver 1"))
    found.add(run_of(1, isolation="none", gpu="card, driver 1"))
    found.add(run_of(2, gpu="card, driver 2"))
    assert run_set(results, 3, required_isolation="full").missing == [1]
    assert run_set(results, 3, gpus={"card, driver 1"}).missing == [2]
    found.swapped.add(run_of(0, isolation="none", gpu="card, driver 1"))
    found.swapped.add(run_of(1, gpu="card, driver 2"))
    assert run_set(results, 3, required_isolation="full").swapped.missing == [0]
    assert run_set(results, 3, gpus={"card, driver 1"}).swapped.missing == [1]


@pytest.mark.parametrize(("count", "level"), [(4, "full"), (16, "none")])
def test_runs_with_other_examples_to_forget_count_in_the_level_once_they_are_scored(
    count: int, level: str, evaluated: Path, tiny: Track
) -> None:
    submission = read_submission(evaluated / "submissions" / "ada" / "finetune.py", source_kb=256)
    results = Results.of(evaluated, tiny, submission, "cpu")
    for stage, isolation in ((Stage.RUN, "full"), (Stage.SWAPPED, "none")):
        for run in results.runs(range(16), stage=stage).values():
            results.save_run(replace(run, info=replace(run.info, isolation=isolation)), stage)
    assert load_evaluation(submission, tiny, "cpu", runs=count, home=evaluated).isolation == level


def test_a_batch_keeps_no_words_and_no_records_of_its_runs(results: Results) -> None:
    found = run_set(results, 1)
    found.add(run_of(0))
    for one in (found, run_set(results, 1)):
        assert (one.runs[0].info.log, one.runs[0].record) == ("", None)
    assert run_set(results, 1, with_records=True).runs[0].info.log == "what it printed"


# ---- stages of an evaluation ----------------------------------------------------------------------------------------


@pytest.fixture
def evaluated(evaluated_home: Path, tmp_path: Path) -> Path:
    """A HARNESS_HOME of its own with 16 runs of fine-tuning."""
    home = tmp_path / "home"
    shutil.copytree(evaluated_home, home, symlinks=True)
    return home


def test_loading_an_evaluation_scores_what_is_stored_and_runs_nothing(evaluated: Path, tiny: Track) -> None:
    submission = read_submission(evaluated / "submissions" / "ada" / "finetune.py", source_kb=256)
    folder = Results.of(evaluated, tiny, submission, "cpu").folder
    before = load_evaluation(submission, tiny, "cpu", runs=16, home=evaluated)
    for path in [*folder.glob("score-*"), *folder.glob("swapped-*")]:
        path.unlink()
    after = load_evaluation(submission, tiny, "cpu", runs=16, home=evaluated)
    assert (after.n_made, list(folder.glob("swapped-*"))) == (0, [])
    assert len(list(folder.glob("score-*"))) == 1
    assert after.score_file.calibrated_score == before.score_file.calibrated_score
    (folder / "run-0007.npz").write_bytes(b"torn")
    command = r"harness evaluate \S+finetune\.py --track tiny (--device cpu )?--runs 16$"
    with pytest.raises(UsageError, match=rf"1 of 16 runs of .* are not stored; .*make them with: {command}"):
        load_evaluation(submission, tiny, "cpu", runs=16, home=evaluated)
    file = Path(__file__).parents[2] / "baselines" / "finetune.py"
    other = read_submission(file, source_kb=256, constants={"EPOCHS": "2"})
    options = r"--track tiny (--device cpu )?--set EPOCHS=2 --time-limit 0.2 --require-isolation full --runs 16$"
    with pytest.raises(UsageError, match=rf"16 of 16 runs .* make them with: harness evaluate \S+ {options}"):
        load_evaluation(other, tiny, "cpu", runs=16, home=evaluated, time_limit=0.2, required_isolation="full")


def test_runs_under_other_limits_of_the_track_do_not_count(evaluated: Path, tiny: Track) -> None:
    submission = read_submission(evaluated / "submissions" / "bob" / "noise.py", source_kb=256)
    changes: list[dict[str, float]] = [{"memory_mb": 4000}, {"time_limit_fraction": 0.2}, {"seconds": 3.0}, {}]
    for change in changes:
        limits = tiny.declaration.limits.model_copy(update=change)
        track = replace(tiny, declaration=tiny.declaration.model_copy(update={"limits": limits}))
        results = Results.of(evaluated, track, submission, "cpu")
        stored = results.runs(range(16))
        assert len(stored) == len(results.runs(range(16), in_brief=True)) == (0 if change else 16)
    for run in stored.values():  # as earlier versions left them
        results.save_run(replace(run, info=replace(run.info, limits={})))
    assert len(results.runs(range(16))) == 16


def test_runs_with_other_examples_to_forget_are_made_where_they_lack_and_the_score_is_made_anew(
    evaluated: Path, tiny: Track
) -> None:
    submission = read_submission(evaluated / "submissions" / "ada" / "finetune.py", source_kb=256)
    folder = Results.of(evaluated, tiny, submission, "cpu").folder
    score = next(folder.glob("score-*"))
    was = score.stat().st_mtime_ns
    conditions = Conditions(Limit(LIMIT_SECONDS, 0.1), choose())
    evaluate(submission, tiny, conditions, runs=16, home=evaluated)
    assert score.stat().st_mtime_ns == was
    for path in folder.glob("swapped-*"):
        path.unlink()
    found = evaluate(submission, tiny, conditions, runs=16, home=evaluated)
    assert (found.n_made, len(list(folder.glob("swapped-*")))) == (0, 2)
    assert score.stat().st_mtime_ns > was
