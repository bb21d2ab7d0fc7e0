"""Factorisations of who touched what."""
