"""SISA, DaRE forests and DeepObliviate beside trainings without the forgotten examples, and beside wrong versions."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from harness import models
from harness.loaders import Images, loader
from tests.baselines.baseline_module import load_baseline, load_edited

SISA, FOREST, OBLIVIATE = "learners/sisa", "learners/dare_forest", "learners/deep_obliviate"
SMALL_SISA = {"SHARDS": 3, "SLICES": 3, "EPOCHS": 4}
SMALL_OBLIVIATE = {"BLOCKS": 6, "EPOCHS": 2}
N = 48


class World:
    """Examples of a few classes, a learner, and nets that all start from the same weights."""

    def __init__(self, method: Any, build: Callable[[], nn.Module], values: torch.Tensor, labels: torch.Tensor) -> None:
        self.method, self.net, self.values, self.labels = method, build(), values, labels

    def loader(self, ids: Sequence[int]) -> Any:
        """Return a loader of some examples, in the order in which they are named."""
        chosen = torch.tensor(ids, dtype=torch.long)
        examples = Images(self.values[chosen], self.labels[chosen], chosen)
        return loader(examples, batch_size=8, device=torch.device("cpu"))

    def trained(self, ids: Sequence[int], seed: int = 0) -> tuple[Any, dict[str, torch.Tensor]]:
        """Return what `train` makes of some examples from a seed."""
        torch.manual_seed(seed)
        returned: tuple[Any, dict[str, torch.Tensor]] = self.method.train(
            copy.deepcopy(self.net).train(), self.loader(ids), None
        )
        return returned

    def unlearned(
        self, trained: tuple[Any, dict[str, torch.Tensor]], retain: Sequence[int], forget: Sequence[int]
    ) -> tuple[Any, dict[str, torch.Tensor]]:
        """Return what `unlearn` makes of copies of what was trained."""
        net, state = copy.deepcopy(trained)
        torch.manual_seed(99)  # as a run of another stage has it
        returned: tuple[Any, dict[str, torch.Tensor]] = self.method.unlearn(
            net, self.loader(retain), self.loader(forget), None, state
        )
        return returned

    def is_exact(self, *, n: int, forget: Sequence[int], seed: int = 0) -> bool:
        """Whether forgetting some of n examples gives the nets that training without them does, bit for bit."""
        retain = [one for one in range(n) if one not in forget]
        net, _ = self.unlearned(self.trained(range(n), seed), retain[::-1], forget)
        twin, _ = self.trained(retain, seed)
        return bits(net) == bits(twin)


def bits(model: Any) -> list[bytes]:
    """Return the weights and float buffers of each net of a model."""
    nets = model if isinstance(model, list) else [model]
    return [
        b"".join(value.numpy().tobytes() for value in net.state_dict().values() if value.is_floating_point())
        for net in nets
    ]


def of_images(method: Any) -> World:
    """Return a world of images of three classes."""
    torch.manual_seed(0)
    labels = torch.arange(N) % 3
    images = torch.randn(N, 1, 4, 4) + labels.view(-1, 1, 1, 1)
    return World(method, lambda: models.build("small_resnet", n_classes=3, channels=1, width=2), images, labels)


# ---- SISA ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sisa() -> World:
    """SISA with three shards of three slices."""
    return of_images(load_baseline(SISA, **SMALL_SISA))


@pytest.mark.parametrize("forget", [[5], [47], [0, 1], [3, 14, 15, 9, 26, 35], list(range(24))])
def test_sisa_unlearns_the_nets_that_training_without_the_forgotten_makes(sisa: World, forget: list[int]) -> None:
    assert sisa.is_exact(n=N, forget=forget)


def test_sisa_goes_on_exactly_from_what_it_unlearned(sisa: World) -> None:
    first = sisa.unlearned(sisa.trained(range(N)), range(4, N), range(4))
    second, _ = sisa.unlearned(first, range(8, N), range(4, 8))
    assert bits(second) == bits(sisa.trained(range(8, N))[0])


def test_any_example_that_sisa_forgets_changes_its_shard_and_no_other(sisa: World) -> None:
    nets, state = trained = sisa.trained(range(N))
    shards, _ = sisa.method.places(torch.arange(N), state)
    assert set(shards.tolist()) == {0, 1, 2}
    for forgotten in [*range(0, N, 4), N - 1]:
        without, _ = sisa.unlearned(trained, [one for one in range(N) if one != forgotten], [forgotten])
        changed = [before != after for before, after in zip(bits(nets), bits(without), strict=True)]
        assert changed == [shard == shards[forgotten] for shard in range(3)]


def test_parts_of_a_hash_are_of_like_size_and_stay_when_others_are_taken_away(sisa: World) -> None:
    state, ids = {"seed": torch.tensor(2**62 - 1)}, torch.arange(4000)
    place = sisa.method.parts(ids, 5, state, "shard")
    assert (place.bincount(minlength=5) - 800).abs().max() < 110  # 4 standard deviations are 101
    fewer = torch.randperm(3000)[:1000]
    assert torch.equal(sisa.method.parts(fewer, 5, state, "shard"), place[fewer])
    assert not torch.equal(sisa.method.parts(ids, 5, state, "slice"), place)
    assert not torch.equal(sisa.method.parts(ids, 5, {"seed": torch.tensor(0)}, "shard"), place)


@pytest.mark.parametrize(("epochs", "slices"), [(20, 1), (20, 4), (80, 4), (7, 5), (9, 16)])
def test_each_stage_of_sisa_has_epochs_that_come_to_the_passes_asked_for(epochs: int, slices: int) -> None:
    method = load_baseline(SISA, EPOCHS=epochs, SLICES=slices)
    stages = [method.epochs(stage) for stage in range(slices)]
    assert min(stages) >= 1
    passes = sum(n * (stage + 1) / slices for stage, n in enumerate(stages))
    assert abs(passes - epochs) < 1


def test_a_stage_of_sisa_without_an_epoch_is_an_error() -> None:
    world = of_images(load_baseline(SISA, **SMALL_SISA | {"EPOCHS": 1}))
    with pytest.raises(ValueError, match="no epoch is left for stage 0 of 3: set EPOCHS to more than 1"):
        world.trained(range(N))


WRONG_SISA = {
    "parts by position": (
        "(n_parts * torch.from_numpy(drawn)[ids]).long()",
        "n_parts * torch.arange(len(ids)) // len(ids)",
    ),
    "from the last slice that is hit": ("first = int(hit.min())", "first = int(hit.max())"),
}


@pytest.mark.parametrize(("old", "new"), WRONG_SISA.values(), ids=WRONG_SISA)
def test_a_wrong_sisa_is_not_exact(old: str, new: str) -> None:
    world = of_images(load_edited(SISA, old, new, **SMALL_SISA))
    assert not world.is_exact(n=N, forget=[3, 14, 15, 9, 26, 35])


# ---- DaRE forests -------------------------------------------------------------------------------------------------

N_POINTS = 40
WRONG_FOREST = {
    "random state is shared": (
        "attributes = np.argsort(hashed(*self.key, node, np.arange(values.shape[1])))",
        'random = self.__dict__.setdefault("random", np.random.default_rng(self.key))\n'
        "        attributes = random.permutation(values.shape[1])",
    ),
    "a threshold stays while it splits": (
        "    split = tree.choose_split(node, values, labels)\n    if split is None or split != tree.split(node):",
        "    split = tree.choose_split(node, values, labels)\n"
        "    if split and 0 < (values[:, tree.split(node)[0]] <= tree.split(node)[1]).mean() < 1:\n"
        "        split = tree.split(node)\n"
        "    if split is None or split != tree.split(node):",
    ),
}


def of_points(method: Any, *, n: int = N_POINTS, n_classes: int = 3, trees: int = 3, depth: int = 5) -> World:
    """Return a world of points of four attributes, with eight values each."""
    generator = torch.Generator().manual_seed(1)
    values = torch.randint(8, (n, 4, 1, 1), generator=generator) / 8
    noise = 0.7 * torch.randn(n, generator=generator)
    labels = (n_classes * (values[:, 0, 0, 0] + values[:, 1, 0, 0] + noise).sigmoid()).long()

    def build() -> nn.Module:
        return models.build(
            "forest", n_classes=n_classes, channels=4, options={"inputs": 4, "trees": trees, "depth": depth}
        )

    return World(method, build, values, labels)


@pytest.mark.parametrize("n_classes", [2, 5])
@pytest.mark.parametrize("levels", [0, 2, 5])
def test_a_forest_without_any_one_example_is_the_one_that_is_grown_without_it(levels: int, n_classes: int) -> None:
    forest = of_points(load_baseline(FOREST, RANDOM_LEVELS=levels, THRESHOLDS=2), n_classes=n_classes)
    trained = forest.trained(range(N_POINTS))
    changed = 0
    for forgotten in range(N_POINTS):
        retain = [one for one in range(N_POINTS) if one != forgotten]
        without, _ = forest.unlearned(trained, retain, [forgotten])
        assert bits(without) == bits(forest.trained(retain)[0])
        changed += not torch.equal(without.feature, trained[0].feature)
    assert changed  # else nothing was ever grown again


@pytest.mark.parametrize("levels", [0, 3])
@pytest.mark.parametrize("seed", range(4))
def test_a_forest_unlearns_several_at_once_and_one_after_the_other_in_any_order(levels: int, seed: int) -> None:
    forest = of_points(load_baseline(FOREST, RANDOM_LEVELS=levels, THRESHOLDS=3))
    forget = np.random.default_rng(seed).permutation(N_POINTS)[:30].tolist()
    retain = [one for one in range(N_POINTS) if one not in forget]
    wanted = bits(forest.trained(retain, seed)[0])
    trained = forest.trained(range(N_POINTS), seed)
    assert bits(forest.unlearned(trained, retain, forget)[0]) == wanted
    for order in (forget, forget[::-1]):
        unlearned = trained
        for place, one in enumerate(order):
            unlearned = forest.unlearned(unlearned, [*retain, *order[place + 1 :]], [one])
        assert bits(unlearned[0]) == wanted


def test_another_seed_grows_another_forest() -> None:
    forest = of_points(load_baseline(FOREST))
    assert bits(forest.trained(range(N_POINTS), 0)[0]) != bits(forest.trained(range(N_POINTS), 1)[0])


def four_points(method: Any) -> World:
    """Return a world of one attribute: 0 and 1/4 are of the first class, 2/4 and 3/4 of the second."""
    build = lambda: models.build("forest", n_classes=2, channels=1, options={"inputs": 1, "trees": 1, "depth": 2})  # noqa: E731
    return World(method, build, torch.arange(4).view(4, 1, 1, 1) / 4, torch.tensor([0, 0, 1, 1]))


@pytest.mark.parametrize("seed", range(3))
def test_a_threshold_goes_with_the_example_below_it(seed: int) -> None:
    """Where the source's code keeps it."""
    forest = four_points(load_baseline(FOREST))
    net, _ = trained = forest.trained(range(4), seed)
    assert net.threshold[0, 0] == 1.5 / 4
    assert net(torch.full((1, 1, 1, 1), 1.2 / 4)).argmax() == 0
    net, _ = forest.unlearned(trained, [0, 2, 3], [1])
    assert net.threshold[0, 0] == 1 / 4
    assert net(torch.full((1, 1, 1, 1), 1.2 / 4)).argmax() == 1
    assert bits(net) == bits(forest.trained([0, 2, 3], seed)[0])


