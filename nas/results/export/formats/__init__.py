"""Formats of exported folders: each writes one network, and checks what it wrote."""
