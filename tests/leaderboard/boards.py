"""Writes leaderboards as a batch leaves them: entries of real runs, and synthetic scores with known groups."""

import csv
import html
import io
import json
import re
import shutil
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from click.testing import Result

from harness.evaluation.reference import load_reference, reference_name
from harness.evaluation.score_file import Epsilon, HalfSampleScores, ScoreFile, score_file
from harness.leaderboard.board.entries import Entry
from harness.runner.isolation import Isolation
from harness.runner.outcome import Outcome
from harness.runs.run import Conditions, Limit, Run, RunInfo
from harness.runs.store import Results
from harness.scoring.score import HalfSamples
from harness.scoring.uncertainty import INFLATION
from harness.storage import read_json, write_json
from harness.submission import Submission
from harness.tracks.track import Track

__all__ = ["BoardWriter", "names_in_forms"]

OPENING = datetime(2026, 5, 1, 9, 30, tzinfo=UTC)


class BoardWriter:
    """The leaderboard of a track, entry by entry."""

    def __init__(
        self, home: Path, track: Track, *, boundaries: Sequence[int] = (), rank_by: str = "calibrated"
    ) -> None:
        self.track = track
        self.results = Results.cache(home, track)
        self.folder = home / "leaderboards" / self.results.name
        self.keys: list[str] = []  # of the entries, as they were added
        self._bases: dict[int, ScoreFile] = {}  # by number of runs
        terms = {
            "track": track.name,
            "public_hash": track.manifest.public_hash,
            "reference_hash": track.manifest.reference_hash,
            "fingerprint": track.manifest.fingerprint,
            "rank_by": rank_by,
            "runs": 16,
            "boundaries": list(boundaries),
            "device": "cpu",
        }
        write_json(self.folder / "board.json", terms)

    @classmethod
    def of_evaluated(
        cls, home: Path, track: Track, evaluated_home: Path, names: Sequence[str], **terms: Any
    ) -> "BoardWriter":
        """Return the leaderboard, in an empty home, of submissions of an evaluated one, entered under some names."""
        shutil.copytree(evaluated_home / "results", home / "results")
        writer = cls(home, track, **terms)
        for name in names:
            writer.add_evaluated(name, evaluated_home / f"{Path(name).stem}.json")
        return writer

    def entry_file(self, key: str) -> Path:
        """Return the file of an entry."""
        return self.folder / "entries" / f"{key}.json"

    def add(self, name: str, **values: Any) -> str:
        """Write an entry and return its key; values replace those of one that is queued."""
        number = len(self.keys)
        entry: dict[str, Any] = {
            "submission": name,
            "team": name.partition("/")[0] if "/" in name else None,
            "file": Path(name).name,
            "sha256": "0" * 64,
            "code_hash": f"{number:064x}",
            "constants": {},
            "device": "cpu",
            "results": f"{number:016x}-cpu-v1",
            "entered": (OPENING + timedelta(minutes=number)).isoformat(),
            "state": "queued",
            "stage": 16,
            "runs": 0,
            "outcome": None,
            "message": "",
            "score": None,
        }
        entry |= values
        key = Entry.model_validate(entry).key
        write_json(self.entry_file(key), entry)
        self.keys.append(key)
        return key

    def add_evaluated(self, name: str, json_file: Path, **values: Any) -> str:
        """Write the entry of a submission that `harness evaluate --json` has run and scored."""
        found = json.loads(json_file.read_text())
        ok = found["outcome"] == "OK"
        (folder,) = self.results.glob(f"{found['code_hash'][:16]}-*")
        own = {
            "sha256": found["sha256"],
            "code_hash": found["code_hash"],
            "constants": found["constants"],
            "results": folder.name,
            "state": "done" if ok else "failed",
            "runs": found["n_runs"],
            "outcome": found["outcome"],
            "message": "" if ok else found["failure"]["message"],
            "score": f"score-{reference_name(self.track, found['n_runs'])}" if ok else None,
        }
        return self.add(name, **{**own, **values})

    def add_failed(self, name: str, outcome: str, message: str) -> str:
        """Write the entry of a submission that failed."""
        return self.add(name, state="failed", outcome=outcome, message=message)

    def add_synthetic(self, name: str, truth: float, *, noise: float = 0.03, runs: int = 16, **values: Any) -> str:
        """Write an entry whose calibrated score is drawn about a true one, with half-samples that spread as it does."""
        generator = np.random.default_rng([len(self.keys), runs])
        value = truth + generator.normal(0, noise)
        halves = value + generator.normal(0, noise / INFLATION, 200)
        score = f"score-{reference_name(self.track, runs)}"
        own = {"state": "done", "runs": runs, "stage": runs, "outcome": "OK", "score": score}
        key = self.add(name, **{**own, **values})
        reach = 1.96 * noise
        if runs not in self._bases:
            self._bases[runs] = self._scored(name, runs)
        stored = self._bases[runs].model_copy(
            update={
                "submission": name,
                "score": value / 5,
                "score_interval": ((value - reach) / 5, (value + reach) / 5),
                "calibrated_score": value,
                "calibrated_interval": (value - reach, value + reach),
                "forgetting_quality": value / 5,
                "retain_ratio": 1.0,
                "test_ratio": 0.99,
                "half_samples": HalfSampleScores.of(HalfSamples(halves / 5, halves, halves)),
            }
        )
        write_json(self.results / read_json(self.entry_file(key))["results"] / f"{score}.json", stored.to_json())
        return key

    def _scored(self, name: str, runs: int) -> ScoreFile:
        """Return the score of so many runs that took half their limit, without the scores themselves."""
        track, file = self.track, Path(name)
        limit = Limit(10.0, 0.1, training_seconds=100.0, calibration="synthetic")
        info = RunInfo(limit.seconds, "full")
        made = score_file(
            Submission(file, "", "0" * 64, "0" * 64, {}, ()),
            track,
            Conditions(limit, Isolation("full", {})),
            [Run(index, Outcome.OK, limit.seconds / 2, info) for index in range(runs)],
            load_reference(track, min(runs, track.manifest.retrained), self.results),
            runs_seal="0" * 64,
            outcome=Outcome.OK,
            unranked_because=None,
            findings=None,
            full_stack=None,
            learner=None,
        )
        epsilon = Epsilon(median=1.0, unresolved=0, perfectly_separated=0, smooth_quality=0.1)
        ends = {"ceiling": 0.2, "ceiling_interval": (0.15, 0.25), "floor": 0.03}
        return made.model_copy(update={"alarms": (), "epsilon": epsilon, **ends})


