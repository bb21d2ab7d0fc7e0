"""Scales of charts: round ticks, and places on the drawing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` round numbers covering [low, high] (Heckbert, Graphics Gems 1990)."""
    if not (math.isfinite(low) and math.isfinite(high)):
        low, high = 0.0, 1.0
    if high - low <= 1e-9 * max(abs(low), abs(high)):  # constant but for rounding: there is nothing to divide
        high = low + (abs(low) or 1.0)
    rough = (high - low) / max(count - 1, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(s * power for s in (1, 2, 2.5, 5, 10) if s * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    digits = max(12, 2 - math.floor(math.log10(step)))
    return [round(i * step, digits) for i in range(first, max(last, first + 1) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten covering [low, high]; both must be positive."""
    first, last = math.floor(math.log10(low) + 1e-9), math.ceil(math.log10(high) - 1e-9)
    every = max(1, -(-(last - first) // 6))
    return [10.0**e for e in range(first, max(last, first + 1) + every, every)]


class Axis:
    """A scale from values to points of the drawing."""

    def __init__(
        self, values: Iterable[float], start: float, end: float, *, log: bool = False, zero: bool = False
    ):
        known = [v for v in values if v is not None and math.isfinite(v) and (not log or v > 0)]
        low, high = (min(known), max(known)) if known else (1.0 if log else 0.0, 10.0 if log else 1.0)
        if zero and not log:
            low, high = min(low, 0.0), max(high, 0.0)
        self.log = log
        self.ticks = log_ticks(low, high) if log else nice_ticks(low, high)
        self.start, self.end = start, end
        self._low, self._high = self._scale(self.ticks[0]), self._scale(self.ticks[-1])

    def between(self, ticks: Sequence[float]) -> None:
        """Take these ticks, the first and the last of which are the ends of the scale."""
        self.ticks = [float(t) for t in ticks]
        self._low, self._high = self._scale(self.ticks[0]), self._scale(self.ticks[-1])

    def named(self, count: int, most: int = 8) -> None:
        """Places 0 to count - 1 that have names, of which at most so many are ticks."""
        self.ticks = [float(n) for n in range(0, count, max(1, math.ceil(count / most)))]
        self._low, self._high = 0.0, float(max(count - 1, 1))

    def _scale(self, value: float) -> float:
        return math.log10(value) if self.log else value

    def __call__(self, value) -> float | None:
        if value is None or not math.isfinite(value) or (self.log and value <= 0):
            return None
        return self.start + (self._scale(value) - self._low) / ((self._high - self._low) or 1.0) * (
            self.end - self.start
        )


def short(value: float) -> str:
    """A tick's label: 1,500,000 → 1.5M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.4g}{letter}"
    return f"{value:.4g}"
