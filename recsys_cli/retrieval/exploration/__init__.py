"""Draws with a known propensity."""
