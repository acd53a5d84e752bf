"""Scores from stored arrays: numpy, scipy and scikit-learn only; no torch, no files."""
