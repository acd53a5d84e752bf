"""What runs leave on disk: one file per run, named by what determines it; written whole or not at all.

    HARNESS_HOME/results/TRACK-HASH/CODE-DEVICE/
        submission.py       what was run, with constants set
        run-0003.npz        the record of run 3: its outputs, and how it went as JSON
        swapped-0000.npz    that of run 0 with other examples to forget
        original-0003.npz   of a learner: the model that run 3 starts from, its weights and its state; and, as records
                            alone, scoring-, ceiling- and twin-0003.npz (`harness.runs.stage`)
        score-64-REF.json   all that is known of the first 64 runs against that reference: a ScoreFile, as of `--json`

A run is found again by code_hash, hash of what runs on the track are made from, index, device kind, runner version and
time limit, so that nothing is run twice and more runs add only the new ones. One made on another GPU, with another
driver or under other limits of the track is made again, and so is one that is not whole, and one that failed when
packages or the machine have changed since.
"""

import itertools
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from harness.record import Records
from harness.runner.isolation import is_enough
from harness.runner.outcome import Outcome
from harness.runs.run import RUNNER_VERSION, Requests, Run, RunInfo, Trained
from harness.runs.stage import Stage
from harness.seal import read_sealed_arrays, read_stated, whole, write_sealed_arrays
from harness.storage import write_bytes
from harness.submission import Submission
from harness.tracks.track import Track

__all__ = ["Results", "first_runs"]


class Results:
    """The runs and scores of one submission on one track and one kind of device."""

    def __init__(self, folder: Path, limits: Mapping[str, Any] | None = None) -> None:
        """limits: what the track allows; runs that were made under others do not count. Any do without."""
        self.folder, self.limits = folder, limits

    @classmethod
    def of(
        cls, home: Path, track: Track, submission: Submission, device: str, *, time_limit: float | None = None
    ) -> "Results":
        """Return the results of a submission.

        time_limit: the share of a training that its runs are given instead of the track's; such runs lie apart.
        """
        limit = "" if time_limit is None else f"-limit{time_limit:g}"
        key = f"{submission.code_hash[:16]}-{device}{limit}-v{RUNNER_VERSION}"
        return cls(cls.cache(home, track) / key, track.declaration.limits.model_dump())

    @staticmethod
    def cache(home: Path, track: Track) -> Path:
        """Return the folder of all results on a track."""
        return home / "results" / f"{track.name}-{track.runs_hash[:12]}"

    def beside(self, folder: str) -> "Results":
        """Return the results of another submission on the same track, by the name of their folder."""
        return Results(self.folder.with_name(folder), self.limits)

    def begin(self, submission: Submission) -> None:
        """Keep what is about to be run."""
        write_bytes(self.folder / "submission.py", submission.content)

    def runs(
        self,
        indices: Iterable[int],
        required_isolation: str | None = None,
        *,
        gpus: Collection[str] = (),
        stage: Stage = Stage.RUN,
        in_brief: bool = False,
    ) -> dict[int, Run]:
        """Return the stored runs among the indices.

        Those made under other limits or below the required isolation do not count, nor those on other GPUs than the
        given ones, if any. in_brief: how they went and their seals alone, as their files state it, which takes no
        longer for larger ones.
        """
        read = _stated_run if in_brief else _stored_run
        paths = {index: self.run_file(index, stage) for index in indices}
        found = {index: whole(path, partial(read, index)) for index, path in paths.items()}
        stored = {index: run for index, run in found.items() if run is not None}
        return {
            index: run
            for index, run in stored.items()
            if self._is_allowed(run.info.limits)
            and is_enough(run.info.isolation, required_isolation)
            and (not gpus or run.info.gpu in gpus)
        }

    def trained(self, index: int) -> Trained | None:
        """Return what a learner's original left, weights and state; None if it is not stored whole."""
        run = whole(self.run_file(index, Stage.ORIGINAL), partial(_stored_run, index, with_trained=True))
        return None if run is None else run.trained

    def _is_allowed(self, limits: Mapping[str, Any]) -> bool:
        """Whether a run that was made under some limits counts; runs of earlier versions do not say under which."""
        return not limits or self.limits is None or dict(limits) == dict(self.limits)

    def save_run(self, run: Run, stage: Stage = Stage.RUN) -> Run:
        """Store a run, and return it with its seal."""
        info = {"outcome": run.outcome, "seconds": run.seconds, **run.info.to_json()}
        arrays = {"info": np.array(json.dumps(info)), **({} if run.record is None else run.record.arrays())}
        arrays |= {} if run.requests is None else run.requests.arrays()
        if run.trained is not None:
            arrays |= {"weights": run.trained.weights, "state": np.frombuffer(run.trained.state, np.uint8)}
        return replace(run, seal=write_sealed_arrays(self.run_file(run.index, stage), arrays))

    def score_file(self, name: str) -> Path:
        """Return the file of a score by its name."""
        return self.folder / f"{name}.json"

    def run_file(self, index: int, stage: Stage = Stage.RUN) -> Path:
        """Return the file of a run."""
        return self.folder / f"{stage}-{index:04d}.npz"


def first_runs(folder: Path, count: int, stage: Stage = Stage.RUN) -> Iterator[tuple[Path, Run]]:
    """Yield the first runs stored in a results folder, each with its file."""
    for index, path in enumerate(itertools.islice(sorted(folder.glob(f"{stage}-*.npz")), count)):
        if (run := whole(path, partial(_stored_run, index))) is not None:
            yield path, run


def _stored_run(index: int, path: Path, *, with_trained: bool = False) -> Run:
    """Return the run in a file, what it left for another only if asked for: a state may be large.

    Raises OSError if there is none, ValueError, KeyError or TypeError if it is damaged.
    """
    arrays, seal = read_sealed_arrays(path)
    record = Records.from_arrays(arrays) if "accuracy" in arrays else None
    state_bytes = arrays["state"].nbytes if "state" in arrays else 0
    keeps = with_trained and "state" in arrays
    return replace(
        _run(index, arrays["info"], seal),
        record=record,
        trained=Trained(arrays["weights"], arrays["state"].tobytes()) if keeps else None,
        state_bytes=state_bytes,
        requests=Requests.from_arrays(arrays),
    )


def _stated_run(index: int, path: Path) -> Run:
    """Return the run in a file without its outputs, as the file states it. Raises as `_stored_run` does."""
    return _run(index, *read_stated(path, "info"))


def _run(index: int, stored_info: np.ndarray, seal: str) -> Run:
    info = json.loads(str(stored_info))
    return Run(index, Outcome(info["outcome"]), float(info["seconds"]), RunInfo.from_json(info), seal=seal)
