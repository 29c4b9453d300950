"""Jobs: what a job file may say, and how it becomes a search, in four steps.

- `schema` parses: the job file as frozen models that check themselves (`SearchJob`); `recipes`: the job files that are shipped.
- `resolve` looks up what its names stand for (`ResolvedJob`): plug-ins, profiles, metrics, variants, lookup tables.
- `build` makes its objects (`BuiltJob`): data, family of networks, supernet, and the algorithm and evaluator of the search.
- `evaluation` measures its subnets.
- `run` prepares, describes and executes a run of them; `planning` reports what a job will take, and the latencies that it can
  know beforehand.
"""

import lazy_loader

# The names of `__init__.pyi` are imported when they are first used: a job file is checked without torch.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
