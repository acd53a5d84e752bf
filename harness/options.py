"""Options that several commands take, and the console they print to."""

import sys

import click
from rich.console import Console

from harness.runner import isolation as isolations

__all__ = [
    "console",
    "device_option",
    "isolation_option",
    "jobs_option",
    "require_isolation_option",
    "set_option",
    "time_limit_option",
    "track_option",
]

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


def console() -> Console:
    """Return the console of standard output as it is now."""
    return Console(highlight=False, soft_wrap=not sys.stdout.isatty())
