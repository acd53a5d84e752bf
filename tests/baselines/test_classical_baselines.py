"""The classical baselines against closed forms, loops and direct solves, on models small enough for these."""

import itertools
import math
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import parameters_to_vector, vector_to_parameters
from torch.utils.data import DataLoader, TensorDataset

from tests.baselines.baseline_module import load_baseline

Loader = DataLoader[Any]


def examples(n: int, *, n_classes: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return images (n, 1, 4, 4) and labels (n,) that depend on them."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(n, 1, 4, 4, generator=generator)
    noise = torch.randn(n, n_classes, generator=generator)
    return images, (images.flatten(1)[:, :n_classes] + noise).argmax(dim=1)


def loader(images: Tensor, labels: Tensor, *, batch_size: int = 16, shuffle: bool = True) -> Loader:
    return DataLoader(TensorDataset(images, labels), batch_size=batch_size, shuffle=shuffle)


class Unread:
    """Stands for a loader that a method has no business to read."""

    def __iter__(self) -> Iterator[Any]:
        raise AssertionError("read")


def linear(n_classes: int = 3) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, n_classes))


def convolutional(n_classes: int = 3) -> nn.Module:
    """Return a small net with BatchNorm, down to a feature map of one pixel, with statistics of its own."""
    torch.manual_seed(0)
    net = nn.Sequential(
        *(nn.Conv2d(1, 4, 3, stride=2, bias=False), nn.BatchNorm2d(4), nn.ReLU(inplace=True)),
        *(nn.Flatten(), nn.Linear(4, n_classes)),
    )
    net(examples(64)[0])
    return net.eval()


def vector_of(net: nn.Module) -> Tensor:
    return parameters_to_vector(net.parameters()).detach().clone()


# ---- influence ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("build", [linear, convolutional])
def test_inverse_hessian_product_equals_a_direct_solve(build: Callable[[], nn.Module]) -> None:
    influence = load_baseline(
        "influence_unlearning", DAMPING=0.01, N_ITERATIONS=200, TOLERANCE=1e-12, EXAMPLES_PER_PASS=7
    )
    net, (images, labels) = build().double(), examples(30)
    images = images.double()
    vector = torch.randn(len(vector_of(net)), dtype=torch.float64)
    matrix = gauss_newton_matrix(net, images) + 0.01 * torch.eye(len(vector), dtype=torch.float64)
    exact = torch.linalg.solve(matrix, vector)
    product = influence.inverse_hessian_product(net, images, labels, vector)
    assert torch.linalg.norm(product - exact) < 1e-6 * torch.linalg.norm(exact)
    official = influence.official_product(net, images, labels, vector)
    assert torch.linalg.norm(official - exact) > 0.1 * torch.linalg.norm(exact)


def gauss_newton_matrix(net: nn.Module, images: Tensor) -> Tensor:
    """Return the mean over images of J' (diag(p) - p p') J, from each image's Jacobian."""
    total = torch.zeros(())
    for image in images:
        logits = net(image[None])[0]
        rows = [torch.autograd.grad(value, list(net.parameters()), retain_graph=True) for value in logits]
        jacobian = torch.stack([torch.cat([part.flatten() for part in row]) for row in rows])
        p = logits.detach().softmax(dim=0)
        total = total + jacobian.T @ (torch.diag(p) - torch.outer(p, p)) @ jacobian
    return total / len(images)


def test_official_product_only_moves_along_the_first_gradient() -> None:
    influence = load_baseline("influence_unlearning")
    net, (images, labels) = convolutional(), examples(30)
    vector = torch.randn(len(vector_of(net)))
    moved = influence.official_product(net, images, labels, vector) - vector
    gradients = torch.autograd.grad(cross_entropy(net(images[:1]), labels[:1]), list(net.parameters()))
    first = torch.cat([gradient.flatten() for gradient in gradients])
    assert abs(torch.cosine_similarity(moved, first, dim=0)) > 0.9999


