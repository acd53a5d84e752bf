"""A Dask cluster as an executor: its workers are asked what they are, have the track, and make the runs of a batch.

Whoever reaches a Dask scheduler can run any code on it, on its workers and on its clients, so one is only used over TLS
or on this machine, unless somebody insists.
"""

import ipaddress
import platform
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Self

import harness
from harness.errors import MachineError, UsageError
from harness.leaderboard.batch.backend import RunOptions
from harness.leaderboard.batch.cluster_calls import LOOK_SECONDS, make_calls
from harness.processors import usable_processors
from harness.runner.isolation import Isolation, weakest
from harness.runs.run import RUNNER_VERSION, Run
from harness.runs.run_set import RunSet, Task
from harness.tracks.archive import export_track
from harness.tracks.track import Track

if TYPE_CHECKING:
    from distributed import Client, Future

    from harness.leaderboard.batch.cluster_worker import WorkerReport, WorkerRequest

__all__ = ["Cluster", "check_address"]

CONNECT_SECONDS = 10
INSTALL = 'pip install "unlearning-harness[cluster]"'


def check_address(address: str, *, is_insecure: bool = False) -> None:
    """Raise UsageError for a scheduler that strangers might reach."""
    if is_insecure or _is_safe(address):
        return
    raise UsageError(
        f"{address} is neither tls:// nor on this machine, and whoever reaches an open Dask scheduler can run any code "
        "on its workers and here; use tls:// (docs/organizers.md), or a tunnel to 127.0.0.1, or give --insecure"
    )


def _is_safe(address: str) -> bool:
    scheme, _, place = address.rpartition("://")
    if scheme == "tls":
        return True
    host = place.rpartition(":")[0].strip("[]")
    try:
        is_local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_local = host == "localhost"
    return scheme in ("", "tcp") and is_local


