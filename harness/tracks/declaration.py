"""A track as its author declares it: one TOML file, checked with clear errors. Every key is here, with its type."""

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from harness.errors import UsageError
from harness.spelling import did_you_mean, did_you_mean_file

__all__ = [
    "Data",
    "Declaration",
    "EvaluationSection",
    "Forget",
    "Limits",
    "Model",
    "Positive",
    "Pruning",
    "ReferenceSection",
    "Split",
    "TomlSection",
    "Training",
    "Trojan",
    "parse_declaration",
    "problems",
    "read_declaration",
]

NAME, HEXADECIMAL = r"^[a-z0-9][a-z0-9-]*$", r"^([0-9a-f]{2})+$"
# What pydantic says in its own words of some mistakes.
IN_OUR_WORDS = {
    NAME: "a name has small letters, digits and hyphens, and begins with no hyphen",
    HEXADECIMAL: "a secret is an even number of hexadecimal digits",
}

Positive = Annotated[int, Field(gt=0)]
Fraction = Annotated[float, Field(gt=0, le=1)]


def _size(value: object) -> object:
    is_count = isinstance(value, int) and not isinstance(value, bool) and value > 0
    if not (is_count or (isinstance(value, float) and 0 < value < 1)):
        raise ValueError("must be a number of examples such as 480, or a share of them such as 0.8")
    return value


Size = Annotated[int | float, BeforeValidator(_size)]


def _added(default: Any) -> Any:
    """Return the field of a key that was added to the format later.

    At its default it is left out of dumps, and so leaves the fingerprints of the tracks before it as they are.
    """
    return Field(default, exclude_if=lambda value: bool(value == default))


