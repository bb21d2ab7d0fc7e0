"""Controlled experiments: assignment, simulated traffic, and the analysis of outcomes."""
