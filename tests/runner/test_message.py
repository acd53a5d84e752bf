"""What crosses the boundary between the trusted side and a run."""

import numpy as np
import torch

from harness.runner.message import Job, not_finite

SIZES = {"conv.weight": 4, "conv.bias": 1, "fc.weight": 1000, "fc.bias": 2, "bn.bias": 1}


def test_weights_that_are_not_finite_are_counted_by_layer() -> None:
    values = np.zeros(1008)
    assert not_finite(~np.isfinite(values), SIZES) == ""
    values[2] = np.nan
    assert not_finite(~np.isfinite(values), SIZES) == "1 of 1,008 weights is NaN or inf: 1 in conv.weight"
    values[3:] = np.inf
    said = "1,006 of 1,008 weights are NaN or inf: 2 in conv.weight, 1 in conv.bias, 1,000 in fc.weight and 2 more"
    assert not_finite(~torch.from_numpy(values).isfinite(), SIZES) == said


def test_a_job_arrives_as_it_was_sent() -> None:
    seeds = {"torch": 1, "numpy": 2, "random": 3}
    job = Job("x = 1\n", "foo.py", 0, seeds, "cpu", 1, 2.0, ids={"retain": bytes(range(256)), "forget": b""})
    assert Job.from_bytes(job.to_bytes()) == job
    assert b"\n" not in job.to_bytes()
