"""What to do about exceptions whose own text does not say: those that come of where a run is made."""

__all__ = ["hint"]

# What texts have in common, and what to do.
HINTS = (
    (
        (
            *("Torch not compiled with", "Found no NVIDIA driver", "No CUDA GPUs are available", "No HIP GPUs"),
            *("no CUDA-capable device is detected", "invalid device ordinal", "Invalid device id"),
            *("deserialize object on a CUDA device", "deserialize object on CUDA device", "dummy base class"),
            *("only supported with GPUs", "CUDA driver initialization failed", "CUDA driver version is insufficient"),
            *("CUDA unknown error", "accelerator device when none is available", "reset_peak_memory_stats"),
            *("not linked with support for mps", "MPS backend"),
        ),
        "take the device from the net: device = next(net.parameters()).device",
    ),
    (
        ("re-initialize CUDA in forked subprocess",),
        "workers of a loader have no GPU: let them serve CPU tensors, and move each batch to the net's device",
    ),
    (
        ("tensors to be on the same device", "(torch.FloatTensor) and weight type (torch.cuda.FloatTensor)"),
        "a loader of your own serves CPU tensors: move each batch to next(net.parameters()).device",
    ),
    (
        ("attribute should not be set after DataLoader",),
        "make a loader of your own: DataLoader(retain_loader.dataset, batch_size=256, shuffle=True)",
    ),
    (
        tuple(f"'{kind}' object has no attribute" for kind in ("DataLoader", "Subset", "ConcatDataset")),
        "the data are retain_loader.dataset.inputs and retain_loader.dataset.labels",
    ),
    (
        ("'Batch' object has no attribute",),
        "a batch is a pair: images, labels = batch",
    ),
    (
        ("optimizer got an empty parameter list",),
        "there is nothing to train among what it was given; a forest has no parameters, its arrays are buffers",
    ),
    (
        ("failed to un-serialize",),
        'a new interpreter cannot import this file: use joblib.Parallel(..., backend="multiprocessing") or threads',
    ),
    (
        ("could not get source code",),
        "the source of the net cannot be read in a run: use torch.compile, or torch.jit.trace",
    ),
    (
        ("SystemExit: 2",),
        "a run has no command line: give every argument a default",
    ),
    (
        ("FileNotFoundError", "No such file or directory"),
        "a run sees no files of yours: compute what is in there, or write it as a constant",
    ),
    (
        ("Read-only file system", "Permission denied", "Parent directory"),
        "a run may write to its current folder, which is HOME and TMPDIR as well",
    ),
    (
        ("IProgress not found",),
        "a run is no notebook: from tqdm import tqdm",
    ),
    (
        (
            *("urlopen error", "Name or service not known", "name resolution", "ddress family not supported"),
            *("no internet connection", "Cannot resolve 127.0.0.1"),
        ),
        "a run has no network: no downloads, no process groups",
    ),
)


def hint(text: str) -> str | None:
    """Return what to do about an exception with this text; None if nothing more is known."""
    return next((said for phrases, said in HINTS if any(phrase in text for phrase in phrases)), None)
