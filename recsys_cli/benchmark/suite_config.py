"""What the file of a suite says: several tasks on public data, each with what is measured on it."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from recsys_cli.benchmark.config import Published, RankingMetric
from recsys_cli.config import Name, Section
from recsys_cli.retrieval.registry import RetrieverSettings

Share = Annotated[float, Field(gt=0, lt=1)]


class Table(Section):
    """Interactions as lines of a text file with a header."""

    form: Literal["table"] = "table"
    file: str
    """File below the folder."""
    separator: str = "\t"
    """What stands between the columns."""
    user: str
    """Column of the user; what follows a colon in a header, as in RecBole's files, is cut off."""
    item: str
    """Column of the item."""
    time: str | None = None
    """Column of seconds since 1970; rows are put in its order, those of one moment stay as they are."""
    rating: str | None = None
    """Column of the rating, for `at_least`."""
    at_least: float | None = None
    """Only rows of this rating or more are interactions."""
    least_users: PositiveInt = 1
    """Items with fewer rows are left out."""
    follows: str | None = None
    """File with a header and the columns follower and followee, in this order."""


class Sequences(Section):
    """Interactions as one line a user, oldest first; users are numbered from 1."""

    form: Literal["sequences"] = "sequences"
    file: str
    """File below the folder."""


class Adjacency(Section):
    """Interactions as published for training and for measuring: one line a user, the user's id and then item ids."""

    form: Literal["adjacency"] = "adjacency"
    train: str = "train.txt"
    """File below the folder."""
    test: str = "test.txt"
    """File of what is to be found."""


class RandomRows(Section):
    """A share of all rows, drawn evenly, is to be found."""

    kind: Literal["random_rows"] = "random_rows"
    share: Share = 0.2
    seed: NonNegativeInt = 0
    """Seed of the draw."""


class LastShare(Section):
    """The last rows of each user, a share of them rounded down, are to be found."""

    kind: Literal["last_share"] = "last_share"
    share: Share = 0.2


class LastRows(Section):
    """So many of the last rows of each user are to be found."""

    kind: Literal["last_rows"] = "last_rows"
    rows: PositiveInt = 1


class Given(Section):
    """The split is that of the files."""

    kind: Literal["given"] = "given"


SplitSettings = Annotated[RandomRows | LastShare | LastRows | Given, Field(discriminator="kind")]
DataSettings = Annotated[Table | Sequences | Adjacency, Field(discriminator="form")]


class Task(Section):
    """What every task has."""

    title: str = ""
    """Heading of its table."""
    metrics: Annotated[tuple[RankingMetric, ...], Field(min_length=1)] = ("ndcg", "recall")
    """What is reported, the first decides."""
    k: PositiveInt = 10
    """Length of list."""
    goal: dict[str, float] = {}
    """Row, or `best part` → the figure of the first metric to reach (`row: metric` for another); `funnel over best
    part` → that ratio."""
    published: tuple[Published, ...] = ()
    """What others measured by the same protocol."""


class ListTaskSettings(Task):
    """Interactions hidden from each user and to be found among all that the user has none with."""

    data: DataSettings
    split: SplitSettings

    @model_validator(mode="after")
    def _split_fits(self) -> ListTaskSettings:
        if (self.data.form == "adjacency") != (self.split.kind == "given"):
            raise ValueError("data of the form adjacency are split as given, and no others are")
        if self.split.kind in ("last_share", "last_rows") and isinstance(self.data, Table) and not self.data.time:
            raise ValueError("the last rows of a user need data.time")
        return self


class FunnelTask(ListTaskSettings):
    """The whole product: imported, trained and asked for everybody, beside its parts and its peers."""

    kind: Literal["funnel"] = "funnel"
    settings: dict[str, Any] = {}
    """Settings of the training that differ from the defaults."""
    peers: tuple[str, ...] | None = None
    """Those of the suite's peers that are measured; null takes all."""


class SourcesTask(ListTaskSettings):
    """Every model of the suite alone, its settings chosen on a part of what may be learned from."""

    kind: Literal["sources"] = "sources"
    models: tuple[str, ...] | None = None
    """Those of the suite's models that are measured; null takes all."""
    tuning_seconds: NonNegativeFloat = 60.0
    """Time for trying other settings of a model; weights of histories are always chosen."""


