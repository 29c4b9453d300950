"""Pages of the documentation that are generated from the code when it is built."""
