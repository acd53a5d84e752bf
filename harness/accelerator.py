"""The device that runs, trainings and measurements use: all that differs between a CPU and a GPU, in one place.

`of("cuda")` returns it. Torch is imported where it is needed, since many commands have no use for it.
`fake` is for tests alone: it computes on the CPU and takes every branch that a GPU takes. What it pretends stands as
JSON in HARNESS_FAKE_GPU, by the names of `Fake`'s settings.
"""

import contextlib
import copy
import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from harness import cuda_driver
from harness.errors import UsageError
from harness.processors import usable_processors

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

__all__ = [
    "FAKE_VARIABLE",
    "Accelerator",
    "has_code_for",
    "is_out_of_memory",
    "of",
    "resolve",
    "to_device",
    "why_no_gpu",
]

FAKE_VARIABLE = "HARNESS_FAKE_GPU"
TRAININGS_ON_A_GPU = 4  # at once on each: one small network alone leaves most of a GPU idle
CAPTURE_STEPS = 3  # before a capture: libraries choose algorithms and make workspaces in their first calls
WARM_UP_STEPS = 2  # the first one allocates the momentum, the second one does not
# Not every shortage of memory is a torch.OutOfMemoryError: libraries report theirs by name.
OUT_OF_MEMORY = (
    "can't allocate memory",
    "unable to allocate shared memory",
    "out of shared memory",
    "CUDA out of memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUSOLVER_STATUS_ALLOC_FAILED",
    "CUFFT_ALLOC_FAILED",
)
# NVIDIA's device nodes. nvidia-uvm-tools: drivers from 570 on open it. nvidia-caps: parts of a divided GPU.
NODES = ("/dev/nvidiactl", "/dev/nvidia[0-9]*", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", "/dev/nvidia-caps/*")


class Accelerator:
    """The CPU: it has no memory of its own, and nothing done on it has to be waited for."""

    kind = "cpu"
    is_gpu = False
    is_mixed = False  # whether trainings gain from bfloat16
    node_patterns: tuple[str, ...] = ()  # of the device nodes that a run needs
    has_driver = False  # one to initialise

    @property
    def identity(self) -> str | None:
        """Name and driver of the GPU; what was measured or run on one says nothing of another. None on a CPU."""
        return None

    def names(self) -> list[str]:
        """Return the name of each GPU."""
        return []

    def device(self) -> "torch.device":
        """Return the device that tensors are on."""
        import torch

        return torch.device("cpu")

    def cards(self) -> int:
        """Return how many there are."""
        return 1

    def choose_card(self, card: int) -> None:
        """Let this process use the card of that number from now on."""

    def memory(self) -> tuple[int, int] | None:
        """Return the bytes of memory of its own that are free, and of how many; None if it has none."""
        return None

    def release(self) -> None:
        """Give memory that is kept for later back to the driver."""

    def synchronize(self) -> None:
        """Wait until all that was asked of it is done."""

    def seed(self, seed: int) -> None:
        """Seed torch's random streams."""
        import torch

        torch.default_generator.manual_seed(seed)  # torch.manual_seed takes 2 ms for devices that are not there

    @contextlib.contextmanager
    def seeded(self, seed: int) -> Iterator[None]:
        """Let what draws from torch's random streams depend on the seed alone, and leave them as they were."""
        import torch

        with torch.random.fork_rng(devices=[]):
            self.seed(seed)
            yield

    @contextlib.contextmanager
    def exact(self) -> Iterator[None]:
        """Compute in full float32, and the same way each time; afterwards as before."""
        yield

    def prepare_training(self) -> None:
        """Set how this process computes while it trains."""

    def warm_up(self, net: "nn.Module", images: "Tensor", labels: "Tensor") -> None:
        """Pay what the first training steps and outputs of such a net take once in a process; the net stays as it is.

        images (n, channels, height, width), labels (n,).
        """

    def capture(self, step: Callable[[], None]) -> Callable[[], None] | None:
        """Return what repeats a step over the same tensors without its overhead; None if there is no such thing here.

        The step is made several times on the way. Raises RuntimeError if it cannot be captured.
        """
        return None

    def default_jobs(self, threads: int) -> int:
        """Return how many runs at once, of so many threads each."""
        return max(1, int(usable_processors() / threads))

    def default_trainings(self) -> int:
        """Return how many trainings at once when a track is prepared, of one thread each."""
        return max(1, int(usable_processors()))


class _Gpu(Accelerator):
    """What holds of every GPU."""

    is_gpu = True

    def default_jobs(self, threads: int) -> int:
        return 1

    def default_trainings(self) -> int:
        return min(super().default_trainings(), TRAININGS_ON_A_GPU * self.cards())


class Cuda(_Gpu):
    """A GPU of NVIDIA's."""

    kind = "cuda"
    is_mixed = True
    node_patterns = NODES
    has_driver = True
    _computes_exactly = threading.Lock()  # the switches are the process's

    @property
    def identity(self) -> str | None:
        import torch

        return f"{torch.cuda.get_device_name()}, driver {cuda_driver.version()}"

    def names(self) -> list[str]:
        import torch

        return [torch.cuda.get_device_name(card) for card in range(self.cards())]

    def device(self) -> "torch.device":
        import torch

        return torch.device("cuda")

    def cards(self) -> int:
        import torch

        return max(1, torch.cuda.device_count())

    def choose_card(self, card: int) -> None:
        import torch

        if not torch.cuda.is_initialized():  # else it keeps the one it has, with all that lies on it
            torch.cuda.set_device(card)

    def memory(self) -> tuple[int, int] | None:
        import torch

        return torch.cuda.mem_get_info()

    def release(self) -> None:
        import torch

        torch.cuda.empty_cache()

    def synchronize(self) -> None:
        import torch

        torch.cuda.synchronize()

    def seed(self, seed: int) -> None:
        import torch

        torch.manual_seed(seed)

    @contextlib.contextmanager
    def seeded(self, seed: int) -> Iterator[None]:
        import torch

        with torch.random.fork_rng(devices=[torch.cuda.current_device()]):
            self.seed(seed)
            yield

    @contextlib.contextmanager
    def exact(self) -> Iterator[None]:
        import torch

        convolutions, products = torch.backends.cudnn, torch.backends.cuda.matmul
        with self._computes_exactly:
            before = convolutions.allow_tf32, products.allow_tf32, convolutions.benchmark, convolutions.deterministic
            convolutions.allow_tf32 = products.allow_tf32 = convolutions.benchmark = False
            convolutions.deterministic = True
            try:
                yield
            finally:
                convolutions.allow_tf32, products.allow_tf32 = before[:2]
                convolutions.benchmark, convolutions.deterministic = before[2:]

    def prepare_training(self) -> None:
        import torch

        # Convolutions in TF32 and products in float32: torch's own choice, under which participants train.
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = True, False
        torch.backends.cudnn.benchmark = True  # all batches but the last of an epoch have one shape

    def warm_up(self, net: "nn.Module", images: "Tensor", labels: "Tensor") -> None:
        _train_a_copy(net, images, labels)
        self.synchronize()

    def capture(self, step: Callable[[], None]) -> Callable[[], None] | None:
        import torch

        before, side, graph = torch.cuda.current_stream(), torch.cuda.Stream(), torch.cuda.CUDAGraph()
        side.wait_stream(before)
        with torch.cuda.stream(side):
            for _ in range(CAPTURE_STEPS):
                step()
        before.wait_stream(side)
        try:
            with torch.cuda.graph(graph):
                step()
        except RuntimeError:  # a capture that was broken off leaves its own stream behind
            torch.cuda.set_stream(before)
            raise
        return graph.replay


class Fake(_Gpu):
    """A GPU that is pretended, for tests."""

    kind = "fake"

    def __init__(self) -> None:
        settings = json.loads(os.environ.get(FAKE_VARIABLE) or "{}")
        self.node_patterns = (settings["nodes"],) if "nodes" in settings else ()  # device nodes, as a pattern
        self.has_driver = settings.get("driver", False)  # a libcuda.so.1 to initialise
        self.context_seconds: float = settings.get("context_seconds", 0.0)
        self.free_mb: int = settings.get("free_mb", 80_000)  # of 80,000
        self.shortages: int = settings.get("shortages", 0)  # how often the harness finds no memory
        self.name: str = settings.get("name", "fake GPU")
        self.n_cards: int = settings.get("cards", 1)
        self.waits = 0  # how often something waited for it

    @property
    def identity(self) -> str | None:
        return f"{self.name}, driver 0"

    def names(self) -> list[str]:
        return [self.name] * self.cards()

    def cards(self) -> int:
        return self.n_cards

    def memory(self) -> tuple[int, int] | None:
        return self.free_mb << 20, 80_000 << 20

    def synchronize(self) -> None:
        self.waits += 1

    @contextlib.contextmanager
    def exact(self) -> Iterator[None]:
        import torch

        if self.shortages > 0:
            self.shortages -= 1
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.00 GiB")
        yield

    def warm_up(self, net: "nn.Module", images: "Tensor", labels: "Tensor") -> None:
        reason = cuda_driver.initialise() if self.has_driver else None
        if reason is not None:
            raise RuntimeError(reason)
        time.sleep(self.context_seconds)
        _train_a_copy(net, images, labels)
        self.synchronize()

    def capture(self, step: Callable[[], None]) -> Callable[[], None] | None:
        for _ in range(CAPTURE_STEPS):
            step()
        return step


_kinds: dict[str, Callable[[], Accelerator]] = {"cpu": Accelerator, "cuda": Cuda, "fake": Fake}


def of(kind: str) -> Accelerator:
    """Return the accelerator of a kind: cpu, cuda, or the tests' fake."""
    return _kinds[kind]()


def resolve(requested: str, announce: Callable[[str], None] = lambda sentence: None, *, is_name: bool = False) -> str:
    """Return the kind of device for what was asked for: auto, cpu or cuda.

    announce: hears, in a sentence, why `auto` leaves a GPU unused. is_name: whether nothing is to be computed on it, as
    where runs are stored already; else UsageError is raised if there is no such device here.
    """
    if is_name and requested != "auto":
        return requested
    if requested in ("cpu", "fake") or (requested == "auto" and not cuda_driver.is_present()):
        return "cpu" if requested == "auto" else requested
    reason = why_no_gpu()
    if reason is None:
        return "cuda"
    if requested == "cuda":
        raise UsageError(f"no GPU can be used here: {reason}. Or use --device cpu")
    announce(f"the GPU is not used: {reason}")
    return "cpu"


def why_no_gpu() -> str | None:
    """Return why this process cannot compute on a GPU, and what to do about it; None if it can."""
    import torch

    if torch.version.cuda is None:
        return f"torch {torch.__version__} is built without CUDA; install a build with it"
    if not os.path.exists(cuda_driver.NODE) and os.path.exists(cuda_driver.WSL_NODE):
        return "runs are not made on GPUs of the Windows Subsystem for Linux; use Linux itself"
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if (reason := cuda_driver.initialise()) is not None:
        hint = f" (CUDA_VISIBLE_DEVICES is {visible!r})" if visible is not None else ""
        return reason + hint
    built_for = tuple(map(int, torch.version.cuda.split(".")[:2]))
    supported = cuda_driver.supported_cuda()
    if supported is not None and supported[0] < built_for[0]:
        return (
            f"the driver supports CUDA {supported[0]}.{supported[1]} and this torch needs {torch.version.cuda}; "
            "install a newer driver, or a torch built for an older CUDA"
        )
    if not torch.cuda.is_available():
        return f"torch finds none, though the driver answers (CUDA_VISIBLE_DEVICES is {visible!r})"
    capability = torch.cuda.get_device_capability()
    if not has_code_for(torch.cuda.get_arch_list(), capability):
        number = "".join(map(str, capability))
        return (
            f"the {torch.cuda.get_device_name()} is of architecture sm_{number}, for which this torch has no code "
            f"({', '.join(torch.cuda.get_arch_list())}); install a torch that has"
        )
    return None


def has_code_for(architectures: Iterable[str], capability: tuple[int, int]) -> bool:
    """Whether a torch with code for these architectures, such as sm_90, runs on a GPU of this compute capability."""
    for architecture in architectures:
        form, _, number = architecture.rstrip("abcdef").partition("_")
        built = divmod(int(number), 10)
        if (form == "sm" and built[0] == capability[0] and built <= capability) or (
            form == "compute" and built <= capability  # the driver compiles it for newer ones
        ):
            return True
    return False


def is_out_of_memory(error: BaseException, text: str | None = None) -> bool:
    """Whether an error says that memory was short, the processor's or a GPU's; text: what it says, if known."""
    import torch

    said = str(error) if text is None else text
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(words in said for words in OUT_OF_MEMORY)


def to_device(tensor: "Tensor", device: "torch.device") -> "Tensor":
    """Return a tensor on a device. Where it is copied to a GPU, nothing waits for what the GPU still has to do."""
    if device.type == "cuda" and not tensor.is_cuda:
        tensor = tensor.pin_memory()  # from other memory the copy would wait, whatever is asked for
    return tensor.to(device, non_blocking=True)


def _train_a_copy(net: "nn.Module", images: "Tensor", labels: "Tensor") -> None:
    """Train a copy of a net for a few steps, and let it compute outputs as well."""
    import torch

    net = copy.deepcopy(net)
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9, weight_decay=5e-4)
    net.train(len(labels) > 1)  # BatchNorm needs two
    for _ in range(WARM_UP_STEPS):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(images), labels).backward()
        optimizer.step()
    with torch.no_grad():
        net.eval()(images)
