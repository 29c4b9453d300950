"""Read-only views of runs for the API and the pages."""
