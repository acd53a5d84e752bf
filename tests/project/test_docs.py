"""Pages: links, figures that come from stored results, what the code says too, and commands that run as printed."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import harness
from benchmarks import baselines
from benchmarks.figures import TABLES
from benchmarks.pages import Table, stored
from harness.contract import PACKAGES, TIME_LIMIT_VARIABLE
from harness.cuda_driver import CODES
from harness.leaderboard.batch.teams import FINAL, MAX_CHOICES
from harness.report.score_columns import SCORE_COLUMNS
from harness.runner.outcome import Outcome
from harness.runner.remedies import CONTAINER_FLAGS
from harness.tracks.declaration import Limits, read_declaration

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").glob("*.md"))


@pytest.mark.parametrize("file", PAGES, ids=lambda file: file.stem)
def test_a_page_says_who_it_is_for_and_the_readme_links_it(file: Path) -> None:
    title, _, audience, after, *_ = file.read_text().splitlines()
    assert title.startswith("# ")
    assert audience.startswith("For ")
    assert after == ""
    assert f"(docs/{file.name})" in (ROOT / "README.md").read_text()


READMES = [ROOT / folder / "README.md" for folder in ("submissions", "baselines", "baselines/learners")]
LINKING = [*PAGES, *sorted(ROOT.glob("*.md")), *READMES]


@pytest.mark.parametrize("file", LINKING, ids=lambda file: str(file.relative_to(ROOT)))
def test_links_between_pages_lead_to_files_that_exist(file: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)[^)]*\)", file.read_text()):
        assert link.startswith("https://") or (file.parent / link).exists(), link


# ---- figures -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", TABLES, ids=lambda table: f"{table.page.parent.name}/{table.page.name} {table.begin}")
def test_a_table_of_figures_is_what_stored_results_give(table: Table) -> None:
    assert table.written() == table.text(), "write it: python -m benchmarks.figures"


def test_every_table_that_a_command_makes_is_compared_with_its_results() -> None:
    compared = {(table.page, table.begin) for table in TABLES}
    elsewhere = {"<!-- measured: made by benchmarks/gpu/page.py -->"}  # tests/benchmarks/test_gpu_benchmark.py
    for file in LINKING:
        for mark in set(re.findall(r"^<!-- .+ made by .+ -->$", file.read_text(), re.MULTILINE)) - elsewhere:
            assert (file, mark) in compared, mark


def test_the_short_table_has_the_ends_and_the_best_whatever_was_measured() -> None:
    found = stored("baselines-digits")
    rows = found["rows"]
    few = {name: row for name, row in rows.items() if name in ("retrained", "identity")}
    failed = {"failed": {"outcome": "EXCEPTION"}, "over the limit": rows["identity"] | {"ranked": False}}
    text = baselines.short_table(found | {"rows": few | failed})
    assert re.findall(r"^\| (`?\w[\w .]*)", text, re.MULTILINE) == ["file ", "retrained models ", "`identity.py"]


def test_the_running_text_of_the_readme_has_no_measured_figures() -> None:
    text = (ROOT / "README.md").read_text().replace(baselines.SHORT.text(), "")
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL).splitlines()
    assert [line for line in prose if re.search(r"\d ?(ms|s|MB|GB|minutes|times|nats)\b|±|\b0\.\d", line)] == []


def test_the_readme_shows_the_rows_that_an_evaluation_prints() -> None:
    terminal = (ROOT / "harness" / "report" / "terminal.py").read_text()
    others = re.findall(r'add_row\("([^"]+)"', terminal.partition("def _table(")[2].partition("\ndef ")[0])
    figures = [column.title for column in SCORE_COLUMNS if not column.is_share]
    shown = (ROOT / "README.md").read_text().partition("template.py on digits\n")[2].partition("to compare")[0]
    assert re.findall(r"^ (\w+(?: \w+)*?)  ", shown, re.MULTILINE) == [*figures, *others]


# ---- what the code says too ----------------------------------------------------------------------------------------


def test_the_rules_list_every_outcome_and_package_and_only_those() -> None:
    text = page("rules.md")
    assert re.findall(r"^\| `([A-Z_]+)` \|", text, re.MULTILINE) == list(Outcome)
    allowed = text.partition("## Packages")[2].partition("##")[0]
    assert set(re.findall(r"`(\w+)`", allowed)) == {name.partition(".")[0] for name in PACKAGES}
    assert f'`os.environ["{TIME_LIMIT_VARIABLE}"]`' in text
    assert FINAL in text
    assert MAX_CHOICES == 2  # "one or two of its files"


# Rows of the table of limits in docs/rules.md, in their order, and what is behind the number.
LIMITS = {"threads": "", "memory_mb": " MB", "processes": "", "scratch_mb": " MB", "source_kb": " KB", "log_kb": " KB"}


def test_the_rules_give_the_limits_of_the_tracks() -> None:
    table = page("rules.md").partition("## Other limits")[2].partition("|---")[2].partition("\n\n")[0]
    rows = [line.split("|")[2:4] for line in table.splitlines()[1:]]
    assert Limits().time_limit_fraction == 0.1
    for file in (ROOT / "data_prep" / "tracks").glob("*.toml"):
        limits = read_declaration(file).limits
        if limits.time_limit_fraction != Limits().time_limit_fraction:
            assert f"`{file.stem}` {limits.time_limit_fraction:.0%}".replace("%", " %") in page("rules.md")
        column = 0 if limits.threads == 1 else 1  # tracks for a CPU, and for a GPU
        expected = [f"{getattr(limits, name)}{unit}" for name, unit in LIMITS.items()]
        assert [row[column].strip() for row in rows] == expected, file.stem


def test_what_ci_and_the_hooks_name_is_there() -> None:
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    named = re.findall(r"(?<![\w/.-])(?:tests|docs|submissions|\.ci)/[\w./-]*\w", workflow)
    assert {"tests/attacks", ".ci/run"} <= set(named)
    assert [path for path in named if not (ROOT / path).exists()] == []
    for tool in ("ruff check", "ruff format", "mypy"):  # as `make lint` has it
        assert f"entry: .venv/bin/{tool}" in (ROOT / ".pre-commit-config.yaml").read_text()
        assert f"$(BIN)/{tool}" in (ROOT / "Makefile").read_text()


def test_the_form_for_failed_submissions_offers_every_outcome() -> None:
    form = (ROOT / ".github" / "ISSUE_TEMPLATE" / "submission_failed.yml").read_text()
    assert re.findall(r"^ +- ([A-Z_]+)$", form, re.MULTILINE) == [one for one in Outcome if one != Outcome.OK]


def test_the_citation_names_the_version_and_licence_of_the_package() -> None:
    citation = (ROOT / "CITATION.cff").read_text()
    project = (ROOT / "pyproject.toml").read_text()
    assert f"\nversion: {harness.__version__}\n" in citation
    assert re.findall(r'^license = "(.+)"$', project, re.MULTILINE) == re.findall(
        r"^license: (.+)$", citation, re.MULTILINE
    )


def test_the_page_of_gpus_says_what_the_code_says() -> None:
    text = " ".join((ROOT / "docs" / "gpu.md").read_text().replace("\\\n", " ").split())
    assert CONTAINER_FLAGS.split(", or ")[1] in text
    quoted = re.findall(r"`cuInit: (\d+), ([^`]+)`", text)
    assert len(quoted) > 5
    for code, sentence in quoted:
        assert CODES[int(code)] == sentence
    for file, parts in GPU_SENTENCES.items():
        code_text = (ROOT / file).read_text()
        for part in parts:
            assert part in text, part
            assert part in code_text, part


# Parts of sentences in docs/gpu.md that a user sees, by where they are printed.
GPU_SENTENCES = {
    "harness/cuda_driver.py": ("there is no NVIDIA driver (",),
    "harness/accelerator.py": (
        "the driver supports CUDA",
        "and this torch needs ",
        "install a newer driver, or a torch built for an older CUDA",
        "is built without CUDA",
        "is of architecture sm_",
        ", for which this torch has no code",
    ),
    "harness/runner/sandbox/probe.py": ("runs have users of their own", "runs do not see "),
    "harness/runs/local.py": ("GB free, and a run is to have",),
    "harness/runs/measure.py": ("the GPU has no memory to measure a model, though no run is on it",),
    "data_prep/training.py": ("memory ran out while models were trained",),
    "harness/runner/outcome.py": ("smaller batches, fewer copies of the net and of the data",),
}


# ---- commands as printed -------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_walk_through_of_an_own_track_runs_as_printed(tmp_path: Path) -> None:
    (tmp_path / "submissions").symlink_to(ROOT / "submissions")
    blocks = commands_of("tracks.md")
    assert len(blocks) > 5
    said = run("".join(blocks), tmp_path)
    for name in ("mine", "mine-listed", "mine-net", "mine-pictures", "mine-sets-0", "mine-sets-1"):
        assert f"{name} is ready" in said
    assert "mine-sets-1 has the original models of mine-sets-0" in said
    assert "20 retrained models in each pool" in said
    assert "Other forget sets</h2>" in (tmp_path / "report-sets.html").read_text()


# What runs until it is stopped goes into the background, until what comes next has what it needs.
ENDLESS = {
    "dask scheduler": "sleep 8",
    "dask worker": "sleep 8",
    "harness leaderboard run submissions --runs 64 --watch": (
        "until grep -q calibrated submissions/alpha/method.py.log; do sleep 1; done; kill -INT $!; wait $! || true"
    ),
}


@pytest.mark.slow
def test_an_organizer_gets_from_nothing_to_a_site_by_what_is_printed(tmp_path: Path) -> None:
    pytest.importorskip("distributed", reason='needs Dask: pip install "unlearning-harness[cluster]"')
    (tmp_path / "baselines").symlink_to(ROOT / "baselines")
    team = tmp_path / "submissions" / "alpha"
    team.mkdir(parents=True)
    shutil.copy(ROOT / "submissions" / "template.py", team / "method.py")
    (team / "final.toml").write_text('choices = ["method.py"]')
    blocks = commands_of("organizers.md")
    assert "python3 -m venv .venv" in blocks[0]  # what made the environment that this runs in
    lines = [endless(line) for line in "".join(["harness doctor\n", *blocks[1:]]).splitlines()]
    said = run("\n".join(["set -m", "trap 'kill $(jobs -p)' EXIT", *lines]), tmp_path)
    assert "isolation" in said
    assert "worker hours, at most" in said
    assert said.count("worker tcp://127.0.0.1") == 1
    assert said.count("worker tls://127.0.0.1") == 1
    assert re.search(r"^ *1 +alpha/method\.py +0\.\d\d", said, re.MULTILINE), said
    site = (tmp_path / "leaderboard-digits" / "index.html").read_text()
    assert "alpha/method.py" in site


def page(name: str) -> str:
    """Return the text of a page."""
    return (ROOT / "docs" / name).read_text()


def commands_of(name: str) -> list[str]:
    """Return the blocks of a page that are to be run."""
    return re.findall(r"^```sh\n(.*?)^```$", page(name), re.MULTILINE | re.DOTALL)


def endless(line: str) -> str:
    """Return a line so that the next one is reached."""
    return next((f"{line} & {then}" for start, then in ENDLESS.items() if line.startswith(start)), line)


def run(script: str, folder: Path) -> str:
    """Run a script in a folder, which then holds all that it made, and return what it said."""
    (folder / "page.sh").write_text(f"set -e\n{script}\n")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    done = subprocess.run(["bash", "page.sh"], cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
