"""What a worker of a cluster does: has the track ready, times a training on its machine, and makes runs.

A worker knows a track by its hashes. It looks below its own HARNESS_HOME, which may be a folder it shares with others,
and where the track is not there it fetches it once from the cluster and keeps it. What is private of a track stays in
the worker's own process and folder, as it does on one machine: a run's sandbox never sees it.
"""

import platform
import tempfile
import threading
from dataclasses import dataclass, replace
from pathlib import Path

from distributed import get_client, get_worker

import harness
from harness.accelerator import of, resolve
from harness.environment import home
from harness.errors import MachineError
from harness.locks import locked
from harness.runner import isolation as isolations
from harness.runs.conditions import conditions_here
from harness.runs.local import Runner
from harness.runs.run import RUNNER_VERSION, Run
from harness.runs.run_set import Task
from harness.tracks.archive import import_track
from harness.tracks.track import Track, load_track

__all__ = ["WorkerReport", "WorkerRequest", "host_of", "make_run", "report"]


@dataclass(frozen=True)
class WorkerRequest:
    """What a batch asks of every worker."""

    track: str
    public_hash: str
    reference_hash: str
    device: str  # auto, cpu, cuda
    isolation: str
    required_isolation: str | None
    loads: tuple[tuple[str, int], ...]  # runs at once by host, over all workers that are there

    @property
    def archive(self) -> str:
        """The name under which the cluster keeps the track for workers that lack it."""
        return f"{self.track}-{self.public_hash[:12]}-{self.reference_hash[:12]}"


@dataclass(frozen=True)
class WorkerReport:
    """What a worker says of itself."""

    machine: str
    versions: tuple[str, str]
    device: str = ""
    gpu: str | None = None
    isolation: str = ""
    limit_seconds: float = 0.0
    dependencies: str = ""  # of its conditions
    lacks_track: bool = False
    refusal: str = ""  # why it cannot take part


def report(request: WorkerRequest) -> WorkerReport:
    """Get ready for a batch, and say how that went."""
    myself = WorkerReport(platform.node(), (harness.__version__, RUNNER_VERSION))
    try:
        runner = _runner(request)
    except _TrackMissingError:
        return replace(myself, lacks_track=True)
    except Exception as error:  # noqa: BLE001 - whatever keeps it from taking part is told where the batch was begun
        return replace(myself, refusal=f"{type(error).__name__}: {error}")
    under = runner.conditions
    return replace(
        myself,
        device=under.device,
        gpu=under.gpu,
        isolation=runner.launcher.isolation,
        limit_seconds=runner.limit.seconds,
        dependencies=under.dependencies,
    )


def make_run(request: WorkerRequest, task: Task) -> Run:
    """Make one run."""
    return _runner(request).run(task)


class _TrackMissingError(MachineError):
    """The track is neither here nor on the cluster."""


_lock = threading.Lock()
_runners: dict[WorkerRequest, Runner] = {}


def _runner(request: WorkerRequest) -> Runner:
    """Return what makes the runs of a batch in this process; the first of its threads makes it."""
    with _lock:
        runner = _runners.get(request)
        if runner is None or runner.launcher.is_closed:
            _runners[request] = runner = _prepared(request)
        return runner


def _prepared(request: WorkerRequest) -> Runner:
    track = _track(request)
    kind = resolve(request.device)
    found = isolations.choose(request.isolation, request.required_isolation, device=kind)
    own_threads = get_worker().state.nthreads
    is_gpu = of(kind).is_gpu
    if is_gpu and own_threads > 1:
        raise MachineError("a worker on a GPU makes one run at a time: start one with --nthreads 1 for each GPU")
    load = own_threads if is_gpu else dict(request.loads).get(host_of(get_worker().address), own_threads)
    conditions = conditions_here(track, home(), device=kind, isolation=found, jobs=load)
    return Runner(track, conditions)


def host_of(address: str) -> str:
    """Return the host of a worker's address, such as tcp://10.0.0.5:8786."""
    return address.rpartition("://")[2].rpartition(":")[0]


def _track(request: WorkerRequest) -> Track:
    """Return the track from HARNESS_HOME, or from the cluster."""
    fetched = _folder() / request.archive
    with locked(_folder() / f"{request.archive}.lock"):
        for folder in (home() / "tracks" / request.track, fetched / request.track):
            if folder.is_dir() and (track := _matching(folder, request)) is not None:
                return track
        _fetch(request, fetched)
        track = _matching(fetched / request.track, request)
    if track is None:
        raise MachineError(f"the track {request.archive} that the cluster keeps is another one")
    return track


def _matching(folder: Path, request: WorkerRequest) -> Track | None:
    """Return the track in a folder if it is whole and the one that is asked for."""
    try:
        track = load_track(folder)
    except MachineError:
        return None
    hashes = (track.manifest.public_hash, track.manifest.reference_hash)
    return track if hashes == (request.public_hash, request.reference_hash) else None


def _fetch(request: WorkerRequest, folder: Path) -> None:
    """Unpack the track that the cluster keeps below a folder. Raises _TrackMissingError if it keeps none."""
    client = get_client()
    if request.archive not in client.list_datasets():
        raise _TrackMissingError(f"the track {request.track} is not below {home()}, and the cluster does not keep it")
    content: bytes = client.get_dataset(request.archive).result()
    with tempfile.NamedTemporaryFile(dir=_folder(), suffix=".track") as file:
        file.write(content)
        file.flush()
        import_track(Path(file.name), folder, may_replace=True)


def _folder() -> Path:
    folder = home() / "fetched"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # it holds references
    return folder
