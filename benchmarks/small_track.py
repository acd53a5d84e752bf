"""Measure the candidates for `cifar10-small`: what they take, what fits into their time limit, what is forgotten there.

    python -m benchmarks.small_track [--data FOLDER] [--images NAME] [--models 2] [--only-times]

Each candidate is the declared track with other numbers, all of about 17,500 steps to a training. A few steps of each
way to train are timed, and of fine-tuning as a submission writes it; all in seconds of the processor. Then a few
originals and retrained models are trained for a quarter of the steps. On the forget set the means of originals and of
retrained models are compared, in standard deviations of retrained models.

Writes benchmarks/results/small-track.json and the table of docs/cifar10-small.md.
"""

import math
import re
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import joblib
import numpy as np
import torch
from torch import nn

from benchmarks.pages import RESULTS, ROOT, Table, machine, markdown, stored
from data_prep.draft import lay_out
from data_prep.reference import Stack, plan_stacks, prepare_process, train_models
from data_prep.training import training_set
from data_prep.ways import Way, chosen, largest_stack, seconds_of_step, time_ways
from harness.environment import environment, home
from harness.loaders import Images, loader
from harness.record import Records
from harness.runs.measure import Recorder, build_model
from harness.scoring.official import logit_scaled_confidence
from harness.storage import write_json
from harness.tracks.declaration import read_declaration
from harness.tracks.track import ORIGINALS, POOLS, Track

DECLARED = ROOT / "data_prep" / "tracks" / "cifar10-small.toml"
PAGE = ROOT / "docs" / "cifar10-small.md"
SIDE = 32  # pixels, of CIFAR-10
CORES = 2
PART = 4  # models are trained for the fourth part of the epochs
STEPS, TURNS = 30, 5  # of fine-tuning that are timed, and how often all is; the fastest counts
QUICK = Way(1, memory_format="channels_last")  # to train few models
KEYS = ("downscale", "width", "train", "count", "epochs", "learning_rate")
CANDIDATES = (
    (2, 8, 8000, 800, 140, 0.1),
    (2, 8, 4000, 400, 280, 0.1),
    (4, 16, 8000, 800, 140, 0.1),
)
TIMED = ((1, 8, 8000, 800, 140, 0.1),)  # and not trained: that takes too long


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Has CIFAR-10 already.")
@click.option("--images", default="CIFAR-10", show_default=True, help="What the images are called in the page.")
@click.option("--models", default=2, show_default=True, type=click.IntRange(min=2), help="Originals, and in each pool.")
@click.option("--only-times", is_flag=True, help="Time the candidates anew, and keep what was found of their models.")
def main(data: Path | None, images: str, models: int, only_times: bool) -> None:
    """Measure the candidates."""
    found: dict[str, Any] = stored("small-track") if only_times else {"images": images, "models": models, "part": PART}
    found["times"] = [{**one, **with_draft(one, data, times)} for one in map(named, (*CANDIDATES, *TIMED))]
    if not only_times:
        found["forgetting"] = [
            {**one, **with_draft(part(one, models), data, forgetting)} for one in map(named, CANDIDATES)
        ]
    write_json(RESULTS / "small-track.json", {**found, "cores": CORES, **environment()})
    TABLE.write()


def named(values: tuple[float, ...]) -> dict[str, Any]:
    """Return the numbers of a candidate by the keys that declare them."""
    return dict(zip(KEYS, values, strict=True))


