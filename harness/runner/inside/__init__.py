"""All of the runner that a submission's process loads; nothing it says is trusted.

Programs: `zygote` and `first` (a run forked from a warm process), `fresh` (a new process for each), `foreground` (for
a file's author). All of them use `worker`, with `returned` (the weights of what came back), `start_methods` (how a run
starts processes), `exceptions` (what is said of one) and `hints` (what to do about it). Besides these such a process
loads of the harness: `contract`, `loaders`, `models`, `accelerator` with `cuda_driver` and `processors`, `statements`,
`errors`, `runner.message`, and the inner half of `runner.sandbox`.
"""
