"""The command line as a whole: its commands, and which error gives which exit code.

Exit codes: 0 fine; 2 wrong usage; 3 the submission failed; 4 the harness or the machine failed, or what is checked of a
leaderboard does not hold; 130 interrupted.
"""

import errno
import logging
from pathlib import Path
from typing import Any

import click

from harness import __version__
from harness.cli.baselines import baselines_command
from harness.cli.leaderboard import leaderboard_group
from harness.cli.metric import score_command
from harness.cli.new import new_command
from harness.cli.options import (
    console,
    device_option,
)
from harness.cli.prepare import prepare_command
from harness.cli.submissions import check_command, compare_command, evaluate_command, report_command
from harness.cli.tune import tune_command
from harness.environment import ELSEWHERE, home
from harness.errors import MachineError, UsageError
from harness.report.escaping import printable_lines

__all__ = ["cli"]

NOT_ALLOWED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR)
FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
INTERRUPTED = 130  # as a shell reports an interrupted command


class _Commands(click.Group):
    """Gives each kind of error its exit code; anything else is a bug and keeps its traceback.

    A message may quote what a participant wrote, and is shown without what could steer a terminal.
    """

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except UsageError as error:
            raise click.UsageError(printable_lines(str(error))) from None
        except MachineError as error:
            raise _Failure(printable_lines(str(error))) from None
        except OSError as error:
            message = _message_of(error)
            if message is None:
                raise
            raise _Failure(printable_lines(message)) from None
        except KeyboardInterrupt:
            click.echo("interrupted: what is done is stored, the same command goes on from there", err=True)
            ctx.exit(INTERRUPTED)


def _message_of(error: OSError) -> str | None:
    """Return what is said of a home that is full, or of a place that may not be used; None of another error."""
    if error.errno in FULL_DISK:
        intact = f"cannot write below {home()}: {error.strerror}; what was stored before is intact"
        return f"{intact}. Make room, or set HARNESS_HOME, then run the command again"
    if error.errno not in NOT_ALLOWED or error.filename is None:
        return None
    place = Path(str(error.filename))
    is_below = place.is_relative_to(home()) or home().is_relative_to(place)
    return f"cannot use {place}: {error.strerror}{f'. {ELSEWHERE}' if is_below else ''}"


class _OnStandardError(logging.Handler):
    """Says in a line what the harness passes over, such as a damaged file."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(printable_lines(record.getMessage()), err=True)


logging.getLogger("harness").addHandler(_OnStandardError())


class _Failure(click.ClickException):
    """The harness or the machine failed."""

    exit_code = 4


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__)
def cli() -> None:
    """Run, time and score machine-unlearning submissions.

    \b
    harness new submissions/foo.py                    start a submission from the template
    harness baselines                                 what there is to start from and compare with
    harness evaluate submissions/foo.py               score it
    harness evaluate submissions/foo.py --quick       a first look: 16 runs
    harness check submissions/foo.py --debug          one run with prints and breakpoint()

    Commands, options, tracks and baselines are completed by bash after
    eval "$(_HARNESS_COMPLETE=bash_source harness)"; zsh and fish likewise.
    """


@cli.command("doctor")
@device_option
def doctor_command(device: str) -> None:
    """Show what this machine offers: devices, isolation and why, versions, disk."""
    from harness.report.doctor import findings

    for name, value in findings(home(), device).items():
        console().print(f"{name:12s} {value}", highlight=False, soft_wrap=True)


for command in (
    *(evaluate_command, check_command, compare_command, report_command, tune_command),
    *(new_command, baselines_command, prepare_command, score_command, leaderboard_group),
):
    cli.add_command(command)