def part(candidate: dict[str, Any], models: int) -> dict[str, Any]:
    """Return a candidate with few models and a part of the epochs."""
    few = {"originals": models, "retrained": models, "runs": models}
    return {**candidate, "epochs": candidate["epochs"] // PART, **few}


def with_draft(values: dict[str, Any], data: Path | None, measure: Callable[[Track], dict[str, Any]]) -> dict[str, Any]:
    """Return what is measured on the draft of the declared track with other values, which has no models."""
    text = DECLARED.read_text()
    for key, value in values.items():
        text, changed = re.subn(rf"^{key} = .*", f"{key} = {value}", text, count=1, flags=re.MULTILINE)
        assert changed, key
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "candidate.toml"
        file.write_text(text)
        track = lay_out(read_declaration(file), file, file.with_suffix(""), cache=home() / "data", data=data)
        found = measure(track)
    click.echo({**values, **found})
    return found


# ---- time ---------------------------------------------------------------------------------------------------------


def times(track: Track) -> dict[str, Any]:
    """Return what a step takes, and what follows for the preparation and for the time limit."""
    prepare_process()
    turns = [time_ways(track, largest_stack(track)) for _ in range(TURNS)]
    ways = {way: min(seconds[way] for seconds in turns if way in seconds) for way in turns[0]}
    way, declaration = chosen(ways), track.declaration
    epochs, share = declaration.training.epochs, declaration.limits.time_limit_fraction
    stacks = plan_stacks(track, CORES, present={})
    n_steps = sum(epochs * batches(track, stack.kind) * len(stack.seeds) for stack in stacks)
    steps_of_training = epochs * batches(track, ORIGINALS)
    return {
        "ways": [{"way": f"{one}, {one.precision}", "ms": 1000 * seconds} for one, seconds in ways.items()],
        "chosen": f"{way}, {way.precision}",
        "preparation_seconds": n_steps * ways[way] / CORES,
        "training_seconds": steps_of_training * ways[Way(1)],
        "steps_in_limit": share * steps_of_training / relative_step(track),
    }


def relative_step(track: Track) -> float:
    """Return how long a step of fine-tuning takes, in steps of a training; both are timed by turns."""
    training, fine_tuning = [], []
    for _ in range(TURNS):
        training.append(seconds_of_step(track, Way(1)) or math.nan)
        fine_tuning.append(fine_tuning_step(track))
    return min(fine_tuning) / min(training)


def batches(track: Track, kind: str) -> int:
    """Return the steps of an epoch of training a model of a kind."""
    sets = ("retain", "forget") if kind == ORIGINALS else ("retain",)
    return math.ceil(sum(len(track.examples(name)) for name in sets) / track.declaration.training.batch_size)


def fine_tuning_step(track: Track) -> float:
    """Return the seconds of the processor that a step of fine-tuning takes, as a submission writes it."""
    batch_size = track.declaration.training.batch_size
    images, labels = (values[: STEPS * batch_size] for values in training_set(track, ("retain",)))
    net = build_model(track).train()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.001, momentum=0.9, weight_decay=5e-4)
    started = time.process_time()
    for inputs, targets in loader(Images(images, labels), batch_size=batch_size, device=torch.device("cpu")):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(inputs), targets).backward()
        optimizer.step()
    return (time.process_time() - started) / math.ceil(len(labels) / batch_size)


# ---- forgetting ---------------------------------------------------------------------------------------------------


def forgetting(track: Track) -> dict[str, Any]:
    """Return how well models fit what they were trained on, and how far they are apart on the forget set."""
    stacks = plan_stacks(track, CORES, present={}, way=QUICK)
    records = joblib.Parallel(n_jobs=CORES)(joblib.delayed(trained)(track, stack) for stack in stacks)
    of = {
        is_original: Records.concatenate(
            record for stack, record in zip(stacks, records, strict=True) if (stack.kind == ORIGINALS) == is_original
        )
        for is_original in (True, False)
    }
    return compared(track, originals=of[True], retrained=of[False])


def trained(track: Track, stack: Stack) -> Records:
    """Return the records of the models of a stack."""
    prepare_process()
    recorder = Recorder(track)
    models = train_models(track, stack)
    return Records.concatenate(
        recorder.record({name: value.numpy() for name, value in weights.items()}) for weights in models
    )


