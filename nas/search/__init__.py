"""Search algorithms: ask and tell, no I/O."""