class WindowsTask(Task):
    """The whole product on windows of its own choice: trained, and measured as `recsys evaluate` does."""

    kind: Literal["windows"] = "windows"
    mapping: str | None = None
    """Mapping of `recsys import-data` that reads the folder, from the place of this file; null generates the world."""
    folder: str = "."
    """Folder of the files below that of the suite."""
    actions: dict[str, dict[str, Any]] | None = None
    """Actions in place of those of the mapping."""
    config: str | None = None
    """Configuration file of the training, from the place of this file."""
    settings: dict[str, Any] = {}
    """Settings laid over it."""


TaskSettings = Annotated[FunnelTask | SourcesTask | WindowsTask, Field(discriminator="kind")]


class ImplicitAls(Section):
    """Alternating least squares as the library implicit fits it (Hu, Koren and Volinsky, ICDM 2008)."""

    kind: Literal["implicit_als"] = "implicit_als"
    renamed: ClassVar[dict[str, str]] = {"factors": "dim", "regularisation": "l2", "iterations": "epochs"}
    dim: PositiveInt = 128
    l2: NonNegativeFloat = 20.0
    alpha: PositiveFloat = 5.0
    epochs: PositiveInt = 15


class ImplicitNeighbours(Section):
    """Item neighbours as the library implicit fits them."""

    kind: Literal["implicit_neighbours"] = "implicit_neighbours"
    similarity: Literal["cosine", "bm25", "tfidf"] = "cosine"
    neighbours: PositiveInt = 100
    """Neighbours kept of an item."""


class LambdaRank(Section):
    """LightGBM's LambdaRank (Burges, 2010) on the product's own candidates, with places and scores of every source:
    learned on a part of what may be learned from, with the sources fitted on the rest."""

    kind: Literal["lambdarank"] = "lambdarank"
    share: Share = 0.2
    """Part of each user's rows that is learned to be found: the last where there is an order, else drawn."""
    leaves: Annotated[int, Field(ge=2)] = 15
    rounds: PositiveInt = 150
    learning_rate: PositiveFloat = 0.05
    least_rows: PositiveInt = 50
    """Rows of a leaf."""
    rows: PositiveInt = 1_500_000
    """Candidates to learn from, at most."""


class OwnEnvironment(Section):
    """A program in a virtual environment of its own, made at the first use and kept."""

    kind: Literal["own_environment"] = "own_environment"
    packages: tuple[str, ...] = ()
    """What is installed there with pip."""
    script: str
    """Python file, from the place of the suite's: called with the training rows as CSV (user, item and, where there is
    an order, time in seconds), a file with one user a line, the length of list and the JSON file to write, an object
    with `lists` (user → items, best first), `fit_seconds`, `rank_seconds` and `peak_memory_mib`; then `arguments`."""
    arguments: tuple[str, ...] = ()
    """What the script is given besides, such as which of its models."""
    environment: Name | None = None
    """Name of the environment, which peers with the same packages may share; null takes that of the peer."""


PeerSettings = Annotated[ImplicitAls | ImplicitNeighbours | LambdaRank | OwnEnvironment, Field(discriminator="kind")]


class SuiteConfig(Section):
    """Several tasks whose tables one command prints."""

    name: Name
    """Name of its results below `artifacts/benchmarks`."""
    title: str
    """Heading of all."""
    tasks: Annotated[dict[str, TaskSettings], Field(min_length=1)]
    """Tasks by name."""
    peers: dict[str, PeerSettings] = {}
    """Other systems by name, for tasks of the kind funnel."""
    models: dict[str, RetrieverSettings] = {}
    """Sources by name, for tasks of the kind sources."""
    resamples: Annotated[int, Field(ge=100)] = 1000
    """Bootstrap resamples of users for the intervals."""

    @model_validator(mode="after")
    def _names_are_there(self) -> SuiteConfig:
        for name, task in self.tasks.items():
            for side in ("peers", "models"):
                known = getattr(self, side)
                for wanted in getattr(task, side, None) or ():
                    if wanted not in known:
                        raise ValueError(f"task {name!r} names {wanted!r}, which is none of {side}")
        return self