class Cluster:
    """The workers of a scheduler, ready for one batch. Use as a context."""

    def __init__(
        self, address: str, track: Track, options: RunOptions, *, is_insecure: bool, say: Callable[[str], None]
    ) -> None:
        """Connect, and ask every worker what it is; `say` hears, in a sentence, of what somebody has to look after.

        Raises UsageError if there is no such cluster, MachineError if a worker cannot take part.
        """
        check_address(address, is_insecure=is_insecure)
        self._say, self._is_insecure, self._threads = say, is_insecure, track.declaration.limits.threads
        self._asked: dict[str, Future[WorkerReport]] = {}  # that have joined since, and have not answered yet
        self._unfit: set[str] = set()
        self._looked_at = float("-inf")
        self.client = _connect(address)
        try:
            for other in (self.client.scheduler_info(0)["address"], *self.client.nthreads()):
                check_address(other, is_insecure=is_insecure)
            self._request = self._request_of(track, options)
            self.reports = self._reports(track)
            self._check(self.reports)
            self._here: Mapping[str, int] = dict.fromkeys(self.reports, 1)
        except BaseException:
            self.client.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    @property
    def device(self) -> str:
        """What all workers run on."""
        return next(iter(self.reports.values())).device

    @property
    def gpus(self) -> frozenset[str]:
        """Names and drivers of the workers' GPUs."""
        return frozenset(each.gpu for each in self.reports.values() if each.gpu is not None)

    @property
    def isolation(self) -> Isolation:
        """The weakest level of any worker."""
        return Isolation(weakest(each.isolation for each in self.reports.values()), {})

    @property
    def is_one_machine(self) -> bool:
        """Whether all workers are on the same machine."""
        return len({each.machine for each in self.reports.values()}) == 1

    @property
    def free_processors(self) -> int:
        """How many processors of this machine no worker uses."""
        own = platform.node()
        here = [address for address, each in self.reports.items() if each.machine == own]
        threads = self.client.nthreads()
        used: int = sum(threads.get(address, 0) for address in here) * self._threads
        return max(0, int(usable_processors()) - used)

    def failure_counts(self, run: Run) -> bool:
        """Whether a stored failure is one under which some worker would make it again just so."""
        return run.info.dependencies in {each.dependencies for each in self.reports.values()}

    def make(self, wanted: Iterable[tuple[RunSet, Task]]) -> Iterator[tuple[RunSet, Run]]:
        """Yield the runs as workers finish them. A worker's death costs the runs it had: others make them again."""
        from harness.leaderboard.batch.cluster_worker import make_run

        return make_calls(self.client, partial(make_run, self._request), wanted, self._workers)

    def _workers(self) -> Mapping[str, int]:
        """Return the workers that may have runs, with how many each makes at once; meet those that have joined."""
        if time.monotonic() - self._looked_at < LOOK_SECONDS:
            return self._here
        try:
            threads: dict[str, int] = self.client.nthreads()
        except OSError as error:
            raise MachineError(f"the scheduler is gone ({error}); the same command goes on once it is back") from None
        self._meet(threads)
        here = {address: count for address, count in threads.items() if address in self.reports}
        if self._here and not here:
            command = f"dask worker {self.client.scheduler_info(0)['address']} --nthreads 1"
            self._say(f"no worker is left; the batch goes on once there is one: {command}")
        self._here, self._looked_at = here, time.monotonic()
        return here

    def _meet(self, threads: Mapping[str, int]) -> None:
        """Ask workers that have joined what they are, and take those that may have runs; nobody waits for an answer."""
        for address in threads.keys() - self.reports.keys() - self._unfit:
            if address not in self._asked:
                self._asked[address] = self._question(address)
            elif self._asked[address].done():
                self._take(address, self._asked.pop(address))
        for address in self._asked.keys() - threads.keys():
            del self._asked[address]

    def _take(self, address: str, answer: "Future[WorkerReport]") -> None:
        """Let a worker that has answered have runs, or say why not."""
        try:
            check_address(address, is_insecure=self._is_insecure)
            found = answer.result(CONNECT_SECONDS)
            unfit = self._why_unfit(found)
        except Exception as error:  # noqa: BLE001 - whatever it is, it keeps no other worker from going on
            unfit = f"{type(error).__name__}: {error}"
        if unfit is None:
            self.reports[address] = found
            self._say(f"worker {address} on {found.machine} has joined")
        else:
            self._unfit.add(address)
            self._say(f"worker {address} has joined and gets no runs: {unfit}")

    def _why_unfit(self, found: "WorkerReport") -> str | None:
        """Return why a worker that has joined is not like those that were there; None if it is."""
        others = next(iter(self.reports.values()))
        if found.lacks_track:
            return "it lacks the track; bring it there, or let the batch begin again with this worker"
        if (refusal := _refusal(found)) is not None:
            return refusal
        if (found.device, found.gpu in self.gpus) != (others.device, bool(self.gpus)):
            return f"it is on {found.gpu or found.device}, the others on {', '.join(self.gpus) or others.device}"
        if self.is_one_machine and found.machine != others.machine:
            return f"it is on another machine than {others.machine}; learners need one machine for all their models"
        return None

    def _request_of(self, track: Track, options: RunOptions) -> "WorkerRequest":
        from harness.leaderboard.batch.cluster_worker import WorkerRequest, host_of

        threads = self.client.nthreads()
        if not threads:
            address = self.client.scheduler_info(0)["address"]
            raise UsageError(f"the scheduler has no workers; start some: dask worker {address} --nthreads 1")
        loads: Counter[str] = Counter()
        for address, count in threads.items():
            loads[host_of(address)] += count
        assert track.manifest.reference_hash is not None
        return WorkerRequest(
            track.name,
            track.manifest.public_hash,
            track.manifest.reference_hash,
            options.device,
            options.isolation,
            options.required_isolation,
            tuple(sorted(loads.items())),
        )

    def _reports(self, track: Track) -> "dict[str, WorkerReport]":
        """Ask all workers; those that lack the track get it by way of the cluster, each machine once."""
        reports = self._ask(list(self.client.nthreads()))
        if lacking := [address for address, each in reports.items() if each.lacks_track]:
            kept = self.client.scatter(_archived(track), hash=False)
            self.client.publish_dataset(kept, name=self._request.archive, override=True)
            try:
                reports |= self._ask(lacking)
            finally:
                self.client.unpublish_dataset(self._request.archive)
        return reports

    def _ask(self, addresses: list[str]) -> "dict[str, WorkerReport]":
        asked = {address: self._question(address) for address in addresses}
        return {address: future.result() for address, future in asked.items()}

    def _question(self, address: str) -> "Future[WorkerReport]":
        from harness.leaderboard.batch.cluster_worker import report

        return self.client.submit(report, self._request, workers=[address], pure=False)

    def _check(self, reports: "dict[str, WorkerReport]") -> None:
        """Raise MachineError if a worker refuses, is of another version, or is of another kind than the rest."""
        refusals = [
            f"  {address} ({each.machine}): {refusal}"
            for address, each in reports.items()
            if (refusal := _refusal(each)) is not None
        ]
        if refusals:
            raise MachineError("workers cannot take part; repair or stop them:\n" + "\n".join(refusals))
        if len({each.device for each in reports.values()}) > 1:
            kinds = ", ".join(f"{address} {each.device}" for address, each in reports.items())
            raise MachineError(f"scores of one board are of one kind of device, and the workers have several: {kinds}")


def _refusal(found: "WorkerReport") -> str | None:
    """Return why a worker can take part in no batch of this harness; None if it can."""
    ours = (harness.__version__, RUNNER_VERSION)
    if found.versions != ours:
        return f"harness {found.versions[0]}, runner {found.versions[1]}; here {ours[0]}, runner {ours[1]}"
    return found.refusal or None


def _connect(address: str) -> "Client":
    try:
        from distributed import Client
    except ImportError:
        raise UsageError(f"--scheduler needs Dask: {INSTALL}") from None
    try:
        return Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise UsageError(
            f"no scheduler answers at {address} ({error}); docs/organizers.md says how to start one"
        ) from None


def _archived(track: Track) -> bytes:
    """Return all of a track, private part included, as one file."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"{track.name}.track"
        export_track(track, file, private=True)
        return file.read_bytes()
