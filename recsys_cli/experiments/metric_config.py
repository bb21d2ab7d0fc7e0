"""What is measured: means, ratios, shares and quantiles over users, and the metrics that have a name."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from recsys_cli.config import Section


class MetricConfig(Section):
    """A metric of an experiment: a mean over users, a ratio of two means, a share of users, or a quantile."""

    name: str
    """How reports call it."""
    numerator: str
    """Column of the table of outcomes; summed for each user."""
    denominator: str | None = None
    """Column to divide by; null for a mean over users."""
    at_least: float | None = None
    """Share of users whose sum is at least this, instead of the mean of the sums (retention, reach)."""
    quantile: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Quantile over users instead of the mean: 0.5 is the median."""
    covariate: str | None = None
    """The numerator before the experiment began, to reduce variance (CUPED)."""
    denominator_covariate: str | None = None
    """The denominator before the experiment began."""
    predictors: tuple[str, ...] = ()
    """Columns from before from which a model foretells the outcome, to reduce variance further (CUPAC)."""
    goal: Literal["up", "down"] = "up"
    """Which direction is good."""

    @model_validator(mode="after")
    def _together(self) -> MetricConfig:
        if self.denominator_covariate is not None and (self.denominator is None or self.covariate is None):
            raise ValueError("denominator_covariate needs denominator and covariate")
        if self.denominator is not None and (self.at_least is not None or self.quantile is not None):
            raise ValueError("at_least and quantile are of one sum a user: leave denominator out")
        if self.quantile is not None and (self.at_least is not None or self.covariate is not None or self.predictors):
            raise ValueError("a quantile takes neither at_least nor covariate nor predictors")
        if self.predictors and self.covariate is not None:
            raise ValueError("covariate stands among the predictors, or instead of them: give either")
        if {*self.outcomes} & {*self.predictors}:
            raise ValueError("predictors are from before the experiment: an outcome is none")
        return self

    @property
    def outcomes(self) -> tuple[str, ...]:
        """Columns that are summed."""
        return tuple(c for c in (self.numerator, self.denominator) if c is not None)

    @property
    def before(self) -> tuple[str, ...]:
        """Columns from before the experiment, which are averaged over a user's rows."""
        return (*self.covariates, *self.predictors)

    @property
    def covariates(self) -> tuple[str, ...]:
        return tuple(c for c in (self.covariate, self.denominator_covariate) if c is not None)


def _rate(name: str, action: str, *, before: bool = True, goal: Literal["up", "down"] = "up") -> MetricConfig:
    return MetricConfig(
        name=name,
        numerator=action,
        denominator="impressions",
        covariate=f"before_{action}" if before else None,
        denominator_covariate="before_impressions" if before else None,
        goal=goal,
    )


def _sum(name: str, column: str) -> MetricConfig:
    return MetricConfig(name=name, numerator=column, covariate=f"before_{column}")


METRICS: dict[str, MetricConfig] = {
    m.name: m
    for m in (
        _rate("ctr", "click"),
        _rate("like_rate", "like"),
        _rate("follow_rate", "follow", before=False),
        _rate("engagement_rate", "interactions"),
        _sum("engagement_per_user", "engagement"),
        _sum("dwell_per_user", "dwell"),
        MetricConfig(name="median_dwell", numerator="dwell", quantile=0.5),
        _rate("dwell_per_impression", "dwell"),
        _sum("impressions_per_user", "impressions"),
        _sum("sessions_per_user", "sessions"),
        MetricConfig(name="session_depth", numerator="impressions", denominator="sessions"),
        MetricConfig(name="return_rate", numerator="days_active", denominator="days"),
        MetricConfig(name="retention", numerator="days_active", at_least=2),
        MetricConfig(name="follow_through", numerator="follow", denominator="click"),
        _rate("negative_rate", "negative", before=False, goal="down"),
        MetricConfig(name="topics_per_slate", numerator="topics", denominator="slates"),
        MetricConfig(name="authors_per_slate", numerator="authors", denominator="slates"),
        MetricConfig(name="flagged_rate", numerator="flagged", denominator="impressions", goal="down"),
        MetricConfig(name="small_author_share", numerator="small_author", denominator="impressions"),
    )
}
"""Metrics of simulated experiments, by name; each also works with --log where the columns are there."""
