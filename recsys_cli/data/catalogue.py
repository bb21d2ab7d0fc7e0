"""What is known of users, items and authors apart from the log: arrays by position."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace

import numpy as np

from recsys_cli.data.ragged import Ragged

TEXT_BUCKETS = 2**15
"""Words and hashtags of an item's text are hashed into this many buckets."""
HASH_BITS = 31
"""Values of lists and words of texts are hashed to so many bits; modulo TEXT_BUCKETS they are the buckets of text."""
_GROUPS = ("item_codes", "item_numbers", "item_safety", "user_codes", "user_numbers", "author_safety")


_PLAIN = ("hashes", "vectors", "times")


@dataclass(frozen=True)
class Columns:
    """Columns of users or of items that are neither a number nor a category, by name."""

    lists: dict[str, Ragged] = field(default_factory=dict)
    """int32 hashes of the values, ascending, each once"""
    words: dict[str, Ragged] = field(default_factory=dict)
    """int32 hashes of the words of a text, likewise"""
    hashes: dict[str, np.ndarray] = field(default_factory=dict)
    """int32[n] of each whole text, -1 unknown; beside `words`"""
    vectors: dict[str, np.ndarray] = field(default_factory=dict)
    """float32[n, D], rows of NaN unknown"""
    times: dict[str, np.ndarray] = field(default_factory=dict)
    """int64[n] µs, 0 unknown"""
    refused: dict[str, str] = field(default_factory=dict)
    """columns of other types → what they are, and what would help"""

    def append(self, more: Columns, n: int) -> Columns:
        """With n further rows, unknown where `more` lacks a column; vectors of another width are unknown too."""

        def vectors(name: str, held: np.ndarray) -> np.ndarray:
            found = more.vectors.get(name)
            fits = found is not None and found.shape[1] == held.shape[1]
            added = found if fits else np.full((n, held.shape[1]), np.nan, np.float32)
            return np.concatenate([held, added])

        return replace(
            self,
            lists={k: v.append(more.lists.get(k, Ragged.empty(n))) for k, v in self.lists.items()},
            words={k: v.append(more.words.get(k, Ragged.empty(n))) for k, v in self.words.items()},
            vectors={k: vectors(k, v) for k, v in self.vectors.items()},
            hashes={k: np.append(v, more.hashes.get(k, np.full(n, -1, np.int32))) for k, v in self.hashes.items()},
            times={k: np.append(v, more.times.get(k, np.zeros(n, np.int64))) for k, v in self.times.items()},
        )

    def only(self, names: Collection[str]) -> Columns:
        """Those of the given names."""
        kinds = ("lists", "words", *_PLAIN, "refused")
        return Columns(**{kind: {k: v for k, v in getattr(self, kind).items() if k in names} for kind in kinds})

    def to_arrays(self, start: str) -> dict[str, np.ndarray]:
        """Named START/KIND/NAME."""
        out = {f"{start}/{kind}/{k}": v for kind in _PLAIN for k, v in getattr(self, kind).items()}
        for kind in ("lists", "words"):
            for name, rows in getattr(self, kind).items():
                out[f"{start}/{kind}/{name}.offsets"] = rows.offsets
                out[f"{start}/{kind}/{name}.values"] = rows.values
        return out

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray], refused: dict[str, str]) -> Columns:
        """arrays: named KIND/NAME."""
        held: dict[str, dict] = {kind: {} for kind in ("lists", "words", *_PLAIN)}
        for path, values in arrays.items():
            kind, _, name = path.partition("/")
            if kind in _PLAIN:
                held[kind][name] = values
            elif name.endswith(".offsets"):
                name = name.removesuffix(".offsets")
                held[kind][name] = Ragged(values, arrays[f"{kind}/{name}.values"])
        return cls(**held, refused=refused)


