"""What every candidate source is: a thing that fits on a window and proposes items for a batch of users."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from recsys_cli.arrays import load_arrays, save_arrays
from recsys_cli.errors import ArtifactError
from recsys_cli.parallel import Device
from recsys_cli.retrieval.config import RetrieverConfig
from recsys_cli.retrieval.memo import LastAnswer
from recsys_cli.retrieval.reason import Reason
from recsys_cli.retrieval.vectors.nearest import nearest_rows

if TYPE_CHECKING:
    from recsys_cli.data.catalogue import Catalogue
    from recsys_cli.data.dataset import Dataset
    from recsys_cli.data.log import Log
    from recsys_cli.data.state import State
    from recsys_cli.progress import Progress
    from recsys_cli.retrieval.history_weighting import RecencyWeighting
    from recsys_cli.retrieval.vectors.item_index import ItemIndex


BYTES_A_ROW, BYTES_A_CELL = 64, 28
"""Memory that a fit takes, about: for each interaction, which is sorted and grouped, and for each number of the vectors
of users and items, which have moments, a copy of the best and one for serving."""


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
    device: Device = "auto"
    """where networks are trained"""

    @cached_property
    def interactions(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(user int32[m], item int32[m], time int64[m]) of the positive rows, ordered by time."""
        rows = np.flatnonzero(self.log.positive)
        return self.log.user[rows], self.log.item[rows], self.log.time[rows]


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

    def memory(self, window: Window) -> int:
        """Bytes that `fit` takes at its peak beside the window, about: by which fits are run side by side."""
        rows, places = len(window.interactions[0]), window.catalogue.n_users + window.catalogue.n_items
        return BYTES_A_ROW * rows + BYTES_A_CELL * places * getattr(self.config, "dim", 1)

    def begin_from(self, earlier: Retriever) -> None:
        """Let the next `fit` go on from what a source of the same settings learned on an earlier part of the same
        data; what learns in one go takes no notice."""

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
        no measure of it.
        """
        return None

    def similar_users(self, state: State, users: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray] | None:
        """The k users most like each of the given ones; as `similar_items`, by the cosine of their vectors."""
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


class DescribedArrayRetriever(Retriever):
    """A source whose fit is a dictionary of arrays and a few plain values: its checkpoint and its bundle part hold
    just those."""

    learns: ClassVar[bool] = True
    part: ClassVar[str]
    """file of the bundle part"""
    parts: ClassVar[tuple[str, ...]]
    """names of the arrays"""

    def _set(self, arrays: dict[str, np.ndarray], values: dict) -> None:
        """Take up the arrays and the plain values (JSON), and whatever follows from them."""
        raise NotImplementedError

    def _fitted(self) -> tuple[dict[str, np.ndarray], dict]:
        """What `_set` took up."""
        raise NotImplementedError

    def checkpoint(self) -> dict:
        import torch

        arrays, values = self._fitted()
        return {"arrays": {name: torch.from_numpy(np.array(a)) for name, a in arrays.items()}, "meta": values}

    def restore(self, checkpoint: dict) -> None:
        self._set({name: tensor.numpy() for name, tensor in checkpoint["arrays"].items()}, checkpoint["meta"])

    def save(self, folder: Path) -> None:
        save_arrays(folder / self.part, *self._fitted())

    @classmethod
    def load(cls, config: RetrieverConfig, folder: Path) -> DescribedArrayRetriever:
        out = cls(config)
        out._set(*read_part(folder / cls.part, *cls.parts))
        return out


def read_part(path: Path, *names: str) -> tuple[dict[str, np.ndarray], dict]:
    """Arrays and meta of a bundle part; raises ArtifactError where it is damaged or lacks one of the names."""
    arrays, meta = load_arrays(path)
    if lacking := [name for name in names if name not in arrays]:
        raise ArtifactError(f"{path} lacks {', '.join(lacking)}", "train again, or use another run")
    return arrays, meta


