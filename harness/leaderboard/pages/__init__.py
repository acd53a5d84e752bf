"""A leaderboard as people see it: the same columns on a terminal, in files and as a static site."""
