"""Commands about one submission: evaluate, check, compare, report."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.options import (
    SubmissionFile,
    again_option,
    chosen_device,
    console,
    device_option,
    isolation_option,
    jobs_option,
    require_isolation_option,
    set_constants,
    set_option,
    submissions_beginning,
    time_limit_option,
    track_option,
)
from harness.cli.results import require_place, write_result, write_result_json
from harness.environment import home
from harness.errors import UsageError
from harness.runner.isolation import choose
from harness.runner.outcome import Outcome
from harness.scoring.thresholds import FEWEST_RANKED
from harness.shipped import submission_path

if TYPE_CHECKING:
    from rich.console import RenderableType

    from harness.evaluation.evaluate import Evaluation
    from harness.tracks.track import Track

__all__ = ["check_command", "compare_command", "evaluate_command", "report_command"]


file_argument = click.argument("file", type=SubmissionFile())


@click.command("evaluate")
@file_argument
@track_option
@click.option("--runs", type=click.IntRange(min=1), help="How many runs.  [default: the track's, 64 on digits]")
@click.option("--quick", is_flag=True, help=f"A first look: {FEWEST_RANKED} runs.")
@set_option
@click.option("--json", "json_file", type=click.Path(path_type=Path, dir_okay=False), help="Write the result here.")
@jobs_option
@device_option
@isolation_option
@require_isolation_option
@click.option("--rescore", is_flag=True, help="Score the stored runs anew, without running anything.")
@again_option
@time_limit_option
@click.option("--hidden", is_flag=True, help="Show nothing that a run says: the forget set would leak through it.")
def evaluate_command(
    file: Path,
    track_name: str,
    runs: int | None,
    quick: bool,
    settings: tuple[str, ...],
    json_file: Path | None,
    jobs: int | None,
    device: str,
    isolation: str,
    require_isolation: str | None,
    rescore: bool,
    again: bool,
    time_limit: float | None,
    hidden: bool,
) -> None:
    """Run a submission many times and score it."""
    if quick and runs is not None:
        raise UsageError("give --quick or --runs, not both")
    if rescore and again:
        raise UsageError("--rescore makes no runs, and --again makes some; give one of them")
    constants = set_constants(settings)
    require_place(json_file)
    from harness import api
    from harness.evaluation.history import add_to_history, comparisons
    from harness.report.redaction import redacted
    from harness.report.terminal import show

    track = api.open_track(track_name)
    usual = track.usual_runs
    n_runs = runs or (min(FEWEST_RANKED, usual) if quick else usual)
    evaluation = _evaluated(
        *(file, track, n_runs),
        constants=constants,
        jobs=jobs,
        device=chosen_device(device, is_name=rescore),
        isolation=isolation,
        require_isolation=require_isolation,
        time_limit=time_limit,
        rescore=rescore,
        again=again,
    )
    evaluation = redacted(evaluation) if hidden else evaluation
    sentences = comparisons(home(), evaluation)
    if evaluation.outcome == Outcome.OK:
        add_to_history(home(), evaluation)
    _print(show(evaluation, sentences))
    if json_file is not None:
        write_result_json(json_file, evaluation.score_file.to_json())
    _exit_with(evaluation)


@click.command("check")
@file_argument
@track_option
@set_option
@device_option
@isolation_option
@require_isolation_option
@again_option
@click.option("--debug", is_flag=True, help="Run in the foreground, with prints, traceback and breakpoint().")
def check_command(
    file: Path,
    track_name: str,
    settings: tuple[str, ...],
    device: str,
    isolation: str,
    require_isolation: str | None,
    again: bool,
    debug: bool,
) -> None:
    """Check a submission: first its text, then one run."""
    if debug and (isolation, require_isolation) != ("auto", None):
        raise UsageError("--debug runs in the foreground, without isolation; leave out --isolation or --debug")
    from harness import api
    from harness.report.terminal import show_check

    track, constants = api.open_track(track_name), set_constants(settings)
    kind = chosen_device(device)
    if debug:
        _debug(file, track, constants, kind)
    evaluation = api.evaluate(
        file,
        track=track,
        runs=1,
        constants=constants,
        jobs=1,
        device=kind,
        isolation=isolation,
        require_isolation=require_isolation,
        again=again,
        announce=console().print,
    )
    _print(show_check(evaluation))
    _exit_with(evaluation)


def _debug(file: Path, track: Track, constants: dict[str, str], device: str) -> None:
    """Run a file in the foreground and exit, unless its text is wrong already."""
    from harness.runs.conditions import conditions_here
    from harness.submission import read_submission

    submission = read_submission(file, source_kb=track.declaration.limits.source_kb, constants=constants)
    if submission.problems:
        return
    from harness.runs.local import debug_run  # imports torch

    conditions = conditions_here(
        track, home(), device=device, isolation=choose(device=device), jobs=1, announce=console().print
    )
    sys.exit(0 if debug_run(submission, track, conditions, announce=console().print) else 3)


@click.command("compare")
@click.argument("first", metavar="A", shell_complete=submissions_beginning)
@click.argument("second", metavar="B", shell_complete=submissions_beginning)
@track_option
@click.option("--runs", type=click.IntRange(min=1), help="How many runs of each.  [default: the track's]")
@jobs_option
@device_option
@isolation_option
@require_isolation_option
@click.option("--json", "json_file", type=click.Path(path_type=Path, dir_okay=False), help="Write the result here.")
@time_limit_option
def compare_command(
    first: str,
    second: str,
    track_name: str,
    runs: int | None,
    jobs: int | None,
    device: str,
    isolation: str,
    require_isolation: str | None,
    json_file: Path | None,
    time_limit: float | None,
) -> None:
    """Say whether two submissions differ: A and B are files, baselines such as finetune, or the word `retrained`.

    Runs that are missing are made first. Runs under another --time-limit are kept apart from ranked ones.
    """
    require_place(json_file)
    from harness import api
    from harness.evaluation.compare import RETRAINED, no_comparison, require_enough
    from harness.report.summary import comparison_summary
    from harness.submission import read_submission

    track = api.open_track(track_name)
    n_runs = runs or track.usual_runs
    files = {name: submission_path(name) for name in (first, second) if name != RETRAINED}
    for file in files.values():  # both are looked at before the first is run
        if (submission := read_submission(file, source_kb=track.declaration.limits.source_kb)).is_learner:
            raise UsageError(no_comparison(submission))
    require_enough(n_runs)
    conditions = {"isolation": isolation, "require_isolation": require_isolation, "time_limit": time_limit}
    scored = {
        name: _scored(file, track, n_runs, jobs=jobs, device=chosen_device(device), **conditions)
        for name, file in files.items()
    }
    comparison = api.compare(scored.get(first, first), scored.get(second, second), track=track, runs=n_runs)
    console().print(comparison.sentence)
    if json_file is not None:
        write_result_json(json_file, comparison_summary(comparison, time_limit))


@click.command("report")
@file_argument
@track_option
@click.option("--runs", type=click.IntRange(min=1), help="How many runs.  [default: the track's]")
@set_option
@device_option
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="The page.  [default: report-NAME.html, here]"
)
def report_command(
    file: Path, track_name: str, runs: int | None, settings: tuple[str, ...], device: str, out: Path | None
) -> None:
    """Make one page of plots and tables of an evaluated submission; nothing is run."""
    from harness import api
    from harness.evaluation.evaluate import load_evaluation, load_sibling_evaluations
    from harness.report.terminal import show
    from harness.submission import read_submission

    track = api.open_track(track_name)
    submission = read_submission(file, source_kb=track.declaration.limits.source_kb, constants=set_constants(settings))
    page = out or Path(f"report-{submission.path.stem}.html")
    require_place(page)
    n_runs = runs or track.usual_runs
    kind = chosen_device(device, is_name=True)
    evaluation = load_evaluation(submission, track, kind, runs=n_runs, home=home())
    if evaluation.outcome != Outcome.OK:
        _print(show(evaluation, []))
        _exit_with(evaluation)
    from harness.report.page import render_page  # imports matplotlib

    write_result(page, render_page(evaluation, load_sibling_evaluations(evaluation, home())).encode(errors="replace"))
    console().print(f"wrote {page}")


# ---- what they share ----------------------------------------------------------------------------------------------


def _evaluated(file: Path, track: Track, runs: int, **options: Any) -> Evaluation:
    """Evaluate as the API does, with a live line once the runs begin."""
    from harness import api
    from harness.report.terminal import LiveRuns

    live = LiveRuns(console(), runs)
    with contextlib.ExitStack() as stack:
        return api.evaluate(
            file,
            track=track,
            runs=runs,
            announce=console().print,
            on_start=lambda: stack.enter_context(live),
            on_run=live.add,
            on_training=live.count_training,
            **options,
        )


def _scored(file: Path, track: Track, runs: int, **options: Any) -> Evaluation:
    """Evaluate; end the command with what is said of a failure if there is nothing to compare."""
    from harness.report.terminal import show

    evaluation = _evaluated(file, track, runs, **options)
    if evaluation.scored is None:
        _print(show(evaluation, []))
        _exit_with(evaluation)
    return evaluation


def _print(shown: RenderableType) -> None:
    """Print what is made for a terminal; a line with a command is as long as it is."""
    console().print(shown, crop=False)


def _exit_with(evaluation: Evaluation) -> None:
    """End with the exit code of an outcome; of a failure that was not made now, say how to make it again."""
    from harness.report.terminal import stored_failure

    if evaluation.has_stored_failure:
        _print(stored_failure(evaluation))
    if evaluation.outcome.is_fault_of_submission:
        sys.exit(3)
    if evaluation.outcome != Outcome.OK:
        sys.exit(4)
