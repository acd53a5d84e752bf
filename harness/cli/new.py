"""The command that starts a submission."""

from pathlib import Path

import click

from harness.cli.options import begins_with, console
from harness.errors import UsageError
from harness.quoting import quoted
from harness.report.escaping import escaped
from harness.shipped import TEMPLATE, all_baseline_names, baseline_file

__all__ = ["new_command"]


@click.command("new")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--from",
    "origin",
    metavar="BASELINE|FILE",
    help="Start from a baseline, such as finetune, or from what unlearn needs of a notebook or script.",
    shell_complete=lambda context, parameter, begun: begins_with(begun, all_baseline_names()),
)
def new_command(file: Path, origin: str | None) -> None:
    """Write a submission to start from: the template, a baseline, or what unlearn needs of a notebook."""
    from harness.storage import write_bytes

    if file.exists():
        raise UsageError(f"{file} is there already; name another file, or remove it")
    if file.suffix != ".py":
        raise UsageError(f"a submission is a Python file, such as {file.with_suffix('.py')}")
    content, remarks = _content(origin)
    write_bytes(file, content, mode=0o644)
    for remark in remarks:
        console().print(escaped(remark))
    console().print(f"wrote {file}; try it: harness check {quoted(file)}")


def _content(origin: str | None) -> tuple[bytes, list[str]]:
    """Return what a new file holds, and what is to be said of it. Raises UsageError."""
    from harness.report.excerpt_lines import excerpt_lines
    from harness.submission import MAX_NOTEBOOK_KB, submission_of

    if origin is None:
        return TEMPLATE.read_bytes(), []
    path = Path(origin)
    if not path.is_file():
        return baseline_file(origin).read_bytes(), []
    submission = submission_of(path, path.read_bytes(), source_kb=MAX_NOTEBOOK_KB, is_compact=True)
    if submission.problems:
        raise UsageError(f"{path}: {escaped(submission.problems[0])}")
    return submission.content, excerpt_lines(path.name, submission.excerpt)
