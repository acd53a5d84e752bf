"""The commands of leaderboards."""

import click

from harness.leaderboard.publishing import show_command

__all__ = ["leaderboard"]


@click.group("leaderboard")
def leaderboard() -> None:
    """Rank many submissions, and publish the table."""


leaderboard.add_command(show_command)
