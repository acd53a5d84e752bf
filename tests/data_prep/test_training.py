"""Trainings, stacked and alone, and the architectures they train."""

import random
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from data_prep.batches import augmented, draw_shifts, learning_rate_of
from data_prep.training import Trainer, train, train_stack
from harness import models
from harness.accelerator import Fake
from harness.tracks.declaration import Training

RECIPE = Training(epochs=2, batch_size=8, learning_rate=0.05)


def build() -> nn.Module:
    """Return the smallest network there is: for grey images, with batch normalisation."""
    return models.build("small_resnet", n_classes=3, channels=1, width=2)


@pytest.fixture(scope="module")
def data() -> tuple[Tensor, Tensor]:
    """20 grey images of 6x6 pixels, so that an epoch has two whole batches and one of 4, and their 3 classes."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(20) % 3
    return torch.randn(20, 1, 6, 6, generator=generator) + labels.view(-1, 1, 1, 1), labels


def assert_close(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    torch.testing.assert_close(dict(ours), dict(theirs), atol=1e-4, rtol=1e-4)


def assert_identical(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], value) for name, value in theirs.items())


def largest_difference(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> float:
    return max(float((ours[name] - value).abs().max()) for name, value in theirs.items())


# ---- one alone and many stacked -----------------------------------------------------------------------------------


def test_a_stack_holds_the_models_that_would_have_been_trained_alone(data: tuple[Tensor, Tensor]) -> None:
    seeds = [3, 2**47, 11]
    stacked = train_stack(build, *data, RECIPE, seeds=seeds)
    assert len(stacked) == 3
    for weights, seed in zip(stacked, seeds, strict=True):
        assert_close(weights, train(build, *data, RECIPE, seed=seed).state_dict())


def test_momentum_and_weight_decay_mean_the_same_in_a_stack_and_alone(data: tuple[Tensor, Tensor]) -> None:
    plain = Training(epochs=2, batch_size=8, learning_rate=0.05, momentum=0.0, weight_decay=0.0)
    heavy = Training(epochs=2, batch_size=8, learning_rate=0.05, momentum=0.5, weight_decay=0.2)
    trained = []
    for recipe in (plain, heavy):
        trained.append(train_stack(build, *data, recipe, seeds=[3, 4])[0])
        assert_close(trained[-1], train(build, *data, recipe, seed=3).state_dict())
    assert largest_difference(*trained) > 1e-2


def test_a_model_does_not_depend_on_those_it_is_stacked_with(data: tuple[Tensor, Tensor]) -> None:
    together = train_stack(build, *data, RECIPE, seeds=[5, 6, 7])
    in_another_order = train_stack(build, *data, RECIPE, seeds=[7, 5])
    alone = train_stack(build, *data, RECIPE, seeds=[6])
    assert_close(in_another_order[0], together[2])
    assert_close(in_another_order[1], together[0])
    assert_close(alone[0], together[1])


def test_models_of_different_seeds_differ_far_more_than_by_rounding(data: tuple[Tensor, Tensor]) -> None:
    first, second = train_stack(build, *data, RECIPE, seeds=[5, 6])
    assert largest_difference(first, second) > 0.1


def test_the_same_seed_gives_the_same_weights_bit_for_bit(data: tuple[Tensor, Tensor]) -> None:
    torch.manual_seed(1)
    first, first_stack = (
        train(build, *data, RECIPE, seed=4).state_dict(),
        train_stack(build, *data, RECIPE, seeds=[4, 8]),
    )
    torch.manual_seed(2)
    assert_identical(train(build, *data, RECIPE, seed=4).state_dict(), first)
    for ours, theirs in zip(train_stack(build, *data, RECIPE, seeds=[4, 8]), first_stack, strict=True):
        assert_identical(ours, theirs)


@pytest.mark.parametrize("stacked", [False, True], ids=["alone", "stacked"])
def test_a_training_leaves_the_global_random_state_as_it_was(data: tuple[Tensor, Tensor], stacked: bool) -> None:
    torch.manual_seed(9)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # type: ignore[index]
    if stacked:
        train_stack(build, *data, RECIPE, seeds=[1, 2])
    else:
        train(build, *data, RECIPE, seed=1)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert np.array_equal(np.random.get_state()[1], before[2])  # type: ignore[index]


def test_a_training_leaves_its_data_as_they_were(data: tuple[Tensor, Tensor]) -> None:
    before = data[0].clone(), data[1].clone()
    train_stack(build, *data, RECIPE, seeds=[1, 2])
    train(build, *data, RECIPE, seed=1)
    assert torch.equal(data[0], before[0])
    assert torch.equal(data[1], before[1])


def test_trained_models_fit_the_data_and_start_from_those_that_do_not(data: tuple[Tensor, Tensor]) -> None:
    recipe = Training(epochs=12, batch_size=8, learning_rate=0.1)

    def accuracy(weights: Mapping[str, Tensor]) -> float:
        net = build()
        net.load_state_dict(dict(weights))
        return float((net.eval()(data[0]).argmax(1) == data[1]).float().mean())

    torch.manual_seed(3)
    assert accuracy(build().state_dict()) < 0.8
    assert accuracy(train_stack(build, *data, recipe, seeds=[3, 4])[0]) > 0.9


def test_a_model_trained_alone_is_returned_in_eval_mode_and_can_stop_early(data: tuple[Tensor, Tensor]) -> None:
    net = train(build, *data, RECIPE, seed=1, epochs=1)
    assert not net.training
    assert int(net.state_dict()["bn1.num_batches_tracked"]) == 3
    assert int(train(build, *data, RECIPE, seed=1).state_dict()["bn1.num_batches_tracked"]) == 6


def test_a_last_batch_of_a_single_example_is_left_out(data: tuple[Tensor, Tensor]) -> None:
    images, labels = data[0][:17], data[1][:17]  # batches of 8, 8 and 1
    assert int(train(build, images, labels, RECIPE, seed=1).state_dict()["bn1.num_batches_tracked"]) == 4
    assert int(train_stack(build, images, labels, RECIPE, seeds=[1, 2])[0]["bn1.num_batches_tracked"]) == 4


def test_a_stack_reports_every_epoch(data: tuple[Tensor, Tensor]) -> None:
    epochs: list[None] = []
    train_stack(build, *data, RECIPE, seeds=[1, 2], on_epoch=lambda: epochs.append(None))
    assert len(epochs) == RECIPE.epochs


@pytest.mark.parametrize(
    "options",
    [
        {"optimizer": "adam", "learning_rate": 0.01},
        {"schedule": "step", "milestones": [1]},
        {"class_weights": True},
        {"augment": True},
    ],
    ids=lambda options: next(iter(options)),
)
def test_every_recipe_means_the_same_in_a_stack_and_alone(data: tuple[Tensor, Tensor], options: dict[str, Any]) -> None:
    recipe = Training(**{"epochs": 2, "batch_size": 8, "learning_rate": 0.05, **options})
    images, labels = data[0][:16], torch.tensor([0] * 12 + [1, 1, 2, 2])  # whole batches: Adam enlarges rounding
    stacked, _ = train_stack(build, images, labels, recipe, seeds=[3, 4])
    torch.testing.assert_close(
        stacked, dict(train(build, images, labels, recipe, seed=3).state_dict()), atol=1e-3, rtol=1e-3
    )
    assert largest_difference(stacked, train_stack(build, images, labels, RECIPE, seeds=[3, 4])[0]) > 1e-2


def test_augmented_images_are_shifted_and_flipped_copies() -> None:
    image = torch.arange(64.0).view(1, 1, 8, 8) + 1
    made = augmented(image.expand(300, -1, -1, -1), draw_shifts(300, torch.Generator().manual_seed(0)))
    padded = nn.functional.pad(image, (4,) * 4)[0, 0]
    possible = [padded[row : row + 8, column : column + 8] for row in range(9) for column in range(9)]
    possible += [one.flip(1) for one in possible]
    assert all(any(torch.equal(one[0], other) for other in possible) for one in made)
    assert len({tuple(one.flatten().tolist()) for one in made}) > 100


def test_a_stack_of_one_model_is_that_model_alone_and_its_weights_are_laid_out_as_usual(
    data: tuple[Tensor, Tensor],
) -> None:
    for mixed in (False, True):
        (weights,) = train_stack(build, *data, RECIPE, seeds=[3], mixed=mixed)
        assert_identical(weights, train(build, *data, RECIPE, seed=3, mixed=mixed).state_dict())
        assert all(value.is_contiguous() and not value.requires_grad for value in weights.values())


@pytest.mark.parametrize("seeds", [[3], [3, 4]], ids=["alone", "stacked"])
def test_a_training_goes_on_from_given_weights_and_epoch(data: tuple[Tensor, Tensor], seeds: list[int]) -> None:
    plain = Training(epochs=2, batch_size=8, learning_rate=0.05, momentum=0.0)  # momentum begins anew
    first = train_stack(build, *data, plain, seeds=seeds, epochs=1)
    both = train_stack(build, *data, plain, seeds=seeds, initial=first, first_epoch=1)
    for ours, whole in zip(both, train_stack(build, *data, plain, seeds=seeds), strict=True):
        assert_close(ours, whole)


@pytest.mark.parametrize("seeds", [[3], [3, 4]], ids=["alone", "stacked"])
def test_what_a_mask_prunes_stays_0(data: tuple[Tensor, Tensor], seeds: list[int]) -> None:
    mask = (
        torch.rand(build().state_dict()["conv1.weight"].shape, generator=torch.Generator().manual_seed(0)) > 0.5
    ).float()
    for weights in train_stack(build, *data, RECIPE, seeds=seeds, masks=[{"conv1.weight": mask}] * len(seeds)):
        assert torch.equal(weights["conv1.weight"] != 0, mask != 0)


@pytest.mark.parametrize("seeds", [[3], [3, 4]], ids=["alone", "stacked"])
def test_a_network_with_dropout_is_trained_and_repeats(data: tuple[Tensor, Tensor], seeds: list[int]) -> None:
    def dropping() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(36, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))

    first = train_stack(dropping, *data, RECIPE, seeds=seeds)
    torch.manual_seed(1)
    for ours, theirs in zip(train_stack(dropping, *data, RECIPE, seeds=seeds), first, strict=True):
        assert_identical(ours, theirs)


def test_channels_last_is_another_memory_format_and_the_same_training(data: tuple[Tensor, Tensor]) -> None:
    last, usual = (train(build, *data, RECIPE, seed=3, channels_last=way).state_dict() for way in (True, False))
    assert_close(last, usual)
    (weights,) = train_stack(build, *data, RECIPE, seeds=[3], channels_last=True)
    assert_identical(weights, last)
    assert all(value.is_contiguous() for value in weights.values())


def test_mixed_precision_rounds_and_learns_as_well(data: tuple[Tensor, Tensor]) -> None:
    recipe = Training(epochs=12, batch_size=8, learning_rate=0.1)
    ours, exact = (train(build, *data, recipe, seed=3, mixed=mixed) for mixed in (True, False))
    assert largest_difference(ours.state_dict(), exact.state_dict()) > 0
    assert all(value.dtype in (torch.float32, torch.int64) for value in ours.state_dict().values())
    with torch.no_grad():
        assert float((ours(data[0]).argmax(1) == data[1]).float().mean()) > 0.9


# ---- captured steps, on a pretended GPU whose captured step is the step itself -------------------------------------

RECIPES: dict[str, dict[str, Any]] = {
    "plain": {},
    "adam": {"optimizer": "adam", "learning_rate": 0.01},
    "augment": {"augment": True, "class_weights": True},
    "step": {"schedule": "step", "milestones": [1]},
}


@pytest.mark.parametrize("seeds", [[3], [3, 4]], ids=["alone", "stacked"])
@pytest.mark.parametrize("options", RECIPES.values(), ids=RECIPES)
def test_one_captured_step_trains_model_after_model_as_uncaptured_ones_do(
    data: tuple[Tensor, Tensor], options: dict[str, Any], seeds: list[int]
) -> None:
    recipe = Training(**{"epochs": 2, "batch_size": 8, "learning_rate": 0.05, **options})  # batches of 8, 8 and 4
    trainer = Trainer(build, *data, recipe, n_models=len(seeds), device="fake")
    trained = [trainer.train(seeds), trainer.train([seed + 10 for seed in seeds]), trainer.train(seeds)]
    assert len(trainer._repeats) == 2
    assert None not in trainer._repeats.values()
    expected = train_stack(build, *data, recipe, seeds=seeds)
    for ours, again, theirs in zip(trained[0], trained[2], expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-6)
        assert_identical(ours, again)
    for ours, theirs in zip(
        trained[1], train_stack(build, *data, recipe, seeds=[seed + 10 for seed in seeds]), strict=True
    ):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("seeds", [[3], [3, 4]], ids=["alone", "stacked"])
def test_captured_steps_hold_other_masks_and_other_starts_and_then_none(
    data: tuple[Tensor, Tensor], seeds: list[int]
) -> None:
    trainer = Trainer(build, *data, RECIPE, n_models=len(seeds), device="fake")
    shape = build().state_dict()["conv1.weight"].shape
    for number in range(2):
        drawn = torch.rand(shape, generator=torch.Generator().manual_seed(number))
        masks = [{"conv1.weight": (drawn > 0.5).float()}] * len(seeds)
        start = train_stack(build, *data, RECIPE, seeds=[seed + number for seed in seeds], epochs=1)
        options: dict[str, Any] = {"masks": masks, "initial": start, "first_epoch": 1}
        for ours, theirs in zip(
            trainer.train(seeds, **options), train_stack(build, *data, RECIPE, seeds=seeds, **options), strict=True
        ):
            torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-6)
            assert torch.equal(ours["conv1.weight"] != 0, drawn > 0.5)
    for ours, theirs in zip(trainer.train(seeds), train_stack(build, *data, RECIPE, seeds=seeds), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-6)


def test_to_capture_a_step_leaves_dropout_as_it_would_have_been(data: tuple[Tensor, Tensor]) -> None:
    def dropping() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(36, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))

    trainer = Trainer(dropping, *data, RECIPE, device="fake")
    first, again = trainer.train([3])[0], trainer.train([3])[0]  # captures on the way, and finds them
    assert_identical(first, again)
    torch.testing.assert_close(first, train_stack(dropping, *data, RECIPE, seeds=[3])[0], atol=1e-6, rtol=1e-6)


def test_a_step_that_cannot_be_captured_is_made_uncaptured(data: tuple[Tensor, Tensor]) -> None:
    trainer = Trainer(build, *data, RECIPE, device="fake")

    def refuse(step: Callable[[], None]) -> None:
        step()
        raise RuntimeError("operation not permitted when stream is capturing")

    trainer.device.capture = refuse  # type: ignore[method-assign]
    torch.testing.assert_close(
        trainer.train([3])[0], train_stack(build, *data, RECIPE, seeds=[3])[0], atol=1e-6, rtol=1e-6
    )


def test_a_training_waits_for_the_gpu_at_no_step(data: tuple[Tensor, Tensor]) -> None:
    trainer = Trainer(build, *data, RECIPE, device="fake")
    trainer.train([3])
    assert isinstance(trainer.device, Fake)
    assert trainer.device.waits == 0


@pytest.mark.filterwarnings("ignore:.*copying from a non-meta parameter.*:UserWarning")
@pytest.mark.parametrize("augment", [False, True])
def test_a_training_leaves_nothing_on_the_cpu_that_a_step_needs(data: tuple[Tensor, Tensor], augment: bool) -> None:
    """On the device that holds no values: an operation of tensors on two devices fails there as on a GPU."""
    recipe = Training(epochs=2, batch_size=8, learning_rate=0.05, augment=augment)
    net = train(build, data[0].to("meta"), data[1].to("meta"), recipe, seed=1)
    assert all(value.is_meta for value in net.state_dict().values())
    stacked = train_stack(build, data[0].to("meta"), data[1].to("meta"), recipe, seeds=[1, 2])
    assert all(value.is_meta for value in stacked[0].values())


@pytest.mark.gpu
@pytest.mark.parametrize("seeds", [[3], [3, 4]], ids=["alone", "stacked"])
def test_captured_steps_train_the_same_models_as_uncaptured_ones(data: tuple[Tensor, Tensor], seeds: list[int]) -> None:
    recipe = Training(epochs=2, batch_size=8, learning_rate=0.05, augment=True)
    on_gpu = (data[0].cuda(), data[1].cuda())
    made = []
    for is_captured in (True, False):
        trainer = Trainer(build, *on_gpu, recipe, n_models=len(seeds), device="cuda", is_captured=is_captured)
        trainer.train([8] * len(seeds))
        made.append(trainer.train(seeds))
        assert not is_captured or all(trainer._repeats.values())
    for ours, theirs in zip(*made, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=1e-3)


@pytest.mark.gpu
@pytest.mark.parametrize("seeds", [[3], [3, 4]], ids=["alone", "stacked"])
def test_a_gpu_trains_the_same_models_up_to_rounding(data: tuple[Tensor, Tensor], seeds: list[int]) -> None:
    recipe = Training(epochs=2, batch_size=8, learning_rate=0.05, augment=True, class_weights=True)
    on_gpu = (data[0].cuda(), data[1].cuda())
    for ours, theirs in zip(
        train_stack(build, *on_gpu, recipe, seeds=seeds, device="cuda"),
        train_stack(build, *data, recipe, seeds=seeds),
        strict=True,
    ):
        torch.testing.assert_close({name: value.cpu() for name, value in ours.items()}, theirs, atol=1e-2, rtol=1e-2)


@pytest.mark.gpu
def test_no_step_on_a_gpu_waits_for_it(data: tuple[Tensor, Tensor]) -> None:
    images, labels = data[0].cuda(), data[1].cuda()
    recipe = Training(epochs=3, batch_size=8, learning_rate=0.05, augment=True)

    def forbid_from_the_second_epoch() -> None:
        torch.cuda.set_sync_debug_mode("error")

    try:
        train(build, images, labels, recipe, seed=1, mixed=True, on_epoch=forbid_from_the_second_epoch)
        torch.cuda.set_sync_debug_mode("default")
        trainer = Trainer(build, images, labels, recipe, mixed=True, device="cuda")
        trainer.train([1], on_epoch=forbid_from_the_second_epoch)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_the_learning_rate_falls_to_a_tenth_at_every_milestone() -> None:
    step = Training(epochs=6, batch_size=8, learning_rate=1.0, schedule="step", milestones=[2, 4])
    assert [learning_rate_of(step, epoch) for epoch in range(6)] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
    cosine = Training(epochs=4, batch_size=8, learning_rate=1.0)
    assert [learning_rate_of(cosine, epoch) for epoch in range(4)] == pytest.approx(
        [1, 0.853553, 0.5, 0.146447], abs=1e-6
    )


def test_a_step_schedule_needs_its_milestones() -> None:
    with pytest.raises(ValueError, match="go together"):
        Training(epochs=6, batch_size=8, learning_rate=1.0, schedule="step")


def test_the_weights_of_a_stack_are_tensors_of_their_own(data: tuple[Tensor, Tensor]) -> None:
    first, second = train_stack(build, *data, RECIPE, seeds=[1, 2])
    assert first.keys() == build().state_dict().keys()
    for value in (*first.values(), *second.values()):
        assert not value.requires_grad
        assert value.is_contiguous()
        assert value.untyped_storage().nbytes() == value.nbytes  # and not a view of the whole stack


# ---- architectures ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "channels", "size", "make"),
    [
        ("small_resnet", 1, 8, lambda: models.build("small_resnet", n_classes=7, channels=1)),
        ("small_resnet", 3, 9, lambda: models.build("small_resnet", n_classes=7, channels=3, width=4)),
        ("resnet18_cifar", 1, 8, lambda: models.build("resnet18_cifar", n_classes=7, channels=1)),
        ("resnet18", 3, 32, lambda: models.build("resnet18", n_classes=7, channels=3)),
    ],
)
def test_a_network_is_built_by_name_for_its_classes_and_channels(
    name: str, channels: int, size: int, make: Callable[[], nn.Module]
) -> None:
    with torch.no_grad():
        assert make().eval()(torch.zeros(2, channels, size, size)).shape == (2, 7)


def test_the_small_network_has_as_many_parameters_as_it_says_and_torchvisions_names() -> None:
    for width, parameters in ((8, 20_000), (16, 78_000)):
        net = models.build("small_resnet", n_classes=10, channels=1, width=width)
        assert sum(value.numel() for value in net.parameters()) == pytest.approx(parameters, rel=0.03)
    assert {name for name, _ in net.named_children()} >= {"conv1", "bn1", "layer1", "layer2", "layer3", "avgpool", "fc"}


def test_small_images_keep_their_size_in_the_stem_of_the_network_for_them() -> None:
    net = models.build("resnet18_cifar", n_classes=10, channels=3)
    with torch.no_grad():
        stem = net.maxpool(net.conv1(torch.zeros(1, 3, 32, 32)))  # type: ignore[operator]
    assert stem.shape == (1, 64, 32, 32)


def test_an_unknown_network_is_an_error_that_names_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"'resnet_18'.*small_resnet, resnet18_cifar or a torchvision model"):
        models.build("resnet_18", n_classes=10, channels=3)


@pytest.mark.parametrize("name", ["fcn_resnet50", "fasterrcnn_resnet50_fpn", "r3d_18"])
def test_a_torchvision_model_that_classifies_no_images_is_unknown(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        models.build(name, n_classes=10, channels=3)


def test_a_torchvision_network_takes_colour_images_only_and_no_width() -> None:
    with pytest.raises(ValueError, match="3 channels"):
        models.build("resnet18", n_classes=10, channels=1)
    with pytest.raises(ValueError, match="takes no width"):
        models.build("resnet18", n_classes=10, channels=3, width=8)


def test_a_width_the_architecture_does_not_have_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="takes no width"):
        models.build("resnet18_cifar", n_classes=10, channels=3, width=8)
