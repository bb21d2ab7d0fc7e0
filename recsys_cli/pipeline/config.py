"""Settings of the pipeline: what each stage takes, in the order in which the stages run."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import (
    Field,
    NonNegativeFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from recsys_cli.config import Section
from recsys_cli.errors import did_you_mean
from recsys_cli.pipeline.added import STAGE_KINDS, AddedStage
from recsys_cli.pipeline.exploration.config import ExplorationConfig
from recsys_cli.pipeline.promoted_config import PromotedConfig
from recsys_cli.pipeline.rank_curves import KNOTS
from recsys_cli.pipeline.rules.config import BusinessRule
from recsys_cli.safety.config import SafetyConfig

Share = Annotated[float, Field(ge=0, le=1)]
Length = Annotated[int, Field(ge=1, le=1_000_000)]
"""Length of a list; one longer than the catalogue is the catalogue."""
Curve = Annotated[list[NonNegativeFloat], Field(min_length=len(KNOTS), max_length=len(KNOTS))]


class SourcingConfig(Section):
    """Candidate sourcing."""

    candidates: Length | Literal["auto"] = "auto"
    """Candidates a user, over all sources; "auto" takes 1,500 where much of what people turn to is new to everybody,
    as in a feed, and 250 in a catalogue that stays: rankers tell the best apart among fewer, better candidates."""
    shares: dict[str, NonNegativeFloat] = {
        "in_network": 0.40,
        "two_tower": 0.14,
        "als": 0.12,
        "item_neighbours": 0.12,
        "ease": 0.12,
        "rp3beta": 0.08,
        "graph_filter": 0.08,
        "slim": 0.10,
        "user_neighbours": 0.08,
        "svd": 0.06,
        "markov": 0.10,
        "sequential_rules": 0.08,
        "linear_autoregressive": 0.12,
        "session_neighbours": 0.12,
        "repeat_consumption": 0.12,
        "next_basket": 0.10,
        "trending": 0.08,
        "popularity": 0.04,
        "segment_trending": 0.08,
        "social_proof": 0.10,
    }
    """Share of each source by its name in `retrieval`; those that stepped aside leave theirs to the others."""
    merge: Literal["quota", "rrf", "weighted", "learned"] = "quota"
    """How lists become one: "quota" takes from each in proportion to its share and lets the others go deeper where
    one runs dry; "rrf" ranks by share × reciprocal rank, "weighted" by share × score scaled to [0, 1], "learned" by
    the sum of `curves`."""
    curves: dict[str, Curve] = {}
    """Source → weight of the ranks 1, 3, 10, 30, 100, 300 and 1,000 of its list, straight in log rank between them;
    `recsys tune sources` learns them. With "learned" the sources named here are asked, whatever their shares."""
    deepen: Annotated[float, Field(ge=1, le=1000)] = 4.0
    """Each source is asked for so many times its share, so that it can fill in for those that run dry."""
    fallback: list[str] = ["trending", "popularity"]
    """Sources asked, in this order, for users whom the others leave with less than a slate."""

    @property
    def settled(self) -> int:
        """`candidates` where it is a number, as `Setup.sourcing` makes it of "auto" for a run."""
        if self.candidates == "auto":
            raise ValueError("the number of candidates is still to be settled for a run")
        return self.candidates

    @model_validator(mode="after")
    def _curves_to_merge_by(self) -> SourcingConfig:
        if self.merge == "learned" and not self.curves:
            raise ValueError("merge: learned needs curves; `recsys tune sources` prints them")
        if self.shares and not any(self.shares.values()) and self.merge != "learned":
            raise ValueError("shares: they sum to zero, so that no source is asked; give one of them more than 0")
        return self


class FilterConfig(Section):
    """What never reaches ranking."""

    seen: bool | Literal["auto"] = "auto"
    """Leave out items that the user was shown before; "auto" does unless, on the validation window, people come back to
    what they had: at least a fifth of the interactions of those who have a history, and of three in ten of them."""
    own: bool = True
    """Leave out the user's own items."""
    blocked: bool = True
    """Leave out authors whom the user blocked or muted."""
    max_age_days: Annotated[float, Field(gt=0, le=36_500)] | Literal["auto"] | None = "auto"
    """Leave out items older than this; null keeps all; "auto" leaves out what is older than 14 days and than nine in
    ten of the latest interactions' items, in data where age matters at all. Items without a date count as always
    fresh."""

    def leaves_out_seen(self, repeats: bool) -> bool:
        """Whether what the user was shown before is left out; repeats: what training found of a dataset."""
        return not repeats if self.seen == "auto" else self.seen


class LightStageConfig(Section):
    """Light ranking."""

    enabled: bool = True
    """Off: sources' own orders are merged by reciprocal rank instead."""
    keep: Length = 500
    """Candidates that go on to heavy ranking."""


class HeavyStageConfig(Section):
    """Heavy ranking."""

    enabled: bool = True
    """Off: the light score is the utility."""
    keep: Length = 100
    """Candidates that go on to re-ranking."""