def compared(track: Track, *, originals: Records, retrained: Records) -> dict[str, Any]:
    """Return accuracies, and the gaps on the forget set in standard deviations of retrained models."""
    shown, hidden = (confidence(track, records) for records in (originals, retrained))
    shown_accuracy, hidden_accuracy = (records.accuracy_on("forget") for records in (originals, retrained))
    return {
        "original_retain": float(originals.accuracy_on("retain").mean()),
        "original_forget": float(shown_accuracy.mean()),
        "retrained_retain": float(retrained.accuracy_on("retain").mean()),
        "retrained_forget": float(hidden_accuracy.mean()),
        "accuracy_gap_in_sd": gap(shown_accuracy, hidden_accuracy),
        "confidence_gap_in_sd": gap(shown.mean(axis=1), hidden.mean(axis=1)),
        # Of single examples, with the deviation over all of them together, since there are few models.
        "example_gap_in_sd": float((shown.mean() - hidden.mean()) / np.sqrt(hidden.var(axis=0, ddof=1).mean())),
        "test": float(retrained.accuracy_on("test").mean()),
    }


def gap(originals: np.ndarray, retrained: np.ndarray) -> float:
    """Return how far the means of some models are apart, in standard deviations of the retrained ones."""
    return float((originals.mean() - retrained.mean()) / retrained.std(ddof=1))


def confidence(track: Track, records: Records) -> np.ndarray:
    """Return the confidences (n_models, n_forget) of models in the true classes of the forget set."""
    labels = track.examples("forget").labels
    return np.stack([logit_scaled_confidence(logits, labels) for logits in records.forget_logits])


# ---- the page -----------------------------------------------------------------------------------------------------


def tables(found: dict[str, Any]) -> str:
    """Return both tables of the page, each with the line on how it was made."""
    where = machine(found)
    head = ["candidate", "epochs", "ms a step", "fastest way", f"preparation on {found['cores']} cores", "one training"]
    taken = markdown([*head, "steps in the limit"], [time_cells(one) for one in found["times"]])
    head = ["candidate", "originals, retain", "retrained, forget", "test", "gap of accuracy", "of confidence"]
    forgotten = markdown([*head, "of one example's"], [forgetting_cells(one) for one in found["forgetting"]])
    models = f"N = {found['models']} originals and {len(POOLS) * found['models']} retrained models"
    return (
        f"{taken}\nSeconds of the processor, on one thread; {where}, other work beside it.\n\n{forgotten}\n"
        f"{found['images']}. {models}, trained for 1/{found['part']} of the epochs; {where}.\n"
    )


def name_of(one: dict[str, Any]) -> str:
    """Return how a candidate is called in the page."""
    side = SIDE // one["downscale"]
    return f"{side}x{side}, width {one['width']}, {one['count']:,} of {one['train']:,}"


def time_cells(one: dict[str, Any]) -> list[str]:
    """Return what a candidate takes."""
    ms = next(way["ms"] for way in one["ways"] if way["way"] == one["chosen"])
    hours, seconds = one["preparation_seconds"] / 3600, one["training_seconds"]
    steps = f"{one['steps_in_limit']:,.0f}"
    return [name_of(one), f"{one['epochs']}", f"{ms:.1f}", one["chosen"], f"{hours:.1f} h", f"{seconds:.0f} s", steps]


def forgetting_cells(one: dict[str, Any]) -> list[str]:
    """Return what is forgotten in a candidate."""
    shares = [f"{100 * one[name]:.1f} %" for name in ("original_retain", "retrained_forget", "test")]
    gaps = [f"{one['accuracy_gap_in_sd']:.0f} sd", f"{one['confidence_gap_in_sd']:.0f} sd"]
    return [name_of(one), *shares, *gaps, f"{one['example_gap_in_sd']:.1f} sd"]


TABLE = Table(PAGE, "tables", "small_track.py", lambda: tables(stored("small-track")))

if __name__ == "__main__":
    main()
