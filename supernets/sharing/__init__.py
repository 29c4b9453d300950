"""How subnets share weights: one file a technique."""
