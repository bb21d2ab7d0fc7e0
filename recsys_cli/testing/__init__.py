"""Contracts for parts that others write: each proves that a part does what the toolkit asks of its kind."""

from recsys_cli.testing.feature_family import check_feature_family

__all__ = ["check_feature_family"]
