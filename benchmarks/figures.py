"""Write every table of measured figures in the project's pages from the stored results; nothing is measured.

    python -m benchmarks.figures

Each figure in a page that comes from a stored result is in one of these tables, and `tests/project/test_docs.py`
compares them with the results. The commands that measure are named beside the tables.
"""

from collections.abc import Iterable, Sequence
from statistics import mean, stdev
from typing import Any

import click

from benchmarks import (
    baselines,
    cat_and_ship,
    causes,
    learner_tracks,
    learners,
    recipes,
    reproduction,
    small_track,
    sparsity,
    studies,
    theorem,
    transfer,
)
from benchmarks.channels import table as channels
from benchmarks.comparison import page as comparison
from benchmarks.pages import RESULTS, ROOT, Table, machine, markdown, stored
from benchmarks.sparse_images import page as sparse_images
from benchmarks.trojan import page as trojan
from harness.report.numbers import UNKNOWN

__all__ = ["TABLES"]

PERFORMANCE, SCORING, SECURITY, ORGANIZERS = (
    ROOT / "docs" / f"{name}.md" for name in ("performance", "scoring", "security", "organizers")
)
NOT_RECORDED = {"overhead-digits": "none", "batch": "full"}  # isolation of results from before they named it


@click.command()
def main() -> None:
    """Write the tables."""
    for table in TABLES:
        table.write()


# ---- docs/performance.md -------------------------------------------------------------------------------------------


def training() -> str:
    """Return how fast models are trained, beside the way of the official code."""
    rows: list[list[str]] = []
    notes = []
    for file in sorted(RESULTS.glob("training-*.json")):
        found = stored(file.stem)
        official, ours = found["official_way"], found["harness_way"]
        where = f"`{found['track']}`, {found['device']}"
        rows.append([where, "one model after another", *trained(official), "1"])
        for one in ours:
            way = f"harness, {one['jobs']} processes, {one['models_in_a_stack']} models in a stack"
            rows.append([where, way, *trained(one), f"{one['ratio']:.1f}"])
        sizes = f"{found['examples']} images, {found['epochs']} epochs"
        counts = f"N = {ours[0]['models']} models ({official['models']} the official way)"
        notes.append(f"`{found['model']}`, {sizes}, {counts}; {machine(found)}.")
    head = ["track, device", "way", "s per model", "models per hour", "test accuracy", "times as fast"]
    return table(head, rows, " ".join(notes))


def trained(one: dict[str, float]) -> list[str]:
    """Return the cells of one way to train."""
    return [f"{one['seconds_per_model']:.2f}", f"{one['models_per_hour']:,.0f}", percent(one["test_accuracy"])]


def ways() -> str:
    """Return what a step takes in each way to train, and which one a preparation would choose."""
    found = stored("preparation-cpu")
    rows = []
    for one in found["timed"]:
        height, width, channels = one["input"]
        net = f"{one['net']}, {height}x{width}x{channels}, batch {one['batch_size']}"
        for way in one["ways"]:
            is_chosen = all(way[name] == value for name, value in one["chosen"].items())
            rows.append([net, *way_of(way), f"{way['ms']:.3g}", "yes" if is_chosen else ""])
    head = ["net, inputs", "models in a stack", "precision", "memory format", "ms per model and step", "chosen"]
    return table(head, rows, f"Milliseconds of the processor, on one thread, other work beside it. {machine(found)}.")


