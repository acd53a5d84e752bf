"""The names of tracks, for what needs nothing else of them: options, completion, messages."""

from importlib.resources import files
from pathlib import Path

__all__ = ["DATA_PREP", "DEFAULT_TRACK", "track_names"]

DEFAULT_TRACK = "digits"  # where none is named
DATA_PREP = Path(str(files("data_prep")))  # declarations and tracks that ship prepared


def track_names(tracks: Path) -> list[str]:
    """Return the names of the tracks that are declared here, then of others prepared below the folder `tracks`."""
    declared = sorted(path.stem for path in (DATA_PREP / "tracks").glob("*.toml"))
    prepared = sorted(path.parent.name for path in tracks.glob("[!.]*/manifest.json"))
    return [*declared, *(name for name in prepared if name not in declared)]
