"""Attributes as tokens: every category, number, topic, word and author has a row in one embedding table."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recsys_cli.data.catalogue import TEXT_BUCKETS, Catalogue
from recsys_cli.data.ragged import Ragged

BINS = 10
"""A number falls into one of so many bins of equal count, or into the bin of the unknown."""


@dataclass(frozen=True)
class Bags:
    """Tokens of n things: `rows` Ragged int32 rows of the table, `weights` float32 beside its values."""

    rows: Ragged
    weights: np.ndarray

    def embed(self, table: np.ndarray) -> np.ndarray:
        """float32[n, D] weighted sums of table rows."""
        out = np.zeros((len(self.rows), table.shape[1]), np.float32)
        if len(self.rows.values):
            filled = np.flatnonzero(self.rows.lengths)
            for start in range(0, len(filled), 4096):
                things = filled[start : start + 4096]
                low, high = self.rows.offsets[things[0]], self.rows.offsets[things[-1] + 1]
                weighted = table[self.rows.values[low:high]] * self.weights[low:high, None]
                out[things] = np.add.reduceat(weighted, self.rows.offsets[things] - low, axis=0)
        return out


class Tokens:
    """Which row each value of an attribute has.

    layout: field → first row, in the order of the table; a field's first row means "unknown".
    sizes: field → rows. edges: numeric field → bin edges. text_row, text_weight: bucket → row (-1 none), IDF.
    """

    def __init__(
        self, sizes: dict[str, int], edges: dict[str, np.ndarray], text_row: np.ndarray, text_weight: np.ndarray
    ):
        self.sizes = sizes
        self.edges = edges
        self.text_row = text_row
        self.text_weight = text_weight
        starts = np.cumsum([0, *sizes.values()])
        self.layout = dict(zip(sizes, starts[:-1].tolist(), strict=True))
        self.rows = int(starts[-1])

    @classmethod
    def of_items(cls, catalogue: Catalogue, max_words: int) -> Tokens:
        """The fields that the catalogue has; words that stand in at least 2 items, the commonest `max_words`."""
        sizes = {"author": catalogue.n_authors + 1} if catalogue.n_authors else {}
        sizes |= _code_sizes(catalogue.item_codes, "item", catalogue)
        edges = _edges(catalogue.item_numbers)
        sizes |= {f"number/{name}": BINS + 1 for name in edges}
        if catalogue.n_topics:
            sizes["topics"] = catalogue.n_topics
        text_row, text_weight = np.full(TEXT_BUCKETS, -1, np.int32), np.zeros(TEXT_BUCKETS, np.float32)
        frequency = np.bincount(catalogue.item_text.values, minlength=TEXT_BUCKETS)
        words = np.flatnonzero(frequency >= 2)
        if len(words):
            words = np.sort(words[np.argsort(-frequency[words], kind="stable")][:max_words])
            text_row[words] = np.arange(len(words))
            text_weight[words] = np.log(1 + catalogue.n_items / frequency[words])
            sizes["text"] = len(words)
        return cls(sizes, edges, text_row, text_weight)

    @classmethod
    def of_users(cls, catalogue: Catalogue) -> Tokens:
        edges = _edges(catalogue.user_numbers)
        sizes = _code_sizes(catalogue.user_codes, "user", catalogue) | {f"number/{name}": BINS + 1 for name in edges}
        return cls(sizes, edges, np.zeros(0, np.int32), np.zeros(0, np.float32))

    def scale(self, frequency: np.ndarray, n: int, *, text: float, topics: float, attributes: float) -> np.ndarray:
        """float32[rows] weights by which the tokens of items tell what items are alike.

        Words weigh as they come (by IDF), topics and attributes by IDF ÷ the greatest IDF there can be, each times the
        weight of its kind. Nothing have numbers, a token of one item alone, and attributes that are unknown or that
        more than a quarter of the items share. frequency: int[rows] items that have each; n: items.
        """
        idf = np.log((1 + n) / (1 + frequency)) / np.log(2 + n)
        kinds = {"text": text, "topics": topics}
        scale = np.zeros(self.rows, np.float32)
        for name, first in self.layout.items():
            if name.startswith("number/"):
                continue
            part = slice(first, first + self.sizes[name])
            scale[part] = kinds.get(name, attributes) * (1 if name == "text" else idf[part])
            if name not in kinds:
                # what is unknown of two items is not alike; what everybody shares costs most and tells least
                scale[part][frequency[part] > n / 4] = scale[first] = 0
        scale[frequency < 2] = 0  # is like nothing, and only shortens the others
        return scale

    def item_bags(self, catalogue: Catalogue, start: int = 0) -> Bags:
        """Tokens of the items from `start` on. Several topics weigh 1/√n each; words weigh by IDF, norm 1."""
        parts = self._codes("author", catalogue.item_author[start:])
        parts += self._attributes(catalogue.item_codes, catalogue.item_numbers, start)
        n = catalogue.n_items - start
        if "topics" in self.sizes:
            topics = _from(catalogue.item_topics, start)
            inside = topics.values < self.sizes["topics"]
            place = topics.rows[inside]
            weight = 1 / np.sqrt(topics.lengths[place])
            parts.append((place, self.layout["topics"] + topics.values[inside], weight))
        if "text" in self.sizes:
            words = _from(catalogue.item_text, start)
            row = self.text_row[words.values]
            known = row >= 0
            place, weight = words.rows[known], self.text_weight[words.values[known]]
            norm = np.sqrt(np.bincount(place, weights=weight**2, minlength=n))
            parts.append((place, self.layout["text"] + row[known], weight / norm[place]))
        return _bags(parts, n)

    def user_bags(self, catalogue: Catalogue) -> Bags:
        return _bags(self._attributes(catalogue.user_codes, catalogue.user_numbers, 0), catalogue.n_users)

    def _codes(self, field: str, codes: np.ndarray) -> list[tuple]:
        if field not in self.sizes:
            return []
        row = np.where((codes >= 0) & (codes + 1 < self.sizes[field]), codes + 1, 0)
        return [(np.arange(len(codes)), self.layout[field] + row, np.ones(len(codes)))]

    def _attributes(self, codes: dict[str, np.ndarray], numbers: dict[str, np.ndarray], start: int) -> list[tuple]:
        parts = [part for name, values in codes.items() for part in self._codes(f"code/{name}", values[start:])]
        for name, edges in self.edges.items():
            if name in numbers:
                values = numbers[name][start:]
                bins = np.where(np.isnan(values), -1, np.searchsorted(edges, values, "right"))
                parts += self._codes(f"number/{name}", bins)
        return parts

    def to_arrays(self, prefix: str) -> tuple[dict[str, np.ndarray], dict]:
        arrays = {f"{prefix}.text_row": self.text_row, f"{prefix}.text_weight": self.text_weight}
        arrays |= {f"{prefix}.edges/{name}": e for name, e in self.edges.items()}
        return arrays, {f"{prefix}.sizes": list(self.sizes.items())}

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray], meta: dict, prefix: str) -> Tokens:
        head = f"{prefix}.edges/"
        edges = {name[len(head) :]: a for name, a in arrays.items() if name.startswith(head)}
        sizes = {name: int(size) for name, size in meta[f"{prefix}.sizes"]}
        return cls(sizes, edges, arrays[f"{prefix}.text_row"], arrays[f"{prefix}.text_weight"])


def _code_sizes(codes: dict[str, np.ndarray], group: str, catalogue: Catalogue) -> dict[str, int]:
    sizes = {}
    for name, values in codes.items():
        named = len(catalogue.names.get(f"{group}.{name}", ()))
        sizes[f"code/{name}"] = max(named, int(values.max(initial=-1)) + 1) + 1
    return sizes


def _edges(numbers: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    out = {}
    for name, values in numbers.items():
        known = values[np.isfinite(values)]
        if len(known):
            out[name] = np.unique(np.quantile(known, np.arange(1, BINS) / BINS).astype(np.float32))
    return out


def _from(rows: Ragged, start: int) -> Ragged:
    first = rows.offsets[start]
    return Ragged(rows.offsets[start:] - first, rows.values[first:])


def _bags(parts: list[tuple], n: int) -> Bags:
    if not parts:
        return Bags(Ragged.empty(n), np.zeros(0, np.float32))
    place, row, weight = (np.concatenate(column) for column in zip(*parts, strict=True))
    grouped = Ragged.group(place, row.astype(np.int32), n)
    return Bags(grouped, Ragged.group(place, weight.astype(np.float32), n).values)
