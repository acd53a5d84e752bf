"""The commands of a leaderboard; those that show it are in `publishing`: parse, call, print."""

from __future__ import annotations

import contextlib
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import click

from harness.cli.options import (
    again_option,
    chosen_device,
    console,
    device_option,
    isolation_option,
    jobs_option,
    require_isolation_option,
    track_option,
)
from harness.cli.publishing import html_command, selfcheck_command, show_command, verify_command
from harness.cli.results import require_place, write_result_json
from harness.environment import home, require_writable
from harness.errors import UsageError
from harness.report.escaping import escaped
from harness.runner import isolation as isolations
from harness.runner.outcome import Outcome

if TYPE_CHECKING:
    from harness.leaderboard.batch.backend import Backend, RunOptions
    from harness.leaderboard.batch.batch import BatchEntry
    from harness.leaderboard.batch.cluster_worker import WorkerReport
    from harness.leaderboard.batch.progress import Progress
    from harness.leaderboard.batch.teams import SubmissionsFound
    from harness.tracks.track import Track

__all__ = ["leaderboard_group"]


@click.group("leaderboard")
def leaderboard_group() -> None:
    """Run whole folders of submissions, and show how they compare.

    \b
    harness leaderboard plan --teams 50 --tries 20      what it will take
    harness leaderboard run submissions --runs 64       all files of a folder and of its teams' folders
    harness leaderboard run submissions --watch         what is dropped there, as it comes
    harness leaderboard show                            the table
    """


for command in (show_command, html_command, verify_command, selfcheck_command):
    leaderboard_group.add_command(command)


def _part(value: str) -> tuple[int, int]:
    """Return K and N of K/N, the K-th of N parts."""
    part, _, parts = value.partition("/")
    if not (part.isdecimal() and parts.isdecimal() and 1 <= int(part) <= int(parts)):
        raise click.BadParameter(f"{value!r} is no part of a whole such as 3/8")
    return int(part), int(parts)


def _numbers(value: str) -> tuple[int, ...]:
    """Return numbers with commas between them."""
    if not all(part.isdecimal() and int(part) > 0 for part in value.split(",")):
        raise click.BadParameter(f"{value!r} is no list of numbers such as 16,64")
    return tuple(int(part) for part in value.split(","))


