"""A leaderboard as it lies on disk, and who is where on it."""
