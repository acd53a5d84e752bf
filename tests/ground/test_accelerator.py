"""Which device is used, and what is said where a GPU cannot be; the driver and torch are pretended."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import Result

from harness import accelerator, cuda_driver
from harness.accelerator import has_code_for, is_out_of_memory, of, resolve
from harness.runner import isolation
from harness.runner.isolation import ProbeResult

Machine = dict[str, Any]

# A machine on which all is well: what the driver and torch answer there.
WELL: Machine = {
    "version.cuda": "12.8",
    "driver.initialise": 0,
    "driver.supported_cuda": (12, 8),
    "cuda.is_available": True,
    "cuda.get_device_capability": (9, 0),
    "cuda.get_arch_list": ["sm_80", "sm_90"],
    "cuda.get_device_name": "NVIDIA H100",
    "visible": None,
}
# What is otherwise on a machine with a fault, and the start of the sentence it gets.
FAULTS: dict[str, tuple[Machine, str]] = {
    "no driver": (
        {"driver.initialise": None},
        "there is no NVIDIA driver (libcuda.so.1 is not found); install one, in a container start it with --gpus all",
    ),
    "torch for the CPU": ({"version.cuda": None}, f"torch {torch.__version__} is built without CUDA; install a build"),
    "a driver that is too old": (
        {"driver.supported_cuda": (11, 4)},
        "the driver supports CUDA 11.4 and this torch needs 12.8; install a newer driver, or a torch built for",
    ),
    "an old card": (
        {"cuda.get_device_capability": (6, 1)},
        "the NVIDIA H100 is of architecture sm_61, for which this torch has no code (sm_80, sm_90); install a torch",
    ),
    "no card visible": (
        {"driver.initialise": 100, "visible": ""},
        "cuInit: 100, CUDA_ERROR_NO_DEVICE: no GPU is visible; check CUDA_VISIBLE_DEVICES and the device nodes "
        "(CUDA_VISIBLE_DEVICES is '')",
    ),
    "a card that is not there": (
        {"driver.initialise": 101, "visible": "7"},
        "cuInit: 101, CUDA_ERROR_INVALID_DEVICE: CUDA_VISIBLE_DEVICES names a GPU that is not there "
        "(CUDA_VISIBLE_DEVICES is '7')",
    ),
    "library and module of two drivers": (
        {"driver.initialise": 803},
        "cuInit: 803, CUDA_ERROR_SYSTEM_DRIVER_MISMATCH: library and kernel module differ; reboot",
    ),
    "a code of a later driver": ({"driver.initialise": 12345}, "cuInit: 12345, see CUresult in cuda.h"),
    "torch at odds with the driver": (
        {"cuda.is_available": False},
        "torch finds none, though the driver answers (CUDA_VISIBLE_DEVICES is None)",
    ),
}


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> Callable[[Machine], None]:
    """pretend(differences) makes this a machine with a GPU, well but for some answers."""

    def call(differences: Machine) -> None:
        said = WELL | differences
        monkeypatch.setattr(cuda_driver, "is_present", lambda: True)
        monkeypatch.setattr(cuda_driver, "WSL_NODE", "/nowhere")
        monkeypatch.setattr(cuda_driver, "initialisation_code", lambda: said["driver.initialise"])
        monkeypatch.setattr(cuda_driver, "supported_cuda", lambda: said["driver.supported_cuda"])
        monkeypatch.setattr(torch.version, "cuda", said["version.cuda"])
        for name in ("is_available", "get_device_capability", "get_arch_list", "get_device_name"):
            monkeypatch.setattr(torch.cuda, name, lambda *_, answer=said[f"cuda.{name}"]: answer)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if said["visible"] is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", said["visible"])

    return call


def test_a_gpu_that_works_is_used(pretend: Callable[[Machine], None]) -> None:
    pretend({})
    said: list[str] = []
    assert (resolve("auto", said.append), resolve("cuda", said.append), resolve("cpu", said.append)) == (
        "cuda",
        "cuda",
        "cpu",
    )
    assert said == []


def test_without_any_sign_of_a_gpu_auto_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_driver, "is_present", lambda: False)
    monkeypatch.setattr(accelerator, "why_no_gpu", pytest.fail)
    assert resolve("auto", pytest.fail) == "cpu"


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_has_a_sentence(
    fault: str,
    pretend: Callable[[Machine], None],
    harness: Callable[..., Result],
    submission: Callable[[str], Path],
    tiny_file: Path,
) -> None:
    differences, sentence = FAULTS[fault]
    pretend(differences)
    said: list[str] = []
    assert resolve("auto", said.append) == "cpu"
    assert len(said) == 1
    assert said[0].startswith(f"the GPU is not used: {sentence}")
    result = harness("evaluate", submission("def unlearn(*_): pass"), "--track", tiny_file, "--device", "cuda")
    assert result.exit_code == 2
    last = result.output.splitlines()[-1]
    assert last.startswith(f"Error: no GPU can be used here: {sentence}")
    assert last.endswith(". Or use --device cpu")


def test_auto_says_why_and_runs_on_the_processor(
    pretend: Callable[[Machine], None],
    harness: Callable[..., Result],
    submission: Callable[[str], Path],
    tiny_file: Path,
) -> None:
    pretend({"driver.initialise": 999})
    result = harness("evaluate", submission("def unlearn(*_): pass"), "--track", tiny_file, "--runs", 1)
    assert result.exit_code == 0, result.output
    assert result.output.startswith("the GPU is not used: cuInit: 999, CUDA_ERROR_UNKNOWN: the kernel log says more")


def test_doctor_looks_at_the_isolation_of_the_gpu_or_says_why_there_is_none(
    pretend: Callable[[Machine], None], harness: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend({"driver.initialise": None})
    assert "GPU          none: there is no NVIDIA driver" in harness("doctor").output
    pretend({})
    levels = {"full": "cuInit: 304", "userns": None, "syscall": "cuInit: 304"}
    monkeypatch.setattr(isolation, "offered", lambda device: ProbeResult({}, levels if device == "cuda" else {}))
    said = harness("doctor").output
    assert "GPU          NVIDIA H100" in said
    assert "CUDA 12.8; torch is built for CUDA 12.8" in said
    assert "  cuInit     works at userns, none; fails (cuInit: 304) at full, syscall" in said
    assert "isolation    userns" in said
    monkeypatch.setattr(isolation, "offered", lambda device: ProbeResult({}, {}, "cuInit: 802"))
    assert "  cuInit     fails at every level: cuInit: 802" in harness("doctor").output


def test_a_gpu_of_the_windows_subsystem_is_told_so(
    pretend: Callable[[Machine], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pretend({})
    monkeypatch.setattr(cuda_driver, "NODE", "/nowhere")
    monkeypatch.setattr(cuda_driver, "WSL_NODE", str(tmp_path))
    said: list[str] = []
    assert resolve("auto", said.append) == "cpu"
    assert "Windows Subsystem for Linux" in said[0]


@pytest.mark.parametrize(
    ("architectures", "capability", "expected"),
    [
        (["sm_80", "sm_90"], (9, 0), True),
        (["sm_80", "sm_86"], (8, 9), True),  # code of the same generation, of an older card
        (["sm_86"], (8, 0), False),  # of a newer one
        (["sm_80", "sm_90"], (10, 0), False),  # of another generation
        (["sm_80", "compute_90"], (12, 0), True),  # text that the driver compiles
        (["compute_90"], (8, 0), False),
        (["sm_90a"], (9, 0), True),
        (["sm_100", "sm_120"], (12, 0), True),
        ([], (9, 0), False),
    ],
)
def test_code_for_a_card(architectures: Iterable[str], capability: tuple[int, int], expected: bool) -> None:
    assert has_code_for(architectures, capability) == expected


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"), True),
        (RuntimeError("unable to allocate shared memory(shm) for file </torch_3>: No space left on device (28)"), True),
        (RuntimeError("worker (pid 3) is killed by signal: Bus error. ... workers are out of shared memory."), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (ValueError("shapes differ"), False),
    ],
)
def test_shortage_of_memory_is_told_from_other_errors(error: BaseException, expected: bool) -> None:
    assert is_out_of_memory(error) == expected


def test_the_names_of_gpus_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(accelerator.FAKE_VARIABLE, '{"name": "T4", "cards": 2}')
    assert (of("cpu").names(), of("fake").names()) == ([], ["T4", "T4"])
