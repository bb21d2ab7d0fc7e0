"""Stages that `pipeline.stages` can add to the built-in ones."""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import Annotated, Any

from pydantic import Field

from recsys_cli.pipeline.stage import Stage, StageConfig
from recsys_cli.plugins import installed

STAGE_KINDS: dict[str, type[Stage]] = installed(
    "recsys.stages", {},
    lambda entry: entry.config_type if isinstance(entry, type) and issubclass(entry, Stage) else None,
)
"""`kind` → class, from the entry points `recsys.stages` of installed packages."""


def _settings() -> Any:
    """The type of one entry of `pipeline.stages`: settings of whichever kinds there are."""
    types = [stage.config_type for stage in STAGE_KINDS.values()]
    if len(types) < 2:
        return types[0] if types else StageConfig
    return Annotated[reduce(or_, types), Field(discriminator="kind")]


AddedStage = _settings()
