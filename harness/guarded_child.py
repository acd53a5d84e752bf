"""The process that parses what strangers wrote, and may die of it. Started by `guarded`; standard library only.

    python -I -S guarded_child.py ROOT SECONDS MEGABYTES

"ready" goes out as one line, then for each request, a line of JSON, its answer as another. A request may take so many
seconds of processor time; the memory is that of the whole process. Windows has no such limits: there the clock of
`guarded` is all there is.
"""

import base64
import contextlib
import dataclasses
import gc
import json
import sys
import time
import tomllib
from collections.abc import Callable
from typing import Any

if sys.platform != "win32":
    import resource

MAX_LINE = 300  # of what is told of a fault: it may quote the file
NESTED = "the file is nested too deeply, or holds too much, to be parsed"


def main() -> None:
    """Answer requests until there are no more."""
    root, seconds, megabytes = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    sys.path.append(root)
    import harness.static_check  # noqa: F401 - before the limits

    if sys.platform != "win32":
        _limit(resource.RLIMIT_AS, megabytes << 20)
        _limit(resource.RLIMIT_CORE, 0)
    gc.disable()  # a syntax tree is millions of objects, none of them garbage: looking takes half of the time
    print("ready", flush=True)
    for line in sys.stdin.buffer:
        started = time.process_time()
        if sys.platform != "win32":
            _limit(resource.RLIMIT_CPU, int(started) + seconds + 1)
        answer = _answer(**json.loads(line))
        print(json.dumps(answer | {"seconds": time.process_time() - started}), flush=True)
        gc.collect()


def _limit(kind: int, value: int) -> None:
    """Set a limit, as far as the system has it; the hard one stays, so that it can be raised again."""
    with contextlib.suppress(ValueError, OSError):
        hard = resource.getrlimit(kind)[1]
        resource.setrlimit(kind, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


def _answer(task: str, content: str, options: dict[str, Any]) -> dict[str, Any]:
    """Return what a task finds, or what is wrong with the content: anything that is raised is.

    is_spent: this process may lack what was needed, and is not to be asked again.
    """
    from harness.errors import UsageError

    tasks: dict[str, Callable[..., Any]] = {"source": _source, "constants": _constants, "strings": _strings}
    try:
        return {"found": tasks[task](base64.b64decode(content), **options)}
    except UsageError as error:
        return {"usage_error": str(error)}
    except ValueError as error:
        return {"problem": _one_line(str(error))}
    except (RecursionError, MemoryError):
        return {"problem": NESTED, "is_spent": True}
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the file's
        return {"problem": f"the file cannot be parsed ({type(error).__name__})", "is_spent": True}


def _source(
    content: bytes, constants: dict[str, str], is_notebook: bool = False, is_compact: bool = False
) -> dict[str, Any]:
    """Return what a submission's text says of it, as `static_check` does."""
    from harness.static_check import check_source

    found = dataclasses.asdict(check_source(content, constants, is_notebook=is_notebook, is_compact=is_compact))
    excerpt = found["excerpt"]
    shown = excerpt and {name: [_one_line(line) for line in lines] for name, lines in excerpt.items()}
    return found | {"problems": [_one_line(problem) for problem in found["problems"]], "excerpt": shown}


def _constants(content: bytes) -> dict[str, dict[str, Any]]:
    """Return the constants in capitals of what is run of a submission, by name."""
    from harness.constants import constants_in
    from harness.source_text import parsed

    return {name: dataclasses.asdict(constant) for name, constant in constants_in(parsed(content.decode())).items()}


def _strings(content: bytes, key: str) -> list[str] | None:
    """Return the strings that a TOML file lists under a key, None if it does not. Raises ValueError."""
    try:
        found = tomllib.loads(content.decode("utf-8-sig")).get(key)
    except UnicodeDecodeError as error:
        raise ValueError(f"the file is not UTF-8 text (byte {error.start})") from None
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"the file is not TOML: {error}") from None
    return found if isinstance(found, list) and all(isinstance(one, str) for one in found) else None


def _one_line(text: str) -> str:
    return " ".join(text.split()).encode("utf-8", "backslashreplace").decode()[:MAX_LINE]


if __name__ == "__main__":
    main()
