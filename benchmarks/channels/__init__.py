"""How much one run can pass on to another through the kernel that both share, at each level of isolation."""
