"""The site of a leaderboard: whole without a script; in a real browser sorted, opened, compared, without an error."""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from harness.cli.main import cli
from harness.scoring.uncertainty import difference
from harness.storage import read_json
from harness.tracks.track import Track
from tests.leaderboard.boards import BoardWriter

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
HOSTILE = "eve/<img src=x onerror=alert(1)>\N{RIGHT-TO-LEFT OVERRIDE}.py"


@pytest.fixture(scope="module")
def home_of_site(
    evaluated_home: Path, prepared_tracks: Path, tiny: Track, tmp_path_factory: pytest.TempPathFactory
) -> BoardWriter:
    """A leaderboard with all that a site shows, in a HARNESS_HOME of its own."""
    home = tmp_path_factory.mktemp("site-home")
    (home / "tracks").symlink_to(prepared_tracks)
    names = ("ada/finetune.py", "bob/nothing.py", "bob/noise.py", "cy/broken.py")
    writer = BoardWriter.of_evaluated(home, tiny, evaluated_home, names)
    writer.add_synthetic("zoe/good.py", 0.95)
    writer.add_synthetic("zoe/fair.py", 0.93)
    writer.add_synthetic("zoe/more_runs.py", 0.5, runs=32)
    writer.add_failed(HOSTILE, "EXCEPTION", "<script>alert(2)</script> of the hidden set")
    return writer


