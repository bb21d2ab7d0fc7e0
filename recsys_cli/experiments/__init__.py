"""Controlled experiments: assignment, simulated traffic, and the analysis of outcomes."""

__all__ = ["assign", "create_experiment", "get_experiment_results", "record"]


def __getattr__(name: str):
    # on first use: parts of this package are imported by commands that need no pydantic and no registry
    if name in __all__:
        from recsys_cli.experiments import live

        return getattr(live, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
