"""One run in the foreground, for its author: prints, the whole traceback, breakpoint(), and no time limit.

python -s -P foreground.py ROOT PUBLIC JOB     started by `launch.run_in_foreground`
"""

import sys
from pathlib import Path


def main() -> None:
    """Run the job of a file, letting its exceptions through."""
    root, public, job_file = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    sys.path.insert(0, root)
    from harness.runner.inside import worker
    from harness.runner.message import Job

    world = worker.warm_up(public)
    sys.path.remove(root)
    job = Job.from_bytes(job_file.read_bytes())
    worker.make_own(job)
    net, loaders = worker.set_up(world, job)
    schema = worker.schema_of(net)
    returned = worker.load(job)(net, *loaders)
    worker.flat_weights(net if returned is None else returned, schema)
    print("OK: it returned a fit net")


if __name__ == "__main__":
    main()
