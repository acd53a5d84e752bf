"""Between which values the constants of a file are tried, and the settings that are drawn from there."""

import hashlib
import json
import math
import random
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from harness.constants import Constant, literal_of
from harness.errors import UsageError
from harness.quoting import quoted
from harness.spelling import did_you_mean

__all__ = ["FORMS", "USUAL_TRIALS", "Choices", "Range", "Span", "draw", "ranges_of", "require_trials", "seed_of"]

USUAL_TRIALS = 12
ATTEMPTS = 100  # draws for each trial, before ranges are said to hold too few settings
DIGITS = 3  # of a number that is drawn
SMALLEST, LARGEST = 1e-300, 1e300  # of a number that is tuned without being asked for: its range is finite
FORMS = "NAME=LOW:HIGH, NAME=LOW:HIGH:log or NAME=A,B,C"


@dataclass(frozen=True)
class Span:
    """The numbers between two ends; those of a whole one are whole, its ends included."""

    low: float
    high: float
    is_whole: bool
    is_log: bool  # equal factors are equally likely, not equal steps

    def at(self, share: float) -> str:
        """Return the number that a share in [0, 1) of the range lies below."""
        high = self.high + 1 if self.is_whole else self.high
        value = self.low * (high / self.low) ** share if self.is_log else self.low + (high - self.low) * share
        if self.is_whole:
            return str(min(math.floor(value), int(self.high)))
        finest = min(high - self.low, abs(value) or math.inf)  # near 1, the distance to 1 is what has digits
        digits = DIGITS - 1 - math.floor(math.log10(finest))
        rounded = round(value, digits)
        if rounded >= self.high:  # a share below 1 is not 1
            rounded = round(self.high - 10.0**-digits, digits)
        return repr(min(max(rounded, float(self.low)), float(self.high)))

    def __str__(self) -> str:
        return f"{self.low!r}:{self.high!r}{':log' if self.is_log else ''}"


@dataclass(frozen=True)
class Choices:
    """Values of any kind, each as likely."""

    values: tuple[str, ...]

    def at(self, share: float) -> str:
        """Return the value at a share in [0, 1) of them."""
        return self.values[int(share * len(self.values))]

    def __str__(self) -> str:
        return ",".join(self.values)


Range = Span | Choices


def require_trials(trials: int) -> None:
    """Raise UsageError unless there is a trial beside that of the file as it is."""
    if trials < 2:
        raise UsageError(
            f"--trials {trials} tunes nothing, since the first trial is the file as it is; {USUAL_TRIALS} are usual: "
            f"harness tune FILE --trials {USUAL_TRIALS}"
        )


# ---- which ranges ----------------------------------------------------------------------------------------------


def ranges_of(constants: Mapping[str, Constant], asked: Mapping[str, str], fixed: Collection[str]) -> dict[str, Range]:
    """Return the ranges of the constants that are tuned, in the order of the file.

    asked: ranges by name as FORMS writes them; without any, numbers have their usual ones. fixed: constants that
    were set for all trials. Raises UsageError for what cannot be a range, and if nothing is left to be tuned.
    """
    for name in asked:
        if name not in constants:
            known = ", ".join(constants) or "none"
            raise UsageError(
                f"--range {name}{did_you_mean(name, constants)}: the file sets no such constant in capitals at its top "
                f"level (it has: {known})"
            )
        if name in fixed:
            raise UsageError(f"{name} has a value for all trials, by --set, and a --range; leave out one of them")
    if asked:
        return {name: _asked(name, asked[name], constant) for name, constant in constants.items() if name in asked}
    usual = {name: _usual(constant.number) for name, constant in constants.items() if name not in fixed}
    found: dict[str, Range] = {name: span for name, span in usual.items() if span is not None}
    if not found:
        known = ", ".join(constants) or "none"
        raise UsageError(
            "there is nothing to tune: the file sets no positive number in capitals at its top level that is not set "
            f"(its constants: {known}). Write one there, such as LEARNING_RATE = 0.01, or name values: "
            "harness tune FILE --range NAME=A,B,C"
        )
    return found


