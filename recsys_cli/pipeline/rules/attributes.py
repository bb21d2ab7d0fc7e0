"""What conditions can ask of items, users and requests: columns by name, with their kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from recsys_cli.data.schema import DAY, HOUR
from recsys_cli.data.vocabulary import Vocabularies
from recsys_cli.pipeline.labels import TOPICS

if TYPE_CHECKING:
    from recsys_cli.data.catalogue import Catalogue
    from recsys_cli.data.ragged import Ragged
    from recsys_cli.data.state import State
    from recsys_cli.data.vocabulary import Vocabulary
    from recsys_cli.features.context import Context

Kind = Literal["number", "truth", "text", "list"]
"""A truth is a number of which only 0 and 1 occur."""
WEEK = 7


@dataclass(frozen=True)
class Attribute:
    """One column that a condition can name."""

    kind: Kind
    column: Callable[[Any, Any], Any]
    """(State, Context) → the column by position: numbers float[n], codes int[n] of a text, a Ragged of a list; of a
    request one number or code, or those of its rows"""
    code_of: Callable[[str], int | None] | None = None
    """a text's code, None where it does not occur"""
    names: tuple[str, ...] | None = None
    """the texts by their codes, where they are few enough to be listed"""

    def code(self, word: str) -> int | None:
        """A text's code; None where it does not occur."""
        return None if self.code_of is None else self.code_of(word)


class Named(Vocabularies, Protocol):
    """What attributes are looked up in: a Bundle, or a Dataset before anything is trained."""

    @property
    def catalogue(self) -> Catalogue: ...


def attributes_of(data: Named) -> dict[str, dict[str, Attribute]]:
    """"item", "user" and "request" → name → attribute, of all that a run knows."""
    return {"item": _items(data), "user": _users(data), "request": _request(data)}


def _items(data: Named) -> dict[str, Attribute]:
    catalogue = data.catalogue
    out = {
        "age_days": Attribute("number", lambda s, c: _age(s, s.catalogue.item_created, DAY)),
        "age_hours": Attribute("number", lambda s, c: _age(s, s.catalogue.item_created, HOUR)),
        "impressions": Attribute("number", lambda s, c: s.impressions),
        "interactions": Attribute("number", lambda s, c: s.interactions),
        "followers": Attribute("number", lambda s, c: _of_author(s, s.author_followers)),
        "id": _ids(data.item_ids, lambda s, c: np.arange(s.catalogue.n_items)),
        "author": _ids(data.author_ids, lambda s, c: s.catalogue.item_author),
    }
    if names := catalogue.names.get("topics"):
        out[TOPICS] = Attribute("list", lambda s, c: s.catalogue.item_topics, _place_in(names), tuple(names))
    return out | _columns(
        catalogue, "item", catalogue.item_codes, {**catalogue.item_numbers, **catalogue.item_safety},
        catalogue.item_columns.lists,
    )


def _users(data: Named) -> dict[str, Attribute]:
    catalogue = data.catalogue
    out = {
        "is_returning": Attribute("truth", lambda s, c: s.history.lengths > 0),
        "is_new": Attribute("truth", lambda s, c: s.history.lengths == 0),
        "interactions": Attribute("number", lambda s, c: s.history.lengths),
        "follows": Attribute("number", lambda s, c: s.follows.lengths),
        "account_days": Attribute("number", lambda s, c: _age(s, s.catalogue.user_created, DAY)),
        "id": _ids(data.user_ids, lambda s, c: np.arange(s.catalogue.n_users)),
    }
    return out | _columns(
        catalogue, "user", catalogue.user_codes, catalogue.user_numbers, catalogue.user_columns.lists
    )


def _request(data: Named) -> dict[str, Attribute]:
    out = {
        "hour": Attribute("number", lambda s, c: (c.now // HOUR) % 24),
        "weekday": Attribute("number", lambda s, c: (c.now // DAY + 3) % WEEK + 1),
    }
    for name in ("surface", "device"):
        if names := data.catalogue.names.get(name):
            column = _of_context(name)
            out[name] = Attribute("text", column, _place_in(names), tuple(names))
    return out


def _of_context(name: str) -> Callable[[State, Context], Any]:
    return lambda s, c: -1 if getattr(c, name) is None else getattr(c, name)


def _columns(
    catalogue: Catalogue, side: str, codes: dict[str, np.ndarray], numbers: dict[str, np.ndarray],
    lists: dict[str, Ragged],
) -> dict[str, Attribute]:
    """The columns that the data brings along, by name."""
    out = {}
    for name in codes:
        names = catalogue.names[f"{side}.{name}"]
        out[name] = Attribute("text", _getter(f"{side}_codes", name), _place_in(names), tuple(names))
    for name, values in numbers.items():
        group = f"{side}_numbers" if name in getattr(catalogue, f"{side}_numbers") else f"{side}_safety"
        known = values[np.isfinite(values)]
        kind: Kind = "truth" if len(known) and np.isin(known, (0, 1)).all() else "number"
        out[name] = Attribute(kind, _getter(group, name))
    for name in lists:
        out[name] = Attribute("list", _list_getter(side, name), _hash)
    return out


def _getter(group: str, name: str) -> Callable[[State, Context], np.ndarray]:
    return lambda s, c: getattr(s.catalogue, group)[name]


def _list_getter(side: str, name: str) -> Callable[[State, Context], Ragged]:
    return lambda s, c: getattr(s.catalogue, f"{side}_columns").lists[name]


def _place_in(names: list[str]) -> Callable[[str], int | None]:
    place = {name: code for code, name in enumerate(names)}
    return place.get


def _hash(word: str) -> int:
    from recsys_cli.pipeline.filtering.user_lists import hashed

    return int(hashed([word])[0])


def _ids(ids: Vocabulary, column: Callable[[State, Context], np.ndarray]) -> Attribute:
    def code(name: str) -> int | None:
        found = ids.position(name)
        return None if found < 0 else found

    return Attribute("text", column, code)


def _age(state: State, created: np.ndarray, unit: int) -> np.ndarray:
    """float32[n] time since, NaN where unknown."""
    return np.where(created > 0, (state.now - created) / unit, np.nan).astype(np.float32)


def _of_author(state: State, values: np.ndarray) -> np.ndarray:
    author = state.catalogue.item_author
    return np.where(author >= 0, np.append(values, 0)[author], np.nan)
