"""Exploration: which candidates are tried although others rank higher, and how probably; a file a strategy."""
