"""Calibration of a head's probabilities on rows that it was not trained on.

A correction is an affine map of the logit, which becomes part of the served graph, or a monotone curve of a few
points applied after it. Serving imports this module: fitting alone needs scikit-learn.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from recsys_cli.metrics import expected_calibration_error, log_loss
from recsys_cli.ranking.logistic import fit_logistic, sigmoid

FOLDS = 5
MAX_KNOTS = 100
BETTER_BY = 1e-4
"""A more complex correction must lower the cross-fitted log loss by this share to be taken."""


@dataclass(frozen=True)
class Calibration:
    """Correction of one head: probability = curve(σ(scale·logit + shift))."""

    kind: str = "none"
    """none, temperature, platt or isotonic"""
    scale: float = 1.0
    shift: float = 0.0
    knots: list[float] = field(default_factory=list)
    """raw probabilities, ascending; empty for no curve"""
    values: list[float] = field(default_factory=list)
    """corrected probabilities at the knots"""

    def curve(self, probabilities: np.ndarray) -> np.ndarray:
        """Probabilities after the affine map → corrected, float32 of the same shape."""
        if not self.knots:
            return probabilities
        return np.interp(probabilities, self.knots, self.values).astype(np.float32)

    def apply(self, logits: np.ndarray) -> np.ndarray:
        """Raw logits → corrected probabilities."""
        return self.curve(sigmoid(self.scale * np.asarray(logits, np.float64) + self.shift).astype(np.float32))


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> Calibration:
    """Divide logits by one number (Guo et al., "On Calibration of Modern Neural Networks", ICML 2017)."""
    (scale,) = fit_logistic(logits[:, None], labels, penalty=np.array([1e-3]), start=np.ones(1))
    return Calibration("temperature", float(scale)) if scale > 0 else Calibration()


def fit_platt(logits: np.ndarray, labels: np.ndarray) -> Calibration:
    """Scale and shift logits (Platt, "Probabilistic Outputs for Support Vector Machines", 1999)."""
    design = np.column_stack([logits, np.ones(len(logits))])
    scale, shift = fit_logistic(design, labels, penalty=np.array([1e-3, 1e-6]), start=np.array([1.0, 0.0]))
    # a falling map would turn the ranking round: the logits tell nothing then
    return Calibration("platt", float(scale), float(shift)) if scale > 0 else Calibration()


def fit_isotonic(logits: np.ndarray, labels: np.ndarray) -> Calibration:
    """A rising curve through the centres of the blocks of isotonic regression.

    Joining the centres keeps the order of unequal predictions, which steps would tie (Oron & Flournoy,
    "Centered Isotonic Regression", 2017). Zadrozny & Elkan, KDD 2002, for the use on probabilities.
    """
    from sklearn.isotonic import isotonic_regression

    raw = sigmoid(np.asarray(logits, np.float64))
    order = np.argsort(raw, kind="stable")
    fitted = isotonic_regression(np.asarray(labels, np.float64)[order])
    _, block, count = np.unique(fitted, return_inverse=True, return_counts=True)
    centres = np.bincount(block, weights=raw[order]) / count
    # a block without a positive still has a chance: one pseudo-observation at the mean prediction keeps it above 0
    values = np.maximum.accumulate((np.bincount(block, weights=labels[order]) + centres) / (count + 1))
    if len(centres) > MAX_KNOTS:
        keep = np.unique(np.linspace(0, len(centres) - 1, MAX_KNOTS).round().astype(int))
        centres, values = centres[keep], values[keep]
    return Calibration("isotonic", knots=[0.0, *centres.tolist(), 1.0], values=[0.0, *values.tolist(), 1.0])


METHODS = {"temperature": fit_temperature, "platt": fit_platt, "isotonic": fit_isotonic}
"""From the fewest to the most parameters."""


def fit_calibration(
    logits: np.ndarray, labels: np.ndarray, groups: np.ndarray, method: str = "auto"
) -> tuple[Calibration, np.ndarray]:
    """The correction of one head, and cross-fitted probabilities float32[n] that show its worth honestly.

    logits float[n], labels 0/1 [n]; rows of one `groups` value (a user) stay in one fold. `auto` takes the method
    of the lowest cross-fitted log loss, no correction being one of them; a named method is taken as it is.
    """
    labels = np.asarray(labels, np.float64)
    plain = sigmoid(np.asarray(logits, np.float64)).astype(np.float32)
    chosen, best, probabilities = "none", log_loss(labels, plain), plain
    fold = (np.asarray(groups, np.uint64) * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(40)) % np.uint64(FOLDS)
    for name in METHODS if method == "auto" else [method] if method in METHODS else []:
        crossed = plain.copy()
        for k in range(FOLDS):
            held = fold == k
            if held.any() and 0 < labels[~held].sum() < (~held).sum():
                crossed[held] = METHODS[name](logits[~held], labels[~held]).apply(logits[held])
        loss = log_loss(labels, crossed)
        if method != "auto" or loss < best * (1 - BETTER_BY):
            chosen, best, probabilities = name, loss, crossed
    return (Calibration() if chosen == "none" else METHODS[chosen](logits, labels)), probabilities


SEGMENT_ROWS = 200
"""Fewest rows of a segment, and positives of a head, whose calibration is told: of fewer it is mostly chance."""


def by_segment(
    labels: np.ndarray, raw: np.ndarray, corrected: np.ndarray, segment: np.ndarray
) -> dict[int, dict[str, float]]:
    """Segment (an int of int[n]) → rows, the share of positives, mean prediction and ECE before and after.

    Largest first; segments of fewer than SEGMENT_ROWS rows are left out.
    """
    values, counts = np.unique(segment, return_counts=True)
    out = {}
    for at in np.argsort(-counts, kind="stable"):
        if counts[at] < SEGMENT_ROWS:
            break
        mine = segment == values[at]
        out[int(values[at])] = {
            "rows": int(counts[at]), "rate": float(np.mean(labels[mine])),
            "mean_raw": float(raw[mine].mean()), "mean": float(corrected[mine].mean()),
            "ece_raw": expected_calibration_error(labels[mine], raw[mine]),
            "ece": expected_calibration_error(labels[mine], corrected[mine]),
        }
    return out
