"""Settings of `recsys evaluate`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt, field_validator

from recsys_cli.config import Section


class EvaluationConfig(Section):
    """What the offline evaluator measures and how sure it wants to be."""

    k: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (5, 10, 20, 100)
    """Lengths of list at which ranking metrics are taken."""
    users: PositiveInt | None = None
    """Test users to measure on, drawn with the seed; null takes all."""
    truths: Literal["reachable", "all"] = "reachable"
    """What counts as relevant: "reachable" leaves out what no list made at the cutoff can hold: items
    published only later and, where pipeline.filters.seen is on, items shown before; "all" keeps both in the
    denominators."""
    resamples: Annotated[int, Field(ge=100, le=100_000)] = 1000
    """Bootstrap resamples of users for the intervals of ranking metrics."""
    auc_resamples: Annotated[int, Field(ge=50, le=100_000)] = 200
    """Bootstrap resamples of users for the intervals of ROC-AUC."""

    @field_validator("k")
    @classmethod
    def _ascending(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(sorted(set(value)))
