"""The command that scores anyone's arrays."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.options import (
    console,
)
from harness.cli.results import require_place, write_result_json
from harness.errors import UsageError
from harness.spelling import did_you_mean_file

if TYPE_CHECKING:
    import numpy as np

__all__ = ["score_command"]


@click.command("score")
@click.option("--unlearned", required=True, type=click.Path(path_type=Path), help="An .npz, see below.")
@click.option("--retrained", required=True, type=click.Path(path_type=Path), help="An .npz with as many models.")
@click.option("--json", "json_file", type=click.Path(path_type=Path, dir_okay=False), help="Write the result here.")
def score_command(unlearned: Path, retrained: Path, json_file: Path | None) -> None:
    """Score anyone's arrays with the official metric.

    Each .npz holds `confidence` (models, forget examples), or `logits` (models, forget examples, classes) and `labels`
    (forget examples). With `retain_accuracy` and `test_accuracy` (models) in both, as shares from 0 to 1, the final
    score is printed too. What looks wrong is said on standard error, and is in the JSON as `warnings`.
    """
    require_place(json_file)
    from harness.scoring.arrays import score_arrays

    sides = [_arrays(file) for file in (unlearned, retrained)]
    warnings: list[str] = []
    try:
        result = score_arrays(*sides, names=(str(unlearned), str(retrained)), announce=warnings.append)
    except ValueError as error:
        raise UsageError(str(error)) from None
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)
    for name, value in result.items():
        console().print(f"{name:22s} {'' if value is None else format(value, '.6g')}", highlight=False)
    if json_file is not None:
        write_result_json(json_file, {**result, "warnings": warnings})


def _arrays(file: Path) -> dict[str, np.ndarray]:
    """Return the arrays of an .npz. Raises UsageError if it is none."""
    from harness.storage import read_arrays

    try:
        return read_arrays(file)
    except FileNotFoundError:
        raise UsageError(f"no file {file}{did_you_mean_file(file, ['.npz'])}") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UsageError(
            f"{file} is no .npz of arrays of numbers: {reason}; harness score --help says what it has to hold"
        ) from None
