"""Search as a library: optimises an own function over an own search space, without torch, Ray or a job file."""
