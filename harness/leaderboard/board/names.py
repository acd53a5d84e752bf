"""Names of teams and files: which spellings are one name, and which names are refused since they only look like one."""

import unicodedata
from collections.abc import Sequence
from functools import lru_cache

__all__ = ["listed", "name_key", "name_problem"]

MAX_LISTED = 10  # names in one sentence

# Letters of other alphabets that look like Latin ones, large or small.
LOOK_ALIKE = str.maketrans(
    "αβεζηικμνορτυχϲϳ" + "авекмнорстухіјѕһԁԛԝ",
    "abezhikmnoptyxcj" + "abekmhopctyxijshdqw",
)
EAST_ASIAN = {"CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "HANGUL", "BOPOMOFO"}  # written with one another
# Parts of the Unicode names of letters and marks that are not to be seen.
BLANK = {"FILLER", "JOINER", "SELECTOR", "INHERENT"}


@lru_cache(maxsize=1 << 16)
def name_key(name: str) -> str:
    """Return what is the same for all spellings of a name: composed or not, large or small, look-alikes, blanks."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    return " ".join(folded.translate(LOOK_ALIKE).split())


def listed(names: Sequence[str]) -> str:
    """Return names as a sentence lists them: two at least, and only the first of very many."""
    if len(names) > MAX_LISTED:
        return f"{', '.join(names[:MAX_LISTED])} and {len(names) - MAX_LISTED} more"
    return f"{', '.join(names[:-1])} and {names[-1]}"


def name_problem(name: str) -> str | None:
    """Return why a name is refused, None if it is not.

    Letters, digits and the signs of ASCII are fine, in any script. Refused are signs that are not to be seen or only
    look like others, and letters of several scripts in one word, but for those of East Asia.
    """
    unfit = next((char for char in name if not _is_fit(char)), None)
    if unfit is not None:
        return f"its name holds U+{ord(unfit):04X} {unicodedata.name(unfit, '')}".rstrip()
    for scripts in map(_scripts, _words(name)):
        if len(scripts) > 1:
            return f"its name mixes letters of {' and '.join(script.title() for script in scripts)} in one word"
    return None


def _words(name: str) -> list[str]:
    """Return the runs of letters, with their marks, in a name; digits and signs stand between words."""
    in_word = "".join(
        char if unicodedata.category(char)[0] in "LM" else " " for char in unicodedata.normalize("NFKC", name)
    )
    return in_word.split()


def _scripts(word: str) -> list[str]:
    letters = {char for char in word if unicodedata.category(char)[0] == "L"}
    return sorted({unicodedata.name(char, "unnamed").split()[0] for char in letters} - EAST_ASIAN)


def _is_fit(char: str) -> bool:
    if char.isascii():
        return char.isprintable()
    is_text = unicodedata.category(char)[0] in "LMN"
    return is_text and BLANK.isdisjoint(unicodedata.name(char, "").replace("-", " ").split())
