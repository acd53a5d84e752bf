"""Makes tracks: data sets, splits, trainings and the reference they are scored against."""
