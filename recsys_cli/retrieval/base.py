"""What every candidate source is: a thing that fits on a window and proposes items for a batch of users."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import PositiveFloat

from recsys_cli.arrays import load_arrays, save_arrays
from recsys_cli.config import Section
from recsys_cli.data.schema import DAY
from recsys_cli.errors import ArtifactError

if TYPE_CHECKING:
    from recsys_cli.data.catalogue import Catalogue
    from recsys_cli.data.dataset import Dataset
    from recsys_cli.data.log import Log
    from recsys_cli.data.state import State
    from recsys_cli.progress import Progress
    from recsys_cli.retrieval.dense import ItemIndex
    from recsys_cli.retrieval.history import RecencyWeighting


FEW_ITEMS = 500
"""A source is not confined to fewer recent items than this by "auto"."""
MaxAge = PositiveFloat | Literal["auto"] | None


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


@dataclass(frozen=True)
class Window:
    """What a source may learn from: everything before `end` (µs)."""

    dataset: Dataset
    catalogue: Catalogue
    log: Log
    """rows before `end` only"""
    end: int
    state: State
    """as of `end`"""
    seed: int = 0

    @cached_property
    def interactions(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(user int32[m], item int32[m], time int64[m]) of the positive rows, ordered by time."""
        rows = np.flatnonzero(self.log.positive)
        return self.log.user[rows], self.log.item[rows], self.log.time[rows]


@dataclass(frozen=True)
class Reason:
    """Why an item was proposed: `kind` picks the sentence, `refers_to` is what it speaks of.

    kinds: "follow" (author position), "similar" (item position from the user's history), "friend" (a user
    position who interacted), "trending" (topic code or -1), "popular" (-1), "taste" (-1), "explore" (-1),
    "tie" (author position, not followed), "circle" (a user position through whom the item was reached),
    "community" (-1), "again" (the item, which the user interacted with before).
    """

    kind: str
    refers_to: int = -1


