"""Settings of safety: which classifiers a run takes in, and the policy that acts on scores."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, model_validator

from recsys_cli.config import Section

Share = Annotated[float, Field(ge=0, le=1)]
COMBINED, AUTHOR = "combined", "author_"
Action = Literal["allow", "downrank", "interstitial", "drop"]


class SafetyModelsConfig(Section):
    """Classifiers of `recsys train-safety` that training takes into a run."""

    models: Literal["all"] | list[str] = "all"
    """"all" that lie under `artifacts/safety`, or their names; an author classifier is called author_TASK."""


class Rule(Section):
    """What happens to an item whose score passes a threshold."""

    task: str
    """A score of items (toxicity, nsfw, …), of their authors (author_toxicity, …), or combined: 1 − the weighted mean
    of the item's scores, 1 being safe."""
    above: Share | None = None
    """The rule holds where the score is higher; one of above and below."""
    below: Share | None = None
    """The rule holds where the score is lower."""
    action: Action
    """allow only logs, and keeps milder rules of the same task away."""
    factor: Share | None = None
    """Multiplier of the utility, for downrank."""
    unless_following: bool = False
    """Whether the rule leaves out authors whom the viewer follows."""

    @model_validator(mode="after")
    def _complete(self):
        if (self.above is None) == (self.below is None):
            raise ValueError("give one of `above` and `below`")
        if (self.factor is None) == (self.action == "downrank"):
            raise ValueError("`factor` belongs to `action: downrank`, and to no other")
        return self

    @property
    def threshold(self) -> float:
        return self.below if self.above is None else self.above

    @property
    def name(self) -> str:
        """As logs and tables show it."""
        sign = "<" if self.above is None else ">"
        return f"{self.task} {sign} {self.threshold:g}" + (" unless following" if self.unless_following else "")


class SafetyConfig(Section):
    """The policy on safety scores of items and authors."""

    enabled: bool = True
    """Whether to act on safety scores."""
    weights: dict[str, NonNegativeFloat] = {"toxicity": 0.3, "nsfw": 0.3, "spam": 0.2, "misinformation": 0.2}
    """Weights in the combined score. Tasks of which nothing is known are left out; where one item's score is unknown
    the mean of all others stands for it, and an item of which no score is known has no combined one."""
    rules: Annotated[list[Rule], Field(max_length=24)] = [
        Rule(task="nsfw", above=0.8, action="downrank", factor=0.1),
        Rule(task="nsfw", above=0.5, action="downrank", factor=0.7),
        Rule(task="toxicity", above=0.7, action="downrank", factor=0.1),
        Rule(task="toxicity", above=0.5, action="downrank", factor=0.8),
        Rule(task="combined", below=0.7, action="drop"),
    ]
    """Of the rules of one task the strictest that holds decides; factors of several tasks multiply. A list given
    here replaces the whole of the default one."""
