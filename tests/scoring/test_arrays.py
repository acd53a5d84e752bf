"""Anyone's arrays: what is mixed up is refused or doubted by name, and nothing gets an absurd score in silence."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

import harness
from harness.cli.main import cli

N, EXAMPLES, CLASSES = 16, 12, 4
LABELS = np.arange(EXAMPLES) % CLASSES

Arrays = dict[str, Any]
Change = Callable[[Arrays], Arrays]


def side(seed: int, **changes: Any) -> Arrays:
    """Return the logits of models, with accuracies; of what is None nothing."""
    generator = np.random.default_rng(seed)
    arrays = {
        "logits": generator.normal(0, 2, (N, EXAMPLES, CLASSES)) + 3 * np.eye(CLASSES)[LABELS],
        "labels": LABELS,
        "retain_accuracy": generator.uniform(0.9, 1.0, N),
        "test_accuracy": generator.uniform(0.7, 0.8, N),
    }
    return {name: array for name, array in (arrays | changes).items() if array is not None}


def probabilities(logits: np.ndarray) -> np.ndarray:
    shares = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(shares / shares.sum(axis=-1, keepdims=True))


def as_confidence(array: np.ndarray, **others: Any) -> Change:
    return lambda arrays: {"confidence": array, **others}


def changed(**changes: Callable[[np.ndarray], Any]) -> Change:
    return lambda arrays: arrays | {name: change(arrays[name]) for name, change in changes.items()}


def score(folder: Path, unlearned: Arrays, retrained: Arrays) -> Result:
    files = folder / "A.npz", folder / "B.npz"
    for file, arrays in zip(files, (unlearned, retrained), strict=True):
        np.savez(file, **arrays)
    out = ["--json", str(folder / "out.json")]
    return CliRunner().invoke(cli, ["score", "--unlearned", str(files[0]), "--retrained", str(files[1]), *out])


NORMAL = np.random.default_rng(5).normal(0, 2, (N, EXAMPLES))
REFUSED: dict[str, tuple[Change, str]] = {
    "an accuracy in percent": (changed(retain_accuracy=lambda a: 100 * a), "`retain_accuracy` holds 9"),
    "only one of them": (changed(test_accuracy=lambda a: np.append(a[:-1], 71.5)), "`test_accuracy` holds 71.5"),
    "an accuracy that is NaN": (changed(test_accuracy=lambda a: a * np.nan), "`test_accuracy` holds nan"),
    "an infinite accuracy": (changed(test_accuracy=lambda a: a / 0.0), "`test_accuracy` holds inf"),
    "a negative accuracy": (changed(test_accuracy=lambda a: -a), "`test_accuracy` holds -0.7"),
    "accuracies of fewer models": (changed(retain_accuracy=lambda a: a[1:]), "of the 16 models, not (15,)"),
    "their mean": (changed(retain_accuracy=np.mean), "of the 16 models, not ()"),
    "a column of accuracies": (changed(retain_accuracy=lambda a: a[:, None]), "not (16, 1)"),
    "accuracies as text": (changed(retain_accuracy=lambda a: a.astype(str)), "is of type <U"),
    "accuracies that are yes or no": (changed(retain_accuracy=lambda a: a > 0), "is of type bool"),
    "probabilities against logits": (changed(logits=probabilities), "`logits` holds probabilities"),
    "the same in float16": (changed(logits=lambda a: probabilities(a).astype(np.float16)), "holds probabilities"),
    "the same in percent": (changed(logits=lambda a: 100 * probabilities(a)), "holds probabilities"),
    "decisions": (changed(logits=lambda a: np.eye(CLASSES)[a.argmax(-1)]), "holds decisions"),
    "decisions as integers": (changed(logits=lambda a: np.eye(CLASSES, dtype=int)[a.argmax(-1)]), "holds decisions"),
    "numbers of classes": (changed(logits=lambda a: a.argmax(-1)), "logits must be"),
    "a NaN": (changed(logits=lambda a: np.where(a == a.max(), np.nan, a)), "`logits` of model"),
    "an overflow": (changed(logits=lambda a: (1e5 * a).astype(np.float16)), "largest number of float16"),
    "complex logits": (changed(logits=lambda a: a + 0j), "is of type complex128"),
    "axes swapped": (changed(logits=lambda a: a.swapaxes(0, 1)), "seem to be swapped"),
    "no examples": (changed(logits=lambda a: a[:, :0], labels=lambda a: a[:0]), "`logits` has to be"),
    "a single class": (changed(logits=lambda a: a[:, :, :1], labels=lambda a: 0 * a), "a single class"),
    "another number of classes": (changed(logits=lambda a: np.concatenate((a, a), -1)), "`logits` are of"),
    "labels from 1": (changed(labels=lambda a: a + 1), "from 0 to 3, and are 1 to 4"),
    "labels in one-hot rows": (changed(labels=lambda a: np.eye(CLASSES)[a]), "argmax"),
    "labels of another order": (changed(labels=lambda a: a[::-1]), "in one order"),
    "labels of other examples": (changed(labels=lambda a: np.append(a[:-1], 0)), "`labels` of example 11 are"),
    "fewer models": (
        lambda arrays: {name: array if name == "labels" else array[1:] for name, array in arrays.items()},
        "of one shape, not (1",
    ),
    "two models": (as_confidence(NORMAL[:2]), "it is of 2 models"),
    "other names": (lambda arrays: {"arr_0": arrays["logits"], "arr_1": LABELS}, "but `arr_0`, `arr_1`"),
    "objects": (changed(logits=lambda a: a.astype(object)), "the array 'logits' cannot be read"),
    "confidences of one model": (as_confidence(NORMAL[0]), "`confidence` has to be (n_models, n_examples), not (12,)"),
    "confidences swapped": (as_confidence(NORMAL.T), "models and examples are swapped"),
    "both swapped, with accuracies": (
        as_confidence(NORMAL.T, test_accuracy=np.ones(N)),
        "are models and examples swapped?",
    ),
    "infinite confidences": (
        as_confidence(np.full((N, EXAMPLES), np.inf)),
        "`confidence` of model 0, example 0 is not finite",
    ),
    "confidences yes or no": (as_confidence(NORMAL > 0), "is of type bool"),
    "confidences with float labels": (as_confidence(NORMAL, labels=LABELS / 1), "labels must be integers"),
    "confidences with fewer labels": (as_confidence(NORMAL, labels=LABELS[1:]), "`labels` has to be one for each"),
    "probabilities against confidences": (as_confidence(probabilities(NORMAL)), "`confidence` holds probabilities"),
}


@pytest.mark.parametrize("is_first", [True, False], ids=["unlearned", "retrained"])
@pytest.mark.parametrize("mixed_up", REFUSED)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_what_is_mixed_up_on_one_side_is_refused_by_name(mixed_up: str, is_first: bool, tmp_path: Path) -> None:
    change, message = REFUSED[mixed_up]
    wrong, right = change(side(1)), side(2)
    result = score(tmp_path, *((wrong, right) if is_first else (right, wrong)))
    assert result.exit_code == 2, result.output
    error = result.stderr.partition("Error: ")[2]
    assert message in error
    assert ("A.npz" if is_first else "B.npz") in error
    assert result.stdout == ""


DOUBTED: dict[str, tuple[Arrays, Arrays, str]] = {
    "probabilities on both sides": (
        side(1, logits=probabilities(side(1)["logits"])),
        side(2, logits=probabilities(side(2)["logits"])),
        "`logits` holds probabilities",
    ),
    "on both sides as confidences": (
        {"confidence": probabilities(NORMAL)},
        {"confidence": probabilities(NORMAL + 1)},
        "`confidence` holds probabilities",
    ),
    "outputs of a sigmoid": (side(1), side(2, logits=1 / (1 + np.exp(-side(2)["logits"]))), "sigmoid"),
    "whole numbers": (side(1, logits=side(1)["logits"].astype(int)), side(2), "whole numbers"),
    "one model many times": (side(1, logits=np.repeat(side(1)["logits"][:1], N, 0)), side(2), "only 1 of them differ"),
    "constant logits": (side(1, logits=np.full((N, EXAMPLES, CLASSES), 0.5)), side(2), "only 1 of them differ"),
    "the same models on both sides": (side(1), side(1), "16 models are on both sides"),
    "one of them": (
        side(1),
        side(2, logits=np.concatenate((side(1)["logits"][3:4], side(2)["logits"][1:]))),
        "1 models are on both sides",
    ),
    "few models": ({"confidence": NORMAL[:5]}, {"confidence": NORMAL[5:10]}, "mostly noise"),
    "an accuracy that the other lacks": (side(1), side(2, test_accuracy=None), "`test_accuracy` is on one side only"),
    "another name": (side(1, retain_acc=np.ones(N)), side(2), "`retain_acc` is not used"),
    "percent that was divided twice": (side(1), side(2, test_accuracy=np.full(N, 0.0075)), "times that of retrained"),
}


@pytest.mark.parametrize("odd", DOUBTED)
def test_what_may_be_right_is_scored_with_a_warning(odd: str, tmp_path: Path) -> None:
    ours, theirs, message = DOUBTED[odd]
    result = score(tmp_path, ours, theirs)
    assert result.exit_code == 0, result.output
    assert message in result.stderr
    warnings = json.loads((tmp_path / "out.json").read_text())["warnings"]
    assert result.stderr.splitlines() == [f"warning: {warning}" for warning in warnings]
    assert "forgetting_quality" in result.stdout


def test_a_ratio_to_accuracies_of_nothing_is_refused(tmp_path: Path) -> None:
    result = score(tmp_path, side(1), side(2, test_accuracy=np.zeros(N)))
    assert result.exit_code == 2
    assert "B.npz: `test_accuracy` is 0 throughout" in result.stderr


@pytest.mark.parametrize(
    "change",
    [
        changed(logits=lambda a: np.log(probabilities(a))),
        changed(logits=lambda a: a + 100),
        changed(logits=lambda a: a.astype(np.float32), retain_accuracy=lambda a: a.astype(np.float32)),
        changed(labels=lambda a: a.astype(np.uint8), test_accuracy=lambda a: np.ones(N, int)),
    ],
    ids=["log-probabilities", "shifted", "float32", "integers"],
)
def test_what_is_the_same_in_other_words_gets_its_score_without_a_word(change: Change, tmp_path: Path) -> None:
    plain = score(tmp_path, side(1), side(2))
    result = score(tmp_path, change(side(1)), side(2))
    assert (plain.stderr, result.stderr) == ("", "")
    quality = [line for line in plain.stdout.splitlines() if line.startswith("forgetting_quality")]
    assert quality[0] in result.stdout


def test_a_file_of_one_array_without_a_name_is_told_how_to_save_it(tmp_path: Path) -> None:
    np.save(tmp_path / "A.npy", NORMAL)
    result = CliRunner().invoke(
        cli, ["score", *(f"--{side}={tmp_path / 'A.npy'}" for side in ("unlearned", "retrained"))]
    )
    assert result.exit_code == 2
    assert "np.savez" in result.stderr


def test_the_api_warns_of_what_it_doubts_and_raises_what_it_refuses() -> None:
    with pytest.warns(UserWarning, match="unlearned and retrained: 16 models are on both sides"):
        harness.score(side(1), side(1))
    with pytest.raises(ValueError, match="unlearned: `retain_accuracy` holds"):
        harness.score(side(1, retain_accuracy=np.full(N, 95.0)), side(2))
