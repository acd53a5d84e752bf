"""What lets people trust a leaderboard: a plan beforehand, a check of the metric, scores computed again."""
