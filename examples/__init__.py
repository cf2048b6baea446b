"""Small real networks and data, and scripts that a user would copy."""