def preparing() -> str:
    """Return how fast models are trained in three ways, and how accurate they are."""
    found = stored("preparation-cpu")
    rows = []
    for seeds, those in (("first", found["trained"]), ("other", found.get("again", []))):
        for one in those:
            ratio = those[0]["seconds_per_model"] / one["seconds_per_model"]
            cells = [f"{one['seconds_per_model']:.1f}", f"{ratio:.1f}"]
            cells += [beside(one[name], those[0][name]) for name in ("retain", "forget", "test")]
            rows.append([seeds, *way_of(one), *cells])
    sizes = f"{found['examples']} images, {found['epochs']} epochs of batches of {found['timed'][1]['batch_size']}"
    same = f"N = {found['models']} models each way, of the same seeds"
    note = (
        f"{found['timed'][1]['net']}, {found['images']}, {sizes}; {same}. Accuracies in percent: mean and standard "
        "deviation over models; in brackets the difference from the first row of these seeds, model by model, and its "
        "standard error. "
        f"Seconds of the processor, on one thread. {machine(found)}."
    )
    head = ["seeds", "models in a stack", "precision", "memory format", "s per model", "times as fast"]
    head += ["retain", "forget", "test"]
    return table(head, rows, note)


def way_of(way: dict[str, Any]) -> list[str]:
    """Return the cells of a way to train."""
    return [str(way["stack"]), way["precision"], way["memory_format"].replace("_", " ")]


def beside(ours: list[float], usual: list[float]) -> str:
    """Return models' accuracies, and how far they are from those of the same models trained in the usual way."""
    said = f"{100 * mean(ours):.1f} ({100 * stdev(ours):.1f})"
    if ours == usual:
        return said
    differences = [100 * (one - other) for one, other in zip(ours, usual, strict=True)]
    return f"{said} [{mean(differences):+.2f} ({stdev(differences) / len(differences) ** 0.5:.2f})]"


def evaluating() -> str:
    """Return how long evaluations take, beside the way of the official code."""
    rows, notes = [], []
    for file in sorted(RESULTS.glob("evaluate-*.json")):
        found = stored(file.stem)
        for number, one in enumerate(found["rounds"], 1):
            seconds = (
                one[way][name] for way in ("official", "harness") for name in ("seconds", "seconds_until_last_run")
            )
            rows.append(
                [f"`{found['track']}`, {number}", *(f"{value:.1f}" for value in seconds), f"{one['ratio']:.1f}"]
            )
        sizes = f"N = {found['runs']} runs, {found['jobs']} at once, {found['threads']} thread each"
        notes.append(f"`{found['submission']}`, {sizes}; {machine(found)}, device {found['device']}.")
    head = ["track, round", "2023, s", "2023, until the last run, s", "harness, s", "harness, until the last run, s"]
    return table([*head, "times as fast"], rows, " ".join(notes))


def per_run() -> str:
    """Return what the harness and its isolation add to a run."""
    around, isolation = stored("overhead-digits"), stored("isolation")
    runs = f"N = {around['runs']} runs, {around['jobs']} at once, {level('overhead-digits')}"
    pairs = f"median of {isolation['pairs']} pairs"
    rows = [
        ["everything around `unlearn`", f"{around['overhead_ms']:.0f} ms", runs],
        ["of that on the clock", f"{around['overhead_on_the_clock_ms']:.0f} ms", runs],
        [f"isolation `{isolation['level']}` beside `none`", with_range(isolation, "extra_run_ms"), pairs],
        ["of that on the clock", with_range(isolation, "extra_clock_ms"), pairs],
    ]
    places = {f"{machine(found)}." for found in (around, isolation)}
    note = f"In brackets the range of 90 % of the pairs. {' '.join(sorted(places))}"
    return table(["what is added", "time per run", "of"], rows, note)


def level(name: str) -> str:
    """Return the isolation of a stored result."""
    return f"isolation `{stored(name).get('isolation', NOT_RECORDED[name])}`"


def with_range(found: dict[str, Any], name: str) -> str:
    """Return a median with the range of most values."""
    low, high = found[f"{name}_90"]
    return f"{found[name]:+.0f} ms ({low:+.0f} to {high:+.0f})"


