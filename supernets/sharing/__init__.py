"""Weight sharing: how the tensors of subnets derive from the stored ones."""
