"""A run of a built job: its preparation, its execution, and its record in the store."""
