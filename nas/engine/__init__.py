"""The engine: evaluates the candidates of a search, records each measurement, and repeats that until a criterion stops it.

- `evaluation`: evaluators that ask others, or call a function; pools of workers, here or on Ray.
- `store`: the measurements and the state of a run, in SQLite or PostgreSQL.
- `search_loop`: ask, evaluate, record, tell; beside it what reports a run while it goes on.
"""

import lazy_loader

# The names of `__init__.pyi` are imported when they are first used: a help text needs no database.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
