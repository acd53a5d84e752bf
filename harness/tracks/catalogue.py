"""Tracks by name: which are declared here, which ships prepared, which are prepared already."""

from dataclasses import dataclass
from pathlib import Path

from harness.environment import require_writable
from harness.errors import UsageError
from harness.quoting import quoted
from harness.spelling import did_you_mean_file
from harness.storage import is_aside, read_arrays
from harness.tracks.archive import import_track
from harness.tracks.declaration import Declaration, read_declaration
from harness.tracks.preparing import preparing
from harness.tracks.track import Track, load_track
from harness.tracks.track_names import DATA_PREP, track_names
from harness.tracks.tuning_track import preparing_command, tuned_for

__all__ = ["Declared", "find_tracks", "is_declared", "open_declared", "open_track"]


@dataclass(frozen=True)
class Declared:
    """A declaration and the file it was read from."""

    declaration: Declaration
    file: Path

    @property
    def name(self) -> str:
        """The track's name."""
        return self.declaration.name

    @property
    def shipped(self) -> Path | None:
        """The file of this very track that ships prepared, if one does."""
        shipped = DATA_PREP / "prepared" / f"{self.file.stem}.track"
        return shipped if self.is_shipped and shipped.is_file() else None

    @property
    def pack(self) -> Path | None:
        """The file of this very track that ships without its images, if one does."""
        pack = DATA_PREP / "prepared" / f"{self.name}.pack"
        return pack if self.is_shipped and pack.is_file() else None

    @property
    def is_shipped(self) -> bool:
        """Whether the declaration comes with the harness."""
        return self.file.parent == DATA_PREP / "tracks"

    @property
    def command(self) -> str:
        """The command that prepares it."""
        by_name = self.is_shipped or tuned_for(self.declaration) is not None
        return preparing_command(self.declaration) if by_name else f"harness prepare {quoted(self.file)}"


def find_tracks(track: str, tracks: Path) -> list[Declared]:
    """Return the track of a name, or those that a TOML file declares: one, or as many siblings as it has forget sets.

    A name is that of a track declared here, or of one that is prepared below the folder `tracks`. Raises UsageError.
    """
    if Path(track).name == track:
        _make_ready(tracks / track)
    known = {path.stem: path for path in sorted((DATA_PREP / "tracks").glob("*.toml"))}
    prepared = set(track_names(tracks)) - known.keys()
    if track in prepared:
        return [Declared(load_track(tracks / track).declaration, tracks / track / "track.toml")]
    if not track.endswith(".toml") and track not in known:
        names = track_names(tracks)
        meant = did_you_mean_file(Path(track), {".toml"}, names)
        there = ", ".join(names)
        raise UsageError(f"no track {track!r}{meant}; there are {there}, or give the file of a declaration: my.toml")
    file = known.get(track, Path(track))
    return [Declared(declaration, file) for declaration in read_declaration(file).siblings]


def is_declared(track: str) -> bool:
    """Whether a track is given by a declaration: its file, or the name of one that comes with the harness."""
    return track.endswith(".toml") or (DATA_PREP / "tracks" / f"{track}.toml").is_file()


def open_track(track: str, tracks: Path) -> Track:
    """Return a prepared track of those below the folder `tracks`; one that ships prepared is unpacked there.

    Raises UsageError if it has to be prepared first, or if a file declares several.
    """
    found = find_tracks(track, tracks)
    if len(found) > 1:
        names = ", ".join(declared.name for declared in found)
        raise UsageError(f"{track} declares the tracks {names}; name one of them: --track {found[0].name}")
    return open_declared(found[0], tracks)


def open_declared(declared: Declared, tracks: Path) -> Track:
    """Return a prepared track, as `open_track` does."""
    folder = tracks / declared.name
    _make_ready(folder, declared.shipped)
    command = declared.command
    if not folder.exists():
        raise UsageError(f"the track {declared.name} is not prepared; run: {command}")
    prepared = load_track(folder)
    if declared.file.parent.resolve() == folder.resolve():  # it was asked for by its name, and is its own declaration
        return prepared
    if not prepared.declaration.is_same_track(declared.declaration):
        raise UsageError(_changed(declared.file, prepared, command))
    _check_files_beside(declared, prepared, command)
    return prepared


def _make_ready(place: Path, shipped: Path | None = None) -> None:
    """Put a track in its place if that takes no preparation: one that ships, or one whose replacement was interrupted.

    Of several processes one does it, and the others wait.
    """
    if not (shipped or is_aside(place)) or place.exists():
        return
    require_writable(place.parent)
    with preparing(place, waits=True):
        if shipped is not None and not place.exists():
            import_track(shipped, place.parent)


def _changed(file: Path, prepared: Track, command: str) -> str:
    return f"{file} has changed since {prepared.name} was prepared; run: {command} --force"


def _check_files_beside(declared: Declared, prepared: Track, command: str) -> None:
    """Raise UsageError unless what a declaration names beside itself is as it was when the track was prepared."""
    for copy in sorted(prepared.public.rglob("*.py")):
        file = declared.file.parent / copy.relative_to(prepared.public)
        if not file.is_file():
            raise UsageError(_gone(file, prepared, f"bring it back: cp {quoted(copy)} {quoted(file)}"))
        if file.read_bytes() != copy.read_bytes():
            raise UsageError(_changed(file, prepared, command))
    listed, split = prepared.declaration.forget.file, prepared.private / "split.npz"
    if listed is None or not split.is_file():
        return
    file = declared.file.parent / listed
    if not file.is_file():
        raise UsageError(_gone(file, prepared, "bring it back"))
    if _numbers(file) != set(read_arrays(split)["forget"].tolist()):
        raise UsageError(_changed(file, prepared, command))


def _numbers(file: Path) -> set[int]:
    """Return the whole numbers in a text file; none if it has anything else."""
    try:
        return {int(word) for word in file.read_text(encoding="utf-8-sig").split()}
    except ValueError:
        return set()


def _gone(file: Path, prepared: Track, remedy: str) -> str:
    return (
        f"{file} is gone since {prepared.name} was prepared; {remedy}, or use the track as it was prepared, by its "
        f"name: --track {prepared.name}"
    )