@dataclass(frozen=True)
class Catalogue:
    """Attributes of every user, item and author of a dataset.

    Codes refer to the name lists in `names`; -1 means unknown.
    """

    n_users: int
    n_authors: int
    item_author: np.ndarray
    """int32[n_items] author positions, -1 where an item has none"""
    item_created: np.ndarray
    """int64[n_items] µs, 0 where unknown (then the item counts as always there)"""
    item_topics: Ragged
    """int32 topic codes by item"""
    item_text: Ragged
    """int32 buckets in [0, TEXT_BUCKETS) of the words of an item's text, each once"""
    item_codes: dict[str, np.ndarray]
    """categorical attribute → int32[n_items]: media_type, language and any other category"""
    item_numbers: dict[str, np.ndarray]
    """numeric attribute → float32[n_items], NaN unknown: duration_seconds and any other number"""
    item_safety: dict[str, np.ndarray]
    """toxicity, nsfw, spam, misinformation → float32[n_items] in [0, 1], NaN unknown; only those given"""
    user_created: np.ndarray
    """int64[n_users] µs, 0 where unknown"""
    user_codes: dict[str, np.ndarray]
    """categorical attribute → int32[n_users]"""
    user_numbers: dict[str, np.ndarray]
    """numeric attribute → float32[n_users], NaN unknown"""
    author_user: np.ndarray
    """int32[n_authors] the author's position among the users, -1 where authors are no users"""
    names: dict[str, list[str]] = field(default_factory=dict)
    """"topics" and each categorical attribute ("item.media_type", "user.country", "surface", "device")
    → the names of its codes"""
    before: dict[str, Ragged] = field(default_factory=dict)
    """action → int32 items of each user before the log begins, oldest first; their times are unknown"""
    author_safety: dict[str, np.ndarray] = field(default_factory=dict)
    """task → float32[n_authors] in [0, 1] as of the moment served, NaN unknown"""
    user_columns: Columns = field(default_factory=Columns)
    """lists, texts, vectors and dates of users"""
    item_columns: Columns = field(default_factory=Columns)
    """those of items, apart from `topics` and `text`"""

    @property
    def n_items(self) -> int:
        return len(self.item_author)

    @property
    def n_topics(self) -> int:
        return len(self.names.get("topics", ()))

    def append_items(self, more: Catalogue) -> Catalogue:
        """This catalogue with further items at the end (their codes must refer to the same names)."""

        def columns(a: dict, b: dict, missing) -> dict:
            filler = np.full(more.n_items, missing)
            return {k: np.concatenate([v, b.get(k, filler)]).astype(v.dtype) for k, v in a.items()}

        return replace(
            self,
            item_author=np.concatenate([self.item_author, more.item_author]),
            item_created=np.concatenate([self.item_created, more.item_created]),
            item_topics=self.item_topics.append(more.item_topics),
            item_text=self.item_text.append(more.item_text),
            item_codes=columns(self.item_codes, more.item_codes, -1),
            item_numbers=columns(self.item_numbers, more.item_numbers, np.nan),
            item_safety=columns(self.item_safety, more.item_safety, np.nan),
            item_columns=self.item_columns.append(more.item_columns, more.n_items),
        )

    def to_arrays(self) -> tuple[dict[str, np.ndarray], dict]:
        """For `arrays.save_arrays`."""
        arrays = {
            "item_author": self.item_author,
            "item_created": self.item_created,
            "item_topics.offsets": self.item_topics.offsets,
            "item_topics.values": self.item_topics.values,
            "item_text.offsets": self.item_text.offsets,
            "item_text.values": self.item_text.values,
            "user_created": self.user_created,
            "author_user": self.author_user,
        }
        for group in _GROUPS:
            arrays.update({f"{group}/{k}": v for k, v in getattr(self, group).items()})
        for action, rows in self.before.items():
            arrays |= {f"before/{action}.offsets": rows.offsets, f"before/{action}.values": rows.values}
        meta = {"n_users": self.n_users, "n_authors": self.n_authors, "names": self.names}
        for side in ("user_columns", "item_columns"):
            arrays |= getattr(self, side).to_arrays(side)
            meta[f"{side}_refused"] = getattr(self, side).refused
        return arrays, meta

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray], meta: dict) -> Catalogue:
        groups: dict[str, dict] = {
            g: {} for g in (*_GROUPS, "before", "user_columns", "item_columns")
        }
        for name, a in arrays.items():
            group, slash, key = name.partition("/")
            if slash:
                groups[group][key] = a
        before = groups.pop("before")
        columns = {
            side: Columns.from_arrays(groups.pop(side), meta[f"{side}_refused"])
            for side in ("user_columns", "item_columns")
        }
        actions = [name.removesuffix(".offsets") for name in before if name.endswith(".offsets")]
        return cls(
            n_users=meta["n_users"],
            n_authors=meta["n_authors"],
            names=meta["names"],
            item_author=arrays["item_author"],
            item_created=arrays["item_created"],
            item_topics=Ragged(arrays["item_topics.offsets"], arrays["item_topics.values"]),
            item_text=Ragged(arrays["item_text.offsets"], arrays["item_text.values"]),
            user_created=arrays["user_created"],
            author_user=arrays["author_user"],
            before={a: Ragged(before[f"{a}.offsets"], before[f"{a}.values"]) for a in actions},
            **columns,
            **groups,
        )
