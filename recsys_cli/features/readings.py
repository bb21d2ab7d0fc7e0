"""Values of features in plain units, for people."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recsys_cli.features.formulas import NEVER
from recsys_cli.features.spec import Feature


def plain(feature: Feature, value: float, names: Sequence[str]) -> str:
    """By kind and formula: a name, a count, yes or no, a number. names: of the codes of a category."""
    if feature.codes:
        if value == 0:
            return "unknown"
        return names[int(value) - 1] if 0 < len(names) < feature.codes else f"code {value:.0f}"
    if feature.formula.startswith("ln(1 + "):
        return f"{np.expm1(value):,.4g}"
    if feature.formula == "1 or 0":
        return "yes" if value else "no"
    return f"{value:,.4g}"


def percent(share: float) -> str:
    """Of a share in [0, 1]."""
    return f"{100 * share:.1f} %"


def ago(value: float) -> str:
    """Of a recency, ln(1 + minutes)."""
    return "never" if value > NEVER - 1e-4 else f"{duration(np.expm1(value))} ago"


def duration(minutes: float) -> str:
    """In days, hours or minutes."""
    for unit, size in (("d", 1440), ("h", 60)):
        if minutes >= size:
            return f"{minutes / size:,.1f} {unit}"
    return f"{minutes:.1f} min"


def age(value: float) -> str:
    """Of an age, ln(1 + hours)."""
    return duration(60 * np.expm1(value))
