"""Settings that every kind of heavy ranker has, and how a ranker made of several takes them."""

from __future__ import annotations

from typing import Literal

from pydantic import NonNegativeFloat, PositiveInt

from recsys_cli.config import Section


class HeavyConfig(Section):
    """What every kind of heavy ranker takes."""

    min_positives: PositiveInt = 5
    """Actions with fewer positives in the training window get no head."""
    task_weights: dict[str, NonNegativeFloat] = {}
    """Weight of a task's loss, 1 where not named, 0 for no head; `dwell` is the dwell head."""
    dwell: bool = True
    """Whether to learn dwell time where the dataset has it."""
    max_rows: PositiveInt = 20_000_000
    """Training rows used at most, the latest ones."""
    seeds: PositiveInt = 1
    """Rankers trained from different seeds to report the mean and spread of each head's AUC; the first is kept."""
    calibration: Literal["auto", "none", "temperature", "platt", "isotonic"] = "auto"
    """How probabilities are corrected on validation rows; auto takes what has the best cross-fitted log loss."""
    calibration_min_positives: PositiveInt = 30
    """Heads with fewer positives on validation stay uncorrected."""


def refuse_common(part: HeavyConfig, name: str, whole: str) -> None:
    """Raises ValueError where a part has a setting of its own that belongs to the whole ranker."""
    common = HeavyConfig()
    if twice := [f for f in HeavyConfig.model_fields if getattr(part, f) != getattr(common, f)]:
        raise ValueError(f"{', '.join(twice)} is for {whole}: set it beside {name}, not in it")


def with_common(part: HeavyConfig, whole: HeavyConfig, *, dwell: bool) -> HeavyConfig:
    """Settings of a part of a ranker with what every ranker takes from the whole."""
    common = {field: getattr(whole, field) for field in HeavyConfig.model_fields}
    return part.model_copy(update=common | {"dwell": dwell})
