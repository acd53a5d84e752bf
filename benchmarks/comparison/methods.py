"""The rows of the comparison: learners of baselines/learners/ at some constants, and two methods that keep nothing."""

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from benchmarks.baseline_module import baseline_module
from benchmarks.comparison.measure import Method
from benchmarks.comparison.problems import PROBLEMS, REQUESTS
from benchmarks.pages import ROOT

__all__ = ["METHODS", "Listed"]


@dataclass(frozen=True)
class Listed:
    """A row: a file with some of its constants set, what is said of it, and the row that is printed of it."""

    file: str
    families: tuple[str, ...]  # of problems it is made for
    kind: str  # of unlearning: exact or approximate, in weights (strong) or outputs (weak)
    applies_to: str
    certificate: str = "none"
    printed: str = ""
    constants: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def source(self) -> str:
        """A hash of its file, constants, problems and requests; how these are measured is not in it."""
        asked = [(PROBLEMS[family], REQUESTS[family]) for family in self.families]
        content = (ROOT / "baselines" / f"{self.file}.py").read_bytes()
        return hashlib.sha256(content + repr((self.constants, asked)).encode()).hexdigest()[:12]

    def loaded(self) -> Method:
        """Return the file as a method. One without `train` starts from a model of the track's recipe."""
        module = baseline_module(self.file, self.constants)
        if self.is_learner:
            return Method(module.unlearn, module.train)
        return Method(lambda net, retain, forget, val, state: module.unlearn(net, retain, forget, val))

    @property
    def is_learner(self) -> bool:
        return self.file.startswith("learners/")


NETS, TREES, LINEAR = ("nets",), ("trees",), ("convex",)  # families of problems
CONVEX, SMOOTH = "strongly convex losses", "strongly convex, smooth losses"
FISHER, INFLUENCE = ("learners/fisher_removal", "learners/influence_removal")
EPSILON_DELTA = "claimed (epsilon, delta)"
LARGEST = {"N_LEFT": 256}  # what the largest request leaves of the smaller training set: certificates count on it

METHODS = {
    "sisa": Listed("learners/sisa", NETS, "exact, strong", "any net", printed="SISA"),
    "deep_obliviate, epsilon 0.01": Listed(
        "learners/deep_obliviate",
        NETS,
        "approximate, strong",
        "any net",
        printed="DeepObliviate, least epsilon",
        constants={"EPSILON": 0.01},
    ),
    "deep_obliviate, epsilon 0.1": Listed(
        "learners/deep_obliviate",
        NETS,
        "approximate, strong",
        "any net",
        printed="DeepObliviate, epsilon 0.1",
    ),
    "dare_forest, RANDOM_LEVELS 0": Listed(
        "learners/dare_forest", TREES, "exact, strong", "trees", printed="DaRE, least d_rmax"
    ),
    "dare_forest, RANDOM_LEVELS 4": Listed(
        "learners/dare_forest",
        TREES,
        "exact, strong",
        "trees",
        printed="DaRE, most d_rmax",
        constants={"RANDOM_LEVELS": 4, "LOWEST": -2.0, "HIGHEST": 2.0},
    ),
    "fisher_removal, m/8": Listed(FISHER, LINEAR, "approximate, strong", "linear models", printed="Fisher, m/8"),
    "fisher_removal, m": Listed(
        FISHER, LINEAR, "approximate, strong", "linear models", printed="Fisher, m", constants={"BATCHES": 1}
    ),
    "influence_removal, m/8": Listed(INFLUENCE, LINEAR, "approximate, weak", "linear models", printed="Influence, m/8"),
    "influence_removal, m": Listed(
        INFLUENCE, LINEAR, "approximate, weak", "linear models", printed="Influence, m", constants={"BATCHES": 1}
    ),
    "deltagrad, T0 5": Listed("learners/deltagrad", LINEAR, "approximate, strong", SMOOTH, printed="DeltaGrad"),
    "deltagrad, T0 50": Listed(
        "learners/deltagrad", LINEAR, "approximate, strong", SMOOTH, printed="DeltaGrad", constants={"PERIOD": 50}
    ),
    "descent_to_delete, 25 steps": Listed(
        "learners/descent_to_delete",
        LINEAR,
        "approximate, strong",
        SMOOTH,
        EPSILON_DELTA,
        "Descent-to-Delete",
        LARGEST,
    ),
    "descent_to_delete, 5 steps": Listed(
        "learners/descent_to_delete",
        LINEAR,
        "approximate, strong",
        SMOOTH,
        EPSILON_DELTA,
        "Descent-to-Delete",
        {"STEPS": 5, **LARGEST},
    ),
    "certified_removal": Listed("learners/certified_removal", LINEAR, "approximate, weak", CONVEX, EPSILON_DELTA),
    "sekhari_newton": Listed(
        "learners/sekhari_newton",
        LINEAR,
        "approximate, weak",
        CONVEX,
        EPSILON_DELTA,
        constants={**LARGEST, "CAPACITY": 96},  # a fifth of 480
    ),
    "fine-tuning": Listed("finetune", LINEAR + NETS, "no guarantee", "any net"),
    "nothing": Listed("identity", LINEAR + NETS, "no guarantee", "all"),
}
