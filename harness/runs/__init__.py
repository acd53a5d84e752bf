"""Runs: what one is and where it is kept, which are missing, making them on this machine, measuring what comes back."""
