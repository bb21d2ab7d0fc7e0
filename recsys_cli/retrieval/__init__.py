"""Candidate sources: a folder a family; `registry.py` maps `kind:` to the class."""
