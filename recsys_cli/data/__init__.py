"""Datasets: what one is, how it is read, imported and checked."""