def metric() -> str:
    """Return the official metric beside its dense form."""
    found = stored("scoring")
    rows = []
    for one in found["side_by_side"]:
        both = [cell for way in ("dense", "official") for cell in per_example(one[way])]
        rows.append([f"{one['n_models']}", *both, f"{one['ratio']:.0f}", "yes" if one["equal"] else "NO"])
    head = ["N", "dense, per example", "peak memory", "harness, per example", "peak memory", "ratio", "equal"]
    return table(head, rows, f"{GAUSSIANS} {machine(found)}, other work beside it.")


def scoring() -> str:
    """Return what scoring takes, by the number of models."""
    found = stored("scoring")
    named = [("official metric", one) for one in found["growth"]]
    named += [("audit", found["default_audit"]), ("200 half-samples", found["half_samples"])]
    named += [("score, intervals, audit and alarms", found["scored_runs"])]
    rows = [
        [name, f"{one['examples']}", f"{one['n_models']}", f"{one['seconds']:.2f}", f"{one['peak_mb']:.0f} MB"]
        for name, one in named
    ]
    head = ["what", "examples", "N", "seconds", "peak memory"]
    return table(head, rows, f"{GAUSSIANS} {machine(found)}, other work beside it.")


def one_by_one() -> str:
    """Return how much faster many examples together are than one after the other."""
    found = stored("scoring")
    rows = []
    for what, key in (("official metric", ""), ("200 half-samples", "halves_")):
        way = "official" if key == "" else "half_samples"
        for one in found[f"{key}one_by_one"]:
            slow, fast = one[f"{way}_one_by_one"], one[way]
            seconds = [f"{each['seconds']:.2f}" for each in (slow, fast)]
            equal = "yes" if one["equal"] else "NO"
            rows.append([what, f"{fast['examples']}", f"{one['n_models']}", *seconds, f"{one['ratio']:.1f}", equal])
    head = ["what", "examples", "N", "one by one, s", "together, s", "times as fast", "equal"]
    return table(head, rows, f"{GAUSSIANS} {machine(found)}, other work beside it.")


def per_example(one: dict[str, float]) -> list[str]:
    """Return time and memory of one way to compute the metric."""
    milliseconds = 1000 * one["seconds_per_example"]
    return [f"{milliseconds:.{0 if milliseconds > 10 else 2}f} ms", f"{one['peak_mb']:.0f} MB"]


GAUSSIANS = "Standard Gaussians, one thread, seconds of the processor, memory of the whole process."


# ---- docs/scoring.md -----------------------------------------------------------------------------------------------


def validation() -> str:
    """Return how often the scorer is right where the truth is known."""
    found = stored("scoring-tables")
    tables = found["rows"]
    games = [row for row in tables["games"] if row["game"] != "oracle"]
    fired = sum(bool(row["alarms"]) for row in games)
    n_games = len({row["game"] for row in games})
    rows = [
        ["games, at three spreads each, that raise an alarm", games[0]["n_models"], n_games, f"{fired} of {len(games)}"]
    ]
    for row in (*tables["false_alarms"], *tables["false_alarms_on_digits"]):
        what = f"retrained models as a submission raise none ({row['pools']})"
        rows.append([what, row["n_models"], row["draws"], percent(row["quiet"])])
    for row in tables["coverage"]:
        for name, held in row["coverage"].items():
            rows.append([f"95 % interval of {INTERVALS[name]} holds", row["n_models"], row["pools"], percent(held)])
    for row in tables["separation"]:
        shifts = " and ".join(f"{shift:g}" for shift in row["shifts"])
        for name, called in row["called_different"].items():
            what = f"shifts of {shifts} sd are called different by {TESTS[name]}"
            rows.append([what, row["n_models"], row["repeats"], percent(called)])
    cells = [[f"{cell}" for cell in row] for row in rows]
    return table(["what", "N", "of", "found"], cells, f"{machine(found)}.")


INTERVALS = {
    "score": "the official score",
    "smooth_quality": "Q",
    "calibrated_score": "the calibrated score",
    "ceiling": "the ceiling, for another perfect submission,",
}
TESTS = {"permutation": "permutation", "half_samples": "half-samples"}


