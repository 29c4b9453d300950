"""Ways to a measuring process: a child, ssh, a Ray node."""
