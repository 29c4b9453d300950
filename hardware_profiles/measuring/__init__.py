"""The measuring protocol, the worker process that times models, and its sessions."""
