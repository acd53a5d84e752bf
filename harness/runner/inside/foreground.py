"""One run in the foreground, for its author: prints, the whole traceback, breakpoint(), and no time limit.

python -s -P foreground.py ROOT PUBLIC JOB     started by `launch.run_in_foreground`
"""

import sys
import time
from pathlib import Path


def main() -> None:
    """Run the job of a file, letting its exceptions through."""
    root, public, job_file = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    sys.path.insert(0, root)
    from harness.runner.inside import worker
    from harness.runner.inside.hints import hint
    from harness.runner.inside.returned import BadOutputError, flat_weights, schema_of
    from harness.runner.message import Job

    world = worker.warm_up(public)
    sys.path.remove(root)
    job = Job.from_bytes(job_file.read_bytes())
    worker.make_own(job)
    net, loaders = worker.set_up(world, job)
    schema, started = schema_of(net), time.perf_counter()
    try:
        returned = worker.load(job)(net, *loaders)
    except SystemExit as error:
        sys.exit(f"EXCEPTION: SystemExit: {error}")  # with a status of the harness's: in a run it is one as well
    except Exception as error:
        if (to_do := hint(f"{type(error).__name__}: {error}")) is not None:
            error.add_note(to_do)
        raise
    seconds = time.perf_counter() - started
    try:
        weights = flat_weights(net if returned is None else returned, schema)
    except BadOutputError as error:
        sys.exit(f"BAD_OUTPUT: {error}")
    if not weights.isfinite().all():
        sys.exit("NON_FINITE: some of the weights are NaN or inf")
    print(f"OK: it returned a fit net after {seconds:.1f} s; the time limit is {job.time_limit_seconds:.1f} s")


if __name__ == "__main__":
    main()
