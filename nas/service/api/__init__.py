"""The JSON models of the REST API, shared by the server and its clients."""