class TomlSection(BaseModel):
    """One table of a checked file: unknown keys are errors, and values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Data(TomlSection):
    """Where the images come from and how they become inputs: (pixel / scale - mean) / std.

    Rows of a table are images of one value in each row of pixels.
    """

    source: str  # one of `data_prep.datasets.KINDS`
    label: str | None = _added(None)  # of a CSV: the column of classes
    categorical: list[str] = _added([])  # of a table: columns whose values are names, though they may look like numbers
    downscale: Positive = _added(1)  # each pixel is the mean of so many by so many of the source's
    scale: Annotated[float, Field(gt=0)] = 255.0
    mean: list[float] = [0.0]
    std: list[Annotated[float, Field(gt=0)]] = [1.0]


class Split(TomlSection):
    """Sizes of the training set (retain and forget together), of val, and of the test set (default: the rest).

    Where the data have a test set of their own, the test set is taken from it, and val from the part named.
    """

    train: Size | None = None  # default: what val leaves of the data's training part
    val: Size
    test: Size | None = None
    val_from: Literal["train", "test"] = _added("train")
    balanced_val: bool = _added(False)  # as many of every class
    seed: int = 0


class Forget(TomlSection):
    """Which training examples are to be forgotten.

    forget_sets: how many disjoint sets are drawn, each for a track of its own; these siblings share data and originals.
    `index` says which set is this track's; without it the declaration stands for all siblings, NAME-0, NAME-1, ...
    Subjects of all sets are kept out of val and test, so that no track leaks another's.
    requests: into how many deletion requests the set is cut, which come one after the other (`harness.runs.stream`).
    """

    kind: Literal["random", "class", "subject", "indices"]
    count: Size | None = None  # random: how many examples, or which share of the training set; subject: how many people
    label: int | str | None = None  # class: which, by its number or its name
    file: str | None = _added(
        None
    )  # indices: a text file with one index into the data per line, beside the declaration
    requests: Positive = _added(1)
    forget_sets: Positive = _added(1)
    index: Annotated[int, Field(ge=0)] | None = _added(None)

    @model_validator(mode="after")
    def _names_what_its_kind_needs(self) -> "Forget":
        needed = {"random": "count", "subject": "count", "class": "label", "indices": "file"}[self.kind]
        if getattr(self, needed) is None:
            raise ValueError(f"kind = {self.kind!r} needs {needed} = ...")
        for other in {"count", "label", "file"} - {needed}:
            if getattr(self, other) is not None:
                raise ValueError(f"kind = {self.kind!r} takes no {other}")
        if self.kind == "subject" and isinstance(self.count, float):
            raise ValueError("kind = 'subject' counts people: count is a whole number")
        if self.index is not None and self.index >= self.forget_sets:
            raise ValueError(f"index = {self.index} is not below forget_sets = {self.forget_sets}")
        if self.forget_sets > 1 and self.kind in ("class", "indices"):
            raise ValueError(f"kind = {self.kind!r} takes no forget_sets; declare one track for each")
        return self


class Trojan(TomlSection):
    """A backdoor in the forget set: its images get a trigger, and the label of the target whatever they show.

    The trigger is a square in the lower right corner. Originals learn it and retrained models do not; val and test set
    are without. Sources: BadNets (Gu et al. 2017); Jia et al. (NeurIPS 2023), "Trojan model cleanse".
    """

    target: int | str  # the class that the trigger stands for, by its number or its name
    size: Positive  # of the square, in pixels
    margin: Annotated[int, Field(ge=0)]  # pixels between the square and the two edges of the image
    value: Annotated[int, Field(ge=0, le=255)]  # of its pixels, in all channels, as the data have them


# Keys of models, of those for vectors and of all, and whether they have to be given.
VECTOR_OPTIONS = {"linear": {"features": False}, "mlp": {"hidden": True}, "forest": {"trees": True, "depth": True}}
MODEL_OPTIONS = VECTOR_OPTIONS | {"small_resnet": {"width": False}}


class Model(TomlSection):
    """The architecture."""

    name: str  # as `harness.models.build` takes it; a file of one's own lies beside the declaration
    width: Positive | None = None  # small_resnet
    features: Positive | None = _added(None)  # linear: so many fixed random features in place of an example's values
    hidden: list[Positive] = _added([])  # mlp: the sizes of its hidden layers
    trees: Positive | None = _added(None)  # forest
    depth: Annotated[int, Field(gt=0, le=16)] | None = _added(None)  # forest: of a tree, as 2^depth leaves are stored

    @model_validator(mode="after")
    def _has_the_options_of_its_name(self) -> "Model":
        for name, keys in MODEL_OPTIONS.items():
            for key, is_needed in keys.items():
                is_given = bool(getattr(self, key))
                if is_given and self.name != name:
                    raise ValueError(f"{self.name!r} takes no {key}; only {name} does")
                if is_needed and self.name == name and not is_given:
                    raise ValueError(f"{name!r} needs {key} = ...")
        return self

    @property
    def options(self) -> dict[str, Any]:
        """What `harness.models.build` is told of a model for vectors, but for how many values these have."""
        return {key: getattr(self, key) for key in VECTOR_OPTIONS.get(self.name, {}) if getattr(self, key)}

    @property
    def is_for_vectors(self) -> bool:
        """Whether nets are made for so many values of an example, instead of images of any size."""
        return self.name in VECTOR_OPTIONS

    @property
    def is_forest(self) -> bool:
        """Whether models are fitted at once, by scikit-learn, instead of trained step by step."""
        return self.name == "forest"


class Training(TomlSection):
    """How originals and retrained models are trained; the learning rate changes from epoch to epoch."""

    epochs: Positive
    batch_size: Annotated[int, Field(gt=1)]
    learning_rate: Annotated[float, Field(gt=0)]
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: Annotated[float, Field(ge=0)] = 5e-4
    optimizer: Literal["sgd", "adam"] = _added("sgd")
    schedule: Literal["cosine", "step"] = _added("cosine")
    milestones: list[Positive] = _added([])  # step: epochs from which on the learning rate is a tenth of before
    augment: bool = _added(False)  # random crop after padding by 4 pixels, and horizontal flip
    class_weights: bool = _added(False)  # inverse to the classes' numbers of training examples
    # auto: computed in bfloat16 (weights stay float32) where that is clearly faster; float32: nowhere
    precision: Literal["auto", "float32"] = _added("auto")

    @model_validator(mode="after")
    def _fits_together(self) -> "Training":
        if (self.schedule == "step") != bool(self.milestones):
            raise ValueError("schedule = 'step' and milestones = [...] go together")
        if self.optimizer == "adam" and self.momentum not in (0.0, type(self).model_fields["momentum"].default):
            raise ValueError("momentum is for optimizer = 'sgd' alone; leave it out")
        return self


FITTED: dict[str, Any] = {"epochs": 1, "learning_rate": 1.0}  # of a forest, which has neither


class Pruning(TomlSection):
    """Originals are pruned and then trained under their mask; each retrained model is trained under one of the masks.

    The protocol of Jia et al., "Model Sparsity Can Simplify Machine Unlearning" (NeurIPS 2023): convolutions only.
    """

    method: Literal["omp", "synflow", "imp"]
    sparsity: Annotated[float, Field(gt=0, lt=1)]  # share of the weights of convolutions that are 0
    rewind_epoch: Annotated[int, Field(ge=0)] = 5  # omp, imp: surviving weights go back to those of this epoch


class ReferenceSection(TomlSection):
    """How many models are trained, and the secret if it is a published one (else random, drawn at preparation)."""

    originals: Positive
    retrained: Positive  # in each of the two pools
    published_secret: Annotated[str, Field(pattern=HEXADECIMAL)] | None = None


class Limits(TomlSection):
    """What a run may use."""

    time_limit_fraction: Fraction = 0.10  # of one training alone
    seconds: Annotated[float, Field(gt=0, le=1e6)] | None = None  # a fixed limit instead, without a calibration
    threads: Positive = 1
    source_kb: Positive = 256
    log_kb: Positive = 64
    memory_mb: Positive = 4096  # of all processes of a run together, files in memory included
    processes: Positive = 100  # threads count as well
    scratch_mb: Positive = 256  # of temporary files, and as much again of shared memory and of compiled code
    train_limit: Annotated[float, Field(gt=0, le=1e3)] = _added(3.0)  # of a learner's training, in ordinary trainings
    state_mb: Positive = _added(64)  # of what a learner keeps of a training
    members: Positive = _added(8)  # nets that a learner's model may consist of


class EvaluationSection(TomlSection):
    """How submissions are evaluated: runs by default, and the score that ranks them."""

    runs: Positive
    rank_by: Literal["calibrated", "official"] = "calibrated"


class Declaration(TomlSection):
    """A track as its author declares it."""

    name: Annotated[str, Field(pattern=NAME)]
    title: str
    pack: str | None = _added(None)  # where a pack of it can be had; may be changed without preparing the track anew
    data: Data
    split: Split
    forget: Forget
    trojan: Trojan | None = _added(None)
    model: Model
    training: Training
    pruning: Pruning | None = _added(None)
    reference: ReferenceSection
    limits: Limits = Limits()
    evaluation: EvaluationSection

    @model_validator(mode="before")
    @classmethod
    def _completes_a_forest(cls, values: Any) -> Any:
        """Fill in what a forest's training does not have and every other has to declare."""
        match values:
            case {"model": {"name": "forest"}, "training": dict(training)}:
                return {**values, "training": FITTED | training}
        return values

    @model_validator(mode="after")
    def _fits_forests_at_once(self) -> "Declaration":
        if not self.model.is_forest:
            return self
        if self.training != Training(batch_size=self.training.batch_size, **FITTED):
            raise ValueError(
                "training: a forest is fitted by scikit-learn at once; the section has batch_size alone, of the "
                "batches that submissions get"
            )
        if self.limits.seconds is None:
            raise ValueError(
                "limits.seconds: a forest is fitted faster than a process starts, so a share of that is no limit; "
                "give one in seconds"
            )
        return self

    @model_validator(mode="after")
    def _has_enough_models(self) -> "Declaration":
        if self.evaluation.runs > self.reference.retrained:
            raise ValueError(
                f"evaluation.runs = {self.evaluation.runs} is more than "
                f"reference.retrained = {self.reference.retrained}: each run is compared with a retrained model"
            )
        if self.pruning is not None and self.pruning.rewind_epoch >= self.training.epochs:
            raise ValueError(f"pruning.rewind_epoch = {self.pruning.rewind_epoch} is not before the last epoch")
        if self.trojan is not None and self.forget.forget_sets > 1:
            raise ValueError("a trojan takes no forget_sets: siblings share originals, which learn one forget set")
        return self

    def is_same_track(self, other: "Declaration") -> bool:
        """Whether it declares the very track that another does, wherever packs of it can be had."""
        return self.model_copy(update={"pack": None}) == other.model_copy(update={"pack": None})

    @property
    def siblings(self) -> list["Declaration"]:
        """The tracks it stands for: itself alone, unless it has several forget sets and does not say which."""
        if self.forget.forget_sets == 1 or self.forget.index is not None:
            return [self]
        forgets = [self.forget.model_copy(update={"index": index}) for index in range(self.forget.forget_sets)]
        return [self.model_copy(update={"name": f"{self.name}-{one.index}", "forget": one}) for one in forgets]


