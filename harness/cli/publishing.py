"""The commands that show a leaderboard: parse, call, print."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.accelerator import of
from harness.cli.options import chosen_device, console, device_option, jobs_option, track_option
from harness.cli.results import require_folder, write_result_json
from harness.environment import home
from harness.errors import UsageError
from harness.report.escaping import escaped
from harness.runner import isolation as isolations
from harness.shipped import BASELINES

if TYPE_CHECKING:
    from harness.evaluation.evaluate import Evaluation
    from harness.evaluation.reference import Reference
    from harness.leaderboard.assurance.selfcheck import Known
    from harness.leaderboard.board.rows import Leaderboard
    from harness.leaderboard.board.stored import Board
    from harness.tracks.track import Track

__all__ = ["html_command", "selfcheck_command", "show_command", "verify_command"]

baselines_option = click.option(
    "--baselines",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Files that are marked as baselines and not ranked.  [default: those of the harness]",
)
rounded_option = click.option(
    "--rounded",
    type=click.IntRange(0, 6),
    metavar="DIGITS",
    help="Round scores before they are ranked: for a hidden set that is not to be climbed.",
)
hidden_option = click.option("--hidden", is_flag=True, help="Show nothing that a run says, and no forget example.")


@click.command("show")
@track_option
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "csv", "json", "markdown"]),
    default="table",
    show_default=True,
    help="What to print.",
)
@rounded_option
@hidden_option
@baselines_option
def show_command(track_name: str, form: str, rounded: int | None, hidden: bool, baselines: Path | None) -> None:
    """Show a leaderboard: who is ranked where, and all that a reader must know of it.

    Nothing is run. The same results give the same output, to the byte.
    """
    from rich.console import Console

    from harness.leaderboard.pages.text import UNBOUNDED, as_csv, as_json, as_markdown, as_table

    shown = _leaderboard(_open(track_name), rounded=rounded, hidden=hidden, baselines=baselines)
    if form == "table":
        wide = Console(highlight=False, width=None if sys.stdout.isatty() else UNBOUNDED)
        wide.print(as_table(shown, wide))
    else:
        formats = {"csv": as_csv, "json": as_json, "markdown": as_markdown}
        click.echo(formats[form](shown), nl=False)


@click.command("html")
@track_option
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    help="The folder.  [default: leaderboard-TRACK, here]",
)
@rounded_option
@hidden_option
@baselines_option
def html_command(
    track_name: str, output: Path | None, rounded: int | None, hidden: bool, baselines: Path | None
) -> None:
    """Write a leaderboard as a static site: the table, a page per submission, comparison of any two.

    The folder needs no server and no network, and can be put anywhere as it is.
    """
    from rich.console import Console

    from harness.leaderboard.board.reviews import read_reviews
    from harness.leaderboard.pages.site import write_site  # imports matplotlib
    from harness.report.terminal import ProgressBar

    track = _open(track_name)
    folder = output or Path(f"leaderboard-{track.name}")
    require_folder(folder)
    shown = _leaderboard(track, rounded=rounded, hidden=hidden, baselines=baselines)
    with ProgressBar(Console(stderr=True), "pages") as bar:
        n_pages = write_site(shown, track, read_reviews(shown.board), folder, hidden=hidden, on_page=bar)
    click.echo(f"wrote {n_pages} pages; open {folder / 'index.html'}")


@click.command("verify")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@track_option
@click.option("--publish", is_flag=True, help="Write FILE: hashes of the track, to be published at the opening.")
@click.option(
    "--table",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A published table, as `show --format json` writes it, to be compared as well.",
)
@click.option("--jobs", type=click.IntRange(min=1), help="How many at once.  [default: as many as there are cores]")
@baselines_option
def verify_command(
    file: Path, track_name: str, publish: bool, table: Path | None, jobs: int | None, baselines: Path | None
) -> None:
    """Check a final ranking against FILE, which was published at the opening.

    From the released track, runs and leaderboard, all scores and the ranking are computed again. Exit code 0 if
    everything matches, 4 if anything does not, each difference on a line of its own.
    """
    from rich.console import Console

    from harness.leaderboard.assurance.verification import (
        differences_of_tables,
        differences_of_track,
        read_commitment,
        recomputed,
    )
    from harness.leaderboard.board.stored import readable_board
    from harness.report.terminal import ProgressBar

    track = _open(track_name)
    if publish:
        _publish(file, track)
        return
    published = read_commitment(file)
    board, damaged = readable_board(home(), track)
    _report("the stored entries and scores", "are whole", damaged)
    differences = differences_of_track(published, track, board)
    _report("the track and its terms", "are those published", differences)
    with ProgressBar(Console(stderr=True), "scores") as bar:
        again = recomputed(board, track, jobs=jobs or of("cpu").default_jobs(1), on_score=bar)
    scored = sum(entry.scored is not None for entry in board.current)
    _report(f"{scored} scores", "come out of the runs again", again.differences)
    differences += [*damaged, *again.differences]
    if table is not None:
        with tempfile.TemporaryDirectory() as fresh:  # nothing that was kept is believed
            known = _known(baselines)
            shown = _shown(again.board, track, references=Path(fresh), exact=Path(fresh), baselines=known)
        found = differences_of_tables(table, shown)
        _report(f"the ranking in {table}", "follows from these scores", found)
        differences += found
    if differences:
        sys.exit(4)


def _publish(file: Path, track: Track) -> None:
    """Write what is published at the opening; what was published once is not written again."""
    from harness.leaderboard.assurance.verification import commit
    from harness.leaderboard.board.entries import board_folder
    from harness.leaderboard.board.stored import read_board

    if file.exists():
        raise UsageError(f"{file} is there already; a commitment is made once. Check against it without --publish")
    board = read_board(home(), track) if (board_folder(home(), track) / "board.json").is_file() else None
    write_result_json(file, commit(track, board).model_dump(mode="json"))
    click.echo(f"wrote {file}; publish it now, and release track, runs and leaderboard at the end")


def _report(what: str, verdict: str, differences: Sequence[str]) -> None:
    found = f"{len(differences)} {'difference' if len(differences) == 1 else 'differences'}"
    click.echo(f"{what}: {found}" if differences else f"{what} {verdict}")
    for difference in differences:
        click.echo(f"  {escaped(difference)}")


@click.command("selfcheck")
@track_option
@click.option("--runs", type=click.IntRange(min=1), help="For how many runs of a submission.  [default: the track's]")
@click.option("--stored", is_flag=True, help="Check only what stored models tell; run nothing.")
@jobs_option
@device_option
def selfcheck_command(track_name: str, runs: int | None, stored: bool, jobs: int | None, device: str) -> None:
    """Check that the metric is sound on a track, before anyone is ranked on it.

    Retraining has to get 1 without an alarm, doing nothing the floor, equal submissions a tie; fine-tuning and half a
    retraining lie between, and games that gain have to raise an alarm. Exit code 0 if all of it holds, 4 if not.
    """
    from harness.evaluation.make import check_runs
    from harness.evaluation.reference import load_reference
    from harness.leaderboard.assurance.selfcheck import check_enough, known_methods, selfcheck
    from harness.runs.store import Results

    track = _open(track_name)
    n_runs = runs or track.usual_runs
    check_runs(track, n_runs)
    check_enough(n_runs)
    kind = chosen_device(device)
    methods = () if stored else known_methods(track.declaration.training)
    known = {each.what: _evaluated(each, track, kind, jobs, n_runs) for each in methods}
    holds = True
    click.echo(f"{track.name}, {n_runs} runs")
    for check in selfcheck(track, load_reference(track, n_runs, Results.cache(home(), track)), known):
        verdict = {True: "yes", False: "NO", None: "-"}[check.holds]
        click.echo(f" {verdict:4s}{check.what:62s} {check.found}")
        holds = holds and check.holds is not False
    if not holds:
        click.echo("scores on this track do not mean what they should: look at the lines marked NO before opening it")
        sys.exit(4)


def _evaluated(known: Known, track: Track, device: str, jobs: int | None, runs: int) -> Evaluation:
    """Run a method of which it is known what it does, or take its stored runs."""
    from harness.evaluation.evaluate import evaluate
    from harness.report.terminal import LiveRuns
    from harness.runs.conditions import conditions_here
    from harness.submission import read_submission

    source_kb = track.declaration.limits.source_kb
    submission = read_submission(BASELINES / known.file, source_kb=source_kb, constants=known.constants)
    conditions = conditions_here(
        track,
        home(),
        device=device,
        isolation=isolations.choose(device=device),
        jobs=jobs,
        time_limit=known.time_limit,
        announce=click.echo,
    )
    with LiveRuns(console(), runs) as live:
        return evaluate(submission, track, conditions, runs=runs, home=home(), on_run=live.add)


# ---- shared by the commands ---------------------------------------------------------------------------------------


def _open(track_name: str) -> Track:
    from harness import api

    return api.open_track(track_name)


def _known(baselines: Path | None) -> dict[str, str]:
    from harness.leaderboard.board.known_code import baselines_in, shipped_baselines

    return shipped_baselines() if baselines is None else baselines_in(baselines)


def _leaderboard(track: Track, *, rounded: int | None, hidden: bool, baselines: Path | None) -> Leaderboard:
    """Return a track's leaderboard as it is to be shown; reviews that its alarms ask for are opened."""
    from harness.leaderboard.board.known_code import with_shared_code
    from harness.leaderboard.board.reviews import open_reviews
    from harness.leaderboard.board.stored import read_board
    from harness.runs.store import Results

    known = _known(baselines)
    board = with_shared_code(read_board(home(), track), known)
    open_reviews(board)
    return _shown(
        board,
        track,
        references=Results.cache(home(), track),
        exact=board.folder / "exact",
        rounded=rounded,
        hidden=hidden,
        baselines=known,
    )


def _shown(
    board: Board,
    track: Track,
    *,
    references: Path,
    exact: Path,
    rounded: int | None = None,
    hidden: bool = False,
    baselines: Mapping[str, str],
) -> Leaderboard:
    """Return a board as it is to be shown; ceilings are kept in `references`, exact tests in `exact`."""
    from harness.evaluation.reference import load_reference
    from harness.leaderboard.board.ranking import stored_test
    from harness.leaderboard.board.reviews import read_reviews
    from harness.leaderboard.board.rows import leaderboard

    def reference(n_runs: int) -> Reference:
        return load_reference(track, n_runs, references)

    return leaderboard(
        board,
        reviews=read_reviews(board),
        baselines=baselines,
        rounded=rounded,
        hidden=hidden,
        exact_test=stored_test(board, reference, exact, lambda text: click.echo(f"{escaped(text)} ...", err=True)),
    )
