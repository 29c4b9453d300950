"""The family of all networks that a user's captured network contains."""