def test_influence_step_is_retraining_to_second_order() -> None:
    """On logistic regression the error falls with the square of the number of examples."""
    errors = []
    for copies in (2, 8):
        images, labels = (part.repeat(copies, *[1] * (part.ndim - 1)) for part in examples(100))
        images = images.double()
        net, retrained = fit(images, labels), fit(images[3:], labels[3:])
        before = torch.linalg.norm(vector_of(net) - vector_of(retrained))
        influence = load_baseline("influence_unlearning", DAMPING=PENALTY, N_ITERATIONS=200, TOLERANCE=1e-10)
        retain, forget = loader(images[3:], labels[3:]), loader(images[:3], labels[:3])
        influence.unlearn(net, retain, forget, Unread())
        errors.append(float(torch.linalg.norm(vector_of(net) - vector_of(retrained))))
        assert errors[-1] < 0.2 * before
    assert errors[0] / errors[1] == pytest.approx(16, rel=0.2)


PENALTY = 0.01  # half of it times the squared norm of the weights is part of the loss


def fit(images: Tensor, labels: Tensor) -> nn.Module:
    """Return the optimum of penalized logistic regression, by Newton's method."""
    net = linear().double()

    def loss(vector: Tensor) -> Tensor:
        weight, bias = vector.split([48, 3])
        return cross_entropy(images.flatten(1) @ weight.view(3, 16).T + bias, labels) + PENALTY / 2 * vector.dot(vector)

    vector = torch.zeros(51, dtype=torch.float64)
    for _ in range(20):
        vector.requires_grad_()
        (gradient,) = torch.autograd.grad(loss(vector), vector)
        hessian = torch.autograd.functional.hessian(loss, vector)
        vector = (vector - torch.linalg.solve(hessian, gradient)).detach()
    vector_to_parameters(vector, net.parameters())
    return net


# ---- Fisher -------------------------------------------------------------------------------------------------------


def test_fisher_diagonal_equals_a_loop_over_examples_and_labels() -> None:
    fisher = load_baseline("fisher_forgetting", LABELS="all", EXAMPLES_PER_PASS=8)
    net, (images, labels) = convolutional(), examples(21)
    expected = {name: torch.zeros_like(weights) for name, weights in net.named_parameters()}
    for image in images:
        for label in range(3):
            net.zero_grad()
            logits = net(image[None])
            cross_entropy(logits, torch.tensor([label])).backward()
            for name, weights in net.named_parameters():
                assert weights.grad is not None
                expected[name] += logits.detach().softmax(1)[0, label] * weights.grad.square() / len(images)
    diagonal = fisher.fisher_diagonal(net, loader(images, labels))
    for name, values in expected.items():
        torch.testing.assert_close(diagonal[name], values, rtol=1e-4, atol=1e-7)


def test_labels_drawn_from_the_model_give_the_same_fisher_on_average() -> None:
    net, (images, labels) = linear(), examples(4000)
    weight = {}
    for kind in ("drawn", "all"):
        diagonal = load_baseline("fisher_forgetting", LABELS=kind).fisher_diagonal(net, loader(images, labels))
        weight[kind] = diagonal["1.weight"]
    p = net(images).detach().softmax(dim=1)
    closed_form = ((p * (1 - p)).T @ images.flatten(1).square()) / len(images)
    torch.testing.assert_close(weight["all"], closed_form, rtol=1e-4, atol=0)
    torch.testing.assert_close(weight["drawn"], closed_form, rtol=0.25, atol=0)


def test_square_of_a_mean_of_32_gradients_is_32_times_smaller() -> None:
    net, (images, labels) = linear(), examples(6400)
    single, grouped = (
        load_baseline("fisher_forgetting", GROUP_SIZE=size)
        .fisher_diagonal(net, loader(images, labels))["1.weight"]
        .sum()
        for size in (1, 32)
    )
    assert single / grouped == pytest.approx(32, rel=0.15)


def test_groups_hold_every_example_once() -> None:
    fisher = load_baseline("fisher_forgetting", GROUP_SIZE=32)
    images, labels = torch.arange(70.0).view(70, 1, 1, 1), torch.zeros(70)
    parts = list(fisher.groups(loader(images, labels), torch.device("cpu"), n_weights=10))
    assert sorted(torch.cat([part.flatten() for part in parts]).tolist()) == list(range(70))
    assert [tuple(part.shape[:2]) for part in parts] == [(2, 32), (1, 6)]
    one_at_a_time = fisher.groups(loader(images, labels), torch.device("cpu"), n_weights=10**12)
    assert all(len(part) == 1 for part in one_at_a_time)


