"""The page of an evaluated submission, made through the command line on the tiny track."""

import base64
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result

from harness.evaluation.evaluate import load_evaluation
from harness.report import plots
from harness.report import style as look
from harness.report.page import render_page
from harness.submission import read_submission
from harness.tracks.track import Track

Harness = Callable[..., Result]
Write = Callable[[str], Path]

FINETUNE = """
import torch

def unlearn(net, retain_loader, forget_loader, val_loader):
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    net.train()
    for images, labels in retain_loader:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(images), labels).backward()
        optimizer.step()
"""
IDENTITY = "def unlearn(net, retain_loader, forget_loader, val_loader): pass"
SECTIONS = (
    "Score between floor and ceiling",
    "Epsilon of the forget examples",
    "Confidences of single forget examples",
    "Trade-off of the two errors",
    "Forgetting per class",
    "Accuracy",
    "Time of the runs",
    "Spread of the runs",
    "Full-stack metrics",
    "Audit",
)


@pytest.fixture
def reported(harness: Harness, tiny_file: Path, tmp_path: Path) -> Callable[..., str]:
    """Evaluates a file, then reports it; returns the page."""

    def call(file: Path, *options: object) -> str:
        assert harness("evaluate", file, "--track", tiny_file, *options).exit_code == 0
        page = tmp_path / "page.html"
        result = harness("report", file, "--track", tiny_file, *options, "--out", page)
        assert result.exit_code == 0, result.output
        assert result.output.strip() == f"wrote {page}"
        return page.read_text(encoding="utf-8")

    return call


def sections_of(page: str) -> list[str]:
    return re.findall(r"<h2>(.*?)</h2>", page)


def figures_of(page: str) -> list[str]:
    """The plots as SVG text."""
    return [base64.b64decode(data).decode() for data in re.findall(r'src="data:image/svg\+xml;base64,(.*?)"', page)]


def test_the_page_tells_the_whole_story_and_needs_nothing_beside_itself(
    reported: Callable[..., str], submission: Write
) -> None:
    page = reported(submission(FINETUNE), "--runs", 16)
    assert tuple(sections_of(page)) == SECTIONS
    figures = figures_of(page)
    assert len(figures) == 7
    assert "://" not in page
    for figure in figures:
        links = set(re.findall(r'(?:href|src)="(.*?)"', figure))
        assert all(link.startswith(("#", "data:")) for link in links)
    for fact in ("foo.py", "official score", "ceiling", "calibrated score", "isolation", "torch", "MIA-Efficacy"):
        assert fact in page
    assert not re.findall(r"\b(None|nan)\b", page)


def test_an_odd_name_is_escaped_and_identical_runs_are_reported_with_their_alarm(
    reported: Callable[..., str], tmp_path: Path
) -> None:
    file = tmp_path / "<img src=x onerror=alert(1)>&$a_b$.py"
    file.write_text('NAME = "a"\n' + IDENTITY)
    page = reported(file, "--runs", 16, "--set", "NAME='<script>alert(2)</script>'")
    assert "<script" not in page
    assert "<img src=x" not in page
    assert "&lt;img src=x onerror=alert(1)&gt;&amp;$a_b$.py" in page
    assert tuple(sections_of(page)) == SECTIONS
    assert "alarm (runs identical): only 2 of 16 runs have weights of their own" in page


def test_a_single_run_has_a_page_in_the_working_folder_without_what_needs_more(
    harness: Harness, submission: Write, tiny_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = submission(IDENTITY)
    harness("evaluate", file, "--track", tiny_file, "--runs", 1)
    assert harness("report", file, "--track", tiny_file, "--runs", 1).output == "wrote report-foo.html\n"
    page = (tmp_path / "report-foo.html").read_text(encoding="utf-8")
    assert set(SECTIONS) - set(sections_of(page)) == {"Trade-off of the two errors", "Audit"}
    assert "not ranked: fewer than 16 runs" in page
    assert "not looked for: too few runs" in page


def test_subjects_and_class_names_are_shown_where_a_track_has_them(
    harness: Harness, submission: Write, tiny: Track, tiny_file: Path, home: Path
) -> None:
    file = submission(IDENTITY)
    harness("evaluate", file, "--track", tiny_file, "--runs", 1)
    evaluation = load_evaluation(read_submission(file, source_kb=256), tiny, "cpu", runs=1, home=home)
    reference = replace(evaluation.reference, forget_subjects=np.repeat(["Ada", "Bob", "Cy", "$<b>$"], 5))
    manifest = tiny.manifest.model_copy(update={"class_names": [f"digit {label}" for label in range(10)]})
    page = render_page(replace(evaluation, reference=reference, track=replace(tiny, manifest=manifest)))
    assert "Forgetting per subject" in sections_of(page)
    assert "subject Ada" in page
    assert "<b>" not in page
    assert "class digit " in page


def test_a_report_without_stored_runs_names_the_command_that_makes_them(
    harness: Harness, submission: Write, tiny_file: Path
) -> None:
    file = submission(IDENTITY)
    result = harness("report", file, "--track", tiny_file)
    assert result.exit_code == 2
    assert f"harness evaluate {file}" in " ".join(result.output.split())


def test_a_failing_submission_has_its_outcome_said_and_no_page(
    harness: Harness, submission: Write, tiny_file: Path, tmp_path: Path
) -> None:
    for source, outcome in {
        "def unlearn(a, b, c, d): 1 / 0": "EXCEPTION",
        "def forget(a, b, c, d): pass": "INVALID_SUBMISSION",
    }.items():
        file = submission(source)
        page = tmp_path / "page.html"
        evaluated = harness("evaluate", file, "--track", tiny_file)
        result = harness("report", file, "--track", tiny_file, "--out", page)
        assert result.exit_code == evaluated.exit_code == 3
        assert outcome in result.output
        assert "remedy:" in result.output
        assert not page.exists()


def test_no_other_command_imports_matplotlib() -> None:
    code = "import sys, harness.cli.main; print([name for name in ('matplotlib', 'jinja2') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_odd_arrays_can_be_drawn() -> None:
    """Colour images, many groups, withheld scores, unresolved examples, large N: what the tiny track has none of."""
    generator = np.random.default_rng(0)
    epsilons = np.append(generator.exponential(2, 200), [np.nan, 50.0])
    groups = [plots.Group(f"class {label}", epsilons[label::50], epsilons[label::50] / 2) for label in range(50)]
    ours, theirs, original = (generator.normal(size=n) for n in (30, 40, 1))
    unresolved = np.full(3, np.nan)
    for figure in (
        plots.epsilon_histogram(epsilons, epsilons / 2, n_models=2048),
        plots.epsilon_histogram(unresolved, unresolved, n_models=1),
        plots.epsilons_by_group([*groups, plots.Group("none resolved", unresolved, unresolved)], n_models=512),
        plots.confidence_histograms(
            [
                plots.Example("colour", ours, theirs, original, np.ones((4, 6, 3))),
                plots.Example("no image", np.zeros(30), theirs, original),
            ]
        ),
        plots.score_scale([plots.ScaleRow("withheld", look.UNLEARNED_STYLE, None)]),
        plots.run_seconds(np.array([1.0, 9.0]), np.array([2.0, 3.0])),
    ):
        assert look.svg(figure).startswith(b"<?xml")
