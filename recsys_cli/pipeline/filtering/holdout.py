"""Inventory holdout: a share of the items withheld, to measure what they are worth."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field

from recsys_cli.data.vocabulary import Vocabulary
from recsys_cli.hashing import mix
from recsys_cli.pipeline.candidates import Candidates
from recsys_cli.pipeline.query import Query
from recsys_cli.pipeline.stage import Filter, StageConfig

if TYPE_CHECKING:
    from recsys_cli.pipeline.bundle import Bundle


class HoldoutConfig(StageConfig):
    """Withholds a share of the items, drawn by their ids, from a share of the users: the same ones in every request
    and every run."""

    kind: Literal["holdout"] = "holdout"
    share: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Share of the items (or authors) that is withheld."""
    of: Literal["items", "authors"] = "items"
    """What is drawn: items, or authors with all of their items."""
    users: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of the users from whom it is withheld; the others are whom they are compared with."""
    salt: str = "holdout"
    """Another text draws others."""


class Holdout(Filter):
    """Withholds what `withheld` draws. Somebody unknown is withheld nothing unless everybody is."""

    config_type = HoldoutConfig
    config: HoldoutConfig
    _items = _users = np.zeros(0, bool)

    def prepare(self, bundle: Bundle) -> str | None:
        config = self.config
        self._users = drawn(bundle.user_ids, config.users, f"users of {config.salt}")
        ids = bundle.item_ids if config.of == "items" else bundle.author_ids
        self._items = drawn(ids, config.share, config.salt)
        lack = config.of == "authors" and not (bundle.catalogue.item_author >= 0).any()
        return "needs items with an author" if lack else None

    def enabled(self, query: Query) -> bool:
        return self.config.share > 0 and self.config.users > 0

    def keep(self, query: Query, candidates: Candidates) -> np.ndarray:
        key = candidates.items
        if self.config.of == "authors":
            key = np.where(key >= 0, query.state.catalogue.item_author[key], -1)
        held = (key >= 0) & (key < len(self._items))  # items that came later belong to no draw
        held &= self._items[np.where(held, key, 0)] if len(self._items) else False
        known = (query.users >= 0) & (query.users < len(self._users))
        whose = np.where(known, self._users[np.where(known, query.users, 0)], self.config.users == 1)
        return ~(held & whose[:, None])


def drawn(ids: Vocabulary, share: float, salt: str) -> np.ndarray:
    """bool[n]: which ids are among the share, by a hash of each id and the salt alone."""
    if ids.is_text:
        keys = np.fromiter((zlib.crc32(each) for each in ids.ids.tolist()), np.uint64, len(ids))
    else:
        keys = np.asarray(ids.ids).astype(np.int64).view(np.uint64)
    point = mix(mix(keys) + np.uint64(zlib.crc32(salt.encode()))) >> np.uint64(11)
    return point.astype(np.float64) * 2.0**-53 < share