def _usual(number: float | None) -> Span | None:
    """Return the range of a constant for which none is asked; None for one that stays as it is.

    A number below 1 stays below it, since it may be a share; one from 0.5 on, as a momentum is, is tried from as far
    below.
    """
    if number is None or not SMALLEST < number < LARGEST:
        return None
    if isinstance(number, int):
        return Span(max(1, number // 2), 2 * number, is_whole=True, is_log=True) if number > 1 else None
    if 0.5 <= number < 1:
        low = round(2 * number - 1, 12)
        return Span(low, 1.0, is_whole=False, is_log=False) if low < 1 else None
    high = 10 * number if number >= 1 else min(10 * number, 1.0)
    return Span(_short(number / 10), _short(high), is_whole=False, is_log=True)


def _short(number: float) -> float:
    return float(f"{number:.{DIGITS}g}")


def _asked(name: str, text: str, constant: Constant) -> Range:
    """Return the range that a text asks for. Raises UsageError."""
    shown = quoted(f"{name}={text}")
    if "," in text:
        values = tuple(literal_of(part.strip()) for part in text.split(","))
        if len(set(values)) < len(values) or not all(part.strip() for part in text.split(",")):
            raise UsageError(
                f"--range {shown}: a value is there twice, or is empty; write each once: --range NAME=A,B,C"
            )
        return Choices(values)
    low_text, *others = text.split(":")
    if not others:
        raise UsageError(f"--range {shown} is one value; set it with --set {shown}, or write a range: {FORMS}")
    if constant.number is None:
        raise UsageError(f"--range {shown}: {name} is no number; name its values: --range {name}=A,B,C")
    is_whole = isinstance(constant.number, int)
    try:
        ends = [_number(end) for end in (low_text, others[0])]
    except ValueError:
        raise UsageError(f"--range {shown} has no two numbers; write {FORMS}") from None
    if others[1:] not in ([], ["log"]):
        raise UsageError(f"--range {shown}: after the two numbers only :log may stand; write {FORMS}")
    return _span(name, shown, *ends, is_whole=is_whole, is_log=bool(others[1:]))


def _number(text: str) -> float:
    """Return the number in a text, int if it is written as one. Raises ValueError."""
    try:
        return int(text)
    except ValueError:
        number = float(text)
        if not math.isfinite(number):
            raise
        return number


def _span(name: str, shown: str, low: float, high: float, *, is_whole: bool, is_log: bool) -> Span:
    """Return a range of numbers. Raises UsageError if it holds none, or not what the constant is."""
    if low >= high:
        raise UsageError(f"--range {shown}: the first number has to be below the second; write --range {name}=LOW:HIGH")
    if is_log and low <= 0:
        raise UsageError(
            f"--range {shown}: a logarithmic range begins above 0; write --range {name}=LOW:HIGH:log with such a LOW, "
            "or leave out :log"
        )
    if not is_whole:
        return Span(float(low), float(high), is_whole, is_log)
    if not (isinstance(low, int) and isinstance(high, int)):
        raise UsageError(
            f"--range {shown}: {name} is a whole number in the file, so both ends are; to try others, write it there "
            "with a point"
        )
    return Span(low, high, is_whole, is_log)


# ---- settings ---------------------------------------------------------------------------------------------------


def seed_of(constants: Mapping[str, Constant]) -> int:
    """Return what settings are drawn with: it follows from the names and the values of a file's constants."""
    named = [[name, constant.text] for name, constant in sorted(constants.items())]
    return int(hashlib.sha256(json.dumps(named).encode()).hexdigest()[:8], 16)


def draw(
    ranges: Mapping[str, Range], constants: Mapping[str, Constant], *, seed: int, trials: int
) -> list[dict[str, str]]:
    """Return the settings of each trial, different ones: first none, which is the file as it is, then random ones.

    More trials begin with the same ones. Raises UsageError if the ranges hold fewer.
    """
    seen = {tuple(_as_it_is(constants[name]) for name in ranges)}
    found: list[dict[str, str]] = [{}]
    for settings in _random(ranges, seed, ATTEMPTS * trials):
        if (values := tuple(settings.values())) not in seen and len(found) < trials:
            seen.add(values)
            found.append(settings)
    if len(found) < trials:
        raise UsageError(
            f"{ATTEMPTS * trials} draws from these ranges gave {len(found)} different settings, that of the file "
            f"included; give wider ranges, or ask for as many: --trials {len(found)}"
        )
    return found


def _random(ranges: Mapping[str, Range], seed: int, count: int) -> Iterator[dict[str, str]]:
    """Yield random settings; the value of a constant depends on no range but its own."""
    for number in range(count):
        yield {name: span.at(random.Random(f"{seed}/{number}/{name}").random()) for name, span in ranges.items()}


def _as_it_is(constant: Constant) -> str:
    return constant.text if constant.number is None else repr(constant.number)
