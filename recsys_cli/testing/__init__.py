"""Contracts for parts that others write: each proves that a part does what the toolkit asks of its kind."""

from recsys_cli.testing.feature_family import check_feature_family
from recsys_cli.testing.ranker import check_ranker
from recsys_cli.testing.retriever import check_retriever
from recsys_cli.testing.stage import check_stage

__all__ = ["check_feature_family", "check_ranker", "check_retriever", "check_stage"]
