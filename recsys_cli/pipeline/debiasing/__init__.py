"""Stages that keep popularity from feeding itself."""
