"""The learners with certificates against exact optima and exact privacy curves, on problems small enough for these.

Every check is a function of the learner, and has to refuse learners with a mistake in them.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, softplus

from harness import models
from harness.loaders import Images, loader
from tests.baselines.baseline_module import load_baseline, load_edited

N_CLASSES, N_PIXELS = 3, 4
SHAPE = torch.Size((N_CLASSES, 1 + N_PIXELS))
Check = Callable[[Any], None]
Edit = tuple[str, str]


def examples(n: int, *, seed: int = 0) -> Images:
    """Return images (n, 1, 2, 2) whose labels depend on them."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(n, 1, 2, 2, generator=generator)
    noise = torch.randn(n, N_CLASSES, generator=generator)
    return Images(images, (images.flatten(1)[:, :N_CLASSES] + 0.5 * noise).argmax(dim=1), torch.arange(n))


def part(images: Images, start: int, stop: int | None = None) -> Images:
    return Images(images.inputs[start:stop], images.labels[start:stop], images.ids[start:stop])


def loader_of(images: Images) -> Any:
    return loader(images, batch_size=16, device=torch.device("cpu"))


def fresh_net() -> nn.Module:
    return models.build("linear", n_classes=N_CLASSES, channels=1, options={"inputs": N_PIXELS})


ALL, VAL = examples(60), loader_of(examples(30, seed=1))


def trained(method: Any, images: Images = ALL, *, seed: int = 0) -> tuple[nn.Module, dict[str, Tensor]]:
    torch.manual_seed(seed)
    net, state = method.train(fresh_net(), loader_of(images), VAL)
    return net, state


def unlearned(method: Any, n_forget: int, images: Images = ALL, *, seed: int = 0) -> Any:
    """Return what `unlearn` returns after a training on all images, the first of which are to be forgotten."""
    net, state = trained(method, images, seed=seed)
    torch.manual_seed(1000 + seed)
    forget, retain = part(images, 0, n_forget), part(images, n_forget)
    return method.unlearn(net, loader_of(retain), loader_of(forget), VAL, state)


def rows_and_labels(method: Any, images: Images) -> tuple[Tensor, Tensor]:
    rows: Tensor = method.rows_of(images, VAL)
    assert float(rows.norm(dim=1).max()) <= 1 + 1e-12
    return rows, images.labels


def newton(loss: Callable[[Tensor], Tensor]) -> Tensor:
    """Return where a convex function of weights of SHAPE is least."""
    weights = torch.zeros(SHAPE, dtype=torch.float64)
    for _ in range(30):
        (slope,) = torch.autograd.grad(loss(weights.requires_grad_()), weights)
        hessian = torch.autograd.functional.hessian(loss, weights).view(SHAPE.numel(), -1)
        weights = (weights - torch.linalg.solve(hessian, slope.flatten()).view(SHAPE)).detach()
    return weights


def softmax_loss(rows: Tensor, labels: Tensor, penalty: float) -> Callable[[Tensor], Tensor]:
    return lambda weights: cross_entropy(rows @ weights.T, labels) + penalty / 2 * weights.square().sum()


def gaussian_delta(epsilon: float, ratio: float) -> float:
    """Return the least delta of two normal distributions whose means are `ratio` standard deviations apart.

    Source: Balle and Wang, ICML 2018, Theorem 8.
    """
    above, below = (float(stats.norm.cdf(side * ratio / 2 - epsilon / ratio)) for side in (1, -1))
    return above - math.exp(epsilon) * below


def spread_of_published(method: Any, run: Callable[[int], tuple[nn.Module, Tensor]]) -> float:
    """Return the standard deviation of what is published around what it should be, in the method's own weights."""
    seen = []
    for seed in range(60):
        net, clean = run(seed)
        weight: Any = method.linear_layer(net).weight
        seen.append(weight.detach().double() * method.ROW_NORM - clean[:, :-1])
    return float(torch.stack(seen).std())


