"""Settings of a pipeline that differ from the run's, as variants of experiments have them.

They travel as JSON with sorted keys, "" for none: that text is the name of a way to answer, part of the key of a pool,
and what a worker is told.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from recsys_cli.config import merge, validate
from recsys_cli.pipeline.config import PipelineConfig


def written(overrides: Iterable[Mapping[str, Any]]) -> str:
    """Settings of `pipeline` laid over each other, later ones last, as the name of a way."""
    out: dict[str, Any] = {}
    for more in overrides:
        out = merge(out, dict(more))
    return json.dumps(out, sort_keys=True) if out else ""


def laid_over(base: PipelineConfig, overrides: str) -> PipelineConfig:
    """A pipeline with the settings of a way; raises ConfigError where they are none."""
    if not overrides:
        return base
    return validate(PipelineConfig, merge(base.model_dump(mode="json"), json.loads(overrides)))
