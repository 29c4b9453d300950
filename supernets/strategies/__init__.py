"""Training strategies: which subnets a step trains; one file each."""