@pytest.fixture(scope="module")
def write(home_of_site: BoardWriter, tiny_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Writes the site with some options; returns its folder."""
    home = home_of_site.folder.parents[1]

    def call(*options: object) -> Path:
        folder = tmp_path_factory.mktemp("site")
        arguments = ["leaderboard", "html", "--track", tiny_file, "--output", folder, *options]
        result = CliRunner(env={"HARNESS_HOME": str(home)}).invoke(cli, [str(argument) for argument in arguments])
        assert result.exit_code == 0, result.output
        return folder

    return call


@pytest.fixture(scope="module")
def site(write: Callable[..., Path]) -> Path:
    """The site as it is by default."""
    return write()


def pages(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in sorted(folder.rglob("*.html"))}


# ---- without a browser ----------------------------------------------------------------------------------------------


def test_the_site_is_whole_and_the_same_every_time(site: Path, write: Callable[..., Path]) -> None:
    found = pages(site)
    assert len(found) == 9
    assert found == pages(write())
    for page in found.values():
        assert "default-src 'none'" in page.replace("&#39;", "'")
        assert not re.search(r"""(src|href)=["']?(https?:)?//""", page)
        assert "<script>alert" not in page
        assert "<img src=x" not in page
        assert "\N{RIGHT-TO-LEFT OVERRIDE}" not in page
    assert "&lt;script&gt;alert(2)&lt;/script&gt; of the hidden set</div>" in found["index.html"]  # why it failed
    assert f'data-sha256="{"0" * 64}"' in found["index.html"]
    assert oct((site / "index.html").stat().st_mode)[-3:] == "644"


def test_a_page_of_a_submission_that_is_gone_is_removed_and_other_files_stay(
    write: Callable[..., Path], home_of_site: BoardWriter
) -> None:
    folder = write()
    stale = folder / "submissions" / "gone.html"
    stale.write_text((folder / "submissions" / f"{home_of_site.keys[0]}.html").read_text())
    own = folder / "submissions" / "terms.html"
    own.write_text("<p>the rules of the competition")
    write("--output", folder)
    assert not stale.exists()
    assert own.exists()


@pytest.mark.parametrize("output", ["/proc/site", "a-file/site", "a-file"])
def test_a_place_that_takes_no_folder_is_a_usage_error(
    output: str, home_of_site: BoardWriter, tiny_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a-file").write_text("mine")
    arguments = ["leaderboard", "html", "--track", str(tiny_file), "--output", output]
    result = CliRunner(env={"HARNESS_HOME": str(home_of_site.folder.parents[1])}).invoke(cli, arguments)
    assert result.exit_code == 2, result.output
    assert output in result.output
    assert "Traceback" not in result.output
    assert (tmp_path / "a-file").read_text() == "mine"


def test_a_hidden_forget_set_is_not_shown(site: Path, write: Callable[..., Path], home_of_site: BoardWriter) -> None:
    name = f"{home_of_site.keys[0]}.html"
    open_page, hidden = (folder / "submissions" / name for folder in (site, write("--hidden")))
    titles = [set(re.findall(r"<h2>(.*?)</h2>", page.read_text())) for page in (open_page, hidden)]
    assert titles[0] - titles[1] == {"Confidences of single forget examples", "Forgetting per class"}
    assert not any("hidden set" in page for page in pages(hidden.parents[1]).values())


def test_rounded_scores_are_all_that_a_site_then_holds(
    home_of_site: BoardWriter, write: Callable[..., Path], evaluated_home: Path
) -> None:
    found = pages(write("--rounded", 1))
    stored = read_json(evaluated_home / "finetune.json")
    for page in found.values():
        assert f"{stored['calibrated_score']:.2f}" not in re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
        assert "<h2>Audit" not in page
    assert '"halves":null' in found["index.html"]
    assert '"halves":[' not in found["index.html"]


# ---- in a browser ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    """A headless Chromium that is installed here."""
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright here: pip install playwright")
    with playwright.sync_playwright() as driver:
        own_sandbox = os.geteuid() != 0  # Chromium refuses its sandbox to root
        browser = driver.chromium.launch(executable_path=found, chromium_sandbox=own_sandbox)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: "Browser", site: Path) -> Iterator[Callable[..., "Page"]]:
    """Opens a page of the site; whatever it says on the console is an error."""
    said: list[str] = []
    contexts = []

    def call(page: str = "index.html", **options: object) -> "Page":
        contexts.append(browser.new_context(**options))  # type: ignore[arg-type]
        opened = contexts[-1].new_page()
        opened.on("console", lambda message: said.append(message.text))
        opened.on("pageerror", lambda error: said.append(str(error)))
        opened.goto(f"{site.as_uri()}/{page}")
        return opened

    yield call
    for context in contexts:
        context.close()
    assert said == []


def names(page: "Page") -> list[str]:
    return page.locator("#board tbody tr:visible td.name bdi").all_inner_texts()


def test_the_table_sorts_by_any_column_and_back(open_page: Callable[..., "Page"]) -> None:
    page = open_page()
    in_order = names(page)
    assert in_order[:2] == ["retrained models", "zoe/more_runs.py"]  # a later stage is ahead
    # Of the two that failed neither score is known; of the floor, at a number of runs nobody was scored with, one.
    best = "retrained models"
    for header, n_unknown in (("calibrated", 3), ("official", 2)):
        page.get_by_role("button", name=header, exact=True).click()
        falling = names(page)
        assert falling[0] == best
        assert set(in_order[-2:]) <= set(falling[-n_unknown:])  # those without a score stay below
        page.get_by_role("button", name=header, exact=True).click()
        assert page.locator("th[aria-sort]").get_attribute("aria-sort") == "ascending"
        assert names(page)[-n_unknown - 1] == best
    page.get_by_role("button", name="submission", exact=True).click()
    assert names(page) == sorted(in_order, key=str.lower)


def test_a_submission_is_found_and_opened_and_leads_back(open_page: Callable[..., "Page"]) -> None:
    page = open_page()
    page.get_by_role("searchbox").fill("ada")
    assert names(page) == ["ada/finetune.py"]
    page.get_by_role("link", name="ada/finetune.py").click()
    assert page.get_by_role("heading", level=1).inner_text() == "ada/finetune.py"
    assert page.locator("section img").count() == 7
    for image in page.locator("section img").all():
        assert image.evaluate("image => image.naturalWidth") > 0
    page.get_by_role("link", name="Leaderboard of tiny").click()
    assert page.get_by_role("heading", level=1).inner_text() == "Leaderboard of tiny"


def test_any_two_are_compared_as_the_harness_does(open_page: Callable[..., "Page"], home_of_site: BoardWriter) -> None:
    page = open_page()

    def verdict(first: str, second: str) -> str:
        page.get_by_label("first").select_option(first)
        page.get_by_label("second").select_option(second)
        return page.locator("#verdict").inner_text()

    def stored(key: str) -> dict[str, float | dict[str, list[float]]]:
        entry = read_json(home_of_site.folder / "entries" / f"{key}.json")
        found: dict[str, float | dict[str, list[float]]] = read_json(
            home_of_site.results / entry["results"] / f"{entry['score']}.json"
        )
        return found

    def expected(first: str, second: str) -> float:
        sides = [stored(key) for key in (first, second)]
        values = [side["calibrated_score"] for side in sides]
        halves = [side["half_samples"]["calibrated_score"] for side in sides]  # type: ignore[index]
        return difference(*values, *halves).p_value  # type: ignore[arg-type]

    ada, nothing, _, _, good, fair, more_runs, _ = home_of_site.keys
    for first, second in ((good, fair), (ada, nothing)):
        said = verdict(first, second)
        (p_value,) = re.findall(r"p = ([\d.e-]+)", said)
        assert float(p_value) == pytest.approx(expected(first, second), rel=0.05)
    assert "Not told apart" in verdict(good, fair)
    assert "zoe/good.py is better" in verdict(ada, good)
    assert "32 runs against 16" in verdict(more_runs, good)
    assert "Choose two" in verdict(good, good)
    assert page.locator("#sides th").all_inner_texts() == ["", "zoe/good.py", "zoe/good.py"]


def test_a_submissions_page_leads_to_its_comparison(
    open_page: Callable[..., "Page"], home_of_site: BoardWriter
) -> None:
    key = home_of_site.keys[2]
    page = open_page(f"submissions/{key}.html")
    page.get_by_role("link", name="compare it").click()
    assert page.get_by_label("first").input_value() == key
    assert page.get_by_label("second").input_value() != key


def test_a_phone_shows_the_table_without_scrolling_sideways(
    open_page: Callable[..., "Page"], home_of_site: BoardWriter
) -> None:
    page = open_page(viewport={"width": 360, "height": 740}, color_scheme="dark")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    page.get_by_label("first").select_option(home_of_site.keys[2])  # the one with alarms, in whole sentences
    for part in page.locator(".wide").all():
        assert part.evaluate("part => part.scrollWidth <= part.clientWidth")
    for cell in page.locator("#sides td:not(:first-child)").all():
        assert cell.evaluate("cell => cell.clientWidth") > 80
    assert page.get_by_role("link", name="zoe/good.py").is_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 26)"


def test_without_a_script_the_table_is_there_in_its_order(open_page: Callable[..., "Page"]) -> None:
    page = open_page(java_script_enabled=False)
    assert names(page)[:2] == ["retrained models", "zoe/more_runs.py"]
    assert not page.get_by_role("searchbox").is_visible()
    assert not page.get_by_text("Compare two").is_visible()
    page.get_by_role("link", name="zoe/good.py").click()
    assert page.get_by_role("heading", level=1).inner_text() == "zoe/good.py"
