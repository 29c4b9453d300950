"""Connections to a measuring process: a child process, over ssh, or on a Ray node."""
