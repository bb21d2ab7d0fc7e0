"""What a POLICY.yaml says: the columns of the log, the policy to judge, and how."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, field_validator, model_validator

from recsys_cli.config import Name, Section, read_yaml, validate
from recsys_cli.errors import did_you_mean
from recsys_cli.off_policy_estimates import single, slates

Share = Annotated[float, Field(gt=0, lt=1)]
ESTIMATORS = (*single.EVERY, *slates.EVERY)


class LogColumns(Section):
    """Columns of the log. One that is named here must be there; one that has its default may be absent."""

    item: str = "item_id"
    """What was shown."""
    reward: str | dict[str, float] = "click"
    """What it earned: a column of numbers or truth values, or several with what each is worth."""
    propensity: str | None = "propensity"
    """Probability with which the logging policy showed this item in this place; null to estimate it."""
    position: str | None = "position"
    """Place in the slate."""
    user: str | None = "user_id"
    """Who saw it: rows of one user are not independent."""
    request: str | None = "request_id"
    """Equal for rows that were shown together."""
    contexts: tuple[str, ...] = ()
    """Columns known before the choice: estimated propensities, rewards and learned policies may differ by them."""


class UniformPolicy(Section):
    """Every item that the log shows in a place is as probable as another."""

    kind: Literal["uniform"] = "uniform"


class FilePolicy(Section):
    """A table of probabilities from elsewhere: item, probability, and where they differ also the position, the user or
    contexts; items that are not listed have probability 0."""

    kind: Literal["file"] = "file"
    path: Path
    """CSV, TSV, Parquet or JSON lines, with the log's names of columns."""
    probability: str = "probability"
    """Column of the probability."""


class ColumnPolicy(Section):
    """The policy's probability of what was shown stands in the log itself; methods that need its whole distribution
    are left out."""

    kind: Literal["column"] = "column"
    column: str


class LogPolicy(Section):
    """The policy that wrote another log, as shares of its rows by position and contexts."""

    kind: Literal["log"] = "log"
    path: Path
    """A log with the same columns."""


class RunPolicy(Section):
    """A trained run behind any preset or settings; it looks at the user."""

    kind: Literal["run"] = "run"
    run: str | None = None
    """Run id; null for the one in use."""
    pipeline: dict[str, Any] = {}
    """Settings of `pipeline` that differ from the configuration."""
    draws: PositiveInt = 1
    """Slates asked for a user, whose shares are the probabilities; more than 1 where the pipeline explores."""
    measured: bool = False
    """Whether to ask the half of the run that knows nothing of its test window."""


class LearnedPolicy(Section):
    """A policy learned from one half of the log's units, and judged on the other."""

    kind: Literal["learned"] = "learned"
    method: Literal["ips", "dr"] = "dr"
    """How an action's value is estimated: inverse propensities alone, or doubly robust."""
    caution: PositiveFloat | None = None
    """Weight of the divergence from the logging policy, in units of the reward; null for what pays within the
    learning half."""
    pessimism: NonNegativeFloat = 1.0
    """Standard errors that are taken off each action's value."""


Policy = Annotated[
    UniformPolicy | FilePolicy | ColumnPolicy | LogPolicy | RunPolicy | LearnedPolicy, Field(discriminator="kind")
]


class OffPolicyConfig(Section):
    """One policy to judge."""

    name: Name = "policy"
    description: str = ""
    log: LogColumns = LogColumns()
    policy: Policy
    estimators: tuple[str, ...] | None = None
    """Estimators; null for all that the log and the policy allow."""
    most_weight: PositiveFloat | None = None
    """Bound of weights in clipped and switching estimators; null for SLOPE's choice."""
    slate_logging: Literal["by_place", "uniform_without_repeats"] = "by_place"
    """How the logging policy fills a slate, which the pseudo-inverse estimator must know."""
    folds: Annotated[int, Field(ge=2, le=20)] = 3
    """Folds of units for the reward model, which is never asked about units that it was fitted on."""
    alpha: Share = 0.05
    """One less the level of the intervals."""

    @field_validator("estimators")
    @classmethod
    def _known(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for name in names or ():
            if name not in ESTIMATORS:
                hint = did_you_mean(name, ESTIMATORS, f"known are {', '.join(ESTIMATORS)}")
                raise ValueError(f"no estimator {name!r}: {hint}")
        return names

    @model_validator(mode="after")
    def _possible(self) -> OffPolicyConfig:
        if self.policy.kind == "run" and self.log.user is None:
            raise ValueError("a run looks at the user: name the column in log.user")
        return self


def read_policy(path: Path) -> OffPolicyConfig:
    """The file, checked; paths in it are relative to it. Raises ConfigError."""
    config = validate(OffPolicyConfig, read_yaml(path), path)
    if isinstance(config.policy, FilePolicy | LogPolicy):
        place = path.parent / config.policy.path
        config = config.model_copy(update={"policy": config.policy.model_copy(update={"path": place})})
    return config
