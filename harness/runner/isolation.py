"""What stands between a run and the machine. The level found is part of every record and every score."""

from dataclasses import dataclass

from harness.errors import MachineError

__all__ = ["LEVELS", "Isolation", "choose"]

LEVELS = ("full", "userns", "syscall", "none")  # strongest first


@dataclass(frozen=True)
class Isolation:
    """A level and, for every stronger one, why it is not used."""

    level: str
    missing: dict[str, str]


def choose(requested: str = "auto", required: str | None = None) -> Isolation:
    """Return the isolation asked for, `auto` being the strongest there is: so far a process per run and no more.

    Raises MachineError if this machine does not offer it, or if it is less than required.
    """
    found = Isolation("none", dict.fromkeys(LEVELS[:-1], "not built yet"))
    for wanted in (requested, required):
        if wanted in found.missing:
            raise MachineError(
                f"isolation {wanted} is asked for and this machine offers {found.level} "
                f"({wanted}: {found.missing[wanted]}); harness doctor shows what there is"
            )
    return found
