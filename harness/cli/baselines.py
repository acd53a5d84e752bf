"""The command that lists the baselines."""

import ast

import click

from harness.cli.options import console
from harness.shipped import baseline_file, baseline_names, learner_names

__all__ = ["baselines_command"]


@click.command("baselines")
def baselines_command() -> None:
    """List the baselines with the scores they were measured to have; `harness new` copies one."""
    from harness.report.measured import MeasuredBaseline, read_measured
    from harness.report.numbers import UNKNOWN

    measured = read_measured()
    _show("calibrated", "official", "time", "baseline", "what it does")
    for name in baseline_names():
        row = measured.rows.get(name, MeasuredBaseline())
        share = row.fraction_of_training
        time = UNKNOWN if share is None else f"{share:.1%}"
        title = (ast.get_docstring(ast.parse(baseline_file(name).read_text(encoding="utf-8"))) or "").partition("\n")[0]
        _show(_figure(row.calibrated_score, 2), _figure(row.score, 3), time, name, title.removesuffix("."))
    console().print(f"scores on {measured.track}: {measured.runs} runs, {measured.machine}, {measured.device}")
    console().print("time: mean of a run, as a share of one training")
    console().print(f"learners, each for a track of its own: {', '.join(learner_names())}")
    console().print("start from one: harness new submissions/foo.py --from finetune")


def _figure(value: float | None, digits: int) -> str:
    from harness.report.numbers import UNKNOWN, number

    return UNKNOWN if value is None else number(value, digits)


def _show(calibrated: str, official: str, time: str, name: str, title: str) -> None:
    """Print one line, cut off where the terminal ends."""
    width = max(map(len, baseline_names()))
    line = f"{calibrated:>10} {official:>9} {time:>6}  {name:{width}}  {title}"
    if console().is_terminal:
        console().print(line, no_wrap=True, overflow="ellipsis")
    else:
        click.echo(line)
