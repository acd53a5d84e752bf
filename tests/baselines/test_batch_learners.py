"""Fisher removal, Influence removal and DeltaGrad against retraining, closed forms and variants that are wrong."""

import copy
from collections import deque
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector

from harness import models
from harness.loaders import Images, loader
from tests.baselines.baseline_module import load_baseline, load_edited

FISHER, INFLUENCE, DELTAGRAD = (f"learners/{name}" for name in ("fisher_removal", "influence_removal", "deltagrad"))
N, N_FORGET, CLASSES, PIXELS = 90, 19, 3, 5


def images(n: int = N) -> Images:
    """Return examples of PIXELS values whose labels depend on them."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(n, 1, PIXELS, 1, generator=generator)
    noise = torch.randn(n, CLASSES, generator=generator)
    return Images(inputs, (inputs.flatten(1)[:, :CLASSES] + noise).argmax(dim=1), torch.arange(n))


def part(examples: Images, rows: Tensor) -> Any:
    """Return a loader of some examples; of none there is no DataLoader that shuffles."""
    chosen = Images(examples.inputs[rows], examples.labels[rows], examples.ids[rows])
    if len(rows) == 0:
        return SimpleNamespace(dataset=chosen)
    return loader(chosen, batch_size=16, device=torch.device("cpu"))


def loaders(examples: Images, forget: Tensor | None = None) -> tuple[Any, Any, Any]:
    """Return loaders of the training set, of the retain set and of the forget set."""
    gone = torch.arange(0, 4 * N_FORGET, 4) if forget is None else forget
    kept = torch.ones(len(examples), dtype=torch.bool)
    kept[gone] = False
    # The order of the retain set says nothing, as in a track.
    return (
        part(examples, torch.arange(len(examples))),
        part(examples, kept.nonzero()[:, 0].flip(0)),
        part(examples, gone),
    )


def linear() -> nn.Module:
    torch.manual_seed(0)
    return models.build("linear", n_classes=CLASSES, channels=1, options={"inputs": PIXELS})


def distance(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm())


# ---- Fisher and Influence -----------------------------------------------------------------------------------------

Data = tuple[Tensor, Tensor]


def sets(method: Any) -> tuple[Data, Data, Data]:
    """Return the training set, the retain set and the forget set as the two methods have them."""
    whole, retain, forget = (method.examples(linear(), each) for each in loaders(images()))
    return whole, retain, forget


def optimum(method: Any, data: Data) -> Tensor:
    """Return the weights where a method's gradient is zero, by Newton's method."""
    weights = torch.zeros(CLASSES, PIXELS + 1, dtype=torch.float64)
    for _ in range(30):
        step = torch.linalg.solve(method.hessian(weights, data), method.gradient(weights, data).flatten())
        weights = weights - step.view_as(weights)
    assert method.gradient(weights, data).abs().max() < 1e-10
    return weights


def make_quadratic(method: Any) -> Any:
    """Give a method the loss of least squares: the sum of (w'x - one-hot)^2 / 2, and the same penalty."""

    def gradient(weights: Tensor, data: Data) -> Tensor:
        features, labels = data
        errors = features @ weights.T - nn.functional.one_hot(labels, CLASSES)
        found: Tensor = errors.T @ features + method.LAMBDA * len(labels) * weights
        return found

    def hessian(weights: Tensor, data: Data) -> Tensor:
        features, labels = data
        squares = features.T @ features + method.LAMBDA * len(labels) * torch.eye(PIXELS + 1, dtype=torch.float64)
        found: Tensor = torch.block_diag(*[squares] * len(weights))
        return found

    method.gradient, method.hessian = gradient, hessian
    return method


@pytest.mark.parametrize("name", [FISHER, INFLUENCE])
@pytest.mark.parametrize("batches", [1, 8, N_FORGET])
def test_on_a_quadratic_loss_removal_is_retraining(name: str, batches: int) -> None:
    method = make_quadratic(load_baseline(name, SIGMA=0, BATCHES=batches))
    whole, retain, forget = sets(method)
    retrained = optimum(method, retain)
    assert distance(optimum(method, whole), retrained) > 0.01
    assert distance(method.removed(optimum(method, whole), retain, forget), retrained) < 1e-12


# What the two methods must not do: (the method, its text, the text of a wrong variant).
WRONG = [
    (FISHER, "weights - solution", "weights + solution"),
    (FISHER, "solution(curvature, gradient(weights, remaining))", "solution(curvature, gradient(weights, forget))"),
    (FISHER, "stop = min(start + size, n_forget)", "stop = start + size"),  # a bug of the public code
    (FISHER, "LAMBDA * len(labels) * weights", "LAMBDA * weights"),
    (INFLUENCE, "weights + solution", "weights - solution"),
    (INFLUENCE, "gradient(weights, batch)", "gradient(weights, remaining)"),
    (INFLUENCE, "stop = min(start + size, n_forget)", "stop = start + size"),
    (INFLUENCE, "solution(hessian(weights, remaining)", "solution(hessian(weights, forget)"),
    (INFLUENCE, "LAMBDA * len(labels) * weights", "LAMBDA * weights"),
]


def is_retraining(method: Any) -> bool:
    """Whether a method ends nearer to the optimum of the retain set than one step of the whole forget set is."""
    right = load_baseline(FISHER, LAMBDA=0.1)
    whole, retain, forget = sets(right)
    start, retrained = optimum(right, whole), optimum(right, retain)
    one_step = start + right.solution(right.hessian(start, retain), right.gradient(start, forget))
    return distance(method.removed(start, retain, forget), retrained) <= distance(one_step, retrained)


@pytest.mark.parametrize("name", [FISHER, INFLUENCE])
def test_small_batches_end_nearer_to_the_retrained_optimum(name: str) -> None:
    method = load_baseline(name, SIGMA=0, LAMBDA=0.1)
    whole, retain, forget = sets(method)
    start, retrained = optimum(method, whole), optimum(method, retain)
    distances = []
    for batches in (1, 8):
        method.BATCHES = batches
        distances.append(distance(method.removed(start, retain, forget), retrained))
    assert distances[1] < distances[0] < 0.5 * distance(start, retrained)
    if name == FISHER:  # corrects what earlier steps left undone
        assert distances[1] < 0.1 * distances[0]
    assert is_retraining(method)


@pytest.mark.parametrize(("name", "old", "new"), WRONG)
def test_a_wrong_variant_does_not_end_there(name: str, old: str, new: str) -> None:
    assert not is_retraining(load_edited(name, old, new, SIGMA=0, LAMBDA=0.1))


@pytest.mark.parametrize("name", [FISHER, INFLUENCE])
def test_gradient_and_hessian_are_those_of_the_loss(name: str) -> None:
    method = load_baseline(name)
    data, _, _ = sets(method)
    weights = torch.randn(CLASSES, PIXELS + 1, dtype=torch.float64)

    def loss(vector: Tensor) -> Tensor:
        logits = data[0] @ vector.view_as(weights).T
        penalty: Tensor = method.LAMBDA * len(data[1]) / 2 * vector.square().sum()
        return nn.functional.cross_entropy(logits, data[1], reduction="sum") + penalty

    vector = weights.flatten()
    gradient, hessian = torch.func.grad(loss)(vector), torch.autograd.functional.hessian(loss, vector)
    torch.testing.assert_close(method.gradient(weights, data).flatten(), gradient, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(method.hessian(weights, data), hessian, rtol=1e-10, atol=1e-10)
    wrong = load_edited(name, "same_class - products", "same_class + products")
    assert distance(wrong.hessian(weights, data), hessian) > 1


@pytest.mark.parametrize("name", [FISHER, INFLUENCE])
def test_every_forgotten_example_leaves_once_and_no_retained_one_does(name: str) -> None:
    for batches, sizes in ((1, [19]), (8, [2] * 9 + [1]), (100, [1] * 19)):
        method = load_baseline(name, BATCHES=batches)
        _, retain, forget = sets(method)
        steps = list(method.leaving(retain, forget))
        assert [len(batch[1]) for _, batch in steps] == sizes
        assert torch.equal(torch.cat([batch[0] for _, batch in steps]), forget[0])
        assert [len(remaining[1]) for remaining, _ in steps] == [N - sum(sizes[: i + 1]) for i in range(len(sizes))]
        assert all(torch.equal(one, other) for one, other in zip(steps[-1][0], retain, strict=True))


def test_fisher_noise_has_the_covariance_of_the_inverse_root_and_is_drawn_anew() -> None:
    fisher = load_baseline(FISHER, SIGMA=0.5)
    curvature = torch.diag(torch.tensor([16.0, 81.0], dtype=torch.float64))
    curvature[0, 1] = curvature[1, 0] = 7.0
    weights = torch.zeros(1, 2, dtype=torch.float64)
    torch.manual_seed(0)
    drawn = torch.cat([fisher.noise(curvature, weights) for _ in range(20_000)])
    covariance = drawn.T @ drawn / len(drawn)
    values, vectors = torch.linalg.eigh(curvature)
    expected = 0.25 * vectors @ torch.diag(values**-0.5) @ vectors.T
    torch.testing.assert_close(covariance, expected, rtol=0.05, atol=1e-3)
    other = load_edited(FISHER, "values**-0.25", "values**-1", SIGMA=0.5)  # the slide's formula
    assert other.noise(curvature, weights).norm() < 0.5 * expected.diag().sum().sqrt()
    assert not torch.equal(drawn[0], drawn[1])


def test_fisher_publishes_with_noise_on_both_sides_and_corrects_an_original_that_had_not_converged() -> None:
    fisher, influence = load_baseline(FISHER, SIGMA=0), load_baseline(INFLUENCE, SIGMA=0)
    whole, retain, forget = sets(fisher)
    retrained = optimum(fisher, retain)
    start = optimum(fisher, whole) + 0.1
    assert distance(fisher.removed(start, retain, forget), retrained) < 0.01
    assert distance(influence.removed(start, retain, forget), retrained) > 0.1

    noisy = load_baseline(FISHER, SIGMA=0.1)
    ends = []
    for seed in (1, 2):
        net = linear()
        torch.manual_seed(seed)
        original = noisy.weights_of(noisy.train(net, part(images(), torch.arange(N)), None))
        ends.append((original, noisy.removed(original, retain, forget)))
    for one, other in zip(*ends, strict=True):
        assert 0.05 < distance(one, other) < 2


@pytest.mark.parametrize("name", [FISHER, INFLUENCE])
def test_training_ends_at_the_optimum_and_a_twin_at_that_of_the_retain_set(name: str) -> None:
    method = load_baseline(name, SIGMA=0, LAMBDA=0.1)
    whole, retain, forget = loaders(images())
    net = linear()
    original = method.weights_of(method.train(net, whole, None))
    twin = method.weights_of(method.train(linear(), retain, None))
    assert distance(original, optimum(method, method.examples(net, whole))) < 1e-5  # weights are float32
    unlearned = method.weights_of(method.unlearn(net, retain, forget, None, {}))
    assert distance(unlearned, twin) < 0.2 * distance(original, twin)


def test_influence_trains_with_a_direction_of_its_seed_that_removal_keeps() -> None:
    """At the tilted optimum, the step without b is a Newton step: as near to the twin as without any tilt."""
    influence = load_baseline(INFLUENCE, SIGMA=1.0, LAMBDA=0.1)
    whole, retain, forget = loaders(images())
    found: list[nn.Module] = []
    for data in (whole, retain, part(images(), torch.arange(N))):
        net = linear()
        torch.manual_seed(len(found) if len(found) == 2 else 0)
        found.append(influence.train(net, data, None))
    original, twin, other = (influence.weights_of(net) for net in found)
    assert distance(original, other) > 0.05
    unlearned = influence.weights_of(influence.unlearn(found[0], retain, forget, None, {}))
    assert distance(unlearned, twin) < 0.2 * distance(original, twin)
    torch.manual_seed(0)
    tilt = torch.randn(CLASSES, PIXELS + 1, dtype=torch.float64)
    slope = influence.gradient(original, influence.examples(found[0], whole))
    torch.testing.assert_close(slope, -tilt, rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", [FISHER, INFLUENCE])
def test_removal_is_for_linear_models_also_on_features_that_are_not_trained(name: str) -> None:
    method = load_baseline(name)
    net = models.build("mlp", n_classes=CLASSES, channels=1, options={"inputs": PIXELS, "hidden": [4]})
    whole, _, _ = loaders(images())
    with pytest.raises(ValueError, match="linear models"):
        method.train(net, whole, None)
    net = models.build("linear", n_classes=CLASSES, channels=1, options={"inputs": PIXELS, "features": 7})
    features, labels = method.examples(net, whole)
    weights = method.weights_of(net)
    torch.testing.assert_close((features @ weights.T).float(), net(whole.dataset.inputs), rtol=1e-5, atol=1e-6)
    method.set_weights(net, 2 * weights)
    torch.testing.assert_close(method.weights_of(net), 2 * weights)
    assert torch.equal(labels, whole.dataset.labels)


# ---- DeltaGrad ----------------------------------------------------------------------------------------------------

SHORT = {"EPOCHS": 12, "BATCHES": 4, "LEARNING_RATE": 0.3, "BURN_IN": 6}


def mlp() -> nn.Module:
    torch.manual_seed(0)
    return models.build("mlp", n_classes=CLASSES, channels=1, options={"inputs": PIXELS, "hidden": [6]})


def trained(method: Any, net: nn.Module, data: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the weights and the state that a training from one seed leaves."""
    torch.manual_seed(3)
    net, state = method.train(copy.deepcopy(net), data, None)
    return parameters_to_vector(net.parameters()).detach(), state


def off_by(method: Any, net: nn.Module, forget: Tensor | None = None) -> float:
    """Return how far from its twin an unlearned net ends."""
    whole, retain, gone = loaders(images(), forget)
    _, state = trained(method, net, whole)
    twin, _ = trained(method, net, retain)
    unlearned, _ = method.unlearn(copy.deepcopy(net), retain, gone, None, state)
    return distance(parameters_to_vector(unlearned.parameters()).detach(), twin)


@pytest.mark.parametrize("net", [linear(), mlp()], ids=["linear", "mlp"])
@pytest.mark.parametrize("exact", [{"PERIOD": 1}, {"BURN_IN": 48}])
def test_deltagrad_with_every_gradient_computed_is_the_twin(net: nn.Module, exact: dict[str, int]) -> None:
    constants: dict[str, object] = {**SHORT, **exact}
    assert off_by(load_baseline(DELTAGRAD, **constants), net) < 1e-12


@pytest.mark.parametrize("net", [linear(), mlp()], ids=["linear", "mlp"])
def test_deltagrad_without_a_request_gives_the_stored_path(net: nn.Module) -> None:
    method = load_baseline(DELTAGRAD, **SHORT)
    assert off_by(method, net, forget=torch.arange(0)) < 1e-12
    _, state = trained(method, net, loaders(images())[0])
    assert {name: tuple(value.shape) for name, value in state.items()} == {
        "seed": (),
        "weights": (48, len(state["weights"][0])),
        "gradients": (48, len(state["weights"][0])),
    }


def test_deltagrad_ends_nearer_to_the_twin_the_more_gradients_are_computed() -> None:
    constants: dict[str, object] = {**SHORT, "EPOCHS": 48, "BATCHES": 1}
    distances = [off_by(load_baseline(DELTAGRAD, **constants, PERIOD=period), linear()) for period in (2, 5, 20)]
    assert 0 < distances[0] < distances[1] < distances[2]
    whole, retain, _ = loaders(images())
    ends = [trained(load_baseline(DELTAGRAD, **constants), linear(), data)[0] for data in (whole, retain)]
    assert distances[1] < 0.1 * distance(*ends)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("old_slope + hessian_product(pairs, moved)", "old_slope"),
        ("- n_forget * slope_of_forget) / n_retain", ") / (n_retain + n_forget)"),
        ("old_slope + hessian_product(pairs, moved)", "old_slope - hessian_product(pairs, moved)"),
        ("remember(pairs, moved, slope_of_all - old_slope)", "remember(pairs, moved, slope - old_slope)"),
        ("(n_retain * slope + n_forget * slope_of_forget)", "(n_retain * slope)"),
    ],
)
def test_a_wrong_deltagrad_ends_farther_from_the_twin(old: str, new: str) -> None:
    right = off_by(load_baseline(DELTAGRAD, **SHORT), linear())
    assert off_by(load_edited(DELTAGRAD, old, new, **SHORT), linear()) > 2 * right


def test_the_hessian_of_the_pairs_maps_the_newest_step_to_the_newest_change() -> None:
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(8, 8, dtype=torch.float64, generator=generator)
    curvature = root @ root.T + torch.eye(8)
    steps = torch.randn(3, 8, dtype=torch.float64, generator=generator)
    pairs = [(step, curvature @ step) for step in steps]
    method = load_baseline(DELTAGRAD)
    assert distance(method.hessian_product(pairs, steps[-1]), curvature @ steps[-1]) < 1e-12 * 8 * float(
        curvature.norm()
    )

    # The same matrix from the updates of BFGS, one pair after another.
    matrix = steps[-1].dot(curvature @ steps[-1]) / steps[-1].square().sum() * torch.eye(8, dtype=torch.float64)
    for step, change in pairs:
        moved = matrix @ step
        matrix = matrix - torch.outer(moved, moved) / step.dot(moved) + torch.outer(change, change) / step.dot(change)
    vector = torch.randn(8, dtype=torch.float64, generator=generator)
    torch.testing.assert_close(method.hessian_product(pairs, vector), matrix @ vector, rtol=1e-10, atol=1e-10)
    for old, new in (("products.tril(-1)", "products.tril(-1).T"), ("[lower, sigma * s @ s.T]", "[lower, s @ s.T]")):
        wrong = load_edited(DELTAGRAD, old, new)
        assert distance(wrong.hessian_product(pairs, vector), matrix @ vector) > 0.01


def test_pairs_without_positive_curvature_are_left_out_and_the_oldest_makes_room() -> None:
    method, pairs = load_baseline(DELTAGRAD), deque[tuple[Tensor, Tensor]](maxlen=2)
    for step, change in ((0.0, 1.0), (1.0, -1.0), (1.0, 1.0), (1.0, 2.0), (1.0, 3.0)):
        method.remember(pairs, torch.tensor([step]), torch.tensor([change]))
    assert [float(change) for _, change in pairs] == [2.0, 3.0]


def test_deltagrad_of_one_weight_and_a_quadratic_loss_is_the_twin() -> None:
    """There a pair has all of the Hessian. One batch: those of several have Hessians of their own."""
    examples = Images(torch.randn(N, 1, generator=torch.Generator().manual_seed(0)), torch.arange(N), torch.arange(N))

    def gradient(net: nn.Module, weights: Tensor, inputs: Tensor, labels: Tensor) -> Tensor:
        values = inputs[:, 0].double()
        return (values * (weights * values - labels / N)).mean()[None] + 0.01 * weights

    net = nn.Linear(1, 1, bias=False)
    whole, retain, forget = loaders(examples)
    for period, old, new in (
        (5, "sigma * vector", "sigma * vector"),
        (5, "sigma * vector", "2 * sigma * vector"),
    ):
        method = load_edited(DELTAGRAD, old, new, EPOCHS=60, BATCHES=1, PERIOD=period, BURN_IN=3)
        method.gradient = gradient
        _, state = trained(method, net, whole)
        twin, _ = trained(method, net, retain)
        assert (distance(method.replayed(net.double(), retain, forget, state)[0], twin) < 1e-12) == (old == new)


def test_a_second_request_goes_on_from_the_path_of_the_first() -> None:
    method, net, data = load_baseline(DELTAGRAD, **SHORT, PERIOD=1), linear(), images()
    first, second = torch.arange(0, 5), torch.arange(5, 9)
    _, state = trained(method, net, loaders(data, first)[0])
    _, retain, gone = loaders(data, first)
    net, state = method.unlearn(copy.deepcopy(net), retain, gone, None, state)
    _, retain, _ = loaders(data, torch.cat([first, second]))
    twin, _ = trained(method, linear(), retain)
    _, _, gone = loaders(data, second)
    weights, _ = method.replayed(net, retain, gone, state)
    assert distance(weights, twin) < 1e-12


def test_a_batch_of_which_nothing_remains_is_no_step_here_and_none_of_the_twin() -> None:
    constants = {**SHORT, "BATCHES": 30}  # three examples in one, on average
    method = load_baseline(DELTAGRAD, **constants, PERIOD=1)
    forget = torch.arange(0, 60)
    _, retain, _ = loaders(images(), forget)
    seed = torch.randint(2**62, (), generator=torch.Generator().manual_seed(3))
    assert any(len(labels) == 0 for _, labels in method.batches(linear().double(), retain, seed))
    assert off_by(method, linear(), forget) < 1e-12
    wrong = load_edited(DELTAGRAD, "if n_retain == 0:", "if n_retain < 2:", **constants, PERIOD=1)
    assert off_by(wrong, linear(), forget) > 1e-3


def sizes(method: Any, seed: int = 5) -> Tensor:
    """Return how many examples of the training, retain and forget set are in the batch of each step, (3, n_steps)."""
    net = linear().double()
    counts = [
        [len(labels) for _, labels in method.batches(net, data, torch.tensor(seed))] for data in loaders(images())
    ]
    return torch.tensor(counts)


def test_batches_hold_every_example_once_in_an_epoch_and_shrink_only() -> None:
    whole, retain, forget = sizes(load_baseline(DELTAGRAD, **SHORT))
    assert torch.equal(whole, retain + forget)
    assert whole.view(12, 4).sum(dim=1).tolist() == [N] * 12
    assert whole.min() > 10  # of 22.5 on average
    assert len({tuple(each) for each in whole.view(12, 4).tolist()}) > 6  # other batches in every epoch
    assert not torch.equal(whole, sizes(load_baseline(DELTAGRAD, **SHORT), seed=6)[0])
    for old, new in (
        ("hashed(int(seed), epoch, data.ids[order].numpy())", "np.arange(len(order)).astype(np.uint64)"),  # by place
        ("np.uint64(epoch)) + ids", "np.uint64(epoch + len(ids))) + ids"),  # a batch that depends on the others
    ):
        whole, retain, forget = sizes(load_edited(DELTAGRAD, old, new, **SHORT))
        assert not torch.equal(whole, retain + forget)


def test_deltagrad_takes_no_batch_normalisation_and_no_dropout() -> None:
    normalised = models.build("small_resnet", n_classes=CLASSES, channels=1, width=2)
    for net in (normalised, nn.Sequential(nn.Dropout2d(), nn.Flatten(), nn.Linear(PIXELS, CLASSES))):
        with pytest.raises(ValueError, match="no BatchNorm, no dropout"):
            load_baseline(DELTAGRAD).train(net, None, None)