def names_in_forms(harness: Callable[..., Result], track: Path, site: Path) -> dict[str, list[str]]:
    """Return the names on a board in their order as each form shows them; a site is written, with a page for each."""

    def show(form: str) -> str:
        result = harness("leaderboard", "show", "--track", track, "--format", form)
        assert result.exit_code == 0, result.output
        return result.output

    written = harness("leaderboard", "html", "--track", track, "--output", site, "--rounded", 2)
    assert written.exit_code == 0, written.output
    return {
        "json": [row["submission"] for row in json.loads(show("json"))],
        "csv": [row["submission"] for row in csv.DictReader(io.StringIO(show("csv")))],
        "markdown": _names_in_markdown(show("markdown")),
        "html": _names_on_site(site),
    }


def _names_in_markdown(text: str) -> list[str]:
    """Return the names in a Markdown table as a reader of it sees them."""
    rows = [re.split(r"(?<!\\) ?\| ", line) for line in text.splitlines() if line.startswith("|")]
    place = rows[0].index("submission")
    return [re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", row[place]) for row in rows[2:]]


def _names_on_site(folder: Path) -> list[str]:
    """Return the names in the table of a site; each that has a page is the title of that page."""
    names = []
    for link, name in re.findall(r'(?:<a href="([^"]*)">)?<bdi[^>]*>(.*?)</bdi>', (folder / "index.html").read_text()):
        names.append(html.unescape(name.replace("<wbr>", "")))
        if link:
            (title,) = re.findall(r"<h1><bdi>(.*?)</bdi></h1>", (folder / link).read_text())
            assert html.unescape(title) == names[-1]
    return names
