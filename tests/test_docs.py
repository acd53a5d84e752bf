"""The walk-through of docs/tracks.md, command by command as it is printed."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_the_walk_through_of_an_own_track_runs_as_printed(tmp_path: Path) -> None:
    (tmp_path / "submissions").symlink_to(ROOT / "submissions")
    page = (ROOT / "docs" / "tracks.md").read_text()
    blocks = re.findall(r"^```sh\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert len(blocks) > 5
    (tmp_path / "walk.sh").write_text("set -e\n" + "".join(blocks))
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT)}
    walk = subprocess.run(
        ["bash", "walk.sh"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert walk.returncode == 0, walk.stdout + walk.stderr
    for name in ("mine", "mine-listed", "mine-net", "mine-pictures", "mine-sets-0", "mine-sets-1"):
        assert f"{name} is ready" in walk.stdout
    assert "mine-sets-1 has the original models of mine-sets-0" in walk.stdout
    assert "20 retrained models in each pool" in walk.stdout
    assert "Other forget sets</h2>" in (tmp_path / "report-sets.html").read_text()
