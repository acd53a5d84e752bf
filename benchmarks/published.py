"""Published results that ours are compared with.

Jia et al., "Model Sparsity Can Simplify Machine Unlearning" (NeurIPS 2023): CIFAR-10, ResNet-18, means of 10 trials, in
percent. The challenge: scores on Kaggle's two hidden leaderboards, from the authors' write-ups, the organizers' slides
and a third-party digest; None where nothing was published.
"""

from typing import NamedTuple

__all__ = ["CHALLENGE", "COMPARISON", "FINE_TUNING", "TABLE_2", "TABLE_3", "Challenge", "Means", "Printed"]

Means = list[float]  # UA, MIA-Efficacy, RA, TA


class Challenge(NamedTuple):
    """Official scores of a recipe: the best or only one told of."""

    public: float | None
    private: float | None


# Schedule of l1-sparse -> means; 10 % of the images forgotten, dense originals. Retrained as in "random, dense" below.
TABLE_2: dict[str, Means] = {
    "constant": [6.60, 14.64, 96.51, 87.30],
    "growing": [3.80, 8.75, 97.13, 90.63],
    "decaying": [5.35, 12.71, 97.39, 91.26],
}

# Scenario -> means of retrained models, and method -> means with the printed disparity average.
TABLE_3: dict[str, tuple[Means, dict[str, tuple[Means, float]]]] = {
    "class, dense": (
        [100.00, 100.00, 100.00, 94.83],
        {
            "FT": ([22.53, 75.00, 99.87, 94.31], 25.78),
            "GA": ([93.08, 94.03, 92.60, 86.64], 7.12),
            "FF": ([79.93, 100.00, 99.45, 94.18], 5.32),
            "IU": ([87.82, 95.96, 97.98, 91.42], 5.41),
        },
    ),
    "class, sparse": (
        [100.00, 100.00, 99.99, 91.80],
        {
            "FT": ([73.64, 83.02, 99.87, 94.32], 11.50),
            "GA": ([98.09, 97.74, 87.74, 82.58], 6.41),
            "FF": ([94.83, 100.00, 99.48, 94.04], 1.98),
            "IU": ([99.47, 99.93, 97.24, 90.76], 1.10),
        },
    ),
    "random, dense": (
        [5.41, 13.12, 100.00, 94.42],
        {
            "FT": ([6.83, 14.97, 96.61, 90.13], 2.74),
            "GA": ([7.54, 10.04, 93.31, 89.28], 4.26),
            "FF": ([7.84, 9.52, 92.05, 88.10], 5.08),
            "IU": ([2.03, 5.07, 98.26, 91.33], 4.07),
        },
    ),
    "random, sparse": (
        [6.77, 14.17, 100.00, 93.33],
        {
            "FT": ([5.97, 13.36, 96.99, 90.29], 1.92),
            "GA": ([5.62, 11.76, 95.44, 89.26], 3.05),
            "FF": ([8.16, 10.80, 92.29, 87.79], 4.50),
            "IU": ([6.51, 11.93, 94.94, 88.74], 3.04),  # printed as 3.08, which its own gaps do not give
        },
    ),
}

FINE_TUNING = 0.0464  # +- 0.0031 over submissions, public

CHALLENGE = {  # by file
    "finetune": Challenge(FINE_TUNING, None),
    "challenge_1st_contrastive": Challenge(0.091, None),
    "challenge_2nd_gradient_reinit": Challenge(None, None),
    "challenge_3rd_stem_noise": Challenge(0.097, 0.0885),
    "challenge_4th_prune_entropy": Challenge(0.093, 0.0863),
    "challenge_5th_transpose_or_pseudo_labels": Challenge(0.072, 0.0785),
    "challenge_6th_reset_distill": Challenge(0.083, 0.0783),
    "challenge_7th_noise_injection": Challenge(None, None),
    "challenge_8th_reinit_distill": Challenge(0.102, None),
}


class Printed(NamedTuple):
    """A row of the comparison in Mercuri et al., "An Introduction to Machine Unlearning" (arXiv 2209.00939)."""

    efficiency: str  # least, geometric mean and most
    effectiveness: str  # the largest difference of accuracy on the test set, in percent
    consistency: str  # distance of weights, of DeepObliviate agreement in percent
    certificate: str
    compare: str  # whether it can be compared with results on small data


_NOT_SIZE = "order only: their data are larger by orders of magnitude"
BATCH_REMOVAL = "order of m/8 and m; [cats and ships](cat_and_ship.md) one by one"  # how it is compared
COMPARISON = {
    "SISA": Printed("1.36x / 2.49x / 4.63x", "< 2 % (18.76 %)", "exact", "exact", "the work, with its formula"),
    "DaRE, least d_rmax": Printed(
        "10x / 366x / 9735x", "<= 0.5 %", "exact", "exact", "no: 10^4 to 10^7 rows, cached C code"
    ),
    "DaRE, most d_rmax": Printed("145x / 1272x / 35856x", "<= 2.5 %", "exact", "exact", "no, as above"),
    "Fisher, m/8": Printed("1.0x / 3.3x / 36.8x", "0.0 %", "", "0.0 %; 3.3, 33.4 kNATs", BATCH_REMOVAL),
    "Fisher, m": Printed("1.5x / 13.0x / 282.4x", "< 0.2 %", "", "0.26 %", BATCH_REMOVAL),
    "Influence, m/8": Printed("0.3x / 5.9x / 75.7x", "< 0.55 %", "", "0.1 %; (epsilon, delta)", BATCH_REMOVAL),
    "Influence, m": Printed("2.5x / 38.2x / 215.1x", "< 0.57 %", "", "1.1 %; (epsilon, delta)", BATCH_REMOVAL),
    "DeltaGrad": Printed("1.6x / 2.7x / 6.5x", "0.0 %", "1.7e-6 / 1.1e-5 / 1.4e-4", "none", "distances; not speed"),
    "Descent-to-Delete": Printed("rates only", "", "rates only", "(epsilon, delta)", "the rate gamma^I"),
    "DeepObliviate, least epsilon": Printed(
        "6.17x / 13.97x / 45.45x", "< 0.18 %", "97.25 / 98.82 / 99.95", "none", _NOT_SIZE
    ),
    "DeepObliviate, epsilon 0.1": Printed(
        "9.26x / 22.81x / 66.67x", "< 0.35 %", "95.78 / 97.61 / 99.85", "none", _NOT_SIZE
    ),
}
