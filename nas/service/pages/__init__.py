"""The web pages: rendered on the server, kept up to date by small scripts that call the API."""