# ---- docs/security.md ----------------------------------------------------------------------------------------------


def lookups() -> str:
    """Return what tells files with a table of outputs from honest ones, and what such tables gain."""
    found = stored("lookup")
    honest, bounds, retrained = found["honest"], found["bounds"], found["retrained"]
    floor = next(row["calibrated_score"] for row in honest if row["file"] == "identity")
    below = [row for row in honest if row["outcome"] == "OK" and row["calibrated_score"] < floor]
    others = [row for row in honest if row["outcome"] == "OK" and row not in below]
    rows = [["the bounds", *kilobytes(bounds), f"{bounds['coupling']:.2f}", f"{floor:.2f}, doing nothing", ""]]
    for what, files in (("honest, below doing nothing", below), ("other honest files", others)):
        least = min(row["coupling"] for row in files)
        best = max(row["calibrated_score"] for row in files)
        most = {name: max(row[name] for row in files) for name in ("literals", "code")}
        ends = [*kilobytes(most), f"{least:.2f} or more", f"{best:.2f} or less"]
        rows.append([f"{len(files)} {what}", *ends, alarms_of_tables(files)])
    for one in found["lookups"]:
        score = baselines.with_reach(one["calibrated_score"], one["calibrated_interval"], 2)
        cells = [*kilobytes(one), f"{one['coupling']:.2f}", score, alarms_of_tables([one])]
        rows.append([f"`{one['file']}.py`", *cells])
    fired = f"`forget set apart` in {retrained['fired']} of {retrained['draws']} draws of {retrained['n_models']}"
    note = f"`{found['track']}`, N = {found['runs']} runs; retrained models raise {fired}; {machine(found)}."
    head = ["file", "literals, KB", "all code, KB", "coupling", "calibrated score", "of both alarms"]
    return table(head, rows, note)


def kilobytes(said: dict[str, float]) -> list[str]:
    """Return the cells of what a file says."""
    return [f"{said[name] / 1024:.1f}" for name in ("literals", "code")]


def alarms_of_tables(rows: Sequence[dict[str, Any]]) -> str:
    """Return which of the alarms that look for tables some files raise."""
    raised = {name for row in rows for name in row["alarms"]}
    return ", ".join(sorted(raised & {"data in the file", "forget set apart"})) or "none"


# ---- docs/organizers.md --------------------------------------------------------------------------------------------


def batches() -> str:
    """Return what a batch costs beside its runs, and what follows for a large one."""
    found = stored("batch")
    rows = []
    for workers, way in ((1, "here"), (2, "here"), (1, "dask"), (2, "dask")):
        one = found[f"{way}_{workers}"]
        name = f"{workers} at once, joblib" if way == "here" else f"{workers} Dask worker{'s' * (workers > 1)}"
        cells = (f"{one['runs_per_second']:.2f}", f"{one['overhead_ms']:.0f} ms", f"{one['queue_ms']:.0f} ms")
        rows.append([name, *cells])
    sizes = f"{found['submissions']} submissions of {found['runs']} runs, {found['here_1']['inside_ms']:.0f} ms each"
    note = f"`{found['track']}`, {sizes}, {level('batch')}; {machine(found)}."
    lines = "\n".join(found["extrapolation"])
    head = ["", "runs a second", "around a run", "of that the queue"]
    follows = "What follows for a large batch, on paper, with every run at its limit:"
    return f"{table(head, rows, note)}\n{follows}\n\n```\n{lines}\n```\n"


def startup() -> str:
    """Return what commands take that compute nothing."""
    found = stored("startup")
    rows = []
    for one in found["commands"]:
        before = one.get("beside")
        rows.append([one["what"], f"{one['here']:.2f}", UNKNOWN if before is None else f"{before:.2f}"])
    note = f"Seconds of the processors, the median of {found['calls']} calls, by turns; {machine(found)}."
    return table(["command", "seconds", f"at commit {found.get('commit', UNKNOWN)}"], rows, note)


