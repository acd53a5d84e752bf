"""The command line: parse, call, print.

Exit codes: 0 fine; 2 wrong usage; 3 the submission failed; 4 the harness or the machine failed.
"""

import contextlib
import errno
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from data_prep import catalogue
from harness import __version__
from harness.accelerator import of
from harness.conditions import conditions_here
from harness.environment import home
from harness.errors import MachineError, UsageError
from harness.evaluate import Evaluation, evaluate, recall, recall_siblings
from harness.history import comparisons, remember
from harness.leaderboard.commands import leaderboard
from harness.options import (
    Device,
    chosen_device,
    console,
    device_option,
    isolation_option,
    jobs_option,
    require_isolation_option,
    set_option,
    time_limit_option,
    track_option,
)
from harness.reference import load_reference
from harness.report.doctor import findings
from harness.report.hidden import redacted
from harness.report.summary import comparison_summary, summary
from harness.report.terminal import LiveRuns, ProgressBar, show, show_check
from harness.results import Conditions, Results
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


@cli.command("evaluate")
@file_argument
@track_option
@click.option("--runs", type=click.IntRange(min=1), help="How many runs.  [default: the track's, 64 on digits]")
@click.option("--quick", is_flag=True, help=f"A first look: {QUICK_RUNS} runs.")
@set_option
@click.option("--json", "json_file", type=click.Path(path_type=Path, dir_okay=False), help="Write the result here.")
@jobs_option
@device_option
@isolation_option
@require_isolation_option
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
    kind = chosen_device(device)
    found = isolations.choose(isolation, require_isolation, device=kind)
    conditions = _conditions(submission, track, kind, jobs, found, time_limit)
    evaluation = _evaluated(submission, track, conditions, n_runs, require_isolation, rescore=rescore)
    if hidden:
        evaluation = redacted(evaluation)
    result = summary(evaluation)
    sentences = comparisons(home(), evaluation, result)
    if evaluation.outcome == Outcome.OK:
        remember(home(), evaluation, result)
    console().print(show(evaluation, sentences))
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
    kind = chosen_device(device)
    conditions = _conditions(submission, track, kind, 1, isolations.choose(device=kind), None)
    if debug and not submission.problems:
        from harness.runs import run_in_foreground  # imports torch

        sys.exit(0 if run_in_foreground(submission, track, conditions) else 3)
    evaluation = evaluate(submission, track, conditions, runs=1, home=home())
    console().print(show_check(evaluation))
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
    kind = chosen_device(device)
    sides = []
    for name in (first, second):
        if name == RETRAINED:
            sides.append(retrained_side(reference))
            continue
        submission = read_submission(Path(name), source_kb=track.declaration.limits.source_kb)
        conditions = _conditions(submission, track, kind, jobs, isolations.choose(device=kind), time_limit)
        evaluation = _evaluated(submission, track, conditions, n_runs)
        if evaluation.scored is None:
            console().print(show(evaluation, []))
            _exit_with(evaluation)
            raise UsageError(f"{name} has no score to compare")
        sides.append(submission_side(submission.name, evaluation.records, evaluation.scored, reference))
    comparison = compare(sides[0], sides[1], reference)
    console().print(comparison.sentence)
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
    evaluation = recall(submission, track, chosen_device(device), runs=n_runs, home=home())
    if evaluation.outcome != Outcome.OK:
        console().print(show(evaluation, []))
        _exit_with(evaluation)
    from harness.report.page import render_page  # imports matplotlib

    page = out or Path(f"report-{submission.path.stem}.html")
    write_bytes(page, render_page(evaluation, recall_siblings(evaluation, home())).encode(errors="replace"))
    console().print(f"wrote {page}", markup=False)


