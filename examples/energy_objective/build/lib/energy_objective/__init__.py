"""Plug-ins for subnet-nas: a metric, a search algorithm and a family; see the README."""
