"""Leaderboards: many submissions as one batch, and what is shown of them."""
