"""From a job file's content to the objects that its names stand for (no torch)."""
