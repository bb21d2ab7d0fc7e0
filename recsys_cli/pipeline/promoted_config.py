"""Settings of promoted slots."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

from pydantic import Field, PositiveInt, model_validator

from recsys_cli.config import Section


class PromotedConfig(Section):
    """Places of the slate that belong to promoted items, such as advertisements."""

    attribute: str | None = None
    """Column of the items that says which are promoted: a category, or a number above 0; null promotes nothing."""
    value: str = "true"
    """Value of the category that stands for promoted."""
    positions: Annotated[list[Annotated[int, Field(ge=1, le=100_000)]], Field(min_length=1, max_length=100)] = [3, 8]
    """Their places, counted from 1, ascending. Promoted items stand nowhere else while there are others."""
    spacing: Annotated[int, Field(ge=0, le=1000)] = 3
    """Other items between two of them at least; positions that are closer are refused."""
    per_user: PositiveInt | None = None
    """Different promoted items that a user is shown at most, over all requests; null for no cap."""
    candidates: Annotated[int, Field(ge=1, le=1000)] = 50
    """Promoted items that are put among the candidates of every user, those with most recent interactions. They take
    part in the ranking: what is cut there is not shown."""

    @model_validator(mode="after")
    def _apart(self) -> PromotedConfig:
        for a, b in pairwise(self.positions):
            if b <= a:
                raise ValueError(f"positions: {b} stands behind {a}; write each once, ascending")
            if b - a <= self.spacing:
                told = f"positions {a} and {b} have {b - a - 1} between them, spacing asks for {self.spacing}"
                raise ValueError(told)
        return self
