"""A user's own copy of the data that a pack was made from."""

from pathlib import Path

from data_prep.datasets import is_path, load_dataset, place_of
from harness.errors import UsageError
from harness.quoting import quoted
from harness.tracks.pack import OtherDataError
from harness.tracks.track import Examples, Track
from harness.tracks.tuning_track import preparing_command, tuned_for

__all__ = ["own_data"]


def own_data(track: Track, *, folder: Path, cache: Path, data: Path | None = None) -> Examples:
    """Return all examples of the source that a track's declaration names.

    folder: where a relative path starts. cache: where downloads are kept. data: a folder that has the data already; it
    holds a source that is a path under the last name of that path.
    Raises UsageError if they are not there or unfit, OtherDataError if the classes have other names than in the track.
    """
    declared = track.declaration.data
    source = declared.source
    if is_path(source) and not place_of(source, folder=folder, copy=data).exists():
        remedy = "name the folder that it is in: --data FOLDER"
        if tuned_for(track.declaration) is not None:  # made of those of another track
            remedy = f"run: {preparing_command(track.declaration)} --import FILE"
        name, looked_in = (source, folder) if data is None else (Path(source).name, data)
        raise UsageError(
            f"the images of {track.name} are those of {quoted(Path(name))}, which is not in {looked_in.absolute()}; "
            f"{remedy}"
        )
    dataset = load_dataset(
        source,
        folder=folder,
        cache=cache,
        copy=data,
        downscale=declared.downscale,
        label=declared.label,
        categorical=declared.categorical,
    )
    here, there = dataset.class_names, track.manifest.class_names
    if here is not None and there is not None and list(here) != there:
        raise OtherDataError(f"the classes are called {', '.join(here)} here and {', '.join(there)} in the pack")
    return dataset.examples
