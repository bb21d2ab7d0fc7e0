"""Values of features in plain units, for people."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from recsys_cli.features.formulas import NEVER, sigmoid
from recsys_cli.features.spec import Feature


def reading(feature: Feature, value: float, names: Sequence[str] = ()) -> str:
    """A share in per cent, a count, a length of time, a name: by unit, kind and formula. names: of the codes of a
    category."""
    if feature.unit:
        return UNITS[feature.unit](value)
    if feature.codes:
        if value == 0:
            return "unknown"
        return names[int(value) - 1] if 0 < len(names) < feature.codes else f"code {value:.0f}"
    if feature.formula.startswith("ln(1 + "):
        return f"{np.expm1(value):,.4g}"
    if feature.formula == "1 or 0":
        return "yes" if value else "no"
    return f"{value:,.4g}"


def _duration(minutes: float) -> str:
    for unit, size in (("d", 1440), ("h", 60)):
        if minutes >= size:
            return f"{minutes / size:,.1f} {unit}"
    return f"{minutes:.1f} min"


UNITS: dict[str, Callable[[float], str]] = {
    "log-odds": lambda v: f"{100 * float(sigmoid(v)):.2f} %",
    "share": lambda v: f"{100 * v:.1f} %",
    "ln minutes": lambda v: _duration(np.expm1(v)),
    "ln minutes ago": lambda v: "never" if v > NEVER - 1e-4 else f"{_duration(np.expm1(v))} ago",
    "ln hours": lambda v: _duration(60 * np.expm1(v)),
    "ln seconds": lambda v: f"{np.expm1(v):.1f} s",
    "ln times usual": lambda v: f"{np.exp(v):.2f} times" if v else "as usual",
    "ln times average": lambda v: f"{np.exp(v):.2f} times" if v else "unknown",
    "code": lambda v: f"{v - 1:.0f}" if v else "unknown",
}
"""What `Feature.unit` may say → how a value is told; "ln" stands for ln(1 + x), or for ln(x) of times."""
