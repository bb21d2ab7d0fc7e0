"""Author diversity as X publishes it: each further item of an author counts less."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field

from recsys_cli.pipeline.candidates import Candidates
from recsys_cli.pipeline.query import Query
from recsys_cli.pipeline.rescale import Rescaler
from recsys_cli.pipeline.stage import StageConfig

if TYPE_CHECKING:
    from recsys_cli.pipeline.bundle import Bundle


class AuthorDecayConfig(StageConfig):
    """The n-th item of an author, by utility, keeps (1 − floor) · decay^(n − 1) + floor of its utility."""

    kind: Literal["author_decay"] = "author_decay"
    decay: Annotated[float, Field(ge=0, le=1)] = 0.5
    """What each further item of an author is multiplied by; 1 changes nothing."""
    floor: Annotated[float, Field(ge=0, le=1)] = 0.25
    """Share of the utility that is kept however many there are."""


class AuthorDecay(Rescaler):
    """Lowers the utility of an author's second and further items (xai-org/x-algorithm: author diversity scorer)."""

    config_type = AuthorDecayConfig
    config: AuthorDecayConfig

    def prepare(self, bundle: Bundle) -> str | None:
        return None if (bundle.catalogue.item_author >= 0).any() else "needs items with an author"

    def enabled(self, query: Query) -> bool:
        return self.config.decay < 1 and self.config.floor < 1

    def factors(self, query: Query, candidates: Candidates) -> np.ndarray:
        author = np.where(candidates.filled, query.state.catalogue.item_author[candidates.items], -1)
        utility = np.where(candidates.filled, candidates.scores["utility"], -np.inf)
        before = earlier_alike(author, utility)
        decay, floor = np.float32(self.config.decay), np.float32(self.config.floor)
        return (1 - floor) * decay ** before.astype(np.float32) + floor


def earlier_alike(label: np.ndarray, score: np.ndarray) -> np.ndarray:
    """int64[B, K]: how many candidates of the same label have a higher score, equal ones counting in their order; 0
    for the label -1."""
    b, k = label.shape
    if not k:
        return np.zeros((b, 0), np.int64)
    order = np.lexsort((-score, label), axis=1)
    sorted_label = np.take_along_axis(label, order, axis=1)
    column = np.broadcast_to(np.arange(k), (b, k))
    new = np.ones((b, k), bool)
    new[:, 1:] = sorted_label[:, 1:] != sorted_label[:, :-1]
    begin = np.maximum.accumulate(np.where(new, column, 0), axis=1)
    out = np.empty((b, k), np.int64)
    np.put_along_axis(out, order, np.where(sorted_label >= 0, column - begin, 0), axis=1)
    return out
