"""A blend: the scores that several sources give every item, brought to one scale for each user and added up."""

from __future__ import annotations

from functools import reduce
from operator import or_
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field, PositiveFloat, model_validator

from recsys_cli.data.state import State
from recsys_cli.errors import ArtifactError
from recsys_cli.files import is_name
from recsys_cli.progress import Progress
from recsys_cli.retrieval.base import Retriever, Window
from recsys_cli.retrieval.batches import chunks, unique_users
from recsys_cli.retrieval.config import MaxAge, RetrieverConfig
from recsys_cli.retrieval.eligibility import eligible
from recsys_cli.retrieval.embeddings.lightgcn import LightGcn
from recsys_cli.retrieval.factors.als import Als
from recsys_cli.retrieval.factors.factorisation import Bpr, Nmf, Svd
from recsys_cli.retrieval.linear.ease_slim import Ease, Slim
from recsys_cli.retrieval.linear.graph_filter import GraphFilter
from recsys_cli.retrieval.linear.item_filter import ItemFilter
from recsys_cli.retrieval.memo import PerState
from recsys_cli.retrieval.neighbours.item_neighbours import ItemNeighbours, Rp3Beta
from recsys_cli.retrieval.reason import Reason
from recsys_cli.retrieval.topk import shown_columns, topk
from recsys_cli.retrieval.vectors.products import product

if TYPE_CHECKING:
    from recsys_cli.data.catalogue import Catalogue
    from recsys_cli.retrieval.history_weighting import RecencyWeighting

CELLS_AT_ONCE = 4_000_000
PARTS: dict[str, type[Retriever]] = {
    "als": Als,
    "bpr": Bpr,
    "ease": Ease,
    "graph_filter": GraphFilter,
    "item_neighbours": ItemNeighbours,
    "lightgcn": LightGcn,
    "nmf": Nmf,
    "rp3beta": Rp3Beta,
    "slim": Slim,
    "svd": Svd,
}
"""Kinds that score every item: what can be a part."""
OWN = ("enabled", "exclude_seen", "max_age_days")
"""Settings that the blend has for all its parts."""
PartSettings = Annotated[reduce(or_, (cls.config_type for cls in PARTS.values())), Field(discriminator="kind")]


class BlendConfig(RetrieverConfig):
    """Blend: weighted sum of the scores of several sources, each on its own scale of the user's (Lee, SIGIR 1997)."""

    kind: Literal["blend"] = "blend"
    max_age_days: MaxAge = "auto"
    """Propose only items published within so many days; "auto" takes the age that items in use have, if age
    matters in the data at all. Items of unknown age always pass."""
    parts: dict[str, PartSettings] = {"ease": Ease.config_type(), "graph_filter": GraphFilter.config_type()}
    """The sources by name, with their settings; who may be proposed is the blend's to say, not theirs."""
    weights: dict[str, PositiveFloat] = {}
    """Weight of each part; 1 for those that are not named."""
    normalisation: Literal["z_score", "max", "none"] = "z_score"
    """What brings the scores that a part gives a user's items to one scale: their standard deviation after the mean
    is taken off, their greatest magnitude, or nothing."""

    @model_validator(mode="after")
    def _parts_make_sense(self) -> BlendConfig:
        if not self.parts:
            raise ValueError("a blend needs parts, as `parts: {ease: {kind: ease}}`")
        for name in self.parts:
            if not name.isidentifier() or not is_name(name):
                raise ValueError(f"part {name!r} must have a name of letters, digits and _")
        for name in self.weights:
            if name not in self.parts:
                raise ValueError(f"weights names {name!r}, which is no part; parts are {', '.join(self.parts)}")
        for name, part in self.parts.items():
            for setting in OWN:
                if getattr(part, setting) != type(part).model_fields[setting].default:
                    raise ValueError(f"part {name!r} has {setting}, which is the blend's to say: set it there")
        return self


