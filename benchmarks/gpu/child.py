"""The process of one step.

python -m benchmarks.gpu.child MODULE:NAME TASK      started by `steps`; TASK: the fields of a `Task`, as JSON
"""

import importlib
import json
import sys

from benchmarks.gpu.steps import LeftOutError, Task


def main() -> None:
    """Call a step's function."""
    module, _, name = sys.argv[1].partition(":")
    task = Task(**json.loads(sys.argv[2]))
    try:
        getattr(importlib.import_module(module), name)(task)
    except LeftOutError as error:
        task.say(left_out=str(error))


if __name__ == "__main__":
    main()
