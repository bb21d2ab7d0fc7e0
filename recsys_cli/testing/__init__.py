"""Contracts for parts that others write: each proves that a part does what the toolkit asks of its kind."""

from importlib import import_module

_PLACES = {
    "check_feature_family": "feature_family", "check_ranker": "ranker", "check_retriever": "retriever",
    "check_stage": "stage",
}

__all__ = ["check_feature_family", "check_ranker", "check_retriever", "check_stage"]


def __getattr__(name: str):
    # Imported on first use: the worlds beside them are used where nothing but the parts under test may be loaded.
    if name in _PLACES:
        return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
