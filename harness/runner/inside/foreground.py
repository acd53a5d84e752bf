"""One run in the foreground, for its author: prints, the whole traceback, breakpoint(), and no time limit.

python -s -P foreground.py ROOT PUBLIC JOB     started by `launch.run_in_foreground`

How it went is said in words, and by the exit status: a process that dies in between has one of its own.
"""

import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

    from torch.utils.data import DataLoader

    from harness.contract import Batch
    from harness.runner.inside.worker import Model
    from harness.runner.message import Job


def main() -> None:
    """Run the job of a file, and say how it went."""
    root, public, job_file = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    sys.path.insert(0, root)
    from harness.runner.inside import worker
    from harness.runner.message import RESULT, SAID_FIT, SAID_WHY_NOT, Job

    world = worker.warm_up(public)
    sys.path.remove(root)
    job = Job.from_bytes(job_file.read_bytes())
    worker.make_own(job)
    net, loaders = worker.set_up(world, job)
    started = time.perf_counter()
    why_not = _why_not_fit(job, net, loaders, job_file.with_name(RESULT))
    seconds = time.perf_counter() - started
    if why_not:
        print(why_not, file=sys.stderr)
        sys.exit(SAID_WHY_NOT)
    print(f"OK: it returned a fit net after {seconds:.1f} s; the time limit is {job.time_limit_seconds:.1f} s")
    sys.exit(SAID_FIT)


def _why_not_fit(job: "Job", net: "Model", loaders: "list[DataLoader[Batch]]", result: Path) -> str:
    """Run a submission; return what is wrong with what it does or returns, nothing if that is a fit net.

    What another call goes on from is kept in a file.
    """
    import torch  # these are loaded by now

    from harness.runner.inside import worker
    from harness.runner.inside.exceptions import text_of
    from harness.runner.inside.hints import hint
    from harness.runner.inside.returned import BadOutputError, schema_of
    from harness.runner.message import not_finite

    schema = schema_of(net[0] if isinstance(net, list) else net)
    sizes = {name: value.numel() for name, value in schema.items() if value.dtype.is_floating_point}
    try:
        before = worker.handed_on(job)
        members, state = worker.handed_in(job, worker.load(job)(net, *loaders, *before), net, schema, before)
    except SystemExit as error:
        return f"EXCEPTION: SystemExit: {error}"
    except BadOutputError as error:
        return f"BAD_OUTPUT: {error}"
    except Exception as error:  # noqa: BLE001 - it is shown whole
        if (to_do := hint(text_of(error))) is not None:
            error.add_note(to_do)
        return "".join(traceback.format_exception(error.with_traceback(_outside(error)))).rstrip()
    if job.call == "train" or job.given:
        result.write_bytes(b"".join(worker.laid_out(job, members, state)))
    where = not_finite(~torch.stack(members).isfinite().all(dim=0), sizes)
    return where and f"NON_FINITE: {where}"


def _outside(error: Exception) -> "TracebackType | None":
    """Return the traceback of an error from the submission's first line on; all of it if it has no such line."""
    ours, rest = str(Path(__file__).parent), error.__traceback__
    while rest is not None and rest.tb_frame.f_code.co_filename.startswith(ours):
        rest = rest.tb_next
    return rest or error.__traceback__


if __name__ == "__main__":
    main()
