"""A job's run: prepared, executed, and recorded in its store."""
