"""Jobs: what a job file may say, and how it becomes a search.

- `schema`: the job file as frozen models that check themselves; `recipes`: the job files that are shipped.
- `build`: from a checked job to its parts: data, networks, supernet, evaluators.
- `evaluation`: from a subnet to its measurements.
- `planning`: what a job will take, and the latencies that it can know beforehand.
- `run`: the steps of a run, from its preparation to its end.
"""

import lazy_loader

# The names of `__init__.pyi` are imported when they are first used: a job file is checked without torch.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