def refuses(check: Check, name: str, edit: Edit, **constants: Any) -> None:
    """Assert that a check fails for a learner with another text where an old one stands."""
    old, new = edit
    wrong = load_edited(f"learners/{name}", old, new, **constants)
    with pytest.raises(AssertionError):
        check(wrong)


# ---- all three ----------------------------------------------------------------------------------------------------

NAMES = ["descent_to_delete", "certified_removal", "sekhari_newton"]


@pytest.mark.parametrize("name", NAMES)
def test_the_published_net_makes_of_pixels_what_the_weights_make_of_rows(name: str) -> None:
    method, net = load_baseline(f"learners/{name}", ROW_NORM=20.0), fresh_net()  # no row is shortened
    weights = torch.randn(SHAPE, dtype=torch.float64)
    method.publish(net, weights, VAL)
    expected = rows_and_labels(method, ALL)[0] @ weights.T
    torch.testing.assert_close(net(ALL.inputs).double(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_rows_of_one_example_do_not_depend_on_the_others(name: str) -> None:
    method = load_baseline(f"learners/{name}", ROW_NORM=1.5)  # some are shortened
    rows = rows_and_labels(method, ALL)[0]
    assert 0 < int((rows.norm(dim=1) > 1 - 1e-9).sum()) < len(rows)
    assert torch.equal(rows[7:], rows_and_labels(method, part(ALL, 7))[0])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("model", ["mlp", "random features"])
def test_a_net_that_is_not_linear_in_the_pixels_is_refused(name: str, model: str) -> None:
    options = {"inputs": N_PIXELS, "hidden": [5]} if model == "mlp" else {"inputs": N_PIXELS, "features": 6}
    net = models.build("mlp" if model == "mlp" else "linear", n_classes=N_CLASSES, channels=1, options=options)
    with pytest.raises(ValueError, match="linear classifier of the pixels"):
        load_baseline(f"learners/{name}").train(net, loader_of(ALL), VAL)


@pytest.mark.parametrize("name", ["descent_to_delete", "sekhari_newton"])
def test_fewer_examples_left_than_the_claim_counts_on_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="CERTIFICATE is for at"):
        unlearned(load_baseline(f"learners/{name}", N_LEFT=56), 5)


# ---- Descent-to-Delete --------------------------------------------------------------------------------------------


def lipschitz_of(method: Any, n_classes: int) -> float:
    penalty: float = method.PENALTY
    return math.sqrt(2) + penalty * math.sqrt(2 * math.log(n_classes) / penalty)


def contraction_of(method: Any) -> float:
    penalty: float = method.PENALTY
    return 0.5 / (0.5 + 2 * penalty)


def every_request_ends_near_its_optimum(method: Any) -> None:
    ends, descend = [], method.descend

    def recorded(*args: Any, **options: Any) -> Tensor:
        ends.append(descend(*args, **options))
        return ends[-1]  # type: ignore[no-any-return]

    method.descend = recorded
    unlearned(method, 10)
    assert len(ends) == 11  # the training, then each request
    left_over = contraction_of(method) ** method.STEPS
    for gone, theta in enumerate(ends):
        rows, labels = rows_and_labels(method, part(ALL, gone))
        optimum = newton(softmax_loss(rows, labels, method.PENALTY))
        bound = 2 * lipschitz_of(method, N_CLASSES) * left_over / (method.PENALTY * len(rows) * (1 - left_over))
        assert float((theta - optimum).norm()) <= bound * (len(rows) / method.N_LEFT if gone == 0 else 1)
        assert float(optimum.norm()) < method.radius(N_CLASSES)


def iterates_are_in_the_ball(method: Any) -> None:
    seen, project = [], method.project

    def recorded(theta: Tensor) -> Tensor:
        seen.append(project(theta))
        return seen[-1]  # type: ignore[no-any-return]

    method.project = recorded
    rows, targets = method.rows_of(ALL, VAL), method.targets_of(ALL, fresh_net())
    method.descend(torch.full(SHAPE, 1e3, dtype=torch.float64), rows, targets, steps=3)
    limit = math.sqrt(2 * math.log(N_CLASSES) / method.PENALTY)
    assert [float(theta.norm()) <= limit + 1e-9 for theta in seen] == [True] * 3
    inside = torch.full(SHAPE, 0.01, dtype=torch.float64)
    assert torch.equal(project(inside), inside)


def more_steps_need_less_noise_and_a_smaller_epsilon_more(method: Any) -> None:
    scales = []
    for steps in (10, 50, 100):  # from 100 on there are more than "perfect" asks for
        method.STEPS = steps
        scales.append(method.noise_scale(SHAPE))
    assert scales[0] >= scales[1] > scales[2] > 0
    ratio = contraction_of(method) ** 50
    assert scales[2] == pytest.approx(scales[1] * ratio, rel=0.05) or method.GUARANTEE == "perfect"
    method.CERTIFICATE = (method.CERTIFICATE[0] / 2, method.CERTIFICATE[1])
    assert method.noise_scale(SHAPE) > 1.9 * scales[2]


def the_noise_hides_the_worst_case(method: Any) -> None:
    """The errors by recursion from the bounds of one step and one removal; noise that a request starts from counts."""
    (epsilon, delta), gamma, requests = method.CERTIFICATE, contraction_of(method), 64
    shape = torch.Size((10, 65))  # of the track
    sigma, moved = method.noise_scale(shape), lipschitz_of(method, 10) / (method.PENALTY * method.N_LEFT)
    started, allowed = 0.0, delta
    if method.GUARANTEE == "perfect":
        started = sigma * float(stats.chi.isf(delta / 2 / requests, shape.numel()))
        allowed = delta / 2
    of_training = error = gamma ** method.training_steps(shape) * method.radius(10)
    for request in range(1, requests + 1):
        error = gamma ** method.request_steps(request, shape) * (error + moved + started)
        assert gaussian_delta(epsilon, (error + of_training) / sigma) <= allowed


def both_publish_with_the_noise_of_the_claim(method: Any) -> None:
    expected = {"output": pytest.approx(method.noise_scale(SHAPE), rel=0.15), "perfect": pytest.approx(0, abs=1e-5)}

    def training(seed: int) -> tuple[nn.Module, Tensor]:
        net, state = trained(method, seed=seed)
        return net, state["theta"]

    def unlearning(seed: int) -> tuple[nn.Module, Tensor]:
        net, state = unlearned(method, 3, seed=seed)
        return net, state["theta"]

    for run in (training, unlearning):
        assert spread_of_published(method, run) == expected[method.GUARANTEE]  # around what is kept


D2D = {"N_LEFT": 50, "STEPS": 50}
GUARANTEES = ["output", "perfect"]


@pytest.mark.parametrize("guarantee", GUARANTEES)
@pytest.mark.parametrize(
    "check",
    [
        iterates_are_in_the_ball,
        more_steps_need_less_noise_and_a_smaller_epsilon_more,
        the_noise_hides_the_worst_case,
        both_publish_with_the_noise_of_the_claim,
    ],
    ids=lambda check: check.__name__,
)
def test_descent_to_delete(check: Check, guarantee: str) -> None:
    check(load_baseline("learners/descent_to_delete", GUARANTEE=guarantee, **D2D))


@pytest.mark.parametrize("guarantee", GUARANTEES)
def test_the_claim_of_descent_to_delete_holds_with_its_own_constants(guarantee: str) -> None:
    the_noise_hides_the_worst_case(load_baseline("learners/descent_to_delete", GUARANTEE=guarantee))


def test_every_request_of_descent_to_delete_ends_near_its_optimum() -> None:
    every_request_ends_near_its_optimum(load_baseline("learners/descent_to_delete", **D2D))


def test_published_scales_and_steps_of_descent_to_delete() -> None:
    """The formulas as the sources have them, at the track's own numbers."""
    epsilon, delta, steps, n, penalty = 1.0, 5e-6, 25, 416, 0.05
    lipschitz, gamma = math.sqrt(2) + math.sqrt(2 * penalty * math.log(10)), 0.5 / 0.6
    method, shape, p = load_baseline("learners/descent_to_delete"), torch.Size((10, 65)), 650
    log = math.log(1 / delta)
    sigma = 4 * math.sqrt(2) * lipschitz * gamma**steps / (penalty * n * (1 - gamma**steps))
    assert method.noise_scale(shape) == pytest.approx(sigma / (math.sqrt(log + epsilon) - math.sqrt(log)))
    method.GUARANTEE, log = "perfect", 2 * math.log(2 / delta)
    least = math.sqrt(2 * p) / (1 - gamma) / (math.sqrt(log + epsilon) - math.sqrt(log))
    steps = math.ceil(math.log(least) / math.log(1 / gamma))
    assert steps > 25
    sigma = 8 * lipschitz * gamma**steps / (penalty * n * (1 - gamma**steps))
    expected = sigma / (math.sqrt(log + 3 * epsilon) - math.sqrt(log + 2 * epsilon))
    assert method.noise_scale(shape) == pytest.approx(expected)
    more = math.ceil(math.log(math.log(4 * p * 64 / delta)) / math.log(1 / gamma))
    assert method.request_steps(64, shape) == steps + more


@pytest.mark.parametrize(
    ("check", "edit", "guarantee"),
    [
        (every_request_ends_near_its_optimum, ("rows[request:], targets[:, request:]", "rows, targets"), "output"),
        (every_request_ends_near_its_optimum, ("length = 2 /", "length = 0.2 /"), "output"),
        (every_request_ends_near_its_optimum, (" / len(rows) + PENALTY * theta", " / len(rows)"), "output"),
        (iterates_are_in_the_ball, ("(limit / max(limit, float(theta.norm())))", "1"), "output"),
        (
            more_steps_need_less_noise_and_a_smaller_epsilon_more,
            ("left_over = contraction() ** base_steps(shape)", "left_over = contraction()"),
            "output",
        ),
        (
            the_noise_hides_the_worst_case,
            ("steady_error(shape) / (math.sqrt(log + epsilon) - math.sqrt(log))", "steady_error(shape) / epsilon"),
            "output",
        ),
        (
            the_noise_hides_the_worst_case,
            ("base_steps(shape) + math.ceil(-more", "25 + 0 * math.ceil(-more"),
            "perfect",
        ),
        (
            both_publish_with_the_noise_of_the_claim,
            ("published = theta + noise(theta.shape)\n    pub", "pub"),
            "output",
        ),
        (both_publish_with_the_noise_of_the_claim, ("            theta = published", "            pass"), "perfect"),
    ],
)
def test_a_mistake_in_descent_to_delete_is_seen(check: Check, edit: Edit, guarantee: str) -> None:
    old, new = edit
    if new == "pub":
        new = "published = theta\n    pub"  # a training without noise
    refuses(check, "descent_to_delete", (old, new), GUARANTEE=guarantee, **D2D)


# ---- certified removal --------------------------------------------------------------------------------------------


def true_residual(method: Any, state: dict[str, Tensor], images: Images) -> float:
    """Return the norm of the gradient of the tilted loss, b included, summed over classes, by differentiation."""
    rows, labels = rows_and_labels(method, images)
    signs = torch.where(labels[:, None] == torch.arange(N_CLASSES), 1.0, -1.0).double()
    weights = state["weights"].clone().requires_grad_()
    loss = softplus(-signs * (rows @ weights.T)).sum() + (state["b"] * weights).sum()
    loss = loss + method.PENALTY * len(rows) / 2 * weights.square().sum()
    (slope,) = torch.autograd.grad(loss, weights)
    return float(slope.norm(dim=1).sum())


def the_true_residual_is_within_what_is_spent(method: Any) -> None:
    method.STD = 10.0  # a budget for all of them
    for n_forget in (1, 20):
        _, state = unlearned(method, n_forget)
        residual = true_residual(method, state, part(ALL, n_forget))
        assert 1e-6 < residual <= float(state["spent"])


def the_spectral_norm_is_no_estimate(method: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(5, 5, generator=generator, dtype=torch.float64))[0]
    rows = torch.diag(torch.tensor([0.9, 1.0, 0.98, 0.5, 0.1], dtype=torch.float64)) @ basis
    step = torch.randn(SHAPE, generator=generator, dtype=torch.float64)
    found = method.residual_bound(step, rows)
    expected = sum(float(each.norm() * (rows @ each).norm()) for each in step) / 4  # the spectral norm is 1
    assert float(found) == pytest.approx(expected, rel=1e-12)


def on_least_squares_removal_is_retraining(method: Any) -> None:
    method.first_derivative = lambda margins: margins - 1
    method.second_derivative = torch.ones_like
    method.STD = 10.0
    retrained = trained(method, part(ALL, 7))[1]["weights"]
    assert float((unlearned(method, 7)[1]["weights"] - retrained).abs().max()) < 1e-11


def a_spent_budget_retrains(method: Any) -> None:
    method.STD = 10.0
    twin = trained(method, part(ALL, 7))[1]  # of the same seed, and so of the same b
    assert not torch.equal(unlearned(method, 7)[1]["weights"], twin["weights"])
    method.CERTIFICATE = (1e-6, 1e-4)
    state = unlearned(method, 7)[1]
    assert torch.equal(state["weights"], twin["weights"])
    assert float(state["spent"]) <= method.budget()


def the_optimiser_has_spent_its_residual(method: Any) -> None:
    method.TOLERANCE = 1e-2
    _, state = trained(method)
    assert float(state["spent"]) == pytest.approx(true_residual(method, state, ALL))
    assert float(state["spent"]) > 1e-5


def the_budget_is_hidden_by_b(method: Any) -> None:
    epsilon, delta = method.CERTIFICATE
    assert gaussian_delta(epsilon, (method.budget() + method.TOLERANCE) / method.STD) <= delta


GUO_CHECKS: list[tuple[Check, Edit]] = [
    (
        the_true_residual_is_within_what_is_spent,
        ("signs[gone - 1 : gone]))", "signs[gone - 1 : gone]) - PENALTY * weights)"),
    ),
    (the_true_residual_is_within_what_is_spent, ("weights + step, spent", "weights - step, spent")),
    (the_true_residual_is_within_what_is_spent, ("spent + residual_bound(step, left)", "spent")),
    (
        the_spectral_norm_is_no_estimate,
        (
            "torch.linalg.eigvalsh(rows.T @ rows)[-1].sqrt()",
            "((rows.T @ rows).matrix_power(20).sum(1).norm() / (rows.T @ rows).matrix_power(19).sum(1).norm()).sqrt()",
        ),
    ),
    (on_least_squares_removal_is_retraining, ("newton_step(weights, left,", "newton_step(weights, rows[gone - 1 :],")),
    (a_spent_budget_retrains, ("if spent > budget():", "if False:")),
    (a_spent_budget_retrains, ("minimize(left, signs[gone:], b)", "minimize(left, signs[gone:], torch.randn_like(b))")),
    (the_optimiser_has_spent_its_residual, ('"spent": residual(weights, rows, signs, b)', '"spent": torch.zeros(())')),
    (the_budget_is_hidden_by_b, ("/ math.sqrt(2 * math.log(1.5 / delta))", "")),
]


@pytest.mark.parametrize("check", dict.fromkeys(check for check, _ in GUO_CHECKS), ids=lambda check: check.__name__)
def test_certified_removal(check: Check) -> None:
    check(load_baseline("learners/certified_removal"))


@pytest.mark.parametrize(("check", "edit"), GUO_CHECKS)
def test_a_mistake_in_certified_removal_is_seen(check: Check, edit: Edit) -> None:
    refuses(check, "certified_removal", edit)


def test_the_change_of_volume_that_the_proof_leaves_out_is_small() -> None:
    """What is published is the optimum for b - u(b); log |det(1 - du/db)|, by differences, against epsilon."""
    method = load_baseline("learners/certified_removal", STD=2.0)
    n_forget, net = 5, fresh_net()
    sets = loader_of(part(ALL, n_forget)), loader_of(part(ALL, 0, n_forget))
    rows, signs = (of(ALL, with_) for of, with_ in ((method.rows_of, VAL), (method.signs_of, net)))

    def tilt(b: Tensor) -> Tensor:
        """Return the tilt whose optimum on what is left is what a removal makes of a training with tilt b."""
        state = {"weights": method.minimize(rows, signs, b), "b": b, "spent": torch.zeros(())}
        _, state = method.unlearn(net, *sets, VAL, state)
        gradient: Tensor = method.gradient(state["weights"], rows[n_forget:], signs[n_forget:])
        return -gradient

    b = method.STD * torch.randn(SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    columns = []
    for index in range(SHAPE.numel()):
        nudge = torch.zeros(SHAPE.numel(), dtype=torch.float64)
        nudge[index] = 1e-3
        columns.append((tilt(b + nudge.view(SHAPE)) - tilt(b - nudge.view(SHAPE))).flatten() / 2e-3)
    assert float((tilt(b) - b).norm()) > 1e-6  # the budget is not spent
    assert abs(float(torch.linalg.slogdet(torch.stack(columns))[1])) < 0.01 * method.CERTIFICATE[0]


# ---- a stored Hessian ---------------------------------------------------------------------------------------------

MANY = examples(400)  # those of one class first, so that what leaves adds up
ORDER = MANY.labels.sort(stable=True).indices
MANY = Images(MANY.inputs[ORDER], MANY.labels[ORDER], MANY.ids)


def without_noise(method: Any, n_forget: int) -> tuple[Tensor, Tensor]:
    """Return the weights before unlearning and after it."""
    seen: list[Tensor] = []
    method.noise = lambda shape: torch.zeros(shape, dtype=torch.float64)
    method.publish = lambda net, w, val_loader: seen.append(w)
    unlearned(method, n_forget, MANY)
    return seen[0], seen[1]


def the_step_is_that_of_newton_on_what_is_left(method: Any) -> None:
    before, after = without_noise(method, 50)
    loss = softmax_loss(*rows_and_labels(method, part(MANY, 50)), method.PENALTY)
    before = before.clone().requires_grad_()
    (slope,) = torch.autograd.grad(loss(before), before)
    before = before.detach()
    hessian = torch.autograd.functional.hessian(loss, before).view(SHAPE.numel(), -1)
    expected = before - torch.linalg.solve(hessian, slope.flatten()).view(SHAPE)
    assert float((after - expected).abs().max()) < 1e-8 * float((after - before).norm())


def the_distance_from_retraining_is_within_the_bound_and_grows_as_its_square(method: Any) -> None:
    distances = []
    for m in (1, 8, 64):
        before, after = without_noise(method, m)
        retrained = newton(softmax_loss(*rows_and_labels(method, part(MANY, m)), method.PENALTY))
        distances.append(float((after - retrained).norm()))
        assert distances[-1] < 0.1 * float((before - retrained).norm())
        method.CAPACITY = m
        assert distances[-1] <= method.distance() / 4
        method.CAPACITY = 64
    slope = math.log(distances[2] / distances[0]) / math.log(64)
    assert 1 < slope < 2.1


def training_and_unlearning_publish_with_the_same_noise(method: Any) -> None:
    def training(images: Images) -> Callable[[int], tuple[nn.Module, Tensor]]:
        clean = trained(method, images)[1]["w"]
        return lambda seed: (trained(method, images, seed=seed)[0], clean)

    clean = without_noise(load_baseline("learners/sekhari_newton", **SEKHARI), 64)[1]
    for run in (
        training(MANY),
        training(part(MANY, 64)),
        lambda seed: (unlearned(method, 64, MANY, seed=seed)[0], clean),
    ):
        assert spread_of_published(method, run) == pytest.approx(method.noise_scale(), rel=0.15)


def the_claim_follows_from_the_distance(method: Any) -> None:
    epsilon, delta = method.CERTIFICATE
    assert gaussian_delta(epsilon, method.distance() / method.noise_scale()) <= delta


def the_constants_bound_the_loss(method: Any) -> None:
    generator = np.random.default_rng(0)
    largest = 0.0
    for _ in range(300):  # two values, and noise on the others
        p = generator.dirichlet([1, 1, *[0.01] * 4])
        h = np.array([1, -1, *generator.normal(0, 0.05, 4)])
        h /= np.linalg.norm(h)
        largest = max(largest, abs(float(p @ (h - p @ h) ** 3)))
    assert 0.9 * method.hessian_lipschitz() < largest <= method.hessian_lipschitz()
    for penalty in (0.001, 0.1, 30.0):
        method.PENALTY = penalty
        rows, labels = rows_and_labels(method, MANY)
        w = method.minimize(rows, method.targets_of(MANY, fresh_net()))
        loss = softmax_loss(rows[:1], (labels[:1] + 1) % N_CLASSES, penalty)  # of a label that is wrong
        (slope,) = torch.autograd.grad(loss(w.requires_grad_()), w)
        assert 0.2 * method.lipschitz() < float(slope.norm()) <= method.lipschitz()


def two_requests_end_where_one_does(method: Any) -> None:
    method.noise = lambda shape: torch.zeros(shape, dtype=torch.float64)
    net, state = trained(method, MANY)
    for start, stop in ((0, 20), (20, 64)):
        sets = loader_of(part(MANY, stop)), loader_of(part(MANY, start, stop))
        net, state = method.unlearn(net, *sets, VAL, state)
    at_once, _ = unlearned(method, 64, MANY)
    for name, value in net.state_dict().items():
        torch.testing.assert_close(value, at_once.state_dict()[name])


SEKHARI = {"PENALTY": 0.1, "N_LEFT": 336, "ROW_NORM": 3.0}
SEKHARI_CHECKS: list[tuple[Check, Edit]] = [
    (the_step_is_that_of_newton_on_what_is_left, ("solve(left, m_gradient", 'solve(state["hessian"], m_gradient')),
    (the_step_is_that_of_newton_on_what_is_left, (".view_as(w) / n_left\n", ".view_as(w) / (n_left + m)\n")),
    (
        the_distance_from_retraining_is_within_the_bound_and_grows_as_its_square,
        ("+ len(rows) * gradient", "+ gradient"),
    ),
    (
        training_and_unlearning_publish_with_the_same_noise,
        (
            "publish(net, w + noise(w.shape), val_loader)",
            "publish(net, w, val_loader)",
        ),
    ),
    (
        training_and_unlearning_publish_with_the_same_noise,
        (
            "publish(net, stepped + noise(w.shape), val_loader)",
            "publish(net, stepped, val_loader)",
        ),
    ),
    (the_claim_follows_from_the_distance, (" * math.sqrt(2 * math.log(1.25 / delta))", "")),
    (two_requests_end_where_one_does, ('state["m_gradient"] + len(rows)', "len(rows)")),
    (the_constants_bound_the_loss, ("return math.sqrt(2) ** 3 /", "return 1 /")),
    (the_constants_bound_the_loss, ("return 2 * math.sqrt(2)", "return 0.5")),
]


@pytest.mark.parametrize("check", dict.fromkeys(check for check, _ in SEKHARI_CHECKS), ids=lambda check: check.__name__)
def test_sekhari_newton(check: Check) -> None:
    check(load_baseline("learners/sekhari_newton", **SEKHARI))


@pytest.mark.parametrize(("check", "edit"), SEKHARI_CHECKS)
def test_a_mistake_in_sekhari_newton_is_seen(check: Check, edit: Edit) -> None:
    refuses(check, "sekhari_newton", edit, **SEKHARI)