@pytest.mark.parametrize(
    ("retain", "forget", "expected"),
    [
        ([0, 1, 1], [2, 2], 2),
        ([0, 1, 2], [2, 2], None),  # of one class, but not all of it
        ([0, 1, 1], [2, 3], None),
        ([1, 2], [0] * 4500, 0),
        ([0, 1, 2], [0, 1, 2] * 1500, None),  # 4,500 at random are not a class
    ],
)
def test_a_whole_class_is_told_by_the_labels(retain: list[int], forget: list[int], expected: int | None) -> None:
    sets = [loader(torch.zeros(len(labels), 1), torch.tensor(labels)) for labels in (retain, forget)]
    assert load_baseline("fisher_forgetting").forgotten_class(*sets) == expected


def test_fisher_clears_the_row_of_a_forgotten_class_and_no_other() -> None:
    images, labels = examples(60)
    whole = labels == 1
    for forget, cleared in ((whole, [1]), (torch.arange(60) < 20, [])):
        net = convolutional()
        fisher = load_baseline("fisher_forgetting", ALPHA=0.0, FORGOTTEN_VARIANCE=0.0)
        before = vector_of(net)
        retain_loader, forget_loader = loader(images[~forget], labels[~forget]), loader(images[forget], labels[forget])
        fisher.unlearn(net, retain_loader, forget_loader, Unread())
        head = fisher.last_layer(net)
        rows = [row for row in range(3) if not head.weight[row].any() and head.bias[row] == 0]
        assert rows == cleared
        assert torch.equal(vector_of(net), before) == (not cleared)  # no noise at ALPHA = 0


def test_fisher_leaves_pruned_weights_at_zero_and_out_of_the_mean() -> None:
    fisher = load_baseline("fisher_forgetting", ALPHA=1e-3)
    net, (images, labels) = convolutional(), examples(60)
    mask = torch.rand(net[0].weight.shape) < 0.3  # type: ignore[index]
    with torch.no_grad():
        net[0].weight *= mask  # type: ignore[index]
    before = vector_of(net)
    fisher.unlearn(net, loader(images[10:], labels[10:]), loader(images[:10], labels[:10]), Unread())
    assert torch.equal(net[0].weight != 0, mask)  # type: ignore[index]
    assert not torch.equal(vector_of(net), before)

    values, kept = torch.tensor([[1.0, 1e-9, 2.0]]), torch.tensor([[True, False, True]])
    variance = fisher.noise_variance(values, kept, in_head=False)
    assert variance[0].tolist() == pytest.approx([1e-3 * (1 + 1 / 2) / 2] * 3)


# ---- l1 -----------------------------------------------------------------------------------------------------------


def test_l1_schedules_are_exact() -> None:
    expected = {
        "decaying": [1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1],
        "growing": [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9],
        "constant": [1.0] * 10,
    }
    for schedule, shares in expected.items():
        assert load_baseline("l1_sparse", SCHEDULE=schedule, GAMMA=1.0).gammas() == pytest.approx(shares, abs=1e-12)
    late = load_baseline("l1_sparse", GAMMA=1.0, EPOCHS=6, EPOCHS_WITHOUT_PENALTY=2).gammas()
    assert late == pytest.approx([1.0, 0.75, 0.5, 0.25, 0.0, 0.0])
    assert load_baseline("l1_sparse", EPOCHS=3, EPOCHS_WITHOUT_PENALTY=3).gammas() == [0.0, 0.0, 0.0]
    assert load_baseline("l1_sparse").SCHEDULE == "decaying"
    with pytest.raises(KeyError, match="shrinking"):
        load_baseline("l1_sparse", SCHEDULE="shrinking").gammas()


