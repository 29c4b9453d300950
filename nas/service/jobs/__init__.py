"""Running jobs: the dispatcher, the Ray job queue, the cluster, short tasks."""
