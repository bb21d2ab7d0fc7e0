"""Logistic regression by Newton's method, for problems of few columns."""

from __future__ import annotations

import numpy as np


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + e^−x), without overflow."""
    return 0.5 * (1 + np.tanh(0.5 * x))


def fit_logistic(
    design: np.ndarray, labels: np.ndarray, *, penalty: np.ndarray, start: np.ndarray | None = None,
    offset: np.ndarray | None = None, weight: np.ndarray | None = None, max_iterations: int = 50,
) -> np.ndarray:
    """Coefficients float64[C] that minimise Σ weight·BCE + ½·Σ penalty·coefficient².

    design float[n, C] (give it a column of ones for an intercept), labels 0/1 [n], penalty [C], offset [n] added
    to the linear predictor. Steps are halved where they would raise the loss, so that separable data ends at the
    penalty's optimum and not in an overflow.
    """
    x, y = np.asarray(design, np.float64), np.asarray(labels, np.float64)
    w = np.ones(len(y)) if weight is None else np.asarray(weight, np.float64)
    base = np.zeros(len(y)) if offset is None else np.asarray(offset, np.float64)
    beta = np.zeros(x.shape[1]) if start is None else np.asarray(start, np.float64).copy()

    def loss(b: np.ndarray) -> float:
        z = base + x @ b
        return float(w @ (np.logaddexp(0, z) - y * z) + 0.5 * penalty @ (b * b))

    current = loss(beta)
    for _ in range(max_iterations):
        p = sigmoid(base + x @ beta)
        gradient = x.T @ (w * (p - y)) + penalty * beta
        curvature = w * p * (1 - p)
        hessian = (x * curvature[:, None]).T @ x + np.diag(penalty + 1e-9 * (1 + curvature.sum()))
        step = np.linalg.solve(hessian, gradient)
        for _ in range(30):
            candidate = loss(beta - step)
            if candidate <= current:
                break
            step = step / 2
        else:
            break
        beta = beta - step
        gain, current = current - candidate, candidate
        if gain <= 1e-10 * (1 + abs(current)):
            break
    return beta
