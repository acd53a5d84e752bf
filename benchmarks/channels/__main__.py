"""Measure what a run can pass to a later one, or to one beside it, over each channel, at each level of isolation.

    python -m benchmarks.channels

A run of one submission leaves a message, a run of another reads it (`submission.py` here); both get all the time they
want. A channel carries so many bits as the errors of the reader leave of the message, less what guessing gives. Writes
benchmarks/results/channels.json and the table of docs/security.md.
"""

import click

import harness
from benchmarks.channels.measure import CHANNELS, LEVELS, measured
from benchmarks.channels.table import RESULT, TABLE
from harness.environment import environment
from harness.runner.isolation import offered
from harness.storage import write_json


@click.command()
def main() -> None:
    """Measure all channels."""
    track = harness.open_track()
    rows = []
    for channel in CHANNELS:
        for level in LEVELS:
            if offered().levels.get(level) is not None:
                continue
            for side_by_side in (False, True):
                row = measured(track, channel, level, side_by_side=side_by_side)
                rows.append(row.to_json())
                click.echo(row.sentence)
    write_json(RESULT, {**environment(), "rows": rows})
    TABLE.write()


if __name__ == "__main__":
    main()
