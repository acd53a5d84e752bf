"""The commands of leaderboards."""

import click

from harness.leaderboard.publishing import html_command, selfcheck_command, show_command, verify_command

__all__ = ["leaderboard"]


@click.group("leaderboard")
def leaderboard() -> None:
    """Rank many submissions, and publish the table."""


for command in (show_command, html_command, verify_command, selfcheck_command):
    leaderboard.add_command(command)
