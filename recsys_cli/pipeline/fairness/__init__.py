"""Stages that share out exposure among those who make the items."""
