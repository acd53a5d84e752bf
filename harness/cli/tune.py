"""The command that looks for settings of a submission."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

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
    track_option,
)
from harness.cli.results import require_place, write_result_json
from harness.errors import UsageError
from harness.tuning.ranges import FORMS, USUAL_TRIALS, require_trials

__all__ = ["tune_command"]


@click.command("tune")
@click.argument("file", type=SubmissionFile())
@track_option
@click.option(
    "--trials", type=int, default=USUAL_TRIALS, show_default=True, help="How many, the file as it is included."
)
@click.option(
    "--runs", type=click.IntRange(min=2), help="Runs of each trial.  [default: 16, or the tuning track's models]"
)
@click.option(
    "--range",
    "ranges",
    multiple=True,
    metavar="NAME=RANGE",
    help="Tune this constant: LOW:HIGH, LOW:HIGH:log or A,B,C; may be repeated.  [default: positive numbers]",
)
@set_option
@click.option("--json", "json_file", type=click.Path(path_type=Path, dir_okay=False), help="Write the result here.")
@jobs_option
@device_option
@isolation_option
@require_isolation_option
@again_option
def tune_command(
    file: Path,
    track_name: str,
    trials: int,
    runs: int | None,
    ranges: tuple[str, ...],
    settings: tuple[str, ...],
    json_file: Path | None,
    jobs: int | None,
    device: str,
    isolation: str,
    require_isolation: str | None,
    again: bool,
) -> None:
    """Try settings of a submission on another forget set than that of the track.

    What is tuned are constants in capitals of the file. The first trial is the file as it is, the others are drawn at
    random, always the same ones. Prepare once: harness prepare TRACK --for-tuning
    """
    require_trials(trials)
    asked, constants = _ranges(ranges), set_constants(settings)
    require_place(json_file)
    from harness import api
    from harness.report.tuned import LiveTrials, show_tuning
    from harness.tracks.tuning_track import open_tuning_track, runs_of_a_trial

    track = api.open_track(track_name)
    live = LiveTrials(console(), trials, runs or runs_of_a_trial(open_tuning_track(track)))
    with contextlib.ExitStack() as stack:
        tuning = api.tune(
            file,
            track=track,
            trials=trials,
            runs=runs,
            ranges=asked,
            constants=constants,
            jobs=jobs,
            device=chosen_device(device),
            isolation=isolation,
            require_isolation=require_isolation,
            again=again,
            announce=live.console.print,
            on_start=lambda: stack.enter_context(live),
            on_run=live.add_run,
            on_trial=live.add_trial,
        )
    console().print(show_tuning(tuning, file, is_scored_here=track.manifest.reference_hash is not None), crop=False)
    if json_file is not None:
        write_result_json(json_file, tuning.to_json())
    if tuning.best is None:
        sys.exit(3)


def _ranges(texts: tuple[str, ...]) -> dict[str, str]:
    """Return ranges by name. Raises UsageError for what is not NAME=RANGE, and for a name that is there twice."""
    ranges: dict[str, str] = {}
    for text in texts:
        name, separator, span = text.partition("=")
        if not separator or not name.isidentifier():
            raise UsageError(f"--range takes {FORMS}, such as --range LEARNING_RATE=0.01:1:log, not {text!r}")
        if name in ranges:
            raise UsageError(f"--range {name} is there twice; give one of them")
        ranges[name] = span
    return ranges
