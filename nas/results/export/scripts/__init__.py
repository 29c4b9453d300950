"""The scripts that exports write beside their networks, which need nothing of this project."""
