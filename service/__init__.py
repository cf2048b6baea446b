"""How people reach it: REST, pages, command line, Python client, persistence."""
