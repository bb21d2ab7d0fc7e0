"""What answers are made of, beside the slates themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from recsys_cli.data.state import State
    from recsys_cli.pipeline.bundle import Bundle


@dataclass(frozen=True)
class AnswerData:
    """Names, texts and models behind slates, and the moment that they were made for."""

    bundle: Bundle
    state: State
    run: str | None = None
    """id of the run; None where the models are of none"""
    timed: bool = True
    """whether the moment is a time; a run may know an order of its rows alone"""
    rules: tuple[str, ...] = ()
    """names of the safety rules; bit r of an "interstitial" is the r-th"""
    notes: tuple[str, ...] = ()
    """what every answer has to say of how it came to be"""

    @property
    def sources(self) -> tuple[str, ...]:
        """Source of each bit of a slate's sources."""
        return self.bundle.configured


def six_digits(value) -> float:
    """A number in six significant digits: more are noise, and they make the output hard to read."""
    return float(f"{float(value):.6g}")