def test_l1_gradient_is_that_of_the_norm_over_all_parameters() -> None:
    l1 = load_baseline("l1_sparse")
    net, (images, labels) = convolutional(), examples(16)
    norm = torch.stack([weights.abs().sum() for weights in net.parameters()]).sum()
    expected = torch.autograd.grad(cross_entropy(net(images), labels) + 0.3 * norm, list(net.parameters()))
    cross_entropy(net(images), labels).backward()
    l1.add_l1_gradient(net, 0.3)
    for weights, gradient in zip(net.parameters(), expected, strict=True):
        torch.testing.assert_close(weights.grad, gradient)


def test_l1_without_penalty_is_fine_tuning_and_with_it_shrinks_the_weights() -> None:
    images, labels = examples(40)
    plain = convolutional().train()
    torch.manual_seed(1)
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    for _ in range(10):
        for batch_images, batch_labels in loader(images, labels):
            optimizer.zero_grad()
            cross_entropy(plain(batch_images), batch_labels).backward()
            optimizer.step()
    norms = []
    for gamma in (0.0, 0.1):
        net = convolutional()
        torch.manual_seed(1)
        load_baseline("l1_sparse", GAMMA=gamma).unlearn(net, loader(images, labels), Unread(), Unread())
        assert torch.equal(vector_of(net), vector_of(plain)) == (gamma == 0)
        norms.append(float(vector_of(net).abs().sum()))
    assert norms[1] < 0.9 * norms[0]


# ---- random labels ------------------------------------------------------------------------------------------------


def test_random_labels_are_uniform_and_leave_out_the_true_one_on_request() -> None:
    true_labels = torch.arange(6000) % 5
    drawn = load_baseline("random_labels").draw_labels(true_labels, 5)
    assert float((drawn == true_labels).float().mean()) == pytest.approx(1 / 5, abs=0.03)
    others = load_baseline("random_labels", EXCLUDE_TRUE_LABEL=True).draw_labels(true_labels, 5)
    assert not (others == true_labels).any()
    for labels, counts in ((drawn, [1200] * 5), (others, [1200] * 5)):
        assert labels.bincount(minlength=5).tolist() == pytest.approx(counts, rel=0.15)


def test_random_labels_are_drawn_anew_each_epoch_and_never_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    method = load_baseline("random_labels", EPOCHS=3)
    drawn: list[Tensor] = []
    draw = method.draw_labels

    def recorded(true_labels: Tensor, n_classes: int) -> Tensor:
        drawn.append(draw(true_labels, n_classes))
        return drawn[-1]

    monkeypatch.setattr(method, "draw_labels", recorded)
    images, labels = examples(60)
    kept = labels.clone()
    method.unlearn(convolutional(), loader(images[20:], labels[20:]), loader(images[:20], labels[:20]), Unread())
    assert len(drawn) == 3  # 9 steps, as many as over the retain set, of passes of 4
    assert not torch.equal(drawn[0], drawn[1])
    assert torch.equal(labels, kept)


def test_random_labels_train_on_each_example_once_in_a_pass() -> None:
    method = load_baseline("random_labels")
    images, labels = examples(60)
    retain = loader(images[20:], labels[20:])
    passes = method.relabelled_batches(retain, loader(images[:20], labels[:20]), 5)
    n_batches = len(loader(images, labels))
    batches = list(itertools.islice(passes, n_batches))
    seen = torch.cat([batch for batch, _ in batches])
    place = (seen.flatten(1)[:, None] == images.flatten(1)).all(dim=2).int().argmax(dim=1)
    assert sorted(place.tolist()) == list(range(60))
    assert not torch.equal(place, torch.arange(60))
    given = torch.cat([batch for _, batch in batches])
    retained = place >= 20
    assert torch.equal(given[retained], labels[place[retained]])
    assert not torch.equal(given[~retained], labels[place[~retained]])


# ---- ascent, negative gradient, others ----------------------------------------------------------------------------


def test_gradient_ascent_raises_the_forget_loss_and_keeps_the_statistics() -> None:
    net, (images, labels) = convolutional(), examples(40)
    before = cross_entropy(net(images), labels)
    buffers = {name: buffer.clone() for name, buffer in net.named_buffers()}
    load_baseline("gradient_ascent", LEARNING_RATE=0.01).unlearn(net, Unread(), loader(images, labels), Unread())
    assert cross_entropy(net(images), labels) > before
    assert all(torch.equal(buffer, buffers[name]) for name, buffer in net.named_buffers())


