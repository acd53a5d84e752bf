"""Can a machine with a GPU be trusted with a competition? `python -m benchmarks.gpu`. One file per kind of step.

`steps` runs them one after another, each in a process of its own and within its share of the time.
"""