@pytest.mark.parametrize(("old", "new"), WRONG_FOREST.values(), ids=WRONG_FOREST)
def test_a_wrong_forest_is_not_the_one_that_is_grown_again(old: str, new: str) -> None:
    forest = of_points(load_edited(FOREST, old, new, THRESHOLDS=2))
    assert not forest.is_exact(n=N_POINTS, forget=list(range(10)))


def test_a_wrong_forest_keeps_the_threshold_of_the_four_points() -> None:
    forest = four_points(load_edited(FOREST, *WRONG_FOREST["a threshold stays while it splits"]))
    net, _ = forest.unlearned(forest.trained(range(4)), [0, 2, 3], [1])
    assert net.threshold[0, 0] == 1.5 / 4


def test_a_forest_chooses_the_split_that_a_loop_finds_the_best() -> None:
    """All attributes and all thresholds, so that nothing is left to chance."""
    forest = of_points(load_baseline(FOREST, THRESHOLDS=100), trees=1)
    tree = forest.method.trees(forest.net, 0)[0]
    values, labels = forest.values.flatten(1).numpy(), forest.labels.numpy()
    found = []
    for attribute in range(4):
        for low, high in zip(range(7), range(1, 8), strict=True):
            near = labels[np.isin(values[:, attribute], (low / 8, high / 8))]
            below = values[:, attribute] <= low / 8
            sides = [np.bincount(labels[side]) / side.sum() for side in (below, ~below)]
            impurity = [1 - np.sum(side**2) for side in sides]
            if len(set(near.tolist())) > 1:
                found.append((np.average(impurity, weights=[below.mean(), 1 - below.mean()]), attribute, low, high))
    best = min(found)
    for node in range(3):  # of the upper levels
        chosen = [
            tree.choose_greedily(node, order, values, labels)
            for order in ([*range(4), *range(4)] * 2, [3, 2, 1, 0] * 4)
        ]
        assert chosen == [(best[1], np.float32((best[2] + best[3]) / 16))] * 2