class Retriever:
    """A candidate source in both of its lives.

    In training: `fit` on a Window, then `checkpoint`/`restore` and `save`. In serving: `load` from the
    bundle part that `save` wrote (arrays, JSON, ONNX; never torch, implicit or scikit-learn), then
    `retrieve` and `score`. Sources that learn nothing read the State alone and leave `fit` and `save`.
    """

    config_type: ClassVar[type[RetrieverConfig]] = RetrieverConfig
    learns: ClassVar[bool] = False
    """Whether `fit` does anything (then a checkpoint and a bundle part are written)."""
    index: ItemIndex | None = None
    """vectors of the items, for the families that have them"""

    def __init__(self, config: RetrieverConfig):
        self.config = config
        self._last = LastAnswer()

    def reweighted(self, weighting: RecencyWeighting) -> Retriever:
        """The same fitted source, whose arrays it shares, asking with other weights of the items of a history."""
        out = copy.copy(self)
        out.config = self.config.model_copy(update={"history_weighting": weighting})
        out._last = LastAnswer()
        return out

    @classmethod
    def alternatives(cls, config: RetrieverConfig) -> list[RetrieverConfig]:
        """A few other settings that are worth trying on data where nobody has chosen any, likeliest first; the
        given ones are not among them. Empty where the family has none that are cheap."""
        return []

    def missing(self, window: Window) -> str | None:
        """What the data lacks for this source, as "needs follows"; None where it can work."""
        return None

    def fit(self, window: Window, progress: Progress, resume: Path | None = None) -> None:
        """Learn from the window.

        resume: a file in which a long fit may keep its progress (written atomically, read if present),
        so that killed training goes on from there.
        """

    def checkpoint(self) -> dict:
        """Tensors and plain values that `torch.save` writes and `torch.load(weights_only=True)` reads."""
        return {}

    def restore(self, checkpoint: dict) -> None:
        """Take up what `checkpoint` gave, in place of `fit`."""

    def save(self, folder: Path) -> None:
        """Write the bundle part into an existing empty folder."""

    @classmethod
    def load(cls, config: RetrieverConfig, folder: Path) -> Retriever:
        """Read the bundle part; raises ArtifactError where it is damaged."""
        return cls(config)

    def adapt(self, catalogue: Catalogue) -> None:
        """Take note of items appended to the catalogue after `fit`; items a source cannot represent it
        never proposes."""

    def retrieve(self, state: State, users: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Best k items a user, best first.

        users: int32[B], -1 for somebody unknown (an empty row, or what the source gives everybody).
        Returns items int32[B, k], -1 filling short rows at the end, and scores float32[B, k]
        (-inf where empty). Items not yet published at `state.now` are never proposed; items the user
        has seen may be (the pipeline filters them, but see `exclude_seen` in `topk`).
        """
        raise NotImplementedError

    def score(self, state: State, users: np.ndarray, items: np.ndarray) -> np.ndarray | None:
        """Similarity of user and item as a feature of the ranker, float32 of the shape of items [B, K].

        0 where either side is unknown (or items is -1); None where this source has no such measure.
        Must agree with the scores that `retrieve` gives.
        """
        return None

    def fold_in(self, histories: list[np.ndarray]) -> np.ndarray | None:
        """float32[B, D] vectors for users who were not in training, from the items they touched
        (oldest first); None where the family has no such vector."""
        return None

    def vectors(self, state: State, users: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """float32[B, D] vectors of users and bool[B], False where nothing is known of the user; None where the
        family has no such vectors."""
        return None

    def similar_items(self, state: State, items: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray] | None:
        """The k items most like each of the given ones, best first, without itself.

        Returns items int32[B, k] (-1 filler) and scores float32[B, k] (-inf filler); None where this source has
        no measure of it. By default the cosine of the items' vectors.
        """
        return None if self.index is None else self.index.similar(state, np.asarray(items), k)

    def similar_users(self, state: State, users: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray] | None:
        """The k users most like each of the given ones; as `similar_items`, by the cosine of their vectors."""
        from recsys_cli.retrieval.dense import nearest_rows

        users = np.asarray(users, np.int32)
        every = self.vectors(state, np.arange(state.catalogue.n_users, dtype=np.int32))
        if every is None:
            return None
        mine = self.vectors(state, users)
        return nearest_rows(mine[0], mine[1], users, every[0], every[1], k)

    def explain(self, state: State, user: int, items: np.ndarray) -> list[Reason]:
        """One reason for each of a few items of one user."""
        return [Reason("taste")] * len(items)


class ArrayRetriever(Retriever):
    """A source whose fit is a dictionary of arrays: its checkpoint and its bundle part hold just those."""

    learns: ClassVar[bool] = True
    part: ClassVar[str]
    """file of the bundle part"""
    parts: ClassVar[tuple[str, ...]]
    """names of the arrays"""
    _arrays: dict[str, np.ndarray]

    def _set(self, arrays: dict[str, np.ndarray]) -> None:
        """Take the arrays up, and whatever follows from them."""
        self._arrays = arrays

    def checkpoint(self) -> dict:
        import torch

        return {name: torch.from_numpy(np.array(a)) for name, a in self._arrays.items()}

    def restore(self, checkpoint: dict) -> None:
        self._set({name: tensor.numpy() for name, tensor in checkpoint.items()})

    def save(self, folder: Path) -> None:
        save_arrays(folder / self.part, self._arrays)

    @classmethod
    def load(cls, config: RetrieverConfig, folder: Path) -> ArrayRetriever:
        out = cls(config)
        out._set(read_part(folder / cls.part, *cls.parts)[0])
        return out


class PerState:
    """Keeps what was last computed from a State, so that every request against that state shares it."""

    def __init__(self, compute: Callable[[State], Any]):
        self._compute = compute
        self._kept: tuple[weakref.ref, Any] | None = None

    def __call__(self, state: State) -> Any:
        kept = self._kept
        if kept is None or kept[0]() is not state:
            kept = self._kept = (weakref.ref(state), self._compute(state))
        return kept[1]


class LastAnswer:
    """Keeps what was last computed of a batch of users as of a State.

    A request asks a source for proposals, then for the scores of others' proposals: the second finds what the first
    computed.
    """

    def __init__(self):
        self._kept: tuple[weakref.ref, bytes, Any] | None = None

    def __call__(self, state: State, users: np.ndarray, compute: Callable[[], Any]) -> Any:
        kept, asked = self._kept, users.tobytes()
        if kept is None or kept[0]() is not state or kept[1] != asked:
            # one assignment of everything: requests of other threads see the old answer or the new one
            kept = self._kept = (weakref.ref(state), asked, compute())
        return kept[2]

    def get(self, state: State, users: np.ndarray) -> Any | None:
        """What is kept of these users, None where it is of others."""
        kept = self._kept
        return kept[2] if kept is not None and kept[0]() is state and kept[1] == users.tobytes() else None


def read_part(path: Path, *names: str) -> tuple[dict[str, np.ndarray], dict]:
    """Arrays and meta of a bundle part; raises ArtifactError where it is damaged or lacks one of the names."""
    arrays, meta = load_arrays(path)
    if lacking := [name for name in names if name not in arrays]:
        raise ArtifactError(f"{path} lacks {', '.join(lacking)}", "train again, or use another run")
    return arrays, meta


def usual_age(state: State) -> float | None:
    """Days within which nine of ten recent interactions' items were published; None where age says little.

    Taken from the latest fifth of the histories. It says little where half of the catalogue is no older
    (then leaving out the old gains nothing and may lose much), where only few items would be left, and where
    ages are unknown.
    """
    created, items, times = state.catalogue.item_created, state.history.values, state.history_time.values
    stride = -(-len(items) // 250_000) or 1
    items, times = items[::stride], times[::stride]
    dated = created[items] > 0
    items, times = items[dated], times[dated]
    if not len(items):
        return None
    recent = times >= np.quantile(times, 0.8)
    limit = float(np.quantile(times[recent] - created[items[recent]], 0.9))
    published = created[(created > 0) & (created < state.now)]
    young = np.count_nonzero(published >= state.now - limit)
    return limit / DAY if FEW_ITEMS <= young < len(published) / 2 else None


_usual_age = PerState(usual_age)


def age_limit(state: State, max_age_days: MaxAge) -> float | None:
    """Days of the setting: a number, None for no limit, or what "auto" finds in the State (`usual_age`)."""
    return _usual_age(state) if max_age_days == "auto" else max_age_days


def eligible(state: State, max_age_days: MaxAge = None) -> np.ndarray:
    """bool[n_items]: published before `state.now`, and not longer ago than allowed (unknown ages pass)."""
    created, limit = state.catalogue.item_created, age_limit(state, max_age_days)
    mask = created < state.now
    if limit is not None:
        mask &= (created == 0) | (created >= state.now - int(limit * DAY))
    return mask


def chunks(costs: np.ndarray, limit: int) -> Iterator[slice]:
    """Consecutive slices whose costs sum to at most `limit` (a single costlier element stands alone)."""
    start, total = 0, np.cumsum(costs)
    while start < len(total):
        base = total[start - 1] if start else 0
        stop = max(int(np.searchsorted(total, base + limit, "right")), start + 1)
        yield slice(start, stop)
        start = stop


def topk(
    scores: np.ndarray, k: int, seen: tuple[np.ndarray, np.ndarray] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Best k columns of each row, best first; among those chosen, ties go to the lower column.

    scores: float32[B, N] (overwritten where `seen` says so), -inf marks what may not be chosen.
    seen: (row, column) pairs to leave out. Returns items int32[B, k] (-1 filler) and scores float32[B, k].
    """
    if seen is not None:
        scores[seen] = -np.inf
    b, n = scores.shape
    width = min(k, n)
    if width < n:
        part = np.argpartition(scores, n - width, axis=1)[:, n - width :]
    else:
        part = np.broadcast_to(np.arange(n), (b, n)).copy()
    values = np.take_along_axis(scores, part, axis=1)
    order = np.lexsort((part, -values), axis=1)
    items = np.take_along_axis(part, order, axis=1).astype(np.int32)
    values = np.take_along_axis(values, order, axis=1).astype(np.float32)
    items[~np.isfinite(values)] = -1
    if width < k:
        items = np.pad(items, ((0, 0), (0, k - width)), constant_values=-1)
        values = np.pad(values, ((0, 0), (0, k - width)), constant_values=-np.inf)
    return items, values
