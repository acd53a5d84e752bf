"""One run in a new process, for systems without fork: the same steps as in a forked one, seconds slower to start.

    python -s -P fresh.py ROOT PUBLIC     started by `launch`, ahead of its job

The paths of the result and report files come as one line on standard input, the job as the next, "go" as the last;
"ready" goes out as one line on standard output, and after it whatever the submission prints.
"""

import json
import os
import sys
from pathlib import Path


def main() -> None:
    """Warm up, wait for the job, run it."""
    root, public = sys.argv[1], Path(sys.argv[2])
    sys.path.insert(0, root)  # for the harness's own modules; gone before the submission runs
    from harness.runner.inside import worker
    from harness.runner.message import Job

    world = worker.warm_up(public)
    sys.path.remove(root)
    line = sys.stdin.readline()
    if not line:
        return  # started ahead and not needed
    paths = json.loads(line)
    job = Job.from_bytes(sys.stdin.readline().encode())
    result, report = (os.open(paths[name], os.O_RDWR) for name in ("result", "report"))
    worker.make_own(job)

    def wait_for_go() -> None:
        print("ready", flush=True)
        if sys.stdin.readline() != "go\n":
            os._exit(1)
        sys.stdin = open(os.devnull)  # noqa: SIM115 - the submission's, until the process ends

    worker.run(world, job, result, report, wait_for_go)
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
