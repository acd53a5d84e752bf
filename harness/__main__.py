"""`python -m harness`, the same as the command `harness`."""

import os
import sys

from harness.cli.main import cli
from harness.cli.streams import StandardStreams


def main() -> None:
    """Run the command line."""
    os.environ["PYTHONSAFEPATH"] = "1"  # processes started from here import nothing of the current folder
    if sys.platform == "win32":  # its consoles take text in a way of their own
        cli(prog_name="harness")
    streams, code = StandardStreams(), None
    try:
        cli(prog_name="harness")
    except SystemExit as ended:
        code = ended.code
    sys.exit(streams.exit_code(code))


if __name__ == "__main__":
    main()
