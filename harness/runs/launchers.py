"""What starts the runs of a track on this machine. It needs nothing of what measures them, and gets ready beside it."""

from harness.runner.launch import launcher
from harness.runner.process import Launcher
from harness.runner.sandbox.sandboxes import Quota
from harness.runs.run import Conditions
from harness.tracks.track import Track

__all__ = ["launcher_for"]


def launcher_for(track: Track, conditions: Conditions) -> Launcher:
    """Return what starts the runs of a track under some conditions; the same for all of this process."""
    limits = track.declaration.limits
    return launcher(
        track.public,
        public_hash=track.manifest.public_hash,
        device=conditions.device,
        log_kb=limits.log_kb,
        isolation=conditions.isolation.level,
        quota=Quota(limits.memory_mb, limits.processes, limits.scratch_mb, conditions.threads),
        fork=conditions.fork,
    )
