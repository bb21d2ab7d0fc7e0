"""A bundle that grows: the users, items and authors that came after training, at the end of those it knows.

What training learned keeps its positions, so that models stay as they are. A new user or author is one more row of the
catalogue; a new item gets its attributes, its vectors where a source can make them of attributes (`Retriever.adapt`),
and the safety scores of the run's classifiers. Events about an item that nobody has described wait until somebody does.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from recsys_cli.data.catalogue import Catalogue, Columns
from recsys_cli.data.ragged import Ragged
from recsys_cli.data.vocabulary import Vocabulary
from recsys_cli.pipeline.bundle import Bundle, Labels
from recsys_cli.retrieval.memo import LastAnswer
from recsys_cli.serving.events import microseconds
from recsys_cli.serving.fold import Fold
from recsys_cli.serving.state_merge import replaced_rows

NEVER = np.int64(253_402_300_799_000_000)
"""µs, when an item is published that was taken out: the last second of the year 9999."""
_GROUPS = ("item_codes", "item_numbers", "item_safety")


@dataclass(frozen=True)
class Growth:
    """A bundle with all that a fold knows, and where the names of the fold stand in it."""

    bundle: Bundle
    users: np.ndarray
    """int32 position of each name of the fold"""
    items: np.ndarray
    """int32 likewise, -1 for items that nobody has described"""


def new_people(fold: Fold, authors_are_users: bool) -> list[str]:
    """Ids of users in the order in which they are taken up, those that training knows among them."""
    return [*fold.names["users"].listed, *(told_authors(fold) if authors_are_users else ())]


def told_authors(fold: Fold) -> list[str]:
    """Ids of authors whom items and edges name."""
    out = [str(a["author_id"]) for _, a in fold.items.values() if a.get("author_id") is not None]
    return out + [e.author for e in fold.edges if e.author is not None]


def grown(base: Bundle, fold: Fold, now: int) -> Growth:
    """The bundle as trained, with what the fold adds to its vocabularies and its catalogue.

    now: µs, when an item without `created_at` counts as published at the latest.
    """
    authors_are_users = _authors_are_users(base.catalogue)
    user_ids = _longer(base.user_ids, new_people(fold, authors_are_users))
    item_ids = _longer(base.item_ids, list(fold.items))
    author_ids = user_ids if authors_are_users else _longer(base.author_ids, told_authors(fold))
    catalogue = _with_people(base.catalogue, len(user_ids), len(author_ids), user_ids, fold)
    catalogue = _with_items(base, catalogue, item_ids, author_ids, fold, now)
    bundle = replace(
        base, user_ids=user_ids, item_ids=item_ids, author_ids=author_ids, catalogue=catalogue,
        labels=_labels(base, item_ids, fold), retrievers=adapted(base, catalogue),
    )
    users, items = fold.names["users"].listed, fold.names["items"].listed
    return Growth(bundle, user_ids.positions(users), item_ids.positions(items))


def _authors_are_users(catalogue: Catalogue) -> bool:
    return catalogue.n_authors == catalogue.n_users and bool(
        np.array_equal(catalogue.author_user, np.arange(catalogue.n_users))
    )


def _longer(vocabulary: Vocabulary, names: Sequence[str]) -> Vocabulary:
    """The vocabulary with the names that it lacks at its end, in their order; names that can be no id of it are left
    out."""
    names = [name for name in dict.fromkeys(names) if name]
    if not names:
        return vocabulary
    new = [name for name, at in zip(names, vocabulary.positions(names).tolist(), strict=True) if at < 0]
    if not vocabulary.is_text and len(vocabulary):
        new = [int(name) for name in new if _integer(name)]
    if not new:
        return vocabulary
    if not len(vocabulary):
        return Vocabulary(np.array(new))
    more = np.array(new, np.int64) if not vocabulary.is_text else np.char.encode(np.array(new), "utf-8")
    return Vocabulary(np.concatenate([vocabulary.ids, more]))


def _integer(name: str) -> bool:
    digits = name.removeprefix("-")
    return digits.isascii() and digits.isdigit() and str(int(digits)) == digits and len(digits) < 19


def _with_people(
    catalogue: Catalogue, n_users: int, n_authors: int, user_ids: Vocabulary, fold: Fold
) -> Catalogue:
    more = n_users - catalogue.n_users
    out = replace(
        catalogue,
        n_users=n_users,
        n_authors=n_authors,
        author_user=np.arange(n_authors, dtype=np.int32)
        if _authors_are_users(catalogue)
        else np.append(catalogue.author_user, np.full(n_authors - catalogue.n_authors, -1, np.int32)),
        user_created=np.append(catalogue.user_created, np.zeros(more, np.int64)),
        user_codes={k: np.append(v, np.full(more, -1, np.int32)) for k, v in catalogue.user_codes.items()},
        user_numbers={k: np.append(v, np.full(more, np.nan, np.float32)) for k, v in catalogue.user_numbers.items()},
        user_columns=catalogue.user_columns.append(Columns(), more),
        before={k: v.append(Ragged.empty(more)) for k, v in catalogue.before.items()},
        author_safety={
            k: np.append(v, np.full(n_authors - catalogue.n_authors, np.nan, np.float32))
            for k, v in catalogue.author_safety.items()
        },
    )
    told = {name: attributes for name, attributes in fold.users.items() if attributes}
    rows = user_ids.positions(list(told)) if told else np.zeros(0, np.int32)
    for row, attributes in zip(rows.tolist(), told.values(), strict=True):
        _describe(out.user_codes, out.user_numbers, catalogue.names, "user", row, attributes)
        created = _moment(attributes.get("created_at"))
        if created is not None:
            out.user_created[row] = created
    return out


def _describe(codes: dict, numbers: dict, names: Mapping[str, list[str]], side: str, row: int, told: dict) -> None:
    """Categories and numbers of one row, in place; what the data has no column for is left out."""
    for name, value in told.items():
        if name in codes:
            known = names.get(f"{side}.{name}", [])
            codes[name][row] = known.index(str(value)) if str(value) in known else -1
        elif name in numbers and isinstance(value, int | float):
            numbers[name][row] = value


def _moment(value: Any) -> int | None:
    return microseconds(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else None


def _with_items(
    base: Bundle, catalogue: Catalogue, item_ids: Vocabulary, author_ids: Vocabulary, fold: Fold, now: int
) -> Catalogue:
    """The catalogue with the items that are new, and what is told now of those that it has."""
    first = len(base.item_ids)
    told = {name: told for name, told in fold.items.items() if name not in fold.deleted}
    rows = item_ids.positions(list(told)) if told else np.zeros(0, np.int32)
    more = len(item_ids) - first
    blank = _blank(catalogue, more)
    out = catalogue.append_items(blank)
    if told:
        out = _described(base, out, rows, list(told.values()), author_ids, first)
    gone = item_ids.positions(list(fold.deleted)) if fold.deleted else np.zeros(0, np.int32)
    out.item_created[gone[gone >= 0]] = NEVER
    return out


def _blank(catalogue: Catalogue, n: int) -> Catalogue:
    """n items of which nothing is known, held back."""
    return replace(
        catalogue, item_author=np.full(n, -1, np.int32), item_created=np.full(n, NEVER),
        item_topics=Ragged.empty(n), item_text=Ragged.empty(n), item_columns=Columns(),
        **{group: {} for group in _GROUPS},
    )


def _described(
    base: Bundle, out: Catalogue, rows: np.ndarray, told: list[tuple[int, dict]], author_ids: Vocabulary, first: int
) -> Catalogue:
    """Attributes of some items put in their places. first: position of the first item that training did not know."""
    from recsys_cli.data.encode import encode_items

    attributes = [a for _, a in told]
    frame = _frame(attributes, out)
    authors = author_ids.positions([str(a.get("author_id", "")) for a in attributes])
    authors = np.where([a.get("author_id") is not None for a in attributes], authors, -1).astype(np.int32)
    fields = encode_items(frame, authors, dict(out.names))
    piece = replace(_blank(out, len(rows)), **fields)
    piece, _ = base.safety.fill(piece, frame)
    created = [_moment(a.get("created_at")) for a in attributes]
    fresh = rows >= first
    out.item_author[rows[fresh]] = piece.item_author[fresh]
    for at, new, moment, (first_told, _) in zip(rows.tolist(), fresh.tolist(), created, told, strict=True):
        if new or moment is not None:
            out.item_created[at] = first_told if moment is None else moment
    for group in _GROUPS:
        held = getattr(out, group)
        for name, values in getattr(piece, group).items():
            if name in held:
                known = values >= 0 if group == "item_codes" else ~np.isnan(values)
                held[name][rows[known]] = values[known]
    texts = np.array([isinstance(a.get("text"), str) for a in attributes], bool)
    topics = np.array([isinstance(a.get("topics"), list) for a in attributes], bool)
    return replace(
        out,
        item_text=_with_rows(out.item_text, rows[texts], piece.item_text, np.flatnonzero(texts)),
        item_topics=_with_rows(out.item_topics, rows[topics], piece.item_topics, np.flatnonzero(topics)),
    )


def _with_rows(rows: Ragged, at: np.ndarray, new: Ragged, chosen: np.ndarray) -> Ragged:
    """Ragged rows `at` replaced by rows `chosen` of another."""
    if not len(at):
        return rows
    order = np.argsort(at)
    place, values = new.take(chosen[order])
    counts = np.bincount(place, minlength=len(at))
    return replaced_rows(rows, at[order], Ragged(np.append(0, np.cumsum(counts)), values.astype(rows.values.dtype)))


def _frame(attributes: list[dict], catalogue: Catalogue):
    """The attributes that the data has columns for, as a table of its types; what does not fit is unknown."""
    import polars as pl

    def texts(name: str) -> list[str | None]:
        return [None if a.get(name) is None else str(a[name]) for a in attributes]

    def number(value: Any) -> float | None:
        return float(value) if isinstance(value, int | float) and np.isfinite(value) else None

    columns: dict[str, pl.Series] = {
        "item_id": pl.Series([""] * len(attributes), dtype=pl.String),
        "text": pl.Series(texts("text"), dtype=pl.String),
        "topics": pl.Series(
            [[str(t) for t in a["topics"]] if isinstance(a.get("topics"), list) else [] for a in attributes],
            dtype=pl.List(pl.String),
        ),
    }
    for name in catalogue.item_codes:
        columns[name] = pl.Series(texts(name), dtype=pl.String)
    for name in (*catalogue.item_numbers, *catalogue.item_safety):
        columns[name] = pl.Series([number(a.get(name)) for a in attributes], dtype=pl.Float32)
    return pl.DataFrame(columns)


def _labels(base: Bundle, item_ids: Vocabulary, fold: Fold) -> Labels:
    """What the terminal shows of the items, with the texts of the new ones."""
    more = item_ids.external(np.arange(len(base.item_ids), len(item_ids)))
    if not more:
        return base.labels
    texts = [str(fold.items.get(str(name), (0, {}))[1].get("text") or "").encode() for name in more]
    held = base.labels.offsets
    end = int(held[-1]) if len(held) else 0
    lengths = np.cumsum([len(t) for t in texts]) + end
    filler = np.full(max(len(base.item_ids) + 1 - len(held), 0), end, held.dtype)
    return Labels(
        np.concatenate([held, filler, lengths.astype(held.dtype)]),
        np.concatenate([base.labels.data, np.frombuffer(b"".join(texts), np.uint8)]),
    )


def adapted(base: Bundle, catalogue: Catalogue) -> dict:
    """The sources with what they can make of new users and items; those of the base stay as they are."""
    same = catalogue.n_items == base.catalogue.n_items and catalogue.n_users == base.catalogue.n_users
    if same:
        return base.retrievers
    out = {}
    for name, retriever in base.retrievers.items():
        out[name] = copy.copy(retriever)
        out[name]._last = LastAnswer()
        out[name].adapt(catalogue)
    return out
