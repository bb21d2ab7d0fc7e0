"""What a SCENARIO.yaml says: the policies, the days, and what changes in the world meanwhile."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from recsys_cli.config import Name, Section, merge, read_yaml, validate
from recsys_cli.pipeline.config import PipelineConfig

Share = Annotated[float, Field(ge=0, le=1)]


class PolicyConfig(Section):
    """One way of recommending."""

    pipeline: dict[str, Any] = {}
    """Settings of `pipeline` that differ from the configuration."""
    run: str | None = None
    """Run that serves it; null for the one in use."""


class ViralItem(Section):
    """One of the day's new items is much better than its author's others."""

    kind: Literal["viral_item"] = "viral_item"
    day: PositiveInt
    quality: PositiveFloat = 4.0
    """What is added to its quality, in standard deviations of authors' quality."""


class SpamWave(Section):
    """A share of what is published on some days is spam."""

    kind: Literal["spam_wave"] = "spam_wave"
    day: PositiveInt
    days: PositiveInt = 3
    share: Share = 0.3


class ColdMarket(Section):
    """People of one country, who have hardly come so far, come often from a day on."""

    kind: Literal["cold_market"] = "cold_market"
    day: PositiveInt
    country: str = "BR"
    activity: PositiveFloat = 2.0
    """What is added to their log-odds of opening the product; the same is taken off before the day."""


Shock = Annotated[ViralItem | SpamWave | ColdMarket, Field(discriminator="kind")]


class DriftConfig(Section):
    """How people change by themselves."""

    interests: Share = 0.01
    """Share of the people, each day, one of whose interests moves to another topic."""
    taste: Share = 0.02
    """How far the hidden taste moves in a day, of its whole spread."""


class CreatorsConfig(Section):
    """How those who publish react to the exposure that they get."""

    discouraged: Share = 0.5
    """Share of a new item's chance to be published that an author loses who had no impression in `days` days."""
    days: PositiveInt = 7
    """Days of exposure that authors look back on."""


class ScenarioConfig(Section):
    """One simulation of several policies."""

    name: Name = "scenario"
    description: str = ""
    days: Annotated[int, Field(ge=1, le=3650)] = 30
    market: Literal["own", "shared"] = "own"
    """Whether each policy has all users in a world of its own, or a part of the users of one world."""
    policies: Annotated[dict[Name, PolicyConfig], Field(min_length=1, max_length=8)]
    """The first is what the others are compared with."""
    drift: DriftConfig = DriftConfig()
    creators: CreatorsConfig = CreatorsConfig()
    shocks: tuple[Shock, ...] = ()
    alpha: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """One less the level of the intervals."""

    @model_validator(mode="after")
    def _within(self) -> ScenarioConfig:
        for shock in self.shocks:
            if shock.day > self.days:
                raise ValueError(f"the {shock.kind} of day {shock.day} lies behind the {self.days} days")
        return self


def read_scenario(path: Path, days: int | None = None) -> ScenarioConfig:
    """The file, checked; days: in place of those of the file. Raises ConfigError with the line."""
    content = read_yaml(path)
    return validate(ScenarioConfig, content if days is None else {**content, "days": days}, path)


def pipelines_of(config: ScenarioConfig, base: PipelineConfig) -> dict[str, PipelineConfig]:
    """Policy → its pipeline, laid over the configured one. Raises ConfigError."""
    below = base.model_dump(mode="json")
    return {
        name: validate(PipelineConfig, merge(below, policy.pipeline)) for name, policy in config.policies.items()
    }
