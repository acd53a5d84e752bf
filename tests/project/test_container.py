"""The image and its page, read as text: they name what is there, and the flags are those that the harness advises."""

import re
from pathlib import Path

from harness.runner.remedies import CONTAINER_FLAGS

ROOT = Path(__file__).parents[2]


def test_the_image_is_made_of_files_that_exist_and_are_not_left_out() -> None:
    left_out = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] not in "#!"]
    copied = [word for line in instructions("COPY") for word in line.split()[:-1]]
    assert "harness" in copied
    for path in copied:
        assert (ROOT / path).exists(), path
        assert path not in left_out


def test_the_image_holds_what_the_installation_reads() -> None:
    copied = " ".join(instructions("COPY"))
    for file in ("pyproject.toml", "README.md", "LICENSE", "baselines", "submissions"):
        assert file in copied
    packages = re.findall(r'^    "([a-z_]+)(?:\.[a-z_]+)*",$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert {package for package in packages if (ROOT / package).is_dir()} <= set(copied.split())


def test_files_that_were_handed_in_stay_out_of_the_image_and_the_template_goes_in() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert lines.index("submissions/*") < lines.index("!submissions/template.py")
    assert {".harness", ".git"} <= set(lines)


def test_the_image_runs_the_harness_as_root_where_the_page_says() -> None:
    assert instructions("ENTRYPOINT") == ['["harness"]']
    assert instructions("USER") == ["root"]
    page = container_page()
    folder = instructions("WORKDIR")[0]
    home = instructions("ENV")[0].removeprefix("HARNESS_HOME=")
    assert f":{home} " in page
    assert f'/submissions:{folder}/submissions"' in page
    assert not folder.startswith("/usr")  # every run sees that, and so would see the baselines


def test_the_page_and_ci_give_the_flags_that_the_harness_advises() -> None:
    simple, exact = CONTAINER_FLAGS.split(", or ")
    assert simple == "docker run --privileged"
    workflow = " ".join((ROOT / ".github" / "workflows" / "ci.yml").read_text().split())
    for text in (container_page(), workflow):
        assert exact in text
        assert "--privileged" in text
    for flag in re.findall(r"--[a-z-]+ \S+", exact):
        assert f"| `{flag}` |" in container_page(), flag


def instructions(name: str) -> list[str]:
    """Return what follows each instruction of a kind in the Dockerfile."""
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    return re.findall(rf"^{name} +(.+)$", text, re.MULTILINE)


def container_page() -> str:
    """Return docs/container.md with every line break as a space."""
    return " ".join((ROOT / "docs" / "container.md").read_text().replace("\\\n", " ").split())
