"""The texts of creatives (titles, pictures), which a bundle keeps, and the counters of what came of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from recsys_cli.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from recsys_cli.data.log import Log

CHOSEN, CHANCE = "creative", "creative_propensity"
"""Scores: the number of the creative shown, from 1, 0 where an item has none; and its probability."""
SHOWN, TAKEN = "creative_shown", "creative_taken"
"""Counters of `State.feedback`, float64 beside the texts of the creatives."""


@dataclass(frozen=True)
class CreativeTexts:
    """The creatives of every item, as its owner wrote them."""

    numbers: np.ndarray
    """int64[n_items + 1]: those of item i are the texts numbers[i] to numbers[i + 1]"""
    offsets: np.ndarray
    """int64[texts + 1] into data"""
    data: np.ndarray
    """uint8[bytes], UTF-8"""
    columns: tuple[str, ...] = ()
    """of the items, from which they come"""

    @classmethod
    def of(cls, texts: list[list[str]], columns: tuple[str, ...]) -> CreativeTexts:
        """From the texts of each item."""
        encoded = [text.encode() for row in texts for text in row]
        numbers = np.concatenate([[0], np.cumsum([len(row) for row in texts])]).astype(np.int64)
        offsets = np.concatenate([[0], np.cumsum([len(text) for text in encoded])]).astype(np.int64)
        return cls(numbers, offsets, np.frombuffer(b"".join(encoded), np.uint8), columns)

    def count(self, items: np.ndarray) -> np.ndarray:
        """int64 creatives of each of some items; none of -1 and of items that came later."""
        known = (items >= 0) & (items < len(self.numbers) - 1)
        at = np.where(known, items, 0)
        held = self.numbers[np.minimum(at + 1, len(self.numbers) - 1)] - self.numbers[at]
        return np.where(known, held, 0)

    def text(self, item: int, number: int) -> str:
        """The text of an item's creative, counted from 1."""
        at = int(self.numbers[item]) + number - 1
        return bytes(self.data[self.offsets[at] : self.offsets[at + 1]]).decode("utf-8", "replace")

    def counters(self, log: Log, column: str) -> dict[str, np.ndarray]:
        """`SHOWN` and `TAKEN` of a log; numbers that an item does not have are nobody's."""
        total = int(self.numbers[-1])
        numbers = log.context.get(column)
        if numbers is None or numbers.dtype.kind != "f":
            return {SHOWN: np.zeros(total), TAKEN: np.zeros(total)}
        number = np.nan_to_num(numbers).astype(np.int64)
        fits = (number >= 1) & (number <= self.count(log.item))
        at = self.numbers[log.item[fits]] + number[fits] - 1
        taken = log.positive[fits]
        return {SHOWN: np.bincount(at, minlength=total).astype(float), TAKEN: np.bincount(at, taken, minlength=total)}


def fed_back(
    feedback: dict[str, np.ndarray], texts: CreativeTexts, items: np.ndarray, numbers: np.ndarray, taken: np.ndarray
) -> dict[str, np.ndarray]:
    """The counters with m further impressions: int32[m] items, int[m] numbers of the creatives shown (0: none), and
    bool[m] whether there was a positive action."""
    total = int(texts.numbers[-1])
    fits = (numbers >= 1) & (numbers <= texts.count(items))
    at = texts.numbers[items[fits]] + numbers[fits].astype(np.int64) - 1
    more = {SHOWN: np.bincount(at, minlength=total), TAKEN: np.bincount(at, taken[fits], minlength=total)}
    return {**feedback, **{name: feedback.get(name, np.zeros(total)) + values for name, values in more.items()}}


def texts_of(columns: list[str], table: dict[str, list[Any]], key: str) -> CreativeTexts:
    """The creatives of all items; table: column → the value of each item, a text, a list of texts or None.

    Raises ConfigError for a column that items do not have; key: of the setting that names it.
    """
    for name in columns:
        if name not in table:
            raise ConfigError(
                f"{key}: items have no column {name!r}", did_you_mean(name, table, f"known: {', '.join(table)}")
            )
    rows = zip(*(table[name] for name in columns), strict=True)
    texts = [[str(text) for value in row for text in (value if isinstance(value, list) else [value]) if text]
             for row in rows]
    return CreativeTexts.of(texts, tuple(columns))

