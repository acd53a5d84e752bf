"""The commands that show a leaderboard: parse, call, print."""

import sys
from pathlib import Path

import click
from rich.console import Console

from data_prep import catalogue
from harness.environment import home
from harness.leaderboard.board import read_board
from harness.leaderboard.ranking import stored_test
from harness.leaderboard.reviews import open_reviews, read_reviews
from harness.leaderboard.rows import BASELINES, Leaderboard, baseline_hashes, leaderboard
from harness.leaderboard.tables import as_csv, as_json, as_markdown, as_table
from harness.reference import Reference, load_reference
from harness.report.terminal import ProgressBar
from harness.results import Results
from harness.track import Track

__all__ = ["html_command", "show_command"]

UNBOUNDED = 10_000  # letters in a line of what is no terminal

track_option = click.option(
    "--track", "track_name", default="digits", show_default=True, help="A track's name, or a TOML file."
)
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
    shown = _leaderboard(_open(track_name), rounded=rounded, hidden=hidden, baselines=baselines)
    if form == "table":
        console = Console(highlight=False, width=None if sys.stdout.isatty() else UNBOUNDED)
        console.print(as_table(shown, console))
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
    from harness.leaderboard.site import write_site  # imports matplotlib

    track = _open(track_name)
    shown = _leaderboard(track, rounded=rounded, hidden=hidden, baselines=baselines)
    folder = output or Path(f"leaderboard-{track.name}")
    with ProgressBar(Console(stderr=True), "pages") as bar:
        n_pages = write_site(shown, track, read_reviews(shown.board), folder, hidden=hidden, on_page=bar)
    click.echo(f"wrote {n_pages} pages; open {folder / 'index.html'}")


# ---- shared by the commands ---------------------------------------------------------------------------------------


def _open(track_name: str) -> Track:
    return catalogue.open_track(track_name, home() / "tracks")


def _leaderboard(track: Track, *, rounded: int | None, hidden: bool, baselines: Path | None) -> Leaderboard:
    """Return a track's leaderboard as it is to be shown; reviews that its alarms ask for are opened."""
    board = read_board(home(), track)
    open_reviews(board)

    def reference(n_runs: int) -> Reference:
        return load_reference(track, n_runs, Results.cache(home(), track))

    return leaderboard(
        board,
        reviews=read_reviews(board),
        baselines=baseline_hashes(baselines or BASELINES),
        rounded=rounded,
        hidden=hidden,
        exact_test=stored_test(board, reference),
    )
