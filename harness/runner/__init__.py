"""Runs untrusted code: in a process of its own, against the clock, and takes back nothing but numbers.

Trusted side: `execution` (one run from start to outcome), `launch` (start its process, by `fork` or by `spawn`, seen as
a `process`), `warm` and `forked` (the trusted ends of a zygote and of a run forked from it), `outcome` (how it ended),
`isolation` (which level, with `remedies` where one is missing). `inside` is what a submission's process loads, which
shares `message` with the trusted side; `sandbox` has the layers of the isolation.
"""
