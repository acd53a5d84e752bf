"""The command that starts a submission."""

from pathlib import Path

import click

from harness.cli.options import console
from harness.errors import UsageError
from harness.shipped import BASELINES, TEMPLATE
from harness.storage import write_bytes

__all__ = ["new_command"]


@click.command("new")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--from", "baseline", metavar="BASELINE", help="Start from a baseline, such as finetune.")
def new_command(file: Path, baseline: str | None) -> None:
    """Write a submission to start from: the template, or a copy of a baseline."""
    if file.exists():
        raise UsageError(f"{file} is there already; name another file, or remove it")
    if file.suffix != ".py":
        raise UsageError(f"a submission is a Python file, such as {file.with_suffix('.py')}")
    source = TEMPLATE if baseline is None else _baseline(baseline)
    write_bytes(file, source.read_bytes(), mode=0o644)
    console().print(f"wrote {file}; try it: harness check {file}", markup=False)


def _baseline(name: str) -> Path:
    file = BASELINES / f"{name.removesuffix('.py')}.py"
    if file.parent != BASELINES or not file.is_file():
        known = ", ".join(path.stem for path in sorted(BASELINES.glob("*.py")))
        raise UsageError(f"no baseline is called {name!r}; there are {known}")
    return file
