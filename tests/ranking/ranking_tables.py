"""Synthetic training tables with a known truth."""

import numpy as np

from recsys_cli.features.table import FeatureTable


def make_table(n: int = 2000, seed: int = 0, truth_seed: int = 0, features: int = 6) -> FeatureTable:
    """Numbers of different scale, one categorical feature, and actions whose logits are linear in them.

    "click" is common, "like" rarer, "hide" falls where click rises, "never" does not occur. ln(1+dwell) is normal.
    """
    truth = np.random.default_rng(truth_seed)
    weights, effects = truth.normal(0, 1, (features, 3)), truth.normal(0, 1.5, 8)
    rng = np.random.default_rng(seed + 1000)
    z = rng.normal(0, 1, (n, features))
    code = rng.integers(0, 8, n)
    score = z @ weights / np.sqrt(features) * 1.5
    click = score[:, 0] + effects[code]
    labels = {
        "click": rng.random(n) < 1 / (1 + np.exp(-click)),
        "like": rng.random(n) < 1 / (1 + np.exp(-(score[:, 1] - 2))),
        "hide": rng.random(n) < 1 / (1 + np.exp(-(-score[:, 0] - 2))),
        "never": np.zeros(n, bool),
    }
    log_dwell = 1.5 + 0.5 * score[:, 2] + 0.4 * rng.normal(0, 1, n)
    dwell = np.where(rng.random(n) < 0.1, np.nan, np.expm1(np.maximum(log_dwell, 0))).astype(np.float32)
    scales = 10.0 ** (np.arange(features) % 6) / 10
    values = np.column_stack([z * scales + 3, code]).astype(np.float32)
    names = (*(f"number_{j}" for j in range(features)), "kind_of_thing")
    return FeatureTable(
        values, names, {"kind_of_thing": 8}, labels, dwell, rng.integers(0, max(n // 10, 2), n).astype(np.int32),
        rng.integers(0, 50, n).astype(np.int32), np.sort(rng.integers(0, 10**12, n)),
    )
