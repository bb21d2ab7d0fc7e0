"""Settings of business rules."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field, PositiveFloat, PositiveInt, field_validator, model_validator

from recsys_cli.config import Section
from recsys_cli.pipeline.rules.syntax import parse

Then = Literal["filter", "boost", "bury", "promote", "pin"]


class BusinessRule(Section):
    """What happens to the items, or to the items for some users, that a condition holds for."""

    model_config = ConfigDict(populate_by_name=True)
    condition: str = Field(alias="if")
    """As `item.age_days < 7 and user.is_returning`: and, or, not, comparisons, in, + − * / on attributes of `item`,
    `user` and `request`, numbers and texts. What is unknown meets no comparison."""
    then: Then
    """filter: left out; boost: the utility is multiplied; bury: behind all others; promote: in front; pin: at a
    position. A filter is stronger than all else, then pin, promote, bury and boost."""
    by: PositiveFloat | None = None
    """What boost multiplies by; below 1 it lowers."""
    position: PositiveInt | None = None
    """Place of a pin in the slate, from 1; the best item that the condition holds for takes it."""
    at_most: PositiveInt | None = None
    """Items that promote lifts at most; null lifts all."""

    @field_validator("condition")
    @classmethod
    def _can_be_read(cls, text: str) -> str:
        parse(text)
        return text

    @model_validator(mode="after")
    def _complete(self) -> BusinessRule:
        for name, action in (("by", "boost"), ("position", "pin"), ("at_most", "promote")):
            if getattr(self, name) is not None and self.then != action:
                raise ValueError(f"`{name}` belongs to `then: {action}`, and to no other")
        if self.then == "boost" and self.by is None:
            raise ValueError("boost needs `by`, what the utility is multiplied by")
        if self.then == "pin" and self.position is None:
            raise ValueError("pin needs `position`, its place in the slate")
        return self
