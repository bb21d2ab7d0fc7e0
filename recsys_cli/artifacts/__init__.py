"""Runs: immutable folders of what a training made, and the pointer to the one in use."""
