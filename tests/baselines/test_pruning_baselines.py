"""Prune, then unlearn; and SCRUB, SSD and SalUn: what each method promises, on nets of a few weights."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from harness import models
from tests.baselines.baseline_module import load_baseline

METHODS = ("omp", "synflow", "imp", "random")
UNLEARNERS = ("finetune", "gradient_ascent", "l1", "fisher")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def pruner(method: str, **constants: object) -> Any:
    if method == "synflow":
        constants = {"ITERATIONS": 20} | constants
    return load_baseline("prune_then_unlearn", PRUNER=method, **constants)


def small_net(n_classes: int = 7, width: int = 4) -> Any:
    return models.build("small_resnet", n_classes=n_classes, channels=1, width=width).eval()


def examples(n: int, n_classes: int = 7) -> Any:
    """A loader over random grey images of 8x8 pixels, in batches of 8."""
    return DataLoader(TensorDataset(torch.randn(n, 1, 8, 8), torch.arange(n) % n_classes), batch_size=8, shuffle=True)


def convolutions(net: nn.Module) -> list[Tensor]:
    return [module.weight.detach() for module in net.modules() if isinstance(module, nn.Conv2d)]


def n_left(net: nn.Module) -> int:
    return sum(int(weight.count_nonzero()) for weight in convolutions(net))


def n_all(net: nn.Module) -> int:
    return sum(weight.numel() for weight in convolutions(net))


# ---- prune, then unlearn ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unlearner", UNLEARNERS)
@pytest.mark.parametrize("method", METHODS)
def test_as_many_weights_are_left_as_asked_for_and_their_masks_hold_to_the_end(method: str, unlearner: str) -> None:
    module = pruner(method, UNLEARNER=unlearner, EPOCHS=2)
    found: list[list[Tensor]] = []
    apply_masks = module.apply_masks

    def remember(net: nn.Module, masks: list[Tensor]) -> None:
        found.append(masks)
        apply_masks(net, masks)

    module.apply_masks = remember
    net = small_net()
    before = net.state_dict()["fc.weight"].clone()
    module.unlearn(net, examples(40), examples(10), None)
    assert abs(n_left(net) - 0.05 * n_all(net)) <= 1
    assert all(torch.equal(weight != 0, mask != 0) for weight, mask in zip(convolutions(net), found[-1], strict=True))
    assert bool(net.state_dict()["fc.weight"].all())
    assert not torch.equal(net.state_dict()["fc.weight"], before)
    assert all(bool(value.isfinite().all()) for value in net.state_dict().values())


def test_one_shot_pruning_of_a_net_that_is_pruned_already_keeps_its_masks() -> None:
    net = small_net()
    module = pruner("omp", EPOCHS=0)
    module.unlearn(net, examples(40), examples(10), None)
    before = [weight != 0 for weight in convolutions(net)]
    module.unlearn(net, examples(40), examples(10), None)
    assert all(torch.equal(weight != 0, mask) for weight, mask in zip(convolutions(net), before, strict=True))


def test_one_shot_pruning_leaves_the_largest_weights() -> None:
    net = small_net()
    sizes = torch.cat([weight.abs().flatten() for weight in convolutions(net)])
    pruner("omp", EPOCHS=0, SPARSITY=0.75).unlearn(net, examples(40), examples(10), None)
    left = torch.cat([weight.flatten() for weight in convolutions(net)]) != 0
    assert sizes[left].min() >= sizes[~left].max()


def test_random_pruning_leaves_the_same_share_of_every_layer_and_others_each_time() -> None:
    masks, others = (pruner("random", SPARSITY=0.9).random_masks(small_net()) for _ in range(2))
    assert all(abs(float(mask.sum()) - 0.1 * mask.numel()) <= 1 for mask in masks)
    assert not all(torch.equal(mask, other) for mask, other in zip(masks, others, strict=True))


def test_rounds_prune_an_equal_share_each_and_at_most_the_rate() -> None:
    module = pruner("imp", EPOCHS=3)
    left: list[int] = []
    apply_masks = module.apply_masks

    def remember(net: nn.Module, masks: list[Tensor]) -> None:
        apply_masks(net, masks)
        left.append(n_left(net))

    module.apply_masks = remember
    net = small_net()
    module.unlearn(net, examples(40), examples(10), None)
    rounds = sorted(set(left), reverse=True)
    assert len(rounds) == 14  # 0.8^13 > 0.05 > 0.8^14
    shares = [after / before for before, after in zip([n_all(net), *rounds[:-1]], rounds, strict=True)]
    assert all(share == pytest.approx(0.05 ** (1 / 14), abs=0.01) for share in shares)


def test_synaptic_flow_is_conserved_from_layer_to_layer() -> None:
    net: Any = nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1, bias=False),
        nn.ReLU(),
        nn.Conv2d(3, 5, 3, padding=1, bias=False),
        nn.ReLU(),
        nn.Conv2d(5, 2, 8, bias=False),
    )
    module = pruner("synflow", SPARSITY=0.5, ITERATIONS=1)
    scored: list[list[Tensor]] = []
    highest = module.highest

    def remember(scores: list[Tensor], share: float) -> list[Tensor]:
        scored.append(scores)
        masks: list[Tensor] = highest(scores, share)
        return masks

    module.highest = remember
    module.synflow_masks(net, torch.zeros(1, 8, 8))
    totals = [float(scores.sum()) for scores in scored[0]]
    assert totals == pytest.approx([totals[0]] * 3)


def test_synaptic_flow_never_prunes_a_whole_layer_where_magnitude_does() -> None:
    torch.manual_seed(1)
    net: Any = nn.Sequential(
        *(nn.Conv2d(n, m, 3, padding=1, bias=False) for n, m in ((1, 4), (4, 32), (32, 32), (32, 4)))
    )
    with torch.no_grad():
        net[2].weight.mul_(1e-3)
    by_size = pruner("omp").magnitude_masks(net, 0.02)
    by_flow = pruner("synflow", SPARSITY=0.98).synflow_masks(net, torch.zeros(1, 8, 8))
    assert min(float(mask.sum()) for mask in by_size) == 0
    assert min(float(mask.sum()) for mask in by_flow) > 0
    with torch.no_grad():
        assert all(weight.min() < 0 for weight in convolutions(net))  # the net's own signs stay


@pytest.mark.parametrize("constant", ["PRUNER", "UNLEARNER"])
def test_an_unknown_choice_is_an_error_that_names_it_before_anything_is_changed(constant: str) -> None:
    net = small_net()
    with pytest.raises(ValueError, match="'finetuning'"):
        load_baseline("prune_then_unlearn", **{constant: "finetuning"}).unlearn(net, examples(8), examples(8), None)
    assert n_left(net) == n_all(net)


def test_noise_is_the_larger_the_less_the_retain_set_depends_on_a_weight() -> None:
    module = pruner("omp", FISHER_ALPHA=1e-4)
    net: Any = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.Flatten(), nn.Linear(2, 3))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([1.0, 1e-3]).view(2, 1, 1, 1))
        net[2].weight.zero_()
        net[2].bias.zero_()
    before = net[2].weight.detach().clone()
    loader = DataLoader(TensorDataset(torch.ones(8, 1, 1, 1), torch.zeros(8, dtype=torch.long)), batch_size=4)
    module.add_fisher_noise(net, module.magnitude_masks(net, 1.0), loader)
    moved = (net[2].weight.detach() - before).abs().mean(dim=0)
    assert moved[1] > 5 * moved[0]


# ---- SCRUB --------------------------------------------------------------------------------------------------------


def test_scrubs_losses_are_the_papers() -> None:
    module = load_baseline("scrub", ALPHA=0.5, GAMMA=2.0, TEMPERATURE=3.0)
    student, teacher, labels = torch.randn(5, 4), torch.randn(5, 4), torch.tensor([0, 1, 2, 3, 0])
    p, q = (teacher / 3).softmax(1), (student / 3).softmax(1)
    divergence = 9 * float((p * (p / q).log()).sum(1).mean())
    cross_entropy = -float(student.softmax(1).log()[torch.arange(5), labels].mean())
    assert float(module.max_loss(student, teacher)) == pytest.approx(-divergence, rel=1e-4)
    assert float(module.min_loss(student, teacher, labels)) == pytest.approx(
        0.5 * divergence + 2 * cross_entropy, rel=1e-4
    )
    assert float(module.divergence(teacher, teacher)) == pytest.approx(0, abs=1e-6)


def test_scrubs_max_steps_move_the_student_from_its_teacher_on_the_forget_set() -> None:
    def divergence(max_epochs: int) -> float:
        torch.manual_seed(0)
        module = load_baseline("scrub", LEARNING_RATE=0.01, EPOCHS=2, MAX_EPOCHS=max_epochs)
        net, forget = small_net(), examples(16)
        images = forget.dataset.tensors[0]
        before = net(images).detach()
        return float(module.divergence(module.unlearn(net, examples(40), forget, None)(images).detach(), before))

    assert divergence(2) > 1.2 * divergence(0)


# ---- selective synaptic dampening ---------------------------------------------------------------------------------


def test_ssd_dampens_weights_that_matter_more_to_the_forget_set_and_no_others() -> None:
    module = load_baseline("selective_synaptic_dampening", SELECTION=2.0, DAMPENING=1.0)
    reference = torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0])
    forget = torch.tensor([1.9, 2.5, 10.0, 0.0, 1.0])
    assert module.factors(reference, forget).tolist() == pytest.approx([1, 0.4, 0.1, 1, 0])
    module.DAMPENING = 4.0
    assert module.factors(reference, forget).tolist() == pytest.approx([1, 1, 0.4, 1, 0])  # never enlarged


@pytest.mark.parametrize(("of", "groups"), [("examples", 20), ("batches", 3)])
def test_ssd_squares_the_gradients_of_single_examples_or_of_batches(of: str, groups: int) -> None:
    module, net = load_baseline("selective_synaptic_dampening", GRADIENTS_OF=of), small_net()
    loader = DataLoader(examples(20).dataset, batch_size=8)
    sums, count = module.squared_gradients(net, loader)
    parts = loader if of == "batches" else DataLoader(loader.dataset, batch_size=1)
    expected = torch.zeros_like(sums["fc.weight"])
    for images, labels in parts:
        loss = nn.functional.cross_entropy(net(images), labels)
        expected += torch.autograd.grad(loss, [net.get_submodule("fc").weight])[0] ** 2
    assert count == groups
    torch.testing.assert_close(sums["fc.weight"], expected, rtol=1e-3, atol=1e-6)


def test_compared_with_all_data_a_large_forget_set_can_select_no_weight() -> None:
    def moved(compared_with: str) -> bool:
        net = small_net()
        before = [weight.clone() for weight in net.parameters()]
        module = load_baseline("selective_synaptic_dampening", SELECTION=5.0, COMPARED_WITH=compared_with)
        images, labels = examples(60).dataset.tensors
        retain, forget = TensorDataset(images[:40], labels[:40] * 0), TensorDataset(images[40:], labels[40:] * 0 + 1)
        module.unlearn(net, DataLoader(retain, batch_size=8), DataLoader(forget, batch_size=8), None)
        return not all(torch.equal(*pair) for pair in zip(net.parameters(), before, strict=True))

    assert moved("retain")
    assert not moved("all")


# ---- SalUn --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_saluns_mask_holds_its_share_of_the_weights_those_with_the_largest_gradients(share: float) -> None:
    module, net, forget = load_baseline("salun", MASK_SHARE=share), small_net(), examples(20)
    masks = torch.cat([mask.flatten() for mask in module.saliency_masks(net, forget)])
    images, labels = forget.dataset.tensors
    gradients = torch.autograd.grad(nn.functional.cross_entropy(net(images), labels), list(net.parameters()))
    saliency = torch.cat([gradient.abs().flatten() for gradient in gradients])
    assert abs(int(masks.sum()) - share * len(masks)) <= 1
    assert saliency[masks].min() >= saliency[~masks].max() - 1e-6


def test_salun_changes_the_weights_of_its_mask_and_no_others() -> None:
    module, net, forget = load_baseline("salun", EPOCHS=1), small_net(), examples(20)
    before = [weight.clone() for weight in net.parameters()]
    masks = module.saliency_masks(net, forget)
    module.unlearn(net, examples(40), forget, None)
    changed = [weight != old for weight, old in zip(net.parameters(), before, strict=True)]
    assert not any(bool((new & ~mask).any()) for new, mask in zip(changed, masks, strict=True))
    assert sum(int(new.sum()) for new in changed) > 0.9 * sum(int(mask.sum()) for mask in masks)


def test_random_labels_are_drawn_from_all_classes_or_all_but_the_true_one() -> None:
    module, labels = load_baseline("salun"), torch.arange(7000) % 7
    drawn = module.random_labels(labels, 7)
    assert float((drawn == labels).float().mean()) == pytest.approx(1 / 7, abs=0.02)
    assert set(drawn.tolist()) == set(range(7))
    module.TRUE_LABEL_ALLOWED = False
    drawn = module.random_labels(labels, 7)
    assert not bool((drawn == labels).any())
    assert set(drawn.tolist()) == set(range(7))
