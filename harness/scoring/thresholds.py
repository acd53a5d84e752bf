"""Numbers of models that several rooms agree on."""

__all__ = ["FEWEST_RANKED"]

# Fewer runs are scored with a warning, never ranked, and too few for alarms; a quick evaluation makes as many.
FEWEST_RANKED = 16
