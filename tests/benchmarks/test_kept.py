"""What a study has finished counts for the same settings, files and versions alone."""

from pathlib import Path

import pytest

from benchmarks import kept
from benchmarks.kept import kept_in


def test_what_is_kept_is_of_these_settings_files_and_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "ROOT", tmp_path)
    (tmp_path / "baselines").mkdir()
    method = tmp_path / "baselines" / "method.py"
    method.write_text("RATE = 1")
    first = kept_in("study", {"seeds": 3}, files=["method"])
    assert first == kept_in("study", {"seeds": 3}, files=["method"])
    others = [kept_in("study", {"seeds": 4}, files=["method"]), kept_in("study", {"seeds": 3})]
    method.write_text("RATE = 2")
    others.append(kept_in("study", {"seeds": 3}, files=["method"]))
    monkeypatch.setattr(kept, "environment", lambda: {"torch": "1.0"})
    others.append(kept_in("study", {"seeds": 3}, files=["method"]))
    assert len({first, *others}) == 5
