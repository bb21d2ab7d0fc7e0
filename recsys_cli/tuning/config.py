"""What the file of a search space says: which settings are tried, by what they are judged, and how long."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from recsys_cli.config import Name, Section

BY_USER = ("ndcg", "recall", "precision", "hit_rate", "map", "mrr", "diversity", "novelty", "popularity", "authors")
"""Figures that every user has; the first six are of what was found, the others of what is listed."""
OF_ALL = ("coverage", "gini")
"""Figures of all lists together."""
REQUEST_MS = "request_ms"
"""Processor milliseconds in which a list is made."""
SMALLER_IS_BETTER = ("gini", "popularity", REQUEST_MS)
Share = Annotated[float, Field(gt=0, lt=1)]


class Parameter(Section):
    """The values that one setting may take."""

    type: Literal["float", "int", "choice"] | None = None
    """Kind of value; null takes choice where there are choices, and else int where both ends are whole numbers."""
    low: float | int | None = None
    """Smallest value."""
    high: float | int | None = None
    """Largest value."""
    log: bool = False
    """Whether values are drawn evenly by their logarithm."""
    choices: tuple[Any, ...] | None = None
    """The values themselves, of any kind, instead of `low` and `high`."""

    @model_validator(mode="after")
    def _one_form(self) -> Parameter:
        if self.kind == "choice":
            if not self.choices or len(self.choices) < 2:
                raise ValueError("choices must name two values or more")
            if self.low is not None or self.high is not None or self.log:
                raise ValueError("choices stand alone: leave out low, high and log")
        elif self.choices is not None or self.low is None or self.high is None:
            raise ValueError("either low and high, or choices")
        elif not self.low < self.high:
            raise ValueError(f"low ({self.low:g}) must lie below high ({self.high:g})")
        elif self.log and self.low <= 0:
            raise ValueError("with log, low must lie above 0")
        elif self.kind == "int" and (self.low != int(self.low) or self.high != int(self.high)):
            raise ValueError("the ends of whole numbers are whole")
        return self

    @property
    def kind(self) -> Literal["float", "int", "choice"]:
        """The kind of value, told or taken from what is there."""
        if self.type is not None:
            return self.type
        if self.choices is not None:
            return "choice"
        return "int" if isinstance(self.low, int) and isinstance(self.high, int) else "float"

    @property
    def extremes(self) -> tuple[Any, ...]:
        """Values that must all be allowed for the whole range to be."""
        if self.kind == "choice":
            return self.choices
        cast = int if self.kind == "int" else float
        return cast(self.low), cast(self.high)


class Objective(Section):
    """One figure that is to be as good as can be."""

    figure: str = "ndcg@10"
    """METRIC@LENGTH of the lists (ndcg, recall, precision, hit_rate, map, mrr, diversity, novelty, popularity, authors,
    coverage or gini), or request_ms, processor milliseconds a list."""
    direction: Literal["auto", "maximise", "minimise"] = "auto"
    """auto minimises gini, popularity and request_ms, and maximises the rest."""

    @model_validator(mode="after")
    def _is_known(self) -> Objective:
        known = (*BY_USER, *OF_ALL)
        if self.figure != REQUEST_MS and (self.metric not in known or not 0 < self.k <= 1_000):
            raise ValueError(f"{self.figure!r} is no figure: METRIC@LENGTH of {', '.join(known)}, or {REQUEST_MS}")
        return self

    @property
    def metric(self) -> str:
        return self.figure.partition("@")[0]

    @property
    def k(self) -> int:
        """Length of list; 0 where the figure has none or it is no number."""
        length = self.figure.partition("@")[2]
        return int(length) if length.isdecimal() and len(length) < 5 else 0

    @property
    def maximised(self) -> bool:
        if self.direction == "auto":
            return self.metric not in SMALLER_IS_BETTER
        return self.direction == "maximise"


class Pruning(Section):
    """Trials that look poor on a part of the people are not run on all of them."""

    shares: Annotated[tuple[Share, ...], Field(min_length=1)] = (0.25,)
    """Shares of the people on whose rows a trial is run first, ascending."""
    keep: Share = 0.5
    """A trial goes on where it is among this share of the best of those that were run on as many."""
    startup: PositiveInt = 5
    """Trials that are run to their end before any is pruned."""

    @model_validator(mode="after")
    def _ascending(self) -> Pruning:
        if list(self.shares) != sorted(set(self.shares)):
            raise ValueError("shares must ascend")
        return self


class SpaceConfig(Section):
    """A search space and how it is searched."""

    name: Name
    """Name of the study below `artifacts/studies`."""
    settings: dict[str, Any] = {}
    """Settings laid over the configuration for every trial, the default too; keys may be dotted, as in `--set`."""
    only_in_trials: dict[str, Any] = {}
    """Likewise, but left out of the configuration that is written: what makes trials cheap."""
    search: Annotated[dict[str, Parameter], Field(min_length=1)]
    """Setting, as `--set` names it → the values that it may take."""
    objectives: Annotated[tuple[Objective, ...], Field(min_length=1)] = (Objective(),)
    """What is judged by; the first decides which trial wins."""
    trials: PositiveInt = 50
    """Trials beside the default."""
    hours: PositiveFloat | None = None
    """No trial begins after so many hours."""
    sampler: Literal["tpe", "random"] = "tpe"
    """How values are proposed: tpe, from what the trials before came to (Bergstra et al., NeurIPS 2011), or drawn."""
    pruning: Pruning | None = None
    """Null runs every trial on everybody."""
    users: PositiveInt | None = None
    """People measured, drawn with the seed; null takes all."""
    confirming_share: Share = 0.5
    """Share of them who have no part in the search: the winner must be better than the default for them."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.9
    """How sure it must be, one-sided; else the default is kept."""
    seed: NonNegativeInt | None = None
    """Seed of the proposals; null takes that of the configuration."""

    @model_validator(mode="after")
    def _objectives_fit(self) -> SpaceConfig:
        figures = [o.figure for o in self.objectives]
        if len(set(figures)) < len(figures):
            raise ValueError("an objective is named twice")
        if self.objectives[0].metric not in BY_USER:
            raise ValueError(f"the first objective must be a figure of users, not {figures[0]}: it decides who wins")
        if self.pruning is not None and len(figures) > 1:
            raise ValueError("pruning needs one objective: with several no trial is worse by all of them")
        return self
