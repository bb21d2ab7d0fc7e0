"""Settings that every candidate source has."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from recsys_cli.config import Section

MaxAge = Annotated[float, Field(gt=0, le=36_500)] | Literal["auto"] | None


class RetrieverConfig(Section):
    """Settings that every source has; each family adds its own."""

    kind: str
    enabled: bool | Literal["auto"] = True
    """Whether the source is fitted and asked at all; "auto" where what people turn to on the ranker's window says that
    it can pay."""
    exclude_seen: bool | Literal["auto"] = "auto"
    """Leave out what the user was shown already, so that no slot is spent on it; "auto" does where the pipeline's seen
    filter does, as training settles it, and otherwise always."""
    max_age_days: MaxAge = None
    """Propose only items published within so many days; "auto" takes the age that items in use have, if age
    matters in the data at all. Items of unknown age always pass."""


def settle_seen(config: RetrieverConfig, allowed: bool) -> RetrieverConfig:
    """The settings with an "auto" of `exclude_seen` settled; allowed: whether lists may hold what was seen."""
    return config.model_copy(update={"exclude_seen": not allowed}) if config.exclude_seen == "auto" else config
