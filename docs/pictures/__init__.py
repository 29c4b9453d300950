"""Pictures of the documentation, made from a real run."""
