"""Scores by which the sources alone put candidates into an order, and the order that a pipeline takes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from recsys_cli.pipeline.candidates import Candidates
from recsys_cli.pipeline.order import (
    CHOSEN,
    FUSION,
    HEAVY,
    LIGHT,
    MERGE,
    OF_SOURCES,
    RANKERS,
    RELEVANCE,
    WEIGHTED,
    Order,
    no_order,
)
from recsys_cli.pipeline.request_features import RANK, WEIGHTED_SCORE

if TYPE_CHECKING:
    from recsys_cli.pipeline.bundle import Bundle
    from recsys_cli.pipeline.config import PipelineConfig


def resolve_order(config: PipelineConfig, bundle: Bundle) -> Order:
    """The order that a pipeline takes: what training chose, or what the settings name, with what the run has.

    A stage that is switched off passes its part to the next simpler one. Raises ConfigError for a name that is no
    order of this run.
    """
    order = bundle.order
    if config.utility.relevance is not None:
        order = replace(order, exponent=config.utility.relevance)
    known, new = config.order.known, config.order.new
    order = replace(
        order,
        known=_available(order.known if known == CHOSEN else known, config, bundle, "known"),
        new=_available(order.new if new == CHOSEN else new, config, bundle, "new"),
    )
    if bundle.relevance is None:
        order = replace(order, exponent=0.0)
    return order


def _available(name: str, config: PipelineConfig, bundle: Bundle, side: str) -> str:
    if name == HEAVY and (bundle.heavy is None or not config.heavy.enabled):
        name = RELEVANCE
    if name == RELEVANCE and bundle.relevance is None:
        name = LIGHT
    if name == LIGHT and (bundle.light is None or not config.light.enabled):
        name = FUSION if config.light.enabled else MERGE
    if name == WEIGHTED and not bundle.fusion:
        name = FUSION
    if name not in (*OF_SOURCES, *RANKERS, *bundle.configured):
        known = [CHOSEN, *OF_SOURCES, *RANKERS, *bundle.retrievers]
        raise no_order(f"pipeline.order.{side}", name, known)
    return name


def by_sources(candidates: Candidates, order: str) -> np.ndarray:
    """float32[B, K] scores of an order that needs no ranker: a source's, "merge", "fusion" or
    "weighted_fusion"."""
    fused = candidates.scores["rrf"]
    if order in OF_SOURCES:
        # a request whose sources nobody compared has their merge
        return candidates.scores.get({FUSION: "z_mean", WEIGHTED: WEIGHTED_SCORE}.get(order, "rrf"), fused)
    rank = candidates.scores.get(RANK + order)
    if rank is None:
        return fused
    # what the source lacks comes behind what it has, in the order of the others
    behind = 1e-4 * fused / max(float(fused.max(initial=0)), 1e-9)
    return np.where(rank > 0, 1 / np.maximum(rank, 1), behind).astype(np.float32)