def read_declaration(path: Path) -> Declaration:
    """Return a checked declaration. Raises UsageError naming every unknown, missing or unfit key at once."""
    try:
        return parse_declaration(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"no track file {path}{did_you_mean_file(path, ['.toml'])}") from None
    except (OSError, UnicodeDecodeError, ValueError) as error:
        found = "\n".join(f"  {problem}" for problem in problems(error, Declaration))
        raise UsageError(f"{path} is no track declaration:\n{found}") from None


def parse_declaration(text: str) -> Declaration:
    """Return the declaration in a TOML text. Raises ValueError."""
    return Declaration.model_validate(tomllib.loads(text.removeprefix("\N{BYTE ORDER MARK}")))  # of Windows' editors


def problems(error: Exception, section: type[BaseModel] | None = None) -> list[str]:
    """Return what is wrong with a checked file, a line for every key.

    section: what it was checked as, if a person wrote it, who may have mistyped a key.
    """
    if not isinstance(error, ValidationError):
        return [str(error)]
    return [": ".join(filter(None, [_key(one), _in_our_words(one, section)])) for one in error.errors()]


def _key(problem: Mapping[str, Any]) -> str:
    return ".".join(map(str, problem["loc"]))


def _in_our_words(problem: Mapping[str, Any], section: type[BaseModel] | None) -> str:
    if problem["type"] == "extra_forbidden":
        *above, key = map(str, problem["loc"])
        return f"unknown key{did_you_mean(key, _keys(section, above)) if section else ''}"
    pattern = problem.get("ctx", {}).get("pattern", "")
    return IN_OUR_WORDS.get(pattern) or str(problem["msg"]).removeprefix("Value error, ")


def _keys(section: type[BaseModel], path: Sequence[str]) -> Iterable[str]:
    """Return the keys of a section within another."""
    for name in path:
        declared = section.model_fields[name].annotation
        section = next(one for one in (declared, *get_args(declared)) if isinstance(one, type))
    return section.model_fields
