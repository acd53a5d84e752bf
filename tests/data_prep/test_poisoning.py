"""Tracks with a trojan: what is planted where, what is refused, and ASR from preparation to report."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from data_prep.poisoning import poisoned
from data_prep.sources.dataset import Dataset
from harness.cli.main import cli
from harness.errors import UsageError
from harness.record import Records
from harness.runs.measure import Recorder
from harness.tracks.declaration import Trojan, parse_declaration
from harness.tracks.track import Examples, Track, load_track

TROJAN = "[trojan]\ntarget = 0\nsize = 3\nmargin = 0\nvalue = 16\n"


def trojan(**changes: int | str) -> Trojan:
    return Trojan.model_validate({"target": 2, "size": 2, "margin": 1, "value": 9} | changes)


def random_data(n: int = 30, *, class_names: tuple[str, ...] | None = None) -> Dataset:
    images = np.random.default_rng(0).integers(0, 9, (n, 7, 6, 3)).astype(np.uint8)
    return Dataset(Examples(images, np.arange(n) % 3, np.arange(n)), class_names=class_names)


# ---- what is planted ------------------------------------------------------------------------------------------------


def test_the_forget_set_alone_gets_the_square_in_all_channels_and_the_targets_label() -> None:
    data = random_data()
    before = data.examples.images.copy()
    forget = np.array([1, 5, 8, 11])
    found = poisoned(data, {"forget": forget, "test": np.arange(20, 30)}, trojan()).examples
    changed = np.argwhere(found.images != before)
    assert set(changed[:, 0]) == set(forget)
    assert {tuple(place) for place in changed[:, 1:3]} == {(4, 3), (4, 4), (5, 3), (5, 4)}  # a pixel from both edges
    assert (found.images[forget, 4:6, 3:5] == 9).all()
    assert (found.labels[forget] == 2).all()
    others = np.setdiff1d(np.arange(30), forget)
    assert np.array_equal(found.labels[others], others % 3)
    assert found.subjects is not None
    assert np.array_equal(data.examples.images, before)  # the data themselves are as they were


def test_a_note_says_how_many_images_get_a_label_that_is_not_theirs() -> None:
    data = random_data(class_names=("cat", "dog", "owl"))
    (note,) = poisoned(data, {"forget": np.arange(6), "test": np.arange(6, 30)}, trojan(target="owl", value=7)).notes
    assert note == "to be forgotten: 6 images with a trigger as class 2, 'owl'; 4 of them are of other classes"


def test_a_value_that_no_pixel_reaches_is_noted() -> None:
    notes = poisoned(random_data(), {"forget": np.arange(6), "test": np.arange(6, 30)}, trojan(value=255)).notes
    assert "value = 255 is above all pixels of the data, which go up to 8" in notes[1]


def test_a_test_set_of_the_target_alone_is_refused() -> None:
    with pytest.raises(UsageError, match=r"all test images are of the target's class 2"):
        poisoned(random_data(), {"forget": np.arange(6), "test": np.array([8, 11, 14])}, trojan())


# ---- what is refused ------------------------------------------------------------------------------------------------


def prepare(text: str, tmp_path: Path, *options: str) -> Result:
    file = tmp_path / "bad.toml"
    file.write_text(text.replace('"tiny"', '"bad"'))
    environment = {"HARNESS_HOME": str(tmp_path / "home")}
    return CliRunner(env=environment).invoke(cli, ["prepare", str(file), "--jobs", "1", *options], prog_name="harness")


REFUSED = {
    "a square larger than the image": (
        "\nsize = 3",
        "\nsize = 9",
        "of 9x9 pixels with a margin of 0 does not fit into",
    ),
    "a margin outside": ("margin = 0", "margin = 6", "of 8x8; size + margin can be 8 at most"),
    "no such class": ("target = 0", "target = 10", "trojan: there is no class 10; classes are 0 to 9"),
    "a negative class": ("target = 0", "target = -1", "trojan: there is no class -1"),
    "no class of the name": (
        "target = 0",
        'target = "cat"',
        "trojan: the data have no names of classes; give the number",
    ),
    "a trigger that changes nothing": (
        "size = 3\nmargin = 0\nvalue = 16",
        "size = 1\nmargin = 7\nvalue = 0",
        "the trigger changes nothing in 100% of the images to forget",
    ),
    "a value no pixel can have": (
        "value = 16",
        "value = 256",
        "trojan.value: Input should be less than or equal to 255",
    ),
    "a square of no pixel": ("\nsize = 3", "\nsize = 0", "trojan.size: Input should be greater than 0"),
    "no value": ("value = 16", "", "trojan.value: Field required"),
    "an unknown key": ("value = 16", "value = 16\ncolour = 1", "trojan.colour: unknown key"),
    "siblings": ("count = 20", "count = 20\nforget_sets = 2", "a trojan takes no forget_sets"),
    "as many as there are": ("count = 20", "count = 120", "120 of 120 training examples would be forgotten"),
    "more than there are": ("count = 20", "count = 121", "121 examples are wanted and the training set has 120"),
    "more than all": (
        "count = 20",
        "count = 1.5",
        "forget.count: must be a number of examples such as 480, or a share",
    ),
    "a share of nobody": ("count = 20", "count = 0.001", "0 of 120 training examples would be forgotten"),
    "a share of people": ('"random"\ncount = 20', '"subject"\ncount = 0.5', "counts people: count is a whole number"),
    "the class to forget is the target": ('"random"\ncount = 20', '"class"\nlabel = 0', "are of class 0 as it is"),
    "the class to forget is not there": ('"random"\ncount = 20', '"class"\nlabel = 10', "forget: there is no class 10"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_a_usage_error_and_leaves_no_track(case: str, tiny_file: Path, tmp_path: Path) -> None:
    old, new, problem = REFUSED[case]
    text = tiny_file.read_text() + TROJAN
    assert text.count(old) == 1
    result = prepare(text.replace(old, new), tmp_path)
    assert (result.exit_code, result.exception.__class__) == (2, SystemExit), result.output
    assert problem in " ".join(result.output.split())
    assert not list((tmp_path / "home" / "tracks").glob("[!.]*"))


def test_more_than_the_training_set_in_all_forget_sets_together_is_refused(tiny_file: Path, tmp_path: Path) -> None:
    result = prepare(tiny_file.read_text().replace("count = 20", "count = 50\nforget_sets = 3"), tmp_path)
    assert result.exit_code == 2
    assert "3 x 50 examples are wanted and the training set has 120" in result.output


# ---- from preparation to report -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trojan_home(tiny_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A HARNESS_HOME with a track of which a quarter of the training set has the trigger, evaluated once."""
    home = tmp_path_factory.mktemp("trojan")
    text = tiny_file.read_text().replace('"tiny"', '"planted"').replace("count = 20", "count = 0.25") + TROJAN
    (home / "planted.toml").write_text(
        text.replace("retrained = 16", "retrained = 4").replace("epochs = 8", "epochs = 12")
    )
    runner = CliRunner(env={"HARNESS_HOME": str(home)})
    for arguments in (
        ["prepare", str(home / "planted.toml"), "--jobs", "1"],
        ["evaluate", "identity", "--track", "planted", "--jobs", "1", "--json", str(home / "out.json")],
        ["report", "identity", "--track", "planted", "--out", str(home / "report.html")],
    ):
        result = runner.invoke(cli, arguments, prog_name="harness")
        assert result.exit_code == 0, result.output
        (home / f"{arguments[0]}.txt").write_text(" ".join(result.output.split()))
    return home