def test_negative_gradient_is_fine_tuning_at_one_and_forgets_below() -> None:
    images, labels = examples(80)
    retain, forget = loader(images[20:], labels[20:], shuffle=False), loader(images[:20], labels[:20], shuffle=False)
    plain = linear()
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.01)
    for _ in range(5):
        for batch_images, batch_labels in retain:
            optimizer.zero_grad()
            cross_entropy(plain(batch_images), batch_labels).backward()
            optimizer.step()
    losses = []
    for weight in (1.0, 0.5):
        net = linear()
        load_baseline("negative_gradient", RETAIN_WEIGHT=weight).unlearn(net, retain, forget, Unread())
        if weight == 1.0:
            torch.testing.assert_close(vector_of(net), vector_of(plain))
        losses.append(cross_entropy(net(images[:20]), labels[:20]).item())
    assert losses[1] > losses[0]


@pytest.mark.parametrize("name", ["finetune", "l1_sparse", "negative_gradient", "random_labels", "gradient_ascent"])
def test_a_last_batch_of_one_example_is_no_error(name: str) -> None:
    constants = {"BN_MODE": "train"} if name == "gradient_ascent" else {}
    images, labels = examples(60)
    retain, forget = loader(images[27:], labels[27:]), loader(images[:17], labels[:17])  # 2 x 16 + 1, 16 + 1
    net = convolutional()
    load_baseline(name, EPOCHS=1, **constants).unlearn(net, retain, forget, Unread())
    assert torch.isfinite(vector_of(net)).all()


def test_fine_tuning_for_no_epochs_changes_nothing() -> None:
    net, (images, labels) = convolutional(), examples(20)
    before = vector_of(net)
    load_baseline("l1_sparse", EPOCHS=0).unlearn(net, loader(images, labels), Unread(), Unread())
    assert torch.equal(vector_of(net), before)


# ---- retraining in a budget ---------------------------------------------------------------------------------------


def test_retraining_fits_a_whole_schedule_into_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNLEARN_TIME_LIMIT_SECONDS", "10.0")
    retrain = load_baseline("retrain_within_budget", STARTED=0.0, BUDGET=0.8)
    clock = types.SimpleNamespace(now=0.0)
    rates: list[float] = []

    def one_second(net: nn.Module, loader: Loader, optimizer: torch.optim.SGD, deadline: float) -> float:
        rates.append(optimizer.param_groups[0]["lr"])
        clock.now += 1.0
        assert clock.now <= deadline == 8.0
        return 1.0

    monkeypatch.setattr(retrain, "train_epoch", one_second)
    monkeypatch.setattr(retrain, "time", types.SimpleNamespace(monotonic=lambda: clock.now))
    retrain.unlearn(linear(), Unread(), Unread(), Unread())
    # The first epoch is timed, at the full rate; the others follow the cosine of the 8 epochs that fit.
    assert rates == pytest.approx([0.1 * (1 + math.cos(math.pi * epoch / 8)) / 2 for epoch in range(8)])


def test_retraining_stops_at_the_deadline_and_keeps_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = examples(200)
    monkeypatch.setenv("UNLEARN_TIME_LIMIT_SECONDS", "0.5")
    retrain = load_baseline("retrain_within_budget", EPOCHS=10**6)
    retrain.unlearn(convolutional(), loader(images, labels, batch_size=2), Unread(), Unread())
    assert retrain.time.monotonic() - retrain.STARTED < 0.5

    monkeypatch.setenv("UNLEARN_TIME_LIMIT_SECONDS", "1000")
    results = []
    for scale in (1.0, 5.0):
        net = convolutional()
        vector_to_parameters(scale * vector_of(net), net.parameters())
        torch.manual_seed(3)
        load_baseline("retrain_within_budget", EPOCHS=2).unlearn(net, loader(images, labels), Unread(), Unread())
        results.append(torch.cat([vector_of(net), *(buffer.flatten() for buffer in net.buffers())]))
    assert torch.equal(*results)