def growth() -> str:
    """Return what runs, scores and leaderboards cost at one, ten and a hundred times their usual size."""
    found = stored("growth")
    rows = [["runs of constant work", *grown(one, f"{one['disk_mb']:.1f} MB on disk")] for one in found["runs"]]
    rows += [["runs in a score", *grown(one, f"{one['peak_mb']:.0f} MB of memory")] for one in found["score"]]
    rows += [["rows of a leaderboard, shown", *grown(one, "")] for one in found["board"]]
    note = f"`{found['track']}`, isolation `{found['isolation']}`, from a cold start. Seconds of the processors."
    return table(["what", "how many", "seconds", "each, ms", "and"], rows, f"{note} {machine(found)}.")


def grown(one: dict[str, float], also: str) -> list[str]:
    """Return the cells of one size."""
    return [f"{one['count']:,.0f}", f"{one['seconds']:.2f}", f"{1000 * one['seconds'] / one['count']:,.1f}", also]


def competition() -> str:
    """Return what a competition takes at three sizes, and what would be the limit after its GPUs."""
    found = stored("growth")
    rows = []
    for one in found["competition"]:
        hours = [f"{one[what]:.2f}" for what in ("hours_of_runs", "hours_of_scoring", "hours")]
        rows.append([f"{one['submissions']:,.0f}", *hours, percent(one["gpus_busy"]), percent(one["queue_busy"])])
    parts, last = found["parts"], found["competition"][-1]
    queue_ms = f"{1000 * parts['queue']:.1f} ms"
    each = f"a run {parts['run']:.2f} s, its place in the queue {queue_ms}, a score {parts['score']:.2f} s"
    note = f"{each}. More than {last['gpus_until_queue']:.0f} GPUs would wait for the queue. {machine(found)}."
    head = ["submissions", "hours of runs", "of scoring, beside them", "in all", "GPUs busy", "queue busy"]
    return table(head, rows, f"Parts as measured: {note}")


def table(head: Sequence[str], rows: Iterable[Sequence[str]], note: str) -> str:
    """Return a page's table with a line below it."""
    return f"{markdown(head, rows)}\n{note}\n"


def percent(share: float) -> str:
    """Return a share in percent."""
    return f"{100 * share:.1f} %"


TABLES = (
    baselines.FULL,
    baselines.SHORT,
    baselines.SMALL,
    learners.TABLE,
    learner_tracks.TABLE,
    reproduction.TABLE,
    *recipes.TABLES,
    *causes.TABLES,
    sparsity.TABLE,
    small_track.TABLE,
    theorem.TABLE,
    *sparse_images.TABLES,
    *trojan.TABLES,
    transfer.TABLE,
    *comparison.TABLES,
    *cat_and_ship.TABLES,
    studies.TABLE,
    channels.TABLE,
    Table(PERFORMANCE, "training", "figures.py", training),
    Table(PERFORMANCE, "preparing", "figures.py", preparing),
    Table(PERFORMANCE, "ways", "figures.py", ways),
    Table(PERFORMANCE, "evaluating", "figures.py", evaluating),
    Table(PERFORMANCE, "a run", "figures.py", per_run),
    Table(PERFORMANCE, "the metric", "figures.py", metric),
    Table(PERFORMANCE, "scoring", "figures.py", scoring),
    Table(PERFORMANCE, "one by one", "figures.py", one_by_one),
    Table(PERFORMANCE, "start-up", "figures.py", startup),
    Table(PERFORMANCE, "growth", "figures.py", growth),
    Table(PERFORMANCE, "competition", "figures.py", competition),
    Table(SCORING, "validation", "figures.py", validation),
    Table(SECURITY, "lookup files", "figures.py", lookups),
    Table(ORGANIZERS, "batches", "figures.py", batches),
)

if __name__ == "__main__":
    main()
