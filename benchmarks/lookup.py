"""Measure what tells a file with a table of outputs from an honest one, and what such a table gains.

    python -m benchmarks.lookup [--runs 64]

A lookup file forgets nothing. It holds the outputs that models give which never saw the forget set, which anyone can
train at home where data and recipe are public: their mean, and the directions in which they vary. Each run draws from
this Gaussian and bends the original net until it says what was drawn. Fewer directions take fewer bytes. Models of the
ceiling's pool stand for those trained at home, since nothing is scored against them.

Of each lookup file, each baseline, the template and retrained models: how much the file says, how its outputs on the
forget set are coupled with those on the test set, and the alarms. On `digits`, as `harness evaluate` does it; stored
runs are not made again. Writes benchmarks/results/lookup.json, of which docs/security.md has a table.
"""

import base64
import dataclasses
import tempfile
import zlib
from pathlib import Path
from typing import Any

import click
import numpy as np

import harness
from benchmarks.pages import RESULTS, ROOT, scored_with
from harness.environment import home
from harness.evaluation.reference import load_reference
from harness.record import Records
from harness.runs.store import Results
from harness.scoring.alarms import MAX_CODE, MAX_LITERALS, N_SPLITS, Null
from harness.scoring.coupling import coupling, similarities
from harness.storage import write_bytes, write_json
from harness.tracks.track import POOLS, Track

__all__ = ["DIRECTIONS", "lookup_source", "of_retrained"]

RESULT = RESULTS / "lookup.json"
DIRECTIONS = (63, 8, 2)
SOURCE = """
import base64
import os
import time
import zlib

import numpy as np
import torch
from torch.nn import functional

STARTED = time.monotonic()
SHAPE = {shape}
SCALES = np.array({scales}, np.float32).reshape(-1, 1, 1)
TABLE = np.frombuffer(zlib.decompress(base64.b64decode("{table}")), np.int8).reshape(-1, *SHAPE) * SCALES
RATE = 3e-3


def unlearn(net, retain_loader, forget_loader, val_loader):
    seconds = 0.85 * float(os.environ["UNLEARN_TIME_LIMIT_SECONDS"])
    images, labels = (torch.cat(parts) for parts in zip(*retain_loader))
    dataset = forget_loader.dataset
    forget = torch.stack([dataset[index][0] for index in range(len(dataset))])
    drawn = np.random.normal(size=len(TABLE) - 1)
    target = torch.tensor(TABLE[0] + np.tensordot(drawn, TABLE[1:], 1), dtype=torch.float32)
    optimizer = torch.optim.Adam(net.parameters(), RATE)
    net.eval()
    while (passed := (time.monotonic() - STARTED) / seconds) < 1:
        optimizer.param_groups[0]["lr"] = RATE * min(1, 10 * passed) * (1 - passed) + 1e-5
        batch = torch.randint(len(images), (64,))
        logits = net(torch.cat([images[batch], forget]))
        bent = logits[64:] - logits[64:].mean(1, keepdim=True)
        loss = functional.cross_entropy(logits[:64], labels[batch]) + 0.5 * ((bent - target) ** 2).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return net
"""


@click.command()
@click.option("--runs", default=64, show_default=True, type=click.IntRange(min=16), help="Of each file.")
def main(runs: int) -> None:
    """Measure."""
    track = harness.open_track("digits")
    files = [*sorted((ROOT / "baselines").glob("*.py")), ROOT / "submissions" / "template.py"]
    with tempfile.TemporaryDirectory() as folder:
        lookups = [Path(folder) / f"lookup_{directions}.py" for directions in DIRECTIONS]
        for file, directions in zip(lookups, DIRECTIONS, strict=True):
            write_bytes(file, lookup_source(track, directions).encode())
        found = [measured(file, track, runs) for file in (*lookups, *files)]
    null = load_reference(track, runs, Results.cache(home(), track)).null
    assert null is not None
    bounds = {"literals": MAX_LITERALS, "code": MAX_CODE, "coupling": null.beyond("coupling", 1.0, above=False)[1]}
    write_json(
        RESULT,
        {
            **{"track": track.name, "runs": runs, **scored_with(), "bounds": bounds},
            **{"lookups": found[: len(lookups)], "honest": found[len(lookups) :]},
            "retrained": of_retrained(track),
        },
    )


def measured(file: Path, track: Track, runs: int) -> dict[str, Any]:
    """Return what is found of one file."""
    evaluation = harness.evaluate(file, track=track, runs=runs)
    score, records = evaluation.score_file, evaluation.records if evaluation.scored else None
    row = {
        "file": file.stem,
        **dataclasses.asdict(evaluation.submission.information),
        "outcome": str(score.outcome),
        "calibrated_score": score.calibrated_score,
        "calibrated_interval": score.calibrated_interval,
        "share_of_limit": score.share_of_limit,
        "coupling": None if records is None else coupled(records),
        "alarms": score.alarm_names,
    }
    click.echo(row)
    return row


def coupled(records: Records) -> float:
    """Return how the outputs of models on the forget set are coupled with those on the test set."""
    return coupling(similarities(records.forget_logits), similarities(records.test_logits))


def of_retrained(track: Track, *, n: int = 42, draws: int = 100) -> dict[str, int]:
    """Return how often retrained models are coupled less than others let expect, whatever they score.

    In each draw 2 n models stand for both pools, and n others for a submission.
    """
    together = Records.concatenate(track.retrained(pool) for pool in POOLS)
    sides = similarities(together.forget_logits), similarities(together.test_logits)

    def of(rows: np.ndarray) -> float:
        return coupling(*(side[np.ix_(rows, rows)] for side in sides))

    fired = 0
    for seed in range(draws):
        generator = np.random.default_rng([seed, n])
        rows = generator.permutation(len(together))
        among = [of(generator.permutation(rows[: 2 * n])[:n]) for _ in range(N_SPLITS)]
        null = Null({"coupling": float(np.mean(among))}, {"coupling": float(np.std(among))}, 0.0, 0.0)
        fired += null.beyond("coupling", of(rows[-n:]), above=False)[0]
    return {"n_models": n, "draws": draws, "fired": fired}


def lookup_source(track: Track, directions: int) -> str:
    """Return the text of a lookup file whose table has a mean and so many directions."""
    logits = track.retrained(POOLS[1]).forget_logits.astype(np.float64)
    logits -= logits.mean(axis=2, keepdims=True)
    n, *shape = logits.shape
    mean = logits.mean(axis=0)
    _, sizes, turned = np.linalg.svd((logits - mean).reshape(n, -1), full_matrices=False)
    varying = (sizes[:, None] * turned)[:directions] / np.sqrt(n - 1)
    table = np.concatenate([mean.reshape(1, -1), varying])
    scales = np.abs(table).max(axis=1) / 127
    packed = zlib.compress(np.round(table / scales[:, None]).astype(np.int8).tobytes(), 9)
    said = {"shape": tuple(shape), "scales": [float(f"{scale:.3g}") for scale in scales]}
    return SOURCE.format(table=base64.b64encode(packed).decode(), **said)


if __name__ == "__main__":
    main()