def _zone(name: str) -> ZoneInfo:
    """Return a time zone by its name."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise click.BadParameter(f"{name!r} is no name of a time zone such as UTC or Europe/Zurich") from None


@leaderboard_group.command("run")
@click.argument("places", metavar="FOLDER|FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@track_option
@click.option("--runs", type=click.IntRange(min=1), help="Runs of each.  [default: the board's; at first the track's]")
@click.option(
    "--stages",
    type=_numbers,
    metavar="N,N",
    default="16,64",
    show_default=True,
    help="Fewer runs that all are given first.",
)
@click.option(
    "--boundary",
    "boundaries",
    type=click.IntRange(min=1),
    multiple=True,
    metavar="RANK",
    help="A rank that a prize hangs on; may be repeated. Who cannot reach one gets no further stage.",
)
@click.option(
    "--final",
    is_flag=True,
    help="Of teams only the files that their final.toml names; one run at a time, unless --jobs says otherwise.",
)
@click.option("--watch", is_flag=True, help="Go on and evaluate files as they are dropped; Ctrl-C ends it.")
@click.option("--max-per-day", type=click.IntRange(min=1), metavar="K", help="Submissions a team may enter on one day.")
@click.option(
    "--timezone",
    type=_zone,
    metavar="ZONE",
    default="UTC",
    show_default=True,
    help="The time zone that days are counted in.",
)
@click.option("--hidden", is_flag=True, help="Keep nothing that a run says: the forget set would leak through it.")
@click.option("--scheduler", metavar="ADDRESS", help="A Dask scheduler whose workers make the runs.")
@click.option("--insecure", is_flag=True, help="Use a scheduler that is neither tls:// nor on this machine.")
@click.option("--shard", type=_part, metavar="K/N", help="Only the submissions in part K of N, for job arrays.")
@again_option
@jobs_option
@device_option
@isolation_option
@require_isolation_option
def run_command(
    places: tuple[Path, ...],
    track_name: str,
    runs: int | None,
    stages: tuple[int, ...],
    boundaries: tuple[int, ...],
    final: bool,
    watch: bool,
    max_per_day: int | None,
    timezone: ZoneInfo,
    hidden: bool,
    scheduler: str | None,
    insecure: bool,
    shard: tuple[int, int] | None,
    again: bool,
    jobs: int | None,
    device: str,
    isolation: str,
    require_isolation: str | None,
) -> None:
    """Run and score many submissions: files, or folders with files and with a folder for each team.

    The same command again makes only what is missing, whatever ended it before.
    """
    if watch and (boundaries or final or shard is not None):
        raise UsageError(
            "--watch evaluates every file in full, as it comes; leave out --final, --shard and --boundary: "
            "the board keeps the boundaries that it was given before"
        )
    if scheduler is not None and jobs is not None:
        raise UsageError("--jobs is for this machine; with --scheduler the workers' threads say how many run at once")
    from harness import api
    from harness.leaderboard.batch.backend import RunOptions
    from harness.leaderboard.batch.batch import Terms, stages_of
    from harness.leaderboard.batch.progress import Progress
    from harness.leaderboard.batch.session import Session
    from harness.leaderboard.board.entries import board_folder, board_runs

    track = api.open_track(track_name)
    n_runs = runs or max(track.usual_runs, board_runs(board_folder(home(), track)))
    _require_possible(track, n_runs)
    required = isolations.stronger(isolation, require_isolation)
    terms = Terms(n_runs, stages_of(n_runs, stages), boundaries, required, hidden, again)
    options = RunOptions(device, isolation, require_isolation)
    with Progress(console()) as progress, contextlib.ExitStack() as stack:
        if scheduler is None:
            backend = _this_machine(track, options, jobs or (1 if final else None), progress)
        else:
            backend = stack.enter_context(_of_cluster(scheduler, track, options, insecure, progress))
        session = Session(track, home(), backend, terms, timezone, max_per_day, is_device_given=device != "auto")
        if watch:
            session.watch(places, progress)
        batch_entries = session.run(_found(places, track, final, shard), progress, is_whole=shard is None)
    _sum_up(batch_entries)


def _require_possible(track: Track, n_runs: int) -> None:
    """Raise an error unless the track has models for so many runs, and all that a batch keeps can be written."""
    from harness.evaluation.make import check_runs
    from harness.leaderboard.board.entries import board_folder
    from harness.runs.store import Results

    track.require_private()
    check_runs(track, n_runs)
    require_writable(home() / "calibration", board_folder(home(), track), Results.cache(home(), track))


def _found(places: tuple[Path, ...], track: Track, final: bool, shard: tuple[int, int] | None) -> SubmissionsFound:
    """Return what is to be run: of all files, or of those chosen for the final, the part that is asked for."""
    from harness.leaderboard.batch.teams import chosen, find_submissions, part_of, with_faults_of_choices

    found = find_submissions(places, source_kb=track.declaration.limits.source_kb)
    found = chosen(found) if final else with_faults_of_choices(found)
    return found if shard is None else part_of(found, *shard)


@contextlib.contextmanager
def _of_cluster(
    scheduler: str, track: Track, options: RunOptions, is_insecure: bool, progress: Progress
) -> Iterator[Backend]:
    from harness.leaderboard.batch.backend import Backend
    from harness.leaderboard.batch.cluster import Cluster

    with Cluster(scheduler, track, options, is_insecure=is_insecure, say=progress.say) as cluster:
        _show_workers(cluster.reports, progress)
        yield Backend(
            *(cluster.device, cluster.isolation, lambda: cluster),
            gpus=cluster.gpus,
            failure_counts=cluster.failure_counts,
            free_processors=cluster.free_processors,
            is_one_machine=cluster.is_one_machine,
        )


def _this_machine(track: Track, options: RunOptions, jobs: int | None, progress: Progress) -> Backend:
    from harness.leaderboard.batch.backend import Backend

    kind = chosen_device(options.device)
    level = isolations.choose(options.isolation, options.required_isolation, device=kind)
    return Backend.here(track, home(), device=kind, jobs=jobs, isolation=level, announce=progress.say)


@leaderboard_group.command("plan")
@track_option
@click.option("--teams", type=click.IntRange(min=1), required=True, help="How many teams.")
@click.option("--tries", type=click.IntRange(min=1), required=True, help="Submissions of each, over all.")
@click.option("--runs", type=click.IntRange(min=1), help="Runs of each.  [default: the track's]")
@click.option("--learners", type=click.IntRange(min=0), default=0, help="How many of all submissions are learners.")
@click.option(
    "--gpus", type=click.IntRange(min=1), help="GPUs, or on a CPU processes, at once.  [default: this machine]"
)
@device_option
@click.option("--json", "json_file", type=click.Path(path_type=Path, dir_okay=False), help="Write the figures here.")
def plan_command(
    track_name: str,
    teams: int,
    tries: int,
    runs: int | None,
    learners: int,
    gpus: int | None,
    device: str,
    json_file: Path | None,
) -> None:
    """Say what a competition takes, from what was measured on this machine, and what its final has to have.

    The more runs are stored here, the better it is known: evaluate a few baselines first.
    """
    if learners > teams * tries:
        raise UsageError(f"{learners} of {teams * tries} submissions cannot be learners; give fewer to --learners")
    from rich.table import Table

    from harness import api
    from harness.accelerator import of
    from harness.leaderboard.assurance.costs import Request, costs, stored_runs
    from harness.leaderboard.assurance.final import steps_to_a_final
    from harness.runs.conditions import conditions_here
    from harness.runs.stage import Stage

    require_place(json_file)
    track = api.open_track(track_name)
    kind = chosen_device(device)
    here = of(kind).default_jobs(track.declaration.limits.threads)
    at_once = here if gpus is None or of(kind).is_gpu else min(gpus, here)  # fewer slow one another down less
    conditions = conditions_here(
        track, home(), device=kind, isolation=isolations.choose(device=kind), jobs=at_once, announce=console().print
    )
    assert conditions.limit is not None
    request = Request(teams, tries, runs or track.usual_runs, gpus or conditions.jobs, learners)
    stored = (stored_runs(home(), track, kind, stage) for stage in (Stage.RUN, Stage.ORIGINAL))
    figures = costs(request, track, kind, conditions.limit, *stored)
    table = Table(show_header=False, box=None, padding=(0, 1))
    for figure in figures:
        table.add_row(figure.name, f"{_number(figure.value)} {figure.unit}".rstrip(), figure.origin)
    console().print(table)
    for line in steps_to_a_final(track):
        console().print(line, soft_wrap=True)
    if json_file is not None:
        write_result_json(json_file, [figure.to_json() for figure in figures])


def _number(value: float) -> str:
    """Return a figure with three digits that count."""
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


def _show_workers(reports: Mapping[str, WorkerReport], progress: Progress) -> None:
    """Say a sentence on each worker of a cluster."""
    for address, each in reports.items():
        what = f"{each.gpu or each.device}, isolation {each.isolation}, time limit {each.limit_seconds:.2f} s"
        progress.say(f"worker {address} on {each.machine}: {what}")


def _sum_up(batch_entries: list[BatchEntry]) -> None:
    """Say how all of them ended. What the harness failed at is no submission's fault, and ends with exit code 4."""
    states = Counter(batch_entry.entry.state for batch_entry in batch_entries)
    counts = ", ".join(f"{count} {state}" for state, count in sorted(states.items())) or "nothing to run"
    console().print(f"{len(batch_entries)} submission{'s' if len(batch_entries) != 1 else ''}: {counts}")
    stored = [each.name for each in batch_entries if each.run_set is not None and each.run_set.has_stored_failure]
    if stored:
        names = ", ".join(map(escaped, stored))
        console().print(f"the failures of {names} were stored before; --again makes them again")
    failed = [batch_entry.name for batch_entry in batch_entries if batch_entry.entry.outcome == Outcome.HARNESS_ERROR]
    if failed:
        console().print(f"the harness failed at {', '.join(map(escaped, failed))}; the same command tries again")
        sys.exit(4)