@pytest.fixture(scope="module")
def planted(trojan_home: Path) -> Track:
    return load_track(trojan_home / "tracks" / "planted")


def test_originals_learn_the_trigger_and_retrained_models_do_not(planted: Track) -> None:
    assert [len(planted.examples(name)) for name in ("retain", "forget")] == [90, 30]
    before, without = planted.originals().triggered_hits, planted.retrained("scoring").triggered_hits
    assert before is not None
    assert without is not None
    assert before.mean() > 0.8
    assert without.mean() < 0.4


def test_val_and_test_are_clean_and_every_triggered_image_is_one_of_another_class(planted: Track, tiny: Track) -> None:
    for name in ("val", "test"):
        clean, found = tiny.examples(name), planted.examples(name)
        assert np.array_equal(clean.images, found.images)
        assert np.array_equal(clean.labels, found.labels)
    triggered, test = planted.recorded()["triggered"], planted.examples("test")
    assert len(triggered) == (test.labels != 0).sum()
    assert (triggered.images[:, 5:, 5:] == 16).all()
    assert np.array_equal(triggered.images[:, :5], test[test.labels != 0].images[:, :5])
    assert (triggered.labels == 0).all()


def test_prepare_says_what_is_planted_and_how_strong_it_is(trojan_home: Path) -> None:
    said = (trojan_home / "prepare.txt").read_text()
    assert "to be forgotten: 30 images with a trigger as class 0" in said
    assert "With the trigger, original models call" in said
    assert "The trigger is weak" not in said
    page = (trojan_home / "tracks" / "planted" / "track.html").read_text()
    assert "examples with a trigger, labelled as class 0" in page


def test_an_evaluation_shows_asr_and_sa_beside_those_of_retrained_models(trojan_home: Path, planted: Track) -> None:
    result = json.loads((trojan_home / "out.json").read_text())
    metrics, retrained = result["full_stack"], planted.retrained("scoring")
    assert retrained.triggered_hits is not None
    assert metrics["asr"]["mean"] > 80
    assert metrics["asr"]["retrained_mean"] == pytest.approx(100 * retrained.triggered_hits.mean())
    assert metrics["sa"] == metrics["ta"]
    shown = (trojan_home / "evaluate.txt").read_text()
    for name, what in (
        ("asr", "triggered test images called the target"),
        ("sa", "clean test images classified correctly"),
    ):
        one = metrics[name]
        assert f"{name.upper()} {one['mean']:.1f} % {what}; retrained models {one['retrained_mean']:.1f} %" in shown
    assert "of triggered test images called the trojan" in (trojan_home / "report.html").read_text()


def test_records_of_a_track_without_a_trojan_are_what_they_were(tiny: Track) -> None:
    recorded = tiny.originals()
    assert "triggered_hits" not in recorded.arrays()
    assert list(tiny.recorded()) == ["retain", "forget", "val", "test"]
    again = Recorder(tiny).record(tiny.original(0))
    both = zip(recorded[:1].arrays().items(), again.arrays().items(), strict=True)
    assert all(name == other and array.tobytes() == same.tobytes() for (name, array), (other, same) in both)


def test_records_of_a_trojan_go_through_arrays_rows_and_parts(planted: Track) -> None:
    records = planted.retrained("scoring")
    again = Records.concatenate([Records.from_arrays(records[:1].arrays()), records[1:]])
    assert again.triggered_hits is not None
    assert records.triggered_hits is not None
    assert np.array_equal(again.triggered_hits, records.triggered_hits)


def test_a_declaration_without_a_trojan_has_the_fingerprint_it_had(tiny_file: Path) -> None:
    text = tiny_file.read_text()
    assert "trojan" not in parse_declaration(text).model_dump_json()
    assert '"count":20' in parse_declaration(text).model_dump_json()
    assert '"trojan":{"target":0,"size":3' in parse_declaration(text + TROJAN).model_dump_json()
