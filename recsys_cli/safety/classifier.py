"""Training of text classifiers: TF-IDF of hashed n-grams, logistic regression and its naive Bayes variant.

Two linear models of the same columns are averaged: logistic regression on TF-IDF, and on TF-IDF times the
log-count ratios of naive Bayes (Wang and Manning, ACL 2012). Being linear, they are one model when served.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recsys_cli.arrays import save_arrays
from recsys_cli.errors import DataError
from recsys_cli.metrics import average_precision, expected_calibration_error, precision_at_recall, roc_auc, summarise
from recsys_cli.progress import Progress
from recsys_cli.safety.graphs import write_text_graph
from recsys_cli.safety.repeats import folds_of_texts, same_texts
from recsys_cli.safety.served import GRAPH_FILE, TABLE_FILE, columns_of
from recsys_cli.safety.text import Grams, grams

FOLDS = 4
MIN_TEXTS = 2
"""Texts that must hold an n-gram for it to get a column."""
STRENGTHS = {"tfidf": (0.1, 0.3, 1.0, 3.0, 10.0, 30.0), "naive_bayes": (0.03, 0.1, 0.3, 1.0, 3.0)}
"""C of each model, tried from the strongest regularisation on as long as the cross-validated ROC-AUC rises."""
SHARES = (0.0, 0.5, 1.0)
"""Weights of the naive Bayes variant in the mean that are tried."""
MIN_POSITIVES = 2 * FOLDS


@dataclass(frozen=True)
class TextClassifier:
    """A fitted classifier: probability = σ(scale · (Σ per block w·x / |x| + bias) + shift)."""

    keys: np.ndarray
    """uint32[V] hashes of the n-grams, ascending"""
    idf: np.ndarray
    """float32[V]"""
    weights: np.ndarray
    """float32[V]"""
    bias: float
    scale: float
    shift: float
    choices: dict
    """what cross-validation chose"""
    validation: tuple[np.ndarray, np.ndarray]
    """labels and out-of-fold probabilities"""

    def logits(self, texts: Sequence[str]) -> np.ndarray:
        """float64[n] raw logits by sparse matrices, as in training; NaN where no n-gram is known."""
        return self._logits(_design(texts, self.keys, self.idf))

    def _logits(self, design) -> np.ndarray:
        raw = design @ self.weights.astype(np.float64) + self.bias
        return np.where(np.diff(design.indptr) > 0, raw, np.nan)

    def probabilities(self, texts: Sequence[str]) -> np.ndarray:
        """float64[n] calibrated probabilities of the positive class."""
        return _sigmoid(self.scale * self.logits(texts) + self.shift)

    def probabilities_of(self, found: Grams, texts: int) -> np.ndarray:
        """The same of the n-grams of so many texts."""
        design = _matrix([(0, *columns_of(found, self.keys))], texts, self.keys, self.idf)
        return _sigmoid(self.scale * self._logits(design) + self.shift)

    def export(self, folder: Path) -> None:
        """Write the served form."""
        save_arrays(folder / TABLE_FILE, {"keys": self.keys})
        write_text_graph(
            folder / GRAPH_FILE, self.keys, self.idf, self.weights, self.scale, self.scale * self.bias + self.shift
        )


def fit_text_classifier(
    texts: Sequence[str], labels: np.ndarray, *, seed: int = 0, progress: Progress | None = None
) -> TextClassifier:
    """Fit on texts and Boolean labels; strength, mixture and calibration are chosen by cross-validation.

    A text that stands several times is in one fold with all of its rows.

    Raises DataError where a class has too few texts to be learned.
    """
    few = min(int(labels.sum()), int((~labels).sum()))
    if few < MIN_POSITIVES:
        raise DataError(
            f"{int(labels.sum()):,} positive and {int((~labels).sum()):,} negative texts",
            f"each class needs at least {MIN_POSITIVES}",
        )
    keys, document_frequency = _vocabulary(texts)
    if not len(keys):
        raise DataError("no word and no run of characters stands in two of the texts", "give more texts")
    idf = (np.log((1 + len(texts)) / (1 + document_frequency)) + 1).astype(np.float32)
    design = _design(texts, keys, idf)
    held_out, chosen = {}, {}
    folds = list(folds_of_texts(same_texts(texts), labels, FOLDS, seed))
    with (progress or Progress()).step("cross-validation", total=sum(map(len, STRENGTHS.values()))) as bar:
        for member, strengths in STRENGTHS.items():
            chosen[member], held_out[member] = _choose(design, labels, folds, member, strengths, seed, bar)
    # members are brought to one scale before they are mixed
    spread = {member: float(logits.std()) or 1.0 for member, logits in held_out.items()}

    def mixed(share: float) -> np.ndarray:
        parts = {"tfidf": 1 - share, "naive_bayes": share}
        return sum(part * held_out[m] / spread[m] for m, part in parts.items())

    share = max(SHARES, key=lambda s: (round(roc_auc(labels, mixed(s)), 5), -abs(s - 0.5)))
    logits = mixed(share)
    scale, shift = _platt(logits, labels)
    weights, bias = np.zeros(len(keys)), 0.0
    for member, part in (("tfidf", 1 - share), ("naive_bayes", share)):
        if part:
            w, b = _fit(design, labels, member, chosen[member], seed)
            weights += part / spread[member] * w
            bias += part / spread[member] * b
    choices = {"C": {m: chosen[m] for m in STRENGTHS}, "naive_bayes_share": share, "n_grams": len(keys)}
    return TextClassifier(
        keys, idf, weights.astype(np.float32), bias, scale, shift, choices,
        (labels, _sigmoid(scale * logits + shift)),
    )


def _vocabulary(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    found = [part.keys for _, _, part in grams(texts)]
    keys, counts = np.unique(np.concatenate(found), return_counts=True)
    often = counts >= MIN_TEXTS
    return keys[often], counts[often]


def _design(texts: Sequence[str], keys: np.ndarray, idf: np.ndarray):
    """csr[n, V] of TF-IDF values, each block of n-grams of a text of length one."""
    parts = [(first, *columns_of(found, keys)) for first, _, found in grams(texts)]
    return _matrix(parts, len(texts), keys, idf)


def _matrix(parts: list[tuple[int, np.ndarray, np.ndarray, np.ndarray]], n: int, keys: np.ndarray, idf: np.ndarray):
    """The same of (first text, and rows from it on, columns, values) of batches."""
    from scipy.sparse import csr_matrix

    rows = np.concatenate([first + rows for first, rows, _, _ in parts])
    columns = np.concatenate([columns for _, _, columns, _ in parts])
    values = np.concatenate([values for _, _, _, values in parts]).astype(np.float64) * idf[columns]
    slot = rows * 2 + (keys[columns] & np.uint32(1))
    values /= np.sqrt(np.bincount(slot.astype(np.int64), values * values, minlength=2 * n))[slot]
    return csr_matrix((values, (rows, columns)), shape=(n, len(keys)))


def _ratios(design, labels: np.ndarray) -> np.ndarray:
    """ln of how much more often an n-gram stands in positive than in negative texts, smoothed by one."""
    present = design.astype(bool).astype(np.float64)
    positive, negative = (1 + np.asarray(present[side].sum(axis=0)).ravel() for side in (labels, ~labels))
    return np.log(positive / (1 + labels.sum())) - np.log(negative / (1 + (~labels).sum()))


def _fit(design, labels: np.ndarray, member: str, strength: float, seed: int) -> tuple[np.ndarray, float]:
    """Weights for the columns of `design`, and the bias."""
    from scipy.sparse import diags
    from sklearn.linear_model import LogisticRegression

    ratios = _ratios(design, labels) if member == "naive_bayes" else None
    model = LogisticRegression(C=strength, solver="liblinear", dual=True, max_iter=300, random_state=seed)
    with warnings.catch_warnings():
        # of a weakly regularised fit the last digits may be missing: the cross-validation judges it as it is
        warnings.simplefilter("ignore")
        model.fit(design if ratios is None else design @ diags(ratios), labels)
    weights = model.coef_.ravel()
    return (weights if ratios is None else weights * ratios), float(model.intercept_[0])


def _choose(design, labels: np.ndarray, folds: list, member: str, strengths: Sequence[float], seed: int, bar):
    """(the best strength, its out-of-fold logits)."""
    best, best_auc, best_logits = strengths[0], -1.0, None
    for n, strength in enumerate(strengths):
        logits = np.zeros(len(labels))
        for fit, rest in folds:
            weights, bias = _fit(design[fit], labels[fit], member, strength, seed)
            logits[rest] = design[rest] @ weights + bias
        auc = roc_auc(labels, logits)
        if auc <= best_auc:
            bar.advance(len(strengths) - n)
            break
        best, best_auc, best_logits = strength, auc, logits
        bar.advance()
    return best, best_logits


def _platt(logits: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Scale and shift (Platt 1999) on out-of-fold logits; a scale is never negative."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=1e4).fit(logits[:, None], labels)
    return max(float(model.coef_[0, 0]), 1e-3), float(model.intercept_[0])


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(x, -60, 60)))


def measure(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """ROC-AUC, PR-AUC, precision at recall 0.9 and calibration; rows without a score are left out."""
    known = np.isfinite(probabilities)
    y, p = labels[known].astype(float), probabilities[known]
    if not y.any() or y.all():
        raise DataError("the rows to measure on are of one class", "give others, or a larger --test-share")
    return {
        "rows": len(labels),
        "positives": int(labels.sum()),
        "without_score": int((~known).sum()),
        "roc_auc": roc_auc(y, p),
        "pr_auc": average_precision(y, p),
        "precision_at_recall_0.9": precision_at_recall(y, p, 0.9),
        "log_loss": summarise(y, p)["log_loss"],
        "ece": expected_calibration_error(y, p),
    }


def thresholds(labels: np.ndarray, probabilities: np.ndarray) -> list[dict]:
    """Thresholds worth putting into a policy, chosen on out-of-fold scores: the best F1, precision 0.9, recall 0.9."""
    known = np.isfinite(probabilities)
    y, p = labels[known], probabilities[known]
    order = np.argsort(-p, kind="stable")
    hits, flagged = np.cumsum(y[order]), np.arange(1, len(y) + 1)
    last = np.append(p[order][1:] != p[order][:-1], True)
    hits, flagged, at = hits[last], flagged[last], p[order][last]
    precision, recall = hits / flagged, hits / max(int(y.sum()), 1)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    picks = {"best F1": int(f1.argmax())}
    if (precision >= 0.9).any():
        picks["precision 0.9"] = int(np.flatnonzero(precision >= 0.9)[-1])
    picks["recall 0.9"] = int(np.flatnonzero(recall >= 0.9)[0])
    return [
        {
            "for": name, "threshold": float(at[i]), "precision": float(precision[i]),
            "recall": float(recall[i]), "flagged_share": float(flagged[i] / len(y)),
        }
        for name, i in picks.items()
    ]
