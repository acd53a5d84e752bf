"""What a process pays on a GPU before it trains at full speed, and when it ends: outside a run's clock, or on it.

python -m benchmarks.gpu.first_kernels DEVICE GB      one measured process that ends with so much memory taken
"""

import json
import os
import subprocess
import sys
import time
from typing import Any

from benchmarks.gpu.steps import Row, Task

__all__ = ["times"]

BATCH = {"cuda": 128, "cpu": 16}
UPLOAD_MB = {"cuda": 491, "cpu": 16}  # the training images of CIFAR-10, in float32
TAKEN_GB = {"cuda": (0, 40), "cpu": (0,)}  # when the process ends
ROOM = 2  # how many times what is taken has to be free
STEPS = ("first step", "second step", "third step")  # the first of a run are on its clock
HOLD = (
    "import time; from harness.accelerator import of; import torch; device = of({device!r}).device(); "
    "kept = torch.ones(1, device=device); print('up', flush=True); time.sleep(3600)"
)


def times(task: Task) -> None:
    """Say the ms of one process after another, alone and beside a process that keeps the GPU up."""
    task.say(beside="nothing", **_measured(task, 0))
    command = [sys.executable, "-c", HOLD.format(device=task.device)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        try:
            for gb in TAKEN_GB[task.device]:
                task.say(beside="a process that keeps the GPU up", **_measured(task, gb))
        finally:
            holder.kill()


def _measured(task: Task, gb: int) -> Row:
    """Return what one process measured, and the ms it took to end. Raises RuntimeError if it fails."""
    command = [sys.executable, "-m", __name__, task.device, str(gb)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    ended = time.time()
    if done.returncode != 0:
        raise RuntimeError("a process with a few steps failed; the log says why")
    found: Row = json.loads(done.stdout)
    return found | {"teardown ms": round(1000 * (ended - found.pop("exit at")))}


class _Laps:
    """Milliseconds between calls, by name."""

    def __init__(self) -> None:
        self.found: dict[str, Any] = {}
        self._last = time.perf_counter()

    def __call__(self, name: str) -> None:
        self.found[f"{name} ms"] = round(1000 * (time.perf_counter() - self._last))
        self._last = time.perf_counter()

    def restart(self) -> None:
        self._last = time.perf_counter()


def _process(kind: str, gb: int) -> None:
    """Measure this process, and end it as a run ends."""
    lap = _Laps()
    import torch

    from harness import models
    from harness.accelerator import of

    lap("import")
    accelerator = of(kind)
    device = accelerator.device()
    torch.ones(1, device=device)
    accelerator.synchronize()
    lap("context")
    net = models.build("resnet18", n_classes=10, channels=3).to(device).train()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    images = torch.randn(BATCH[kind], 3, 32, 32, device=device)
    labels = torch.zeros(BATCH[kind], dtype=torch.int64, device=device)
    accelerator.synchronize()
    lap("net and batch")
    for name in STEPS:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(images), labels).backward()
        optimizer.step()
        accelerator.synchronize()
        lap(name)
    inputs = torch.ones(UPLOAD_MB[kind] << 18)
    lap.restart()
    inputs = inputs.to(device)
    accelerator.synchronize()
    lap(f"upload of {UPLOAD_MB[kind]} MB")
    kept = _taken(accelerator.memory(), gb, device)
    accelerator.synchronize()
    found = {**lap.found, "taken gb": 0 if kept is None else gb, "exit at": time.time()}
    print(json.dumps(found), flush=True)
    os._exit(0)  # as a run ends


def _taken(memory: tuple[int, int] | None, gb: int, device: Any) -> Any:
    """Return a tensor of so many GB, None where there is not that much."""
    import torch

    if not gb or memory is None or memory[0] < ROOM * gb << 30:
        return None
    return torch.ones(gb << 28, device=device)


if __name__ == "__main__":
    _process(sys.argv[1], int(sys.argv[2]))
