"""The command line: parse, call, print.

Exit codes: 0 fine; 2 wrong usage; 3 the submission failed; 4 the harness or the machine failed.
"""

import contextlib
import errno
import sys
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console

from data_prep import catalogue
from data_prep.calibration import calibrate
from harness import __version__
from harness.environment import home
from harness.errors import MachineError, UsageError
from harness.evaluate import Evaluation, evaluate, recall
from harness.history import comparisons, remember
from harness.leaderboard.commands import leaderboard
from harness.reference import load_reference
from harness.report.doctor import findings
from harness.report.hidden import redacted
from harness.report.summary import comparison_summary, summary
from harness.report.terminal import LiveRuns, ProgressBar, show, show_check
from harness.results import Conditions, Limit, Results
from harness.runner import device as devices
from harness.runner import isolation as isolations
from harness.runner.outcome import Outcome
from harness.storage import read_arrays, write_bytes, write_json
from harness.submission import Submission, read_submission
from harness.track import Track, export_track, import_track

__all__ = ["cli"]

QUICK_RUNS = 16
FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
INTERRUPTED = 130  # as a shell reports an interrupted command


class _Commands(click.Group):
    """Gives each kind of error its exit code; anything else is a bug and keeps its traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except UsageError as error:
            raise click.UsageError(str(error)) from None
        except MachineError as error:
            raise _Failure(str(error)) from None
        except OSError as error:
            if error.errno not in FULL_DISK:
                raise
            message = f"cannot write below {home()}: {error.strerror}; what was stored before is intact. Make room, "
            raise _Failure(f"{message}or set HARNESS_HOME, then run the command again") from None
        except KeyboardInterrupt:
            click.echo("interrupted: finished runs are stored, the same command goes on from there", err=True)
            ctx.exit(INTERRUPTED)


class _Failure(click.ClickException):
    """The harness or the machine failed."""

    exit_code = 4


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__)
def cli() -> None:
    """Run, time and score machine-unlearning submissions.

    \b
    harness evaluate submissions/template.py          score a submission
    harness evaluate submissions/foo.py --quick       a first look: 16 runs
    harness check submissions/foo.py --debug          one run with prints and breakpoint()
    """


file_argument = click.argument("file", type=click.Path(path_type=Path))
track_option = click.option(
    "--track",
    "track_name",
    default="digits",
    show_default=True,
    help="A track's name, or a TOML file.",
)
device_option = click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True, help="What runs use."
)
set_option = click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    help="Set a constant in capitals of the file; may be repeated.",
)
jobs_option = click.option(
    "--jobs", type=click.IntRange(min=1), help="How many at once.  [default: as many as the cores allow; 1 on a GPU]"
)
time_limit_option = click.option(
    "--time-limit", type=float, metavar="FRACTION", help="Another share of a training; not ranked."
)


@cli.command("evaluate")
@file_argument
@track_option
@click.option("--runs", type=click.IntRange(min=1), help="How many runs.  [default: the track's, 64 on digits]")
@click.option("--quick", is_flag=True, help=f"A first look: {QUICK_RUNS} runs.")
@set_option
@click.option("--json", "json_file", type=click.Path(path_type=Path, dir_okay=False), help="Write the result here.")
@jobs_option
@device_option
@click.option(
    "--isolation",
    type=click.Choice(["auto", *isolations.LEVELS]),
    default="auto",
    show_default=True,
    help="What stands between a run and the machine; auto takes the strongest there is.",
)
@click.option("--require-isolation", type=click.Choice(isolations.LEVELS), help="Refuse to run below this level.")
@click.option("--rescore", is_flag=True, help="Score the stored runs anew, without running anything.")
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
    time_limit: float | None,
    hidden: bool,
) -> None:
    """Run a submission many times and score it."""
    if quick and runs is not None:
        raise UsageError("give --quick or --runs, not both")
    if json_file is not None and not json_file.absolute().parent.is_dir():
        raise UsageError(f"no folder {json_file.absolute().parent} to write {json_file.name} to")
    track = catalogue.open_track(track_name, home() / "tracks")
    submission = read_submission(file, source_kb=track.declaration.limits.source_kb, constants=_constants(settings))
    default_runs = track.declaration.evaluation.runs
    n_runs = runs or (min(QUICK_RUNS, default_runs) if quick else default_runs)
    kind = devices.resolve(device)
    found = isolations.choose(isolation, require_isolation, device=kind)
    conditions = _conditions(submission, track, kind, jobs, found, time_limit)
    evaluation = _evaluated(submission, track, conditions, n_runs, require_isolation, rescore=rescore)
    if hidden:
        evaluation = redacted(evaluation)
    result = summary(evaluation)
    sentences = comparisons(home(), evaluation, result)
    if evaluation.outcome == Outcome.OK:
        remember(home(), evaluation, result)
    _console().print(show(evaluation, sentences))
    if json_file is not None:
        write_json(json_file, result)
    _exit_with(evaluation)


@cli.command("check")
@file_argument
@track_option
@set_option
@device_option
@click.option("--debug", is_flag=True, help="Run in the foreground, with prints, traceback and breakpoint().")
def check_command(file: Path, track_name: str, settings: tuple[str, ...], device: str, debug: bool) -> None:
    """Check a submission: first its text, then one run."""
    track = catalogue.open_track(track_name, home() / "tracks")
    submission = read_submission(file, source_kb=track.declaration.limits.source_kb, constants=_constants(settings))
    kind = devices.resolve(device)
    conditions = _conditions(submission, track, kind, 1, isolations.choose(device=kind), None)
    if debug and not submission.problems:
        from harness.runs import run_in_foreground  # imports torch

        sys.exit(0 if run_in_foreground(submission, track, conditions) else 3)
    evaluation = evaluate(submission, track, conditions, runs=1, home=home())
    _console().print(show_check(evaluation))
    _exit_with(evaluation)


@cli.command("compare")
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@track_option
@click.option("--runs", type=click.IntRange(min=2), help="How many runs of each.  [default: the track's]")
@jobs_option
@device_option
@click.option("--json", "json_file", type=click.Path(path_type=Path, dir_okay=False), help="Write the result here.")
@time_limit_option
def compare_command(
    first: str,
    second: str,
    track_name: str,
    runs: int | None,
    jobs: int | None,
    device: str,
    json_file: Path | None,
    time_limit: float | None,
) -> None:
    """Say whether two submissions differ: A and B are files, or the word `retrained`.

    Runs that are missing are made first. Runs under another --time-limit are kept apart from ranked ones.
    """
    from harness.compare import RETRAINED, compare, retrained_side, submission_side

    track = catalogue.open_track(track_name, home() / "tracks")
    n_runs = runs or track.declaration.evaluation.runs
    reference = load_reference(track, n_runs, Results.cache(home(), track))
    kind = devices.resolve(device)
    sides = []
    for name in (first, second):
        if name == RETRAINED:
            sides.append(retrained_side(reference))
            continue
        submission = read_submission(Path(name), source_kb=track.declaration.limits.source_kb)
        conditions = _conditions(submission, track, kind, jobs, isolations.choose(device=kind), time_limit)
        evaluation = _evaluated(submission, track, conditions, n_runs)
        if evaluation.scored is None:
            _console().print(show(evaluation, []))
            _exit_with(evaluation)
            raise UsageError(f"{name} has no score to compare")
        sides.append(submission_side(submission.name, evaluation.records, evaluation.scored, reference))
    comparison = compare(sides[0], sides[1], reference)
    _console().print(comparison.sentence)
    if json_file is not None:
        write_json(json_file, comparison_summary(comparison, time_limit))


@cli.command("report")
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
    track = catalogue.open_track(track_name, home() / "tracks")
    submission = read_submission(file, source_kb=track.declaration.limits.source_kb, constants=_constants(settings))
    n_runs = runs or track.declaration.evaluation.runs
    evaluation = recall(submission, track, devices.resolve(device), runs=n_runs, home=home())
    if evaluation.outcome != Outcome.OK:
        _console().print(show(evaluation, []))
        _exit_with(evaluation)
    from harness.report.page import render_page  # imports matplotlib

    page = out or Path(f"report-{submission.path.stem}.html")
    write_bytes(page, render_page(evaluation).encode(errors="replace"))
    _console().print(f"wrote {page}", markup=False)


@cli.command("prepare")
@click.argument("track_name", metavar="TRACK")
@click.option("--force", is_flag=True, help="Prepare it anew, and report how far the new reference is from the old.")
@click.option("--retrained", type=click.IntRange(min=1), help="Add models until each pool holds so many.")
@click.option("--data", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Data to use as they are.")
@click.option("--export", "public_file", type=click.Path(path_type=Path), help="Write the public part as one file.")
@click.option("--export-private", "whole_file", type=click.Path(path_type=Path), help="Write all, secret included.")
@click.option("--import", "import_file", type=click.Path(path_type=Path), help="Unpack an exported track.")
@jobs_option
def prepare_command(
    track_name: str,
    force: bool,
    retrained: int | None,
    data: Path | None,
    public_file: Path | None,
    whole_file: Path | None,
    import_file: Path | None,
    jobs: int | None,
) -> None:
    """Make a track ready: split the data, train originals and retrained models."""
    tracks = home() / "tracks"
    if import_file is not None:
        track = import_track(import_file, tracks)
        _console().print(f"unpacked {track.name} to {track.folder}")
        return
    if force or not (tracks / catalogue.find(track_name).declaration.name).exists():
        _prepare(track_name, tracks, jobs, data)
    track = catalogue.open_track(track_name, tracks)
    if retrained is not None:
        track = _grow(track, retrained, jobs)
    for file, private in ((public_file, False), (whole_file, True)):
        if file is not None:
            export_track(track, file, private=private)
            _console().print(f"wrote {'all' if private else 'the public part'} of {track.name} to {file}")
    _console().print(
        f"{track.name} is ready: {track.manifest.retrained} retrained models in each pool, in {track.folder}"
    )


def _prepare(track_name: str, tracks: Path, jobs: int | None, data: Path | None) -> None:
    from data_prep.prepare import prepare  # imports torch

    declared = catalogue.find(track_name)
    with contextlib.suppress(UsageError, MachineError):  # what it is compared with, if there is anything
        catalogue.open_track(track_name, tracks)
    with ProgressBar(_console(), f"preparing {declared.declaration.name}") as bar:
        n_jobs = jobs or devices.default_jobs("cpu", 1)
        prepared = prepare(declared.declaration, declared.file, tracks, jobs=n_jobs, data=data, on_progress=bar)
    if prepared.drift is not None:
        _console().print(str(prepared.drift))


def _grow(track: Track, retrained: int, jobs: int | None) -> Track:
    from data_prep.prepare import grow  # imports torch

    with ProgressBar(_console(), f"adding models to {track.name}") as bar:
        return grow(track, retrained, jobs=jobs or devices.default_jobs("cpu", 1), on_progress=bar)


@cli.command("score")
@click.option("--unlearned", required=True, type=click.Path(path_type=Path), help="An .npz, see below.")
@click.option("--retrained", required=True, type=click.Path(path_type=Path), help="An .npz with as many models.")
@click.option("--json", "json_file", type=click.Path(path_type=Path, dir_okay=False), help="Write the result here.")
def score_command(unlearned: Path, retrained: Path, json_file: Path | None) -> None:
    """Score anyone's arrays with the official metric.

    Each .npz holds `confidence` (models, forget examples), or `logits` (models, forget examples, classes) and `labels`
    (forget examples). With `retain_accuracy` and `test_accuracy` (models) in both, the final score is printed too.
    """
    from harness.scoring.arrays import score_arrays

    sides = [_arrays(file) for file in (unlearned, retrained)]
    try:
        result = score_arrays(*sides)
    except ValueError as error:
        raise UsageError(f"{unlearned} and {retrained} cannot be scored: {error}") from None
    for name, value in result.items():
        _console().print(f"{name:22s} {'' if value is None else format(value, '.6g')}", highlight=False)
    if json_file is not None:
        write_json(json_file, result)


@cli.command("doctor")
def doctor_command() -> None:
    """Show what this machine offers: devices, isolation and why, versions, disk."""
    for name, value in findings(home()).items():
        _console().print(f"{name:12s} {value}", highlight=False, soft_wrap=True)


cli.add_command(leaderboard)


# ---- shared by the commands ---------------------------------------------------------------------------------------


def _console() -> Console:
    return Console(highlight=False, soft_wrap=not sys.stdout.isatty())


def _arrays(file: Path) -> dict[str, np.ndarray]:
    """Return the arrays of an .npz. Raises UsageError if it is none."""
    try:
        return read_arrays(file)
    except FileNotFoundError:
        raise UsageError(f"no file {file}") from None
    except (OSError, ValueError):
        raise UsageError(f"{file} is no .npz of arrays; harness score --help says what it has to hold") from None


def _constants(settings: tuple[str, ...]) -> dict[str, str]:
    """Return constants by name. Raises UsageError for what is not NAME=VALUE."""
    constants = {}
    for setting in settings:
        name, separator, value = setting.partition("=")
        if not separator or not name.isidentifier():
            raise UsageError(f"--set takes NAME=VALUE, such as --set EPOCHS=3, not {setting!r}")
        constants[name] = value
    return constants


def _evaluated(
    submission: Submission,
    track: Track,
    conditions: Conditions,
    runs: int,
    required_isolation: str | None = None,
    *,
    rescore: bool = False,
) -> Evaluation:
    """Evaluate with a live line."""
    with LiveRuns(_console(), runs) as live:
        evaluation = evaluate(
            submission,
            track,
            conditions,
            runs=runs,
            home=home(),
            required_isolation=required_isolation,
            rescore=rescore,
            on_run=live.add,
        )
    return evaluation


def _conditions(
    submission: Submission,
    track: Track,
    device: str,
    jobs: int | None,
    isolation: isolations.Isolation,
    time_limit: float | None,
) -> Conditions:
    """Return what runs are made under; the time limit is measured if this machine has not been calibrated yet."""
    limits = track.declaration.limits
    jobs = jobs or devices.default_jobs(device, limits.threads)
    limit = None if submission.problems else _limit(track, device, jobs, time_limit)
    return Conditions(limit=limit, isolation=isolation, device=device, threads=limits.threads, jobs=jobs)


def _limit(track: Track, device: str, jobs: int, fraction: float | None) -> Limit:
    limits = track.declaration.limits
    if fraction is not None and fraction <= 0:
        raise UsageError("--time-limit takes a share of a training above 0, such as 0.1")
    share = limits.time_limit_fraction if fraction is None else fraction
    if limits.seconds is not None:
        seconds = limits.seconds * share / limits.time_limit_fraction
        return Limit(seconds, share, is_overridden=fraction is not None)
    trainings = f"{jobs} trainings at once" if jobs > 1 else "trainings"
    announcement = f"timing {trainings}, once per machine: a run may use {limits.time_limit_fraction:.0%} of one ..."
    calibration = calibrate(
        track,
        home(),
        device=device,
        threads=limits.threads,
        jobs=jobs,
        on_start=lambda: _console().print(announcement),
    )
    return Limit(
        seconds=share * calibration.training_seconds,
        fraction=share,
        is_overridden=fraction is not None,
        training_seconds=calibration.training_seconds,
        calibration=calibration.id,
    )


def _exit_with(evaluation: Evaluation) -> None:
    if evaluation.outcome.is_fault_of_submission:
        sys.exit(3)
    if evaluation.outcome != Outcome.OK:
        sys.exit(4)
