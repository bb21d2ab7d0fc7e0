"""Contracts that every component passes, and yours should: call them from your tests."""

from recsys_cli.testing.ranker import check_ranker
from recsys_cli.testing.retriever import check_retriever

__all__ = ["check_ranker", "check_retriever"]
