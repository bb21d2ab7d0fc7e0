"""What an experiment YAML says: two pipelines, a split, a length, and what is measured."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PositiveFloat, PositiveInt, field_validator, model_validator

from recsys_cli.config import Section, merge, read_yaml, validate
from recsys_cli.errors import ConfigError, did_you_mean
from recsys_cli.pipeline.config import PipelineConfig


def _as_text(value: Any) -> Any:
    """What YAML reads as a truth value or number names a variant all the same."""
    return str(value) if isinstance(value, bool | int) else value


Share = Annotated[float, Field(gt=0, le=1)]


class MetricConfig(Section):
    """A metric of an experiment: a mean over users, or a ratio of two means."""

    name: str
    """How reports call it."""
    numerator: str
    """Column of the table of outcomes; summed for each user."""
    denominator: str | None = None
    """Column to divide by; null for a mean over users."""
    covariate: str | None = None
    """The numerator before the experiment began, to reduce variance (CUPED)."""
    denominator_covariate: str | None = None
    """The denominator before the experiment began."""
    goal: Literal["up", "down"] = "up"
    """Which direction is good."""

    @model_validator(mode="after")
    def _covariates(self) -> MetricConfig:
        if self.denominator_covariate is not None and (self.denominator is None or self.covariate is None):
            raise ValueError("denominator_covariate needs denominator and covariate")
        return self


METRICS: dict[str, MetricConfig] = {
    m.name: m
    for m in (
        MetricConfig(
            name="ctr",
            numerator="click",
            denominator="impressions",
            covariate="before_click",
            denominator_covariate="before_impressions",
        ),
        MetricConfig(
            name="like_rate",
            numerator="like",
            denominator="impressions",
            covariate="before_like",
            denominator_covariate="before_impressions",
        ),
        MetricConfig(name="follow_rate", numerator="follow", denominator="impressions"),
        MetricConfig(
            name="engagement_rate",
            numerator="interactions",
            denominator="impressions",
            covariate="before_interactions",
            denominator_covariate="before_impressions",
        ),
        MetricConfig(name="engagement_per_user", numerator="engagement", covariate="before_engagement"),
        MetricConfig(name="dwell_per_user", numerator="dwell", covariate="before_dwell"),
        MetricConfig(
            name="dwell_per_impression",
            numerator="dwell",
            denominator="impressions",
            covariate="before_dwell",
            denominator_covariate="before_impressions",
        ),
        MetricConfig(name="impressions_per_user", numerator="impressions", covariate="before_impressions"),
        MetricConfig(name="sessions_per_user", numerator="sessions", covariate="before_sessions"),
        MetricConfig(name="session_depth", numerator="impressions", denominator="sessions"),
        MetricConfig(name="return_rate", numerator="days_active", denominator="days"),
        MetricConfig(name="negative_rate", numerator="negative", denominator="impressions", goal="down"),
        MetricConfig(name="topics_per_slate", numerator="topics", denominator="slates"),
        MetricConfig(name="authors_per_slate", numerator="authors", denominator="slates"),
    )
}
"""Metrics of simulated experiments, by name; each also works with --log where the columns are there."""


class SplitConfig(Section):
    """How users are shared out."""

    control: PositiveFloat = 0.5
    """Part of the users in the control arm, in any unit."""
    treatment: PositiveFloat = 0.5
    """Part of the users in the treatment arm."""


class ExperimentConfig(Section):
    """An A/B test of two pipelines."""

    name: str
    """Part of the hash that assigns users: another name is another split."""
    description: str = ""
    """What is tried and why."""
    control: dict[str, Any] = {}
    """Settings of `pipeline` that differ from the configuration in the control arm."""
    treatment: dict[str, Any] = {}
    """Settings of `pipeline` that differ from the configuration in the treatment arm."""
    split: SplitConfig = SplitConfig()
    """Shares of the two arms."""
    traffic: Share = 1.0
    """Share of all users who take part."""
    salt: str = ""
    """Changes the assignment without changing the name."""
    days: PositiveInt = 7
    """Days that are simulated."""
    metrics: Annotated[tuple[str | MetricConfig, ...], Field(min_length=1)] = (
        "ctr",
        "like_rate",
        "engagement_per_user",
        "dwell_per_user",
        "sessions_per_user",
        "return_rate",
        "negative_rate",
        "topics_per_slate",
        "authors_per_slate",
    )
    """What is compared: names of built-in metrics, or metrics of one's own."""
    primary: str | None = None
    """The metric that decides; the first one by default."""
    alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    """Significance level; intervals have the confidence 1 − alpha."""
    power: Annotated[float, Field(gt=0.5, lt=1)] = 0.8
    """Power for which the smallest detectable effect is given."""
    min_users: Annotated[int, Field(ge=2)] = 50
    """Users that each arm must have."""
    max_crossovers: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Share of users in both arms above which a log is refused; below it they are left out and counted."""
    variants: dict[Literal["control", "treatment"], Annotated[str, BeforeValidator(_as_text)]] = {}
    """What a log calls the arms, where it does not call them control and treatment."""

    @field_validator("metrics")
    @classmethod
    def _known(cls, value: tuple) -> tuple:
        for metric in value:
            if isinstance(metric, str) and metric not in METRICS:
                raise ValueError(
                    f"no metric {metric!r}; " + did_you_mean(metric, METRICS, f"there are {', '.join(METRICS)}")
                )
        names = [m if isinstance(m, str) else m.name for m in value]
        if len(set(names)) < len(names):
            raise ValueError("two metrics have the same name")
        return value

    @model_validator(mode="after")
    def _primary(self) -> ExperimentConfig:
        if self.primary is not None and self.primary not in [m.name for m in self.measured]:
            raise ValueError(
                f"primary {self.primary!r} is none of the metrics {', '.join(m.name for m in self.measured)}"
            )
        return self

    @property
    def measured(self) -> tuple[MetricConfig, ...]:
        """The metrics, built-in ones looked up, in the order of reports."""
        return tuple(METRICS[m] if isinstance(m, str) else m for m in self.metrics)

    @property
    def deciding(self) -> str:
        return self.primary or self.measured[0].name


@dataclass(frozen=True)
class Experiment:
    """An experiment with both of its pipelines resolved."""

    config: ExperimentConfig
    control: PipelineConfig
    treatment: PipelineConfig


class _Arms(Section):
    control: PipelineConfig
    treatment: PipelineConfig


def load_experiment(path: str | Path, base: PipelineConfig, days: int | None = None) -> Experiment:
    """Read an experiment YAML and lay its arms over the configured pipeline.

    days: in place of those of the file. Raises ConfigError with the line of the first problem.
    """
    path = Path(path)
    content = read_yaml(path)
    if days is not None:
        content = {**content, "days": days}
    config = validate(ExperimentConfig, content, path)
    below = base.model_dump(mode="json")
    arms = validate(_Arms, {a: merge(below, getattr(config, a)) for a in ("control", "treatment")}, path)
    if arms.control == arms.treatment and (config.control or config.treatment):
        raise ConfigError(
            f"{path}: control and treatment are the same pipeline",
            "the override repeats what is configured; leave both arms empty for an A/A test",
        )
    return Experiment(config, arms.control, arms.treatment)
