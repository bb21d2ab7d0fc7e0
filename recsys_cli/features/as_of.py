"""What was known strictly before each moment: the log, seen from the rows that features are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

import numpy as np

from recsys_cli.data.catalogue import Catalogue
from recsys_cli.data.log import Log
from recsys_cli.features import formulas
from recsys_cli.features.edges import Edges
from recsys_cli.features.history import Clock, History, View
from recsys_cli.features.keys import ItemKeys
from recsys_cli.features.rows import Rows, as_slice, known
from recsys_cli.features.spec import FeatureSpec

Similarity = Callable[[np.ndarray, np.ndarray], dict[str, np.ndarray]]
"""(users int32[n], items int32[n]) → retriever name → float32[n] scores"""
_ROWS_AT_ONCE = 2048
_COLUMNS_AT_ONCE = 8


class Past:
    """A log with the catalogue and the edges of its dataset, and what is made of them once."""

    def __init__(
        self, spec: FeatureSpec, catalogue: Catalogue, log: Log, follows: dict[str, np.ndarray] | None,
        blocks: dict[str, np.ndarray] | None = None,
    ):
        """follows, blocks: as `Dataset.edges` gives."""
        self.spec, self.catalogue, self.log = spec, catalogue, log
        self.clock = Clock(log.time)
        self.keys = ItemKeys.of(catalogue, spec.config, spec.keys, spec.n_surfaces)
        self.follows = Edges(catalogue, log, ("follow",), follows)
        self.blocks = Edges(catalogue, log, ("block", "mute"), blocks)
        self._kept: dict[str, Any] = {}
        self._holding = ""

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        """What `make` gives, made the first time and kept under a name."""
        if name not in self._kept:
            self._kept[name] = make()
        return self._kept[name]

    def column(self, name: str) -> np.ndarray:
        """A column of the log, bool[n] or float[n] without NaN.

        name: an action, "positive", "negative", or a quantity: "dwell" (ln(1 + seconds)), "completion" (share of the
        item's length, at most 3), "dwell_known", "completion_known".
        """
        if name in self.log.actions:
            return self.log.actions[name]
        if name in ("positive", "negative"):
            return getattr(self.log, name)
        return self.once(name, lambda: self._quantity(name))

    def _quantity(self, name: str) -> np.ndarray:
        seconds = np.full(len(self.log), np.nan, np.float32) if self.log.dwell is None else self.log.dwell
        values = np.log1p(np.maximum(seconds, 0))
        if name.startswith("completion"):
            length = self.catalogue.item_numbers["duration_seconds"][self.log.item]
            values = np.where(length > 0, np.minimum(seconds / np.where(length > 0, length, 1), 3), np.nan)
        return ~np.isnan(values) if name.endswith("_known") else np.nan_to_num(values)

    def history(self, key: str) -> History:
        """The log by one counting key; that of users, which many features read, is kept, and that which is held."""
        if key in ("user", self._holding):
            return self.once(f"history {key}", lambda: self._history(key))
        return self._history(key)

    @contextmanager
    def holding(self, key: str) -> Iterator[None]:
        """Keep the log by this key while it is asked again and again."""
        self._holding = key
        yield
        self._holding = ""
        if key != "user":
            self._kept.pop(f"history {key}", None)

    def _history(self, key: str) -> History:
        log = self.log
        surface = log.surface if log.surface is not None else np.full(len(log), -1, np.int16)
        return History(self.keys.key(key, log.user, log.item, surface, log.time), self.clock)

    def users_at(self, now: int) -> View:
        """What every user did before a moment; the last row is the unknown user."""
        return self.history("user").view(np.append(np.arange(self.catalogue.n_users), -1), np.int64(now))

    def everything(self, moments: np.ndarray) -> dict[str, np.ndarray]:
        """Log-odds of each action and the mean dwell over all impressions before each moment; float32[n]."""
        view = self.history("everything").view(np.zeros(len(moments), np.int64), moments)
        shown, out, config = view.shown().astype(np.float32), {}, self.spec.config
        base = np.float32(np.log(config.base_rate / (1 - config.base_rate)))
        for action in (*self.spec.positive, *self.spec.negative, "positive", "negative"):
            count = view.sum(self.column(action))
            out[action] = formulas.log_odds(count, shown, base, config.smoothing.everything)
        for name in ("dwell", "completion"):
            if any(f.measure == name for f in self.spec.features):
                count = view.sum(self.column(f"{name}_known"))
                out[name] = formulas.mean(view.sum(self.column(name)), count, np.float32(0), 1.0).astype(np.float32)
        return out


class AsOf:
    """n rows that features are asked for, and what was known strictly before the moment of each.

    A family reads users, items and moments, `past` (the log and the catalogue), `rows` (what else is known of the
    requests) and the methods below.
    """

    def __init__(
        self, past: Past, rows: Rows, columns: Sequence[str], out: np.ndarray, similarity: Similarity | None = None
    ):
        """columns: names of the features that `out`, float32[n, len(columns)], takes. similarity: gives the scores of
        retrievers; None where they are left at 0."""
        self.past, self.rows, self.out, self.similarity = past, rows, out, similarity
        self.columns = {name: i for i, name in enumerate(columns)}
        moments, self._moment = np.unique(rows.time, return_inverse=True)
        self._everything = past.everything(moments)
        self._kept: dict[str, Any] = {}

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def user(self) -> np.ndarray:
        """int32[n], -1 unknown"""
        return self.rows.user

    @property
    def item(self) -> np.ndarray:
        """int32[n], -1 unknown"""
        return self.rows.item

    @property
    def time(self) -> np.ndarray:
        """int64[n] µs"""
        return self.rows.time

    def parts(self, size: int) -> Iterator[AsOf]:
        """The rows, some at a time."""
        for low in range(0, len(self), size):
            part = object.__new__(AsOf)
            part.__dict__.update(self.__dict__, _kept={})
            rows = slice(low, low + size)
            part.rows, part._moment, part.out = self.rows.part(rows), self._moment[rows], self.out[rows]
            yield part

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        """As `Past.once`, for what is made of these rows."""
        if name not in self._kept:
            self._kept[name] = make()
        return self._kept[name]

    def view(self, key: str) -> View:
        """What was counted for each row's key ("user", "user_author", …, see `keys.KEYS`) before its moment."""
        keys, q = self.past.keys, self.rows

        def view() -> View:
            return self.past.history(key).view(keys.key(key, q.user, q.item, q.surface, q.time), q.time)

        return self.once(f"view {key}", view)

    def column(self, name: str) -> np.ndarray:
        """A column of the log, see `Past.column`: what a view adds up."""
        return self.past.column(name)

    def everything(self, name: str) -> np.ndarray:
        """float32[n]: log-odds of an action, or the mean dwell or completion, over all impressions of everybody."""
        return self._everything[name][self._moment]

    def who(self, side: str) -> np.ndarray:
        """int32[n]: the rows' users ("user") or items ("item")."""
        return self.user if side == "user" else self.item

    def author(self) -> np.ndarray:
        """int32[n]: the authors of the rows' items, -1 unknown."""
        return known(self.past.keys.author, self.item, -1)

    def read(self, feature: str) -> np.ndarray | None:
        """float32[n]: a feature that was computed before; None where it is not asked for."""
        at = self.columns.get(feature)
        return None if at is None else self.out[:, at].copy()

    def needed(self, feature: str) -> np.ndarray:
        """float32[n]: likewise, of one that must have been asked for; LookupError where it was not."""
        values = self.read(feature)
        if values is None:
            raise LookupError(f"feature {feature!r} is read by another, but not computed")
        return values

    def write(self, computed: Iterable[tuple[str, np.ndarray]]) -> None:
        """(feature, values) into `out`, some rows at a time: column by column, each write would miss the cache."""
        computed = iter(computed)
        while columns := dict(islice(computed, _COLUMNS_AT_ONCE)):
            at = as_slice([self.columns[name] for name in columns])
            for low in range(0, len(self.out), _ROWS_AT_ONCE):
                part = [values[low : low + _ROWS_AT_ONCE] for values in columns.values()]
                self.out[low : low + _ROWS_AT_ONCE, at] = np.stack(part, axis=1, dtype=np.float32, casting="unsafe")
