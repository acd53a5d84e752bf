"""Where a run's temporary files lie if it has no root of its own. Trusted side.

Workers of a run talk over sockets in its folder, and a system takes no more than about a hundred bytes for their paths.
"""

import os
import tempfile

__all__ = ["scratch_place"]

LONGEST = 40  # bytes of a place in which those paths fit
SHORT = "/tmp"


def scratch_place() -> str:
    """Return the folder for temporary files, or a shorter one where that has too long a name."""
    place = tempfile.gettempdir()
    is_too_long = len(os.fsencode(place)) > LONGEST
    return SHORT if is_too_long and os.access(SHORT, os.W_OK | os.X_OK) else place
