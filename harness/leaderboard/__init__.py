"""Leaderboards: many submissions run on one track, and what is shown of them."""