def test_a_random_threshold_is_uniform_between_the_values_of_a_random_attribute() -> None:
    forest = of_points(load_baseline(FOREST, RANDOM_LEVELS=1), trees=400, depth=1)
    forest.values = forest.values * 0.5 + 0.25  # from 1/4 to 11/16
    net, _ = forest.trained(range(N_POINTS))
    assert np.abs(np.bincount(net.feature[:, 0].long(), minlength=4) - 100).max() < 35
    place = (net.threshold[:, 0] - 1 / 4) / (7 / 16)
    assert 0 <= place.min() < 0.02
    assert 0.98 < place.max() < 1
    assert abs(place.mean() - 0.5) < 4 / (12 * 400) ** 0.5


def test_random_thresholds_ask_for_the_range_of_inputs() -> None:
    forest = of_points(load_baseline(FOREST, RANDOM_LEVELS=1))
    forest.values = forest.values * 2
    with pytest.raises(ValueError, match="set LOWEST and HIGHEST"):
        forest.trained(range(N_POINTS))


def largest_z(forest: World, *, keys: int, queries: torch.Tensor) -> float:
    """Return by how many standard errors mean predictions after forgetting differ at most from those after retraining.

    The keys of the ones are other keys than those of the others.
    """
    n = len(forest.values)
    forget, retain = range(n // 5), range(n // 5, n)
    unlearned = [forest.unlearned(forest.trained(range(n), seed), retain, forget)[0] for seed in range(keys)]
    retrained = [forest.trained(retain, seed)[0] for seed in range(keys, 2 * keys)]
    with torch.no_grad():
        first, second = (
            torch.stack([net(queries).exp()[:, 0] for net in nets]).double() for nets in (unlearned, retrained)
        )
    error = ((first.var(0) + second.var(0)) / keys).sqrt()
    return float(((first.mean(0) - second.mean(0)).abs() / error.clamp(min=1e-9)).max())


@pytest.mark.long
def test_forests_that_unlearned_are_distributed_as_forests_that_never_saw_the_forgotten() -> None:
    queries = torch.rand(200, 4, 1, 1, generator=torch.Generator().manual_seed(2))
    settings: dict[str, Any] = {"n": 120, "n_classes": 2, "trees": 5, "depth": 4}
    assert largest_z(of_points(load_baseline(FOREST, THRESHOLDS=3), **settings), keys=300, queries=queries) < 4
    edit = WRONG_FOREST["a threshold stays while it splits"]
    assert largest_z(of_points(load_edited(FOREST, *edit, THRESHOLDS=3), **settings), keys=300, queries=queries) > 4


# ---- DeepObliviate ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("forget", [[5], [47], [0, 1, 2], list(range(24))])
def test_without_an_epsilon_all_later_blocks_are_trained_again(forget: list[int]) -> None:
    assert of_images(load_baseline(OBLIVIATE, EPSILON=0, **SMALL_OBLIVIATE)).is_exact(n=N, forget=forget)


WRONG_OBLIVIATE = {
    "after the block that is hit": ("state[name][first]", "state[name][first + 1]"),
    "momentum is not put back": (
        "for name, vector in vectors.items():",
        'for name, vector in [("parameters", vectors["parameters"])]:',
    ),
}


@pytest.mark.parametrize(("old", "new"), WRONG_OBLIVIATE.values(), ids=WRONG_OBLIVIATE)
def test_a_wrong_start_is_not_exact(old: str, new: str) -> None:
    world = of_images(load_edited(OBLIVIATE, old, new, EPSILON=0, **SMALL_OBLIVIATE))
    assert not world.is_exact(n=N, forget=[4])


def test_training_stops_three_blocks_from_the_last_that_is_hit_and_what_follows_is_stitched_on() -> None:
    world = of_images(load_baseline(OBLIVIATE, EPSILON=1e9, **SMALL_OBLIVIATE))
    trained = world.trained(range(N))
    before = trained[1]["parameters"]
    block_of = world.method.parts(torch.arange(N), 6, int(trained[1]["seed"]), "block")
    forget = [int(torch.where(block_of == block)[0][0]) for block in (1, 2)]
    net, state = world.unlearned(trained, [one for one in range(N) if one not in forget], forget)
    after = state["parameters"]
    is_trained_again = [not torch.equal(old, new) for old, new in zip(before, after, strict=True)]
    assert is_trained_again == [False, False, True, True, True, True, True]  # the last of them: stitched
    assert torch.equal(after[6], before[6] + (after[5] - before[5]))
    assert torch.equal(nn.utils.parameters_to_vector(net.parameters()), after[6])
    buffers = [buffer.flatten() for buffer in net.buffers() if buffer.is_floating_point()]
    assert torch.equal(torch.cat(buffers), trained[1]["buffers"][6])


@pytest.mark.parametrize("block", range(4))
def test_if_nothing_is_forgotten_stitching_gives_the_last_net_exactly(block: int) -> None:
    nets = torch.randn(5, 1000)
    right = load_baseline(OBLIVIATE, BLOCKS=4)
    assert torch.equal(right.stitched(nets, nets, block), nets[4])
    wrong = load_edited(OBLIVIATE, "after[block + 1] - before[block + 1]", "after[block] - before[block + 1]", BLOCKS=4)
    assert torch.equal(wrong.stitched(nets, nets, block), nets[4]) == (block == 3)


def test_the_residual_memory_is_the_distance_of_what_a_block_changed() -> None:
    before, after = torch.tensor([[1.0, 1.0], [2.0, 4.0]]), torch.tensor([[0.0, 0.0], [3.0, -1.0]])
    assert load_baseline(OBLIVIATE).residual_memory(before, after, 0) == 2 + 4  # 1, 3 before, and 3, -1


@pytest.mark.parametrize(("a", "alpha", "b"), [(3.0, 0.7, 0.2), (50.0, 1.5, 4.0), (0.1, 3.0, -2.0), (-2.0, 0.3, 1.0)])
def test_a_power_law_is_found_again(a: float, alpha: float, b: float) -> None:
    method = load_baseline(OBLIVIATE)
    values = [a * x**-alpha + b for x in range(1, 13)]
    assert method.fit(values, alpha) == pytest.approx([a, b], abs=1e-6)
    assert method.fitted_alpha(values) == pytest.approx(alpha, abs=1e-6)
    assert method.fit(values, method.fitted_alpha(values)) == pytest.approx([a, b], abs=1e-6)
    assert method.slope(values) == pytest.approx(-a * alpha * 12 ** (-alpha - 1), abs=1e-6)


def test_the_fluctuations_of_noise_and_of_its_sum_have_the_exponents_they_are_known_to_have() -> None:
    method, noise = load_baseline(OBLIVIATE), np.random.default_rng(0).standard_normal(20_000)
    assert method.dfa_exponent(noise) == pytest.approx(0.5, abs=0.1)
    assert method.dfa_exponent(np.cumsum(noise)) == pytest.approx(1.5, abs=0.1)


def test_the_slope_has_the_exponent_of_fluctuations_once_there_are_enough_values() -> None:
    method, values = load_baseline(OBLIVIATE), [5 + 3 / x + np.sin(x) / 9 for x in range(1, 16)]
    alpha = method.dfa_exponent(values)
    assert method.slope(values) == -method.fit(values, alpha)[0] * alpha * 15 ** (-alpha - 1)
    assert method.slope(values[:14]) != -method.fit(values[:14], alpha)[0] * alpha * 14 ** (-alpha - 1)
    assert method.slope([0.0] * 14) == method.slope([0.0] * 20) == 0  # nothing is left
