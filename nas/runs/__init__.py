"""Runs as users start and read them: of jobs, of their own functions, of tables of measurements, and of further training.

- `driver`: starts and resumes the run of a job; `run`: a run on disk, open for reading, with its exports.
- `optimization`: `nas.optimize`, a search over an own space and an own function.
- `bench`: search algorithms and predictors compared on tables of measurements.
- `finetuning`: further training of networks of a front.
"""

import lazy_loader

# The names of `__init__.pyi` are imported when they are first used: reading a run needs nothing that drives it.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
