"""The command line: the same words as the REST API."""
