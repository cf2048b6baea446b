"""The packed checkpoint: writing it, its size in advance, and running it from the file."""
