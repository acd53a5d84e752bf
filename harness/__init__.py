"""A competition harness for machine unlearning: run submissions, isolate them, time them, score them."""

__version__ = "0.1.0"
