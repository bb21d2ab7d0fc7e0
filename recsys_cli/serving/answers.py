"""Answers of the server from slates: positions become the owner's ids."""

from __future__ import annotations

import itertools
import os
import secrets
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from recsys_cli.answers.data import AnswerData, six_digits
from recsys_cli.answers.reasons import label_of, reasons_of
from recsys_cli.answers.slate import notices
from recsys_cli.pipeline.exploration.creative_texts import CHANCE, CHOSEN
from recsys_cli.serving.pooling import NEW
from recsys_cli.serving.structs import Creative, Item

if TYPE_CHECKING:
    from recsys_cli.slate_batch import SlateBatch

PENDING = "pool_pending"
"""Fallback of a request whose pool was not there in time."""
_PREFIX = secrets.token_hex(4)
_numbers = itertools.count()
WORDS = 100_000
"""Items, and combinations of sources, whose words are kept."""


def request_id() -> str:
    """A new id, unlike those of any other server."""
    return f"{_PREFIX}{os.getpid():x}-{next(_numbers):x}"


ItemWords = tuple[int | str, int | str | None, str | None]
"""id, id of the author, title"""


class Words:
    """Ids, titles and names of sources, looked up once as long as they are asked for."""

    def __init__(self, data: AnswerData):
        self.data = data
        self._items: dict[int, ItemWords] = {}
        self.sources = lru_cache(WORDS)(self._sources)

    def items(self, items: list[int]) -> list[ItemWords]:
        """Words of positions; those that are not known yet are looked up together."""
        held = self._items
        try:
            return [held[item] for item in items]
        except KeyError:
            missing = [item for item in dict.fromkeys(items) if item not in held]
        bundle = self.data.bundle
        authors = bundle.author_ids.external(self.data.state.catalogue.item_author[missing])
        if len(held) > WORDS:  # another thread may be reading
            held = self._items = {item: held[item] for item in items if item in held}
        for item, item_id, author in zip(missing, bundle.item_ids.external(missing), authors, strict=True):
            held[item] = item_id, author, label_of(bundle.labels[item]) or None
        return [held[item] for item in items]

    def item(self, item: int) -> ItemWords:
        """Words of a position."""
        return self.items([item])[0]

    def _sources(self, bits: int) -> list[str]:
        return [name for bit, name in enumerate(self.data.sources) if bits >> bit & 1]


def items_of(words: Words, batch: SlateBatch, row: int, *, explain: bool = False, first: int = 1) -> list[Item]:
    """The items of one row of a batch.

    explain: with predictions and reasons. first: rank of the first.
    """
    held = batch.items[row]
    held = held[held >= 0].tolist()
    n, scores = len(held), batch.scores
    if not n:
        return []
    main = scores["utility"][row][:n].tolist()
    explored = scores["explored"][row][:n].tolist() if "explored" in scores else None
    notice = scores["interstitial"][row][:n].tolist() if "interstitial" in scores else None
    names = [words.sources(bits) for bits in batch.sources[row][:n].tolist()]
    told = predictions(batch, row, n) if explain else None
    reasons = reasons_of(words.data, batch, row, names) if explain else None
    if reasons is not None and NEW in scores:
        reasons = ["new" if new else told for new, told in zip(scores[NEW][row].tolist(), reasons, strict=False)]
    shown = scores[CHOSEN][row][:n].tolist() if CHOSEN in scores else None
    out = []
    for i, (item_id, author_id, title) in enumerate(words.items(held)):
        out.append(Item(
            item_id, first + i, six_digits(main[i]), author_id, title, names[i],
            bool(explored[i]) if explored is not None else False,
            notices(words.data, int(notice[i])) if notice is not None and notice[i] else [],
            told[i] if told is not None else {},
            reasons[i] if reasons is not None else None,
            _creative(words.data, held[i], int(shown[i]), scores[CHANCE][row][i]) if shown is not None else None,
        ))
    return out


def _creative(data: AnswerData, item: int, number: int, chance: float) -> Creative | None:
    texts = data.bundle.creatives
    return None if not number or texts is None else Creative(number, texts.text(item, number), six_digits(chance))


def predictions(batch: SlateBatch, row: int, n: int) -> list[dict[str, float]]:
    """What is predicted of each of the first n items of a row."""
    columns = {
        "dwell_seconds" if name == "dwell" else name.removeprefix("p_"): values[row][:n].tolist()
        for name, values in batch.scores.items() if name == "dwell" or name.startswith("p_")
    }
    return [{name: three_digits(values[i]) for name, values in columns.items()} for i in range(n)]


def three_digits(value: float) -> float:
    """Pools keep predictions in half precision: three digits of them are real."""
    return float(f"{value:.3g}")


def rows_of(items: np.ndarray, values: np.ndarray, data: AnswerData) -> list[Item]:
    """Items of a list that is the same for everybody."""
    bundle = data.bundle
    ids = bundle.item_ids.external(items)
    authors = bundle.author_ids.external(data.state.catalogue.item_author[items])
    return [
        Item(ids[i], i + 1, six_digits(values[i]), authors[i], label_of(bundle.labels[int(items[i])]) or None)
        for i in range(len(ids))
    ]
