"""Jobs: what a job file may say, and how it becomes a search.

- `schema`: the job file as frozen models that check themselves; `recipes`: the job files that are shipped.
- `build`: from a checked job to its parts: data, networks, supernet, evaluators.
- `evaluation`: from a subnet to its measurements.
- `planning`: what a job will take, and the latencies that it can know beforehand.
- `run`: the steps of a run, from its preparation to its end.
"""
