"""A browser as a measuring machine: the page that measures, its HTTP server, and the connection to it."""
