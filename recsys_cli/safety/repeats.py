"""Texts that stand several times: all of their rows belong on one side of a split, or the test knows its answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from recsys_cli.safety.text import normalise


def same_texts(texts: Sequence[str]) -> np.ndarray:
    """int64[n] number of each text, equal for those that a classifier cannot tell apart, by first appearance."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(normalise(text), len(numbers)) for text in texts], np.int64)


def repeated_rows(groups: np.ndarray) -> int:
    """Rows whose text stands in an earlier row too."""
    return len(groups) - len(np.unique(groups))


def first_labels(groups: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """bool[groups]: the label of the first row of each text."""
    return labels[np.unique(groups, return_index=True)[1]]


def folds_of_texts(
    groups: np.ndarray, labels: np.ndarray, folds: int, seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(rows to fit on, rows held out) of each fold, stratified by label, no text in both."""
    from sklearn.model_selection import StratifiedKFold

    firsts = first_labels(groups, labels)
    if min(int(firsts.sum()), int((~firsts).sum())) < folds:
        # too few different texts of a class: they cannot stand in every fold without being parted
        groups, firsts = np.arange(len(labels)), labels
    for fit, rest in StratifiedKFold(folds, shuffle=True, random_state=seed).split(np.zeros(len(firsts)), firsts):
        yield np.flatnonzero(np.isin(groups, fit)), np.flatnonzero(np.isin(groups, rest))
