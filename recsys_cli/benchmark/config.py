"""What the file of a benchmark says: the protocol, the models to run on it, and what others published."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt, model_validator

from recsys_cli.config import Name, Section
from recsys_cli.ranking.registry import HeavyRankerConfig
from recsys_cli.retrieval.ratings import RatingSettings
from recsys_cli.retrieval.registry import RetrieverSettings

RankingMetric = Literal["recall", "precision", "ndcg", "map", "mrr", "hit_rate"]


class HeldOut(Section):
    """Sets of items hidden from each user, to be found among all items that the user has no interaction with."""

    kind: Literal["held_out"] = "held_out"
    train: str = "train.txt"
    """File below the folder: one line a user, the user's id and then item ids; or a line a pair, with anything after
    the user and the item where users stand in several lines of one width (`user item rating`)."""
    test: str = "test.txt"
    """File of the same form with what is to be found."""
    metrics: tuple[RankingMetric, ...] = ("recall", "ndcg")
    """What is reported, the first decides."""
    k: tuple[PositiveInt, ...] = (20,)
    """Lengths of list."""
    validation_share: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of train that is hidden instead of the test file where settings are chosen."""
    validation_from: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Where in each user's list, as a share of its length, the hidden run begins; null hides at random places."""


class NextItem(Section):
    """The last item of each user's sequence, to be found among all items, those seen before included."""

    kind: Literal["next_item"] = "next_item"
    sequences: str = "sequences.txt"
    """File below the folder: line n holds the item ids of user n, oldest first."""
    metrics: tuple[RankingMetric, ...] = ("recall", "ndcg")
    """What is reported, the first decides."""
    k: tuple[PositiveInt, ...] = (1, 10)
    """Lengths of list."""
    validation_users: PositiveInt = 512
    """Users whose last but one item is to be found where settings are chosen."""


class RatingFolds(Section):
    """Ratings hidden fold by fold and predicted from the others."""

    kind: Literal["rating_folds"] = "rating_folds"
    ratings: str = "ml-100k.inter"
    """File below the folder with one rating a line. With a header user, item and rating are found by their names, else
    they are the first three columns."""
    separator: str = "\t"
    """What stands between the columns."""
    header: bool = True
    """Whether the first line names the columns."""
    folds: Annotated[int, Field(ge=2)] = 5
    """Parts into which the ratings are shuffled."""
    scale: tuple[float, float] = (1.0, 5.0)
    """Lowest and highest rating: others are refused, predictions are kept within."""


class Impressions(Section):
    """Impressions of a log after the ones that a ranker learned from: what it foretells of every action."""

    kind: Literal["impressions"] = "impressions"
    mapping: str
    """Mapping of `recsys import-data` that reads the folder; from the place of this file."""
    settings: str | None = None
    """Configuration with the windows, features and sources; from the place of this file."""
    actions: tuple[str, ...] = ()
    """What is reported, the first with its calibration error; all that a ranker predicts where empty."""


Protocol = Annotated[HeldOut | NextItem | RatingFolds | Impressions, Field(discriminator="kind")]


class Published(Section):
    """Figures of somebody else."""

    method: str
    """Name of the method."""
    figures: dict[str, float]
    """Metric → value."""
    source: str
    """Where the figures were published."""


class BenchmarkConfig(Section):
    """One benchmark."""

    name: Name
    """Name of its results below `artifacts/benchmarks`."""
    title: str
    """Heading of the table."""
    protocol: Protocol
    models: dict[str, RetrieverSettings] = {}
    """Sources by name, for protocols that rank."""
    rating_models: dict[str, RatingSettings] = {}
    """Models of ratings by name, for `rating_folds`."""
    rankers: dict[str, HeavyRankerConfig] = {}
    """Heavy rankers by name, for `impressions`."""
    published: tuple[Published, ...] = ()
    """What stands beside our figures."""
    search: dict[str, dict[str, list[Any]]] = {}
    """Model → setting → values that `python -m recsys_cli.benchmark.tune` tries."""

    @model_validator(mode="after")
    def _models_fit_the_protocol(self) -> BenchmarkConfig:
        needed = {"rating_folds": "rating_models", "impressions": "rankers"}.get(self.protocol.kind, "models")
        for name in ("models", "rating_models", "rankers"):
            if bool(getattr(self, name)) != (name == needed):
                raise ValueError(f"{self.protocol.kind} needs {needed}, and no other models")
        return self

    @property
    def contenders(self) -> dict[str, Section]:
        """What is measured, by name."""
        return self.rankers or self.rating_models or self.models
