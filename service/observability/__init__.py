"""What an operator sees: logs, metrics, and whether everything is as it should be."""
