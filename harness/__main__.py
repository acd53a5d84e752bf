"""`python -m harness`, the same as the command `harness`."""

from harness.cli.main import cli


def main() -> None:
    """Run the command line."""
    cli(prog_name="harness")


if __name__ == "__main__":
    main()
