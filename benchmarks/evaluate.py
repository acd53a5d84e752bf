"""Measure an evaluation against the way of the official 2023 code: same submission, track, runs and final accuracy.

    python -m benchmarks.evaluate [--track digits] [--runs 64] [--rounds 2]

The official way, written anew after its description: a DataLoader that asks for Python items one by one, a wait for the
device at every step, one run after another in one process without isolation or clock, and a metric that asks every
model about every threshold. Ours is what `harness evaluate` does: isolated and timed runs, as many at once as there are
cores, the official and the calibrated score with their noise, audit and alarms; the calibration of the time limit,
measured once per machine, is left out. Both fine-tune for as many epochs, with as many threads as a run of the track
has (with two, the official way takes longer still on small networks). Rounds are paired, so that other work on the
machine falls on both. Writes benchmarks/results/evaluate-TRACK.json.
"""

import tempfile
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

import harness
from benchmarks.scoring import dense
from harness.accelerator import of, resolve
from harness.cli.options import track_option
from harness.environment import environment
from harness.evaluation.evaluate import evaluate
from harness.loaders import to_inputs
from harness.runner.isolation import choose
from harness.runs.measure import build_model
from harness.runs.run import Conditions, Limit, records_of
from harness.scoring.official import final_score, forgetting_quality, logit_scaled_confidence
from harness.scoring.score import Outputs, official_score
from harness.storage import write_json
from harness.submission import read_submission
from harness.tracks.track import Examples, Track

ROOT = Path(__file__).parents[1]
FINE_TUNING = ROOT / "baselines" / "finetune.py"
EPOCHS, LEARNING_RATE, MOMENTUM, WEIGHT_DECAY = 5, 0.1, 0.9, 5e-4  # of FINE_TUNING
LIMIT_SECONDS = 600.0  # out of the way


@click.command()
@track_option
@click.option("--runs", default=64, show_default=True, type=click.IntRange(min=16))
@click.option("--rounds", default=2, show_default=True, type=click.IntRange(min=1))
@click.option("--device", default="auto", show_default=True)
def main(track_name: str, runs: int, rounds: int, device: str) -> None:
    """Evaluate fine-tuning both ways."""
    track = harness.open_track(track_name)
    kind = resolve(device)
    torch.set_num_threads(track.declaration.limits.threads)
    pairs = []
    for _ in range(rounds):
        ours, theirs = harness_way(track, runs, kind), official_way(track, runs, kind)
        pairs.append({"harness": ours, "official": theirs, "ratio": theirs["seconds"] / ours["seconds"]})
        click.echo(f"harness {ours}\nofficial {theirs}\nratio {pairs[-1]['ratio']:.2f}")
    write_json(
        ROOT / "benchmarks" / "results" / f"evaluate-{track.name}.json",
        {
            "track": track.name,
            "submission": FINE_TUNING.name,
            "runs": runs,
            "jobs": of(kind).default_jobs(track.declaration.limits.threads),
            "threads": track.declaration.limits.threads,
            "ratio": float(np.median([pair["ratio"] for pair in pairs])),
            "rounds": pairs,
            **environment(),
            "device": kind,
        },
    )


# ---- ours ---------------------------------------------------------------------------------------------------------


def harness_way(track: Track, runs: int, device: str) -> dict[str, Any]:
    """Evaluate with the harness, from a cold start: no zygote, nothing stored."""
    limits = track.declaration.limits
    conditions = Conditions(
        Limit(LIMIT_SECONDS, limits.time_limit_fraction),
        choose(device=device),
        device=device,
        threads=limits.threads,
        jobs=of(device).default_jobs(limits.threads),
    )
    ends: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        evaluation = evaluate(
            read_submission(FINE_TUNING, source_kb=limits.source_kb),
            track,
            conditions,
            runs=runs,
            home=Path(folder),
            on_run=lambda run: ends.append(time.perf_counter()),
        )
        seconds = time.perf_counter() - started
    assert evaluation.scored is not None
    records = records_of(evaluation.runs)
    return {
        "seconds": seconds,
        "seconds_until_last_run": ends[-1] - started,
        "score": evaluation.scored.score.score,
        "retain_accuracy": float(records.accuracy_on("retain").mean()),
        "test_accuracy": float(records.accuracy_on("test").mean()),
    }


