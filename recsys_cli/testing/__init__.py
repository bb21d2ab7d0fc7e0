"""Contracts that every component passes, and yours should: call them from your tests."""

from recsys_cli.testing.ranker import check_ranker
from recsys_cli.testing.retriever import check_retriever
from recsys_cli.testing.stage import check_stage

__all__ = ["check_ranker", "check_retriever", "check_stage"]
