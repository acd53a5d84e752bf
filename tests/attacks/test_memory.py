"""What a run finds in its own memory: its job and the public data, nothing of the harness."""

import json
import os
import sys
from collections.abc import Callable

import numpy as np

from harness.loaders import to_inputs
from harness.tracks.track import Track
from tests.attacks.attempts import Found, each_level

Make = Callable[..., Found]


def is_in_own_memory(halves: dict[str, list[str]]) -> dict[str, bool]:
    """Return which byte strings, given as two halves in hex so as not to be found themselves, are in own memory."""
    found = dict.fromkeys(halves, False)
    with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", 0) as memory:
        for line in maps.read().splitlines():
            first, last = (int(end, 16) for end in line.split()[0].split("-"))
            if line.split()[1][:2] != "rw":
                continue
            memory.seek(first)
            while first < last and (piece := memory.read(min(1 << 24, last - first))):
                first += len(piece)
                for name, (left, right) in halves.items():
                    place = piece.find(bytes.fromhex(left))
                    while place >= 0 and not found[name]:
                        after = place + len(left) // 2
                        found[name] = piece[after : after + len(right) // 2] == bytes.fromhex(right)
                        place = piece.find(bytes.fromhex(left), place + 1)
    return found


def halves_of(content: bytes) -> list[str]:
    """Return two halves of a byte string in hex."""
    return [content[: len(content) // 2].hex(), content[len(content) // 2 :].hex()]


def inputs_of(track: Track, name: str) -> bytes:
    """Return the middle of the first image of a set, as a net sees it."""
    with np.load(track.examples_file(name)) as arrays:
        images = arrays["images"][:1]
    task = json.loads((track.public / "task.json").read_text())
    inputs = to_inputs(images, scale=task["scale"], mean=task["mean"], std=task["std"])
    return inputs.numpy().tobytes()[80:160]


@each_level
def test_the_memory_of_a_run_holds_no_secret_and_no_test_image(
    make: Make, attacked: Track, canary: str, level: str
) -> None:
    needles = {"canary": canary.encode(), "test": inputs_of(attacked, "test"), "retain": inputs_of(attacked, "retain")}
    halves = {name: halves_of(content) for name, content in needles.items()}
    assert make(is_in_own_memory, level=level, halves=halves).value == {"canary": False, "test": False, "retain": True}
    assert is_in_own_memory({"canary": halves["canary"]}) == {"canary": True}  # that of the harness does


def look_around() -> dict[str, object]:
    """Return what the frames below hold, which modules are loaded, and what the process was started with."""
    frame = sys._getframe()
    local: dict[str, str] = {}
    while frame is not None:
        local |= {f"{frame.f_code.co_name}.{name}": repr(value)[:10_000] for name, value in frame.f_locals.items()}
        frame = frame.f_back  # type: ignore[assignment]
    modules = sorted(name for name in sys.modules if name.split(".")[0] in ("harness", "data_prep"))
    return {"local": local, "modules": modules, "environment": dict(os.environ), "arguments": sys.argv}


INSIDE = {"accelerator", "contract", "cuda_driver", "errors", "loaders", "models", "processors", "runner", "statements"}
INSIDE_RUNNER = {"inside", "message", "sandbox"}
ENVIRONMENT = {
    *("PATH", "LANG", "LD_LIBRARY_PATH", "HOME", "TMPDIR", "USER", "PYTHONHASHSEED", "CUDA_VISIBLE_DEVICES"),
    *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "PYTORCH_NVML_BASED_CUDA_CHECK"),
    *("XDG_CACHE_HOME", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "CUDA_CACHE_PATH"),
    "UNLEARN_TIME_LIMIT_SECONDS",
}


@each_level
def test_what_a_run_can_reach_from_its_frames_is_its_own(make: Make, attacked: Track, canary: str, level: str) -> None:
    seen = make(look_around, level=level).value
    assert {name.split(".")[1] for name in seen["modules"] if "." in name} <= INSIDE
    assert {name.split(".")[2] for name in seen["modules"] if name.startswith("harness.runner.")} <= INSIDE_RUNNER
    text = json.dumps(seen)
    for secret in (canary, attacked.secret.hex(), str(attacked.private), "code_hash"):
        assert secret not in text
    job = seen["local"]["_run.job"]
    assert "index" not in job
    own = {name for name in seen["environment"] if not name.startswith(("KMP_", "TORCHINDUCTOR_"))}
    assert own <= ENVIRONMENT
