"""What is known of users, items and authors apart from the log: arrays by position."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from recsys_cli.data.ragged import Ragged

TEXT_BUCKETS = 2**15
"""Words and hashtags of an item's text are hashed into this many buckets."""
_GROUPS = ("item_codes", "item_numbers", "item_safety", "user_codes", "user_numbers", "author_safety")


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

    @property
    def n_items(self) -> int:
        return len(self.item_author)

    @property
    def n_topics(self) -> int:
        return len(self.names.get("topics", ()))

    def append_items(self, more: Catalogue) -> Catalogue:
        """This catalogue with further items at the end (their codes must refer to the same names)."""

        def rows(a: Ragged, b: Ragged) -> Ragged:
            return Ragged(
                np.concatenate([a.offsets, b.offsets[1:] + a.offsets[-1]]), np.concatenate([a.values, b.values])
            )

        def columns(a: dict, b: dict, missing) -> dict:
            filler = np.full(more.n_items, missing)
            return {k: np.concatenate([v, b.get(k, filler)]).astype(v.dtype) for k, v in a.items()}

        return replace(
            self,
            item_author=np.concatenate([self.item_author, more.item_author]),
            item_created=np.concatenate([self.item_created, more.item_created]),
            item_topics=rows(self.item_topics, more.item_topics),
            item_text=rows(self.item_text, more.item_text),
            item_codes=columns(self.item_codes, more.item_codes, -1),
            item_numbers=columns(self.item_numbers, more.item_numbers, np.nan),
            item_safety=columns(self.item_safety, more.item_safety, np.nan),
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
        return arrays, {"n_users": self.n_users, "n_authors": self.n_authors, "names": self.names}

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray], meta: dict) -> Catalogue:
        groups: dict[str, dict] = {
            g: {} for g in (*_GROUPS, "before")
        }
        for name, a in arrays.items():
            group, slash, key = name.partition("/")
            if slash:
                groups[group][key] = a
        before = groups.pop("before")
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
            **groups,
        )
