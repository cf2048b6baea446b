"""Every number that the README claims, re-made by one command each: ``python -m benchmarks.<name>``."""