class SegmentWeights(Section):
    """Weights for users of one kind."""

    attribute: str
    """A column of the users."""
    multiply: dict[str, dict[str, NonNegativeFloat]]
    """Value of the column → action (or dwell) → what the weight is multiplied by."""


class UtilityConfig(Section):
    """Utility: sum of weight × P(positive action) + dwell × E(dwell seconds) − sum of weight × P(negative), times
    the relevance of the candidate to a power."""

    preset: Literal["own", "twitter"] = "own"
    """"own" takes `weights` and `dwell`; "twitter" the weights that Twitter published in April 2023 instead."""
    weights: dict[str, float] = {
        "click": 0.5,
        "like": 1.0,
        "repost": 1.5,
        "reply": 3.0,
        "follow": 4.0,
        "share": 2.0,
        "profile_click": 2.0,
        "long_view": 1.0,
        "favorite": 2.0,
        "purchase": 5.0,
        "hide": 5.0,
        "mute": 10.0,
        "block": 15.0,
        "report": 20.0,
    }
    """Weight of each action; negative actions are subtracted. Actions that a dataset lacks are left out; those that it
    has and that stand not here weigh 0.5 · (1 + ln(count of the commonest positive action ÷ own count)), at most 5,
    negative ones twice as much; `recsys train` prints the weights in use."""
    dwell: float = 0.01
    """Weight of a second of expected dwell time."""
    segments: list[SegmentWeights] = []
    """Weights by an attribute of the user, e.g. {attribute: country, multiply: {de: {reply: 2}}}."""
    personal: str | None = None
    """CSV file of multipliers a user: `user_id` and a column an action (or dwell); an empty cell is 1."""
    relevance: Annotated[float, Field(ge=0, le=100)] | None = None
    """The utility is multiplied by the predicted relevance to this power; 0 ranks by the actions alone, null takes
    what training chose."""


class OrderConfig(Section):
    """What orders the candidates: "chosen" takes what training found best on the validation window; else the name of
    a source, "merge" (reciprocal-rank fusion of the sources), "fusion" (mean of their standardised scores), "light",
    "relevance" or "heavy"."""

    known: str = "chosen"
    """For people with a history."""
    new: str = "chosen"
    """For people without one."""


class DiversityConfig(Section):
    """Caps within a slate."""

    enabled: bool | Literal["auto"] = "auto"
    """Whether to apply the caps; auto keeps them where they cost at most a hundredth of the criterion by which
    training chose the order, and where another cap than the usual is set."""
    max_per_author: PositiveInt | None = 2
    """Items of one author in a slate, or twice the author's share of the catalogue where that is more; null for no
    cap."""
    max_topic_share: Annotated[float, Field(gt=0, le=1)] | None = 0.3
    """Largest share of a slate that may carry the same topic (at least one item), or twice the topic's share of the
    catalogue where that is more; null for no cap."""

    @property
    def stated(self) -> bool:
        """Whether somebody has set a cap: then it holds, whatever it costs."""
        usual = type(self).model_fields
        return any(getattr(self, name) != usual[name].default for name in ("max_per_author", "max_topic_share"))


class PipelineConfig(Section):
    """The pipeline from candidates to a slate."""

    slate_size: Annotated[int, Field(ge=1, le=100_000)] = 10
    """Items a slate unless the caller asks for another number."""
    batch_size: Annotated[int, Field(ge=1, le=65_536)] = 256
    """Users served at once in batch work."""
    sourcing: SourcingConfig = SourcingConfig()
    filters: FilterConfig = FilterConfig()
    light: LightStageConfig = LightStageConfig()
    heavy: HeavyStageConfig = HeavyStageConfig()
    order: OrderConfig = OrderConfig()
    utility: UtilityConfig = UtilityConfig()
    exploration: ExplorationConfig = ExplorationConfig()
    diversity: DiversityConfig = DiversityConfig()
    promoted: PromotedConfig = PromotedConfig()
    safety: SafetyConfig = SafetyConfig()
    reserve: Annotated[int, Field(ge=0, le=100_000)] = 10
    """Further items ranked behind the slate, from which it is refilled where the last checks take some out."""
    stages: dict[str, AddedStage] = {}
    """Further stages by name, each of a `kind` with the settings of that kind: those below, and those that installed
    packages bring."""
    rules: dict[str, BusinessRule] = {}
    """Business rules by name: what happens to items that a condition on attributes holds for."""
    sequence: list[str] = []
    """Names of all stages in the order in which they run; empty takes the usual one, with added stages where stages
    of their kind belong. `recsys recommend --explain` shows the stages of a request."""

    @field_validator("stages", mode="before")
    @classmethod
    def _of_known_kinds(cls, given: object) -> object:
        for entry in given.values() if isinstance(given, dict) else ():
            kind = entry.get("kind") if isinstance(entry, dict) else getattr(entry, "kind", None)
            if kind not in STAGE_KINDS:
                known = did_you_mean(str(kind), STAGE_KINDS, f"known are: {', '.join(STAGE_KINDS)}")
                raise ValueError(f"no kind of stage {kind!r}; {known}")
        return given
