"""Training strategies: the subnets and losses of each step."""