@cli.command("prepare")
@click.argument("track_name", metavar="TRACK")
@click.option("--force", is_flag=True, help="Prepare it anew, and report how far the new reference is from the old.")
@click.option("--retrained", type=click.IntRange(min=1), help="Add models until each pool holds so many.")
@click.option("--estimate", is_flag=True, help="Say how long it takes, from a few timed steps; prepare nothing.")
@click.option("--data", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Data to use as they are.")
@click.option("--export", "public_file", type=click.Path(path_type=Path), help="Write the public part as one file.")
@click.option("--export-private", "whole_file", type=click.Path(path_type=Path), help="Write all, secret included.")
@click.option("--import", "import_file", type=click.Path(path_type=Path), help="Unpack an exported track.")
@click.option(
    "--jobs", type=click.IntRange(min=1), help="How many trainings at once.  [default: the cores; 4 on a GPU]"
)
@click.option("--device", type=Device(), default="auto", show_default=True, help="What trains.")
def prepare_command(
    track_name: str,
    force: bool,
    retrained: int | None,
    estimate: bool,
    data: Path | None,
    public_file: Path | None,
    whole_file: Path | None,
    import_file: Path | None,
    jobs: int | None,
    device: str,
) -> None:
    """Make a track ready: split the data, train originals and retrained models.

    A declaration of several forget sets makes as many tracks, which share data and originals.
    """
    tracks = home() / "tracks"
    if import_file is not None:
        track = import_track(import_file, tracks)
        console().print(f"unpacked {track.name} to {track.folder}")
        return
    found = catalogue.find(track_name, tracks)
    kind = chosen_device(device)
    trainer = _Trainer(tracks, jobs or of(kind).default_trainings(), kind, data)
    if estimate:
        trainer.estimate(found)
        return
    exported = [(public_file, False), (whole_file, True)]
    if len(found) > 1 and any(file is not None for file, _ in exported):
        raise UsageError(f"{track_name} declares {len(found)} tracks; name one of them to export it: {found[0].name}")
    for declared in found:
        if force or not (tracks / declared.name).exists():
            trainer.prepare(declared)
        track = catalogue.open_declared(declared, tracks)
        if retrained is not None:
            track = trainer.grow(track, retrained)
        for file, private in exported:
            if file is not None:
                export_track(track, file, private=private)
                console().print(f"wrote {'all' if private else 'the public part'} of {track.name} to {file}")
        console().print(
            f"{track.name} is ready: {track.manifest.retrained} retrained models in each pool, in {track.folder}"
        )


@dataclass(frozen=True)
class _Trainer:
    """How the models of tracks are trained here."""

    tracks: Path
    jobs: int
    device: str
    data: Path | None

    def prepare(self, declared: catalogue.Declared) -> None:
        from data_prep.prepare import prepare  # imports torch

        with contextlib.suppress(UsageError, MachineError):  # what it is compared with, if there is anything
            catalogue.open_declared(declared, self.tracks)
        with ProgressBar(console(), f"preparing {declared.name}") as bar:
            prepared = prepare(
                declared.declaration,
                declared.file,
                self.tracks,
                jobs=self.jobs,
                device=self.device,
                data=self.data,
                on_progress=bar,
            )
        if (track := prepared.originals_of) is not None:
            console().print(f"{declared.name} has the original models of {track}")
        if prepared.drift is not None:
            console().print(str(prepared.drift))

    def grow(self, track: Track, retrained: int) -> Track:
        from data_prep.prepare import grow  # imports torch

        with ProgressBar(console(), f"adding models to {track.name}") as bar:
            return grow(track, retrained, jobs=self.jobs, device=self.device, on_progress=bar)

    def estimate(self, found: list[catalogue.Declared]) -> None:
        from data_prep.estimate import estimate  # imports torch

        first = found[0]
        at_once = f"{self.jobs} trainings at once" if self.jobs > 1 else "one training at a time"
        console().print(f"timing a few steps of {first.name} on {self.device}, {at_once}; nothing is prepared ...")
        result = estimate(
            first.declaration, first.file, self.tracks, jobs=self.jobs, device=self.device, data=self.data
        )
        if len(found) > 1:
            console().print(f"each of {len(found)} tracks, which share their original models:")
        for name, value, remark in result.lines:
            console().print(f" {name:17s} {value:12s} {remark}")


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
        console().print(f"{name:22s} {'' if value is None else format(value, '.6g')}", highlight=False)
    if json_file is not None:
        write_json(json_file, result)


@cli.command("doctor")
@device_option
def doctor_command(device: str) -> None:
    """Show what this machine offers: devices, isolation and why, versions, disk."""
    for name, value in findings(home(), device).items():
        console().print(f"{name:12s} {value}", highlight=False, soft_wrap=True)


cli.add_command(leaderboard)


# ---- shared by the commands ---------------------------------------------------------------------------------------


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
    with LiveRuns(console(), runs) as live:
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
    return conditions_here(
        track,
        home(),
        device=device,
        isolation=isolation,
        jobs=jobs,
        time_limit=time_limit,
        may_run=not submission.problems,
        announce=console().print,
    )


def _exit_with(evaluation: Evaluation) -> None:
    if evaluation.outcome.is_fault_of_submission:
        sys.exit(3)
    if evaluation.outcome != Outcome.OK:
        sys.exit(4)
