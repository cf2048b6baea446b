"""One file per step; a step never imports application code, because it must not change with it."""
