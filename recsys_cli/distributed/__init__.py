"""Engines on the workers of a cluster, and slates that are made there."""
