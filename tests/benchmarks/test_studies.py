"""Studies: each is made by name, and has a page with its plot first and its command."""

import importlib.util
import re

import pytest

from benchmarks.pages import RESULTS, ROOT, stored
from benchmarks.studies import STUDIES, Study
from benchmarks.verdicts import Verdict

MADE = re.findall(r"^STUDIES \?= (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[0].split()
ANSWERED = [study for study in STUDIES if (RESULTS / f"{study.result}.json").is_file()]


def test_make_knows_every_study_and_only_commands_that_are_there() -> None:
    assert {study.name for study in STUDIES} <= set(MADE)
    assert [name for name in MADE if importlib.util.find_spec(f"benchmarks.{name}") is None] == []


@pytest.mark.parametrize("study", ANSWERED, ids=lambda study: study.name)
def test_a_page_has_its_plot_first_and_its_command(study: Study) -> None:
    text = (ROOT / "docs" / f"{study.name}.md").read_text()
    assert text.split("\n\n")[2].startswith("![")
    assert f"]({study.name}.svg)" in text
    assert f"python -m benchmarks.{study.name}" in text


@pytest.mark.parametrize("study", ANSWERED, ids=lambda study: study.name)
def test_every_claim_has_a_verdict_and_what_was_found(study: Study) -> None:
    claims = study.claims(stored(study.result))
    assert claims
    for one in claims:
        assert one["verdict"] in set(Verdict)
        assert one["claim"]
        assert one["found"]
