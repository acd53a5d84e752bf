"""Options that several commands take, and the console they print to.

The modules of this room load little at their top: what a command needs is loaded once it is called, so that help,
completion and usage errors come at once.
"""

import glob
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from harness.accelerator import FAKE_VARIABLE, resolve
from harness.environment import home
from harness.errors import UsageError
from harness.runner import isolation as isolations
from harness.shipped import all_baseline_names, submission_path
from harness.tracks.track_names import DEFAULT_TRACK, track_names

if TYPE_CHECKING:
    from rich.console import Console

__all__ = [
    "Device",
    "SubmissionFile",
    "again_option",
    "begins_with",
    "chosen_device",
    "console",
    "device_option",
    "isolation_option",
    "jobs_option",
    "require_isolation_option",
    "set_constants",
    "set_option",
    "submissions_beginning",
    "time_limit_option",
    "track_option",
    "tracks_beginning",
]


class Device(click.Choice[str]):
    """What there is to compute on. The tests' fake is no choice, but it is taken where it is set up."""

    def __init__(self) -> None:
        super().__init__(["auto", "cpu", "cuda"])

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the value if it is one of the choices."""
        if value == "fake" and FAKE_VARIABLE in os.environ:
            return value
        return super().convert(value, param, ctx)


class SubmissionFile(click.Path):
    """A file; of a baseline its name does as well."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path."""
        return super().convert(submission_path(value), param, ctx)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Return what a shell completes the word to: files if any begin so, else baselines."""
        return submissions_beginning(ctx, param, incomplete)


def submissions_beginning(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Return what a shell completes a submission to: a file, or where none begins so the name of a baseline."""
    is_file = not begun or bool(glob.glob(f"{glob.escape(begun)}*"))
    return begins_with(begun, [] if is_file else all_baseline_names())


def begins_with(begun: str, names: Iterable[str]) -> list[CompletionItem]:
    """Return the names that a shell completes a word to, and files where there are none."""
    found = [CompletionItem(name) for name in names if name.startswith(begun)]
    return found or [CompletionItem(begun, type="file")]


def tracks_beginning(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Return what a shell completes a track to: its name, or a file."""
    return begins_with(begun, track_names(home() / "tracks"))


def _share(context: click.Context, parameter: click.Parameter, value: float | None) -> float | None:
    """Return the value of --time-limit. Raises UsageError if it is none."""
    if value is not None:
        from harness.runs.conditions import require_share

        require_share(value)
    return value


track_option = click.option(
    "--track",
    "track_name",
    default=DEFAULT_TRACK,
    show_default=True,
    help="A track's name, or a TOML file.",
    shell_complete=tracks_beginning,
)
device_option = click.option("--device", type=Device(), default="auto", show_default=True, help="What runs use.")
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
again_option = click.option("--again", is_flag=True, help="Make runs again that are stored as failed.")
time_limit_option = click.option(
    "--time-limit",
    type=float,
    metavar="FRACTION",
    callback=_share,
    help="Another share of a training, such as 0.2; not ranked.",
)
isolation_option = click.option(
    "--isolation",
    type=click.Choice(["auto", *isolations.LEVELS]),
    default="auto",
    show_default=True,
    help="What stands between a run and the machine; auto takes the strongest there is.",
)
require_isolation_option = click.option(
    "--require-isolation", type=click.Choice(isolations.LEVELS), help="Refuse to run below this level."
)


def chosen_device(requested: str, *, is_name: bool = False) -> str:
    """Return the kind of device for what --device asks for; say why `auto` leaves a GPU unused.

    is_name: whether nothing is to be computed on it.
    """
    return resolve(requested, lambda sentence: click.echo(sentence, err=True), is_name=is_name)


def console() -> "Console":
    """Return the console of standard output as it is now. What is printed is text: [names] and :names: stay."""
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False, soft_wrap=not sys.stdout.isatty())


def set_constants(settings: tuple[str, ...]) -> dict[str, str]:
    """Return the constants that --set names, by name. Raises UsageError for what is not NAME=VALUE."""
    constants = {}
    for setting in settings:
        name, separator, value = setting.partition("=")
        if not separator or not name.isidentifier():
            raise UsageError(f"--set takes NAME=VALUE, such as --set EPOCHS=3, not {setting!r}")
        constants[name] = value
    return constants
