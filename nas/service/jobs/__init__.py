"""Jobs: the dispatcher, job runners, the Ray cluster and short tasks."""