class Blend(Retriever):
    """score(u, i) = Σ over parts p of w_p n(s_p(u, ·))_i, n the normalisation over the items that p knows.

    A part that knows nothing of the user adds nothing. Everything that a part can do for people who were not in
    training, the blend can.
    """

    config_type: ClassVar = BlendConfig
    learns: ClassVar = True
    config: BlendConfig

    def __init__(self, config: BlendConfig):
        super().__init__(config)
        self.parts = {name: PARTS[part.kind](part) for name, part in config.parts.items()}
        self._eligible = PerState(lambda state: eligible(state, config.max_age_days))

    def reweighted(self, weighting: RecencyWeighting) -> Blend:
        """All parts whose own settings leave it to training ask with these weights."""
        out = super().reweighted(weighting)
        free = {n for n, part in self.config.parts.items() if part.history_weighting.kind == "auto"}
        out.parts = {n: part.reweighted(weighting) if n in free else part for n, part in self.parts.items()}
        out.config = self.config.model_copy(update={"parts": {n: part.config for n, part in out.parts.items()}})
        return out

    def memory(self, window: Window) -> int:
        return max(part.memory(window) for part in self.parts.values())

    def missing(self, window: Window) -> str | None:
        return next((lack for part in self.parts.values() if (lack := part.missing(window))), None)

    def fit(self, window: Window, progress: Progress, resume: Path | None = None) -> None:
        for name, part in self.parts.items():
            # each part keeps its own progress; those that were done are fitted anew, which only costs time
            part.fit(window, progress, None if resume is None else resume.with_name(f"{resume.name}.{name}"))

    def checkpoint(self) -> dict:
        return {name: part.checkpoint() for name, part in self.parts.items()}

    def restore(self, checkpoint: dict) -> None:
        for name, part in self.parts.items():
            if name not in checkpoint:
                raise ArtifactError(f"the checkpoint lacks the part {name!r} of the blend", "train again")
            part.restore(checkpoint[name])

    def save(self, folder: Path) -> None:
        for name, part in self.parts.items():
            (folder / name).mkdir()
            part.save(folder / name)

    @classmethod
    def load(cls, config: BlendConfig, folder: Path) -> Blend:
        out = cls(config)
        out.parts = {name: PARTS[part.kind].load(part, folder / name) for name, part in config.parts.items()}
        return out

    def adapt(self, catalogue: Catalogue) -> None:
        for part in self.parts.values():
            part.adapt(catalogue)

    def _known(self) -> np.ndarray:
        """bool[n]: items that some part knows."""
        masks = [_known(part) for part in self.parts.values()]
        out = np.zeros(max(len(mask) for mask in masks), bool)
        for mask in masks:
            out[: len(mask)] |= mask
        return out

    def _rows(self, state: State, users: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
        """(scores float32[B, width] of every item, bool[B] whether any part knows something of the user)."""
        return self._sum((_scores(part, state, users) for part in self.parts.values()), len(users), width)

    def _sum(self, given, batch: int, width: int) -> tuple[np.ndarray, np.ndarray]:
        total, some = None, np.zeros(batch, bool)
        for (name, part), (scores, has) in zip(self.parts.items(), given, strict=True):
            weight = np.float32(self.config.weights.get(name, 1.0))
            normalise(scores, _known(part), self.config.normalisation, weight)
            scores[~has] = 0
            some |= has
            if total is None and scores.shape[1] == width:
                total = scores
                continue
            total = np.zeros((batch, width), np.float32) if total is None else total
            total[:, : scores.shape[1]] += scores
        return total, some

    def retrieve(self, state: State, users: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        users, known = np.asarray(users), self._known()
        n = len(known)
        items, scores = np.full((len(users), k), -1, np.int32), np.full((len(users), k), -np.inf, np.float32)
        allowed = np.zeros(n, bool)
        inside = min(n, state.catalogue.n_items)
        allowed[:inside] = known[:inside] & self._eligible(state)[:inside]
        if not allowed.any():
            return items, scores
        forbidden = np.flatnonzero(~allowed)
        for part in chunks(np.full(len(users), n), CELLS_AT_ONCE):
            rows, some = self._rows(state, users[part], n)
            rows[:, forbidden] = -np.inf
            rows[~some] = -np.inf
            seen = shown_columns(state.seen, users[part], n) if self.config.exclude_seen else None
            items[part], scores[part] = topk(rows, k, seen)
        return items, scores

    def score(self, state: State, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        items, known = np.asarray(items), self._known()
        n = len(known)
        out = np.zeros(items.shape, np.float32)
        if not n:
            return out
        people, at = unique_users(users)
        order = np.argsort(at, kind="stable")
        for part in chunks(np.full(len(people), n), CELLS_AT_ONCE):
            scores, some = self._rows(state, people[part], n)
            low, high = np.searchsorted(at[order], [part.start, part.stop])
            rows = order[low:high]
            wanted, mine = items[rows], at[rows] - part.start
            inside = np.clip(wanted, 0, n - 1)
            valid = (wanted == inside) & some[mine][:, None] & known[inside]
            out[rows] = np.where(valid, scores[mine[:, None], inside], 0)
        return out

    def fold_in(self, histories: list[np.ndarray]) -> np.ndarray:
        """float32[B, n_items]: what stands for somebody is the blended score of every item."""
        n = len(self._known())
        given = (_folded(part, histories) for part in self.parts.values())
        return self._sum(given, len(histories), n)[0]

    def explain(self, state: State, user: int, items: np.ndarray) -> list[Reason]:
        """The reasons of the part of the greatest weight."""
        weights = self.config.weights
        return self.parts[max(self.parts, key=lambda name: weights.get(name, 1.0))].explain(state, user, items)


def normalise(scores: np.ndarray, known: np.ndarray, how: str, weight: float = 1.0) -> None:
    """Bring rows float32[B, n] to one scale in place, times the weight; items not `known` bool[n] end at 0.

    Known items define the scale. A row without differences says nothing and becomes 0.
    """
    count = int(np.count_nonzero(known))
    if count < len(known):
        scores[:, ~known] = 0
    if not count or how == "none":
        scores *= np.float32(weight)
        return
    if how == "max":
        scale, mean = np.abs(scores).max(axis=1, keepdims=True), np.zeros((len(scores), 1), np.float32)
    else:
        # unknown items are 0, so that sums over all are sums over the known
        mean = scores.mean(axis=1, keepdims=True, dtype=np.float32) * np.float32(len(known) / count)
        square = np.einsum("bn,bn->b", scores, scores)[:, None] / count
        scale = np.sqrt(np.maximum(square - mean**2, 0))
    factor = np.where(scale > np.abs(mean) * 1e-4, weight / np.maximum(scale, 1e-30), 0).astype(np.float32)
    scores *= factor
    if how == "z_score":
        scores -= (mean * factor).astype(np.float32)
        if count < len(known):
            scores[:, ~known] = 0


def _known(part: Retriever) -> np.ndarray:
    """bool[n]: items that a part knows."""
    return part.map.known if isinstance(part, ItemFilter) else part.index.known


def _scores(part: Retriever, state: State, users: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(a part's scores float32[B, n] of every item, bool[B] whether it knows something of the user)."""
    if isinstance(part, ItemFilter):
        return part.rows(state, users)
    vectors, known = part.vectors(state, users)
    return np.array(product(vectors, part.index.vectors.T)), known


def _folded(part: Retriever, histories: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """As `_scores`, for histories."""
    if isinstance(part, ItemFilter):
        return part.rows_of(histories)
    vectors = part.fold_in(histories)
    return np.array(product(vectors, part.index.vectors.T)), (vectors != 0).any(axis=1)
