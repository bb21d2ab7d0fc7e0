"""What MMR, the determinantal point processes and others of their kind share: relevance and vectors of one user."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from pydantic import Field

from recsys_cli.pipeline.candidates import Candidates
from recsys_cli.pipeline.diversity.embeddings import LACK, Vectors, item_vectors
from recsys_cli.pipeline.query import Query
from recsys_cli.pipeline.rescale import chosen_first, slot_relevance
from recsys_cli.pipeline.stage import Selector, StageConfig

if TYPE_CHECKING:
    from recsys_cli.pipeline.bundle import Bundle

RESERVE = 10
"""Further items chosen behind the slate, which move up where a later stage takes some out."""


class VariedConfig(StageConfig):
    """Settings of stages that weigh how relevant an item is against how like it is to the others of the slate."""

    diversity: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Weight of diversity, that of relevance being the rest; 0 leaves the order as it is. How far a weight goes depends
    on how far apart the utilities are: measure it."""
    embeddings: str = "auto"
    """What tells how alike items are: a source with vectors of items, a column of vectors, "topics", or "auto": the
    first source that has any, else topics."""


class Varied(Selector):
    """Chooses the slate of each user from the relevance and the vectors of the candidates."""

    config_type: ClassVar[type[StageConfig]] = VariedConfig
    config: VariedConfig
    reads = ("utility",)
    before = "diversity"
    _vectors: Vectors | None = None

    def prepare(self, bundle: Bundle) -> str | None:
        self._vectors = item_vectors(self.config.embeddings, bundle, f"pipeline.stages.{self.name}.embeddings")
        return LACK if self._vectors is None else None

    def enabled(self, query: Query) -> bool:
        return self.config.diversity > 0

    def __call__(self, query: Query, candidates: Candidates) -> Candidates:
        if not self.config.diversity:
            return candidates
        assert self._vectors is not None  # else it stood aside
        relevance, picks = slot_relevance(candidates), query.size + RESERVE
        draws = self.draws(query, candidates, picks)
        chosen = []
        for row, slots in enumerate(map(np.flatnonzero, candidates.filled)):
            if len(slots):
                vectors = self._vectors(query, candidates.items[row, slots])
                slots = slots[self.choose(relevance[row, slots], vectors, min(picks, len(slots)), draws[row])]
            chosen.append(slots)
        return chosen_first(candidates, chosen)

    def draws(self, query: Query, candidates: Candidates, picks: int) -> np.ndarray:
        """float64[B, any] uniform draws for `choose`; none by default."""
        return np.zeros((len(query), 0))

    def choose(self, relevance: np.ndarray, vectors: np.ndarray, picks: int, draws: np.ndarray) -> np.ndarray:
        """int64[picks] places of the chosen, best first.

        relevance: float64[n] in [0, 1], falling. vectors: float32[n, D] of unit length, zero where unknown.
        """
        raise NotImplementedError
