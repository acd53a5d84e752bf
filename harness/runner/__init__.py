"""Runs untrusted code: in a process of its own, against the clock, and takes back nothing but numbers.

Trusted side: `outcome` (how a run ended), `launch` (start a process that runs one submission once), `run` (one run from
start to outcome), `isolation`. Inside the process: `zygote`, `fresh`, `worker`; they share `message` with the trusted
side and are all of the harness a submission's process ever loads, with `contract`, `loaders` and `models`.
"""
