"""Runs untrusted code: in a process of its own, against the clock, and takes back nothing but numbers.

Trusted side: `run` (one run from start to outcome), `launch` (start its process, by `fork` or by `spawn`, seen as a
`process`), `outcome` (how it ended), `isolation`, `device`. Inside the process: `zygote`, `fresh`, `foreground` and
`worker`, which share `message` with the trusted side; with `contract`, `loaders` and `models` they are all of the
harness a submission's process ever loads.
"""
