"""Stages that `pipeline.stages` can add to the usual ones: those of this package, and those of installed ones."""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import Annotated, Any

from pydantic import Field

from recsys_cli.pipeline.debiasing.long_tail import LongTail
from recsys_cli.pipeline.debiasing.popularity_correction import PopularityCorrection
from recsys_cli.pipeline.diversity.adventure import Adventure
from recsys_cli.pipeline.diversity.author_decay import AuthorDecay
from recsys_cli.pipeline.diversity.calibration import Calibration
from recsys_cli.pipeline.diversity.constraints import Constraints
from recsys_cli.pipeline.diversity.dpp import Dpp
from recsys_cli.pipeline.diversity.kdpp import KDpp
from recsys_cli.pipeline.diversity.mix import Mix
from recsys_cli.pipeline.diversity.mmr import Mmr
from recsys_cli.pipeline.diversity.out_of_network import OutOfNetwork
from recsys_cli.pipeline.diversity.source_weights import SourceWeights
from recsys_cli.pipeline.exploration.creatives import Creatives
from recsys_cli.pipeline.fairness.exposure import Exposure
from recsys_cli.pipeline.fairness.minimum_exposure import MinimumExposure
from recsys_cli.pipeline.filtering.conversation import Conversation
from recsys_cli.pipeline.filtering.holdout import Holdout
from recsys_cli.pipeline.filtering.language import Language
from recsys_cli.pipeline.filtering.muted_keywords import MutedKeywords
from recsys_cli.pipeline.filtering.near_duplicates import NearDuplicates
from recsys_cli.pipeline.filtering.see_less import SeeLess
from recsys_cli.pipeline.filtering.served import Served
from recsys_cli.pipeline.filtering.subscription import Subscription
from recsys_cli.pipeline.filtering.unavailable import Unavailable
from recsys_cli.pipeline.stage import Stage, StageConfig
from recsys_cli.plugins import installed

OWN: tuple[type[Stage], ...] = (
    Mmr, Dpp, KDpp, Calibration, Constraints, Mix, AuthorDecay, OutOfNetwork, SourceWeights, Adventure,
    PopularityCorrection, LongTail, Exposure, MinimumExposure,
    Served, MutedKeywords, Language, Unavailable, Subscription, SeeLess, Holdout, Conversation, NearDuplicates,
    Creatives,
)
"""Those of this package."""
KINDS: dict[str, type[Stage]] = {stage.config_type.model_fields["kind"].default: stage for stage in OWN}
STAGE_KINDS: dict[str, type[Stage]] = KINDS | installed(
    "recsys.stages", KINDS,
    lambda entry: entry.config_type if isinstance(entry, type) and issubclass(entry, Stage) else None,
)
"""`kind` → class, with those of the entry points `recsys.stages` of installed packages."""


def _settings() -> Any:
    """The type of one entry of `pipeline.stages`: settings of whichever kinds there are."""
    types: list[type[StageConfig]] = [stage.config_type for stage in STAGE_KINDS.values()]
    return Annotated[reduce(or_, types), Field(discriminator="kind")]


AddedStage = _settings()
