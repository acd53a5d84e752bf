"""A stated budget of trials: ranges of constants, the settings drawn from them, what was found."""