# ---- the official way ---------------------------------------------------------------------------------------------


class Items(Dataset[dict[str, Any]]):
    """A data set that makes one input at a time from stored pixels."""

    def __init__(self, examples: Examples, track: Track) -> None:
        self.examples, self.data = examples, track.declaration.data

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        pixels = self.examples.images[index : index + 1]
        image = to_inputs(pixels, scale=self.data.scale, mean=self.data.mean, std=self.data.std)[0]
        return {"image": image, "age_group": self.examples.labels[index]}


Loader = DataLoader[dict[str, Any]]


def official_way(track: Track, runs: int, device: str) -> dict[str, Any]:
    """Make and score as many runs in one process, one after another."""
    batch_size = track.declaration.training.batch_size
    sets = {name: Items(track.examples(name), track) for name in ("retain", "forget", "test")}
    in_order = {name: DataLoader(items, batch_size=batch_size) for name, items in sets.items()}
    shuffled = DataLoader(sets["retain"], batch_size=batch_size, shuffle=True)
    originals = [track.original(index) for index in range(track.declaration.reference.originals)]
    labels = sets["forget"].examples.labels
    confidences, accuracies = [], []
    started = time.perf_counter()
    for index in range(runs):
        torch.manual_seed(index)
        net = build_model(track)
        weights = originals[index % len(originals)]
        net.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in weights.items()})
        net = fine_tuned(net.to(device), shuffled, device)
        logits = [net(batch["image"].to(device)).detach().cpu().numpy() for batch in in_order["forget"]]
        confidences.append(logit_scaled_confidence(np.concatenate(logits), labels))
        accuracies.append([accuracy(net, in_order[name], device) for name in ("retain", "test")])
    until_last_run = time.perf_counter() - started
    unlearned, retain_accuracy, test_accuracy = np.array(confidences), *np.array(accuracies).T
    records = track.retrained("scoring")[:runs]
    retrained = np.array([logit_scaled_confidence(of_model, labels) for of_model in records.forget_logits])
    ratios = [
        float(ours.mean() / records.accuracy_on(name).mean())
        for name, ours in (("retain", retain_accuracy), ("test", test_accuracy))
    ]
    score = final_score(forgetting_quality(np.array(dense(unlearned, retrained)), runs), *ratios)
    seconds = time.perf_counter() - started
    nobody = np.zeros(runs, int)
    sides = [
        Outputs(unlearned, retain_accuracy, test_accuracy, nobody),
        Outputs(retrained, records.accuracy_on("retain"), records.accuracy_on("test"), nobody),
    ]
    assert score == official_score(*sides).score, "the two scorers are to agree"
    return {
        "seconds": seconds,
        "seconds_until_last_run": until_last_run,
        "score": score,
        "retain_accuracy": float(retain_accuracy.mean()),
        "test_accuracy": float(test_accuracy.mean()),
    }


def fine_tuned(net: nn.Module, loader: Loader, device: str) -> nn.Module:
    """Return the net after the epochs of FINE_TUNING."""
    optimizer = torch.optim.SGD(net.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=EPOCHS)
    net.train()
    for _ in range(EPOCHS):
        train_for_an_epoch(net, loader, optimizer, device)
        schedule.step()
    return net.eval()


def train_for_an_epoch(net: nn.Module, loader: Loader, optimizer: torch.optim.Optimizer, device: str) -> None:
    """Train the official way: the loss is asked for at every step."""
    total = 0.0
    for batch in loader:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(batch["image"].to(device)), batch["age_group"].to(device))
        loss.backward()
        optimizer.step()
        total += loss.item()


def accuracy(net: nn.Module, loader: Loader, device: str) -> float:
    """Return the share of examples classified right, having asked for it at every batch."""
    right = total = 0
    for batch in loader:
        right += (net(batch["image"].to(device)).argmax(1).cpu() == batch["age_group"]).sum().item()
        total += len(batch["age_group"])
    return right / total


if __name__ == "__main__":
    main()
