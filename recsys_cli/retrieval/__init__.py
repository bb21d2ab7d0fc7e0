"""Candidate sources: one file a family."""
