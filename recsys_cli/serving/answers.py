"""Answers of the server from slates: positions become the owner's ids."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from recsys_cli.answers.data import AnswerData, six_digits
from recsys_cli.answers.reasons import label_of, reasons_of
from recsys_cli.answers.slate import notices
from recsys_cli.serving.structs import Item

if TYPE_CHECKING:
    from recsys_cli.slate_batch import SlateBatch


def items_of(data: AnswerData, batch: SlateBatch, row: int, *, explain: bool = False, first: int = 1) -> list[Item]:
    """The items of one row of a batch.

    explain: with predictions and reasons. first: rank of the first.
    """
    bundle = data.bundle
    held = batch.items[row]
    held = held[held >= 0]
    if not len(held):
        return []
    n = len(held)
    scores = batch.scores
    main = scores["utility"][row][:n].tolist()
    explored = scores["explored"][row][:n].tolist() if "explored" in scores else None
    notice = scores["interstitial"][row][:n].tolist() if "interstitial" in scores else None
    ids = bundle.item_ids.external(held)
    authors = bundle.author_ids.external(data.state.catalogue.item_author[held])
    bits = batch.sources[row][:n].tolist()
    names = [_names(data, b) for b in bits]
    told = predictions(batch, row, n) if explain else None
    reasons = reasons_of(data, batch, row, names) if explain else None
    return [
        Item(
            item_id=ids[i],
            rank=first + i,
            score=six_digits(main[i]),
            author_id=authors[i],
            title=label_of(bundle.labels[int(held[i])]) or None,
            sources=names[i],
            explored=bool(explored[i]) if explored is not None else False,
            interstitial=notices(data, int(notice[i])) if notice is not None and notice[i] else [],
            predictions=told[i] if told is not None else {},
            reason=reasons[i] if reasons is not None else None,
        )
        for i in range(n)
    ]


def _names(data: AnswerData, bits: int) -> list[str]:
    return [name for bit, name in enumerate(data.sources) if bits >> bit & 1]


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
