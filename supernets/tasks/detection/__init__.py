"""Detection: boxes of objects with a class and a score for each."""
