"""What requests and answers of the server hold; the OpenAPI document is made of the same."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

Id = str | int
"""Of a user or an item, as the owner of the data writes it; 7 and "7" name the same."""


class Ask(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """What a request for recommendations may say."""

    n: Annotated[int, Meta(ge=1)] | None = None
    """items wanted"""
    surface: str | None = None
    device: str | None = None
    context: dict[str, str | int | float] = {}
    """further columns of impressions that are features"""
    exclude: list[Id] = []
    """items that must not be shown"""
    topics: list[str] = []
    """only items with one of these topics"""
    explain: bool = False
    """with predictions and the reason of each item"""
    variants: dict[str, str] = {}
    """experiment → variant that is to answer (role admin); nobody counts as exposed by it"""
    pipeline: dict[str, Any] = {}
    """settings of the pipeline that differ for this request alone (role admin)"""


class RankAsk(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Candidates of the caller, to be put into order."""

    items: Annotated[list[Id], Meta(min_length=1, max_length=1_000)]
    surface: str | None = None
    device: str | None = None
    context: dict[str, str | int | float] = {}
    explain: bool = False


class SessionAsk(Ask, forbid_unknown_fields=True, omit_defaults=True):
    """Recommendations for somebody without an id."""

    items: Annotated[list[Id], Meta(max_length=200)] = []
    """what they engaged with, oldest first"""


class Creative(msgspec.Struct):
    """Which of an item's titles or pictures is to be shown."""

    number: int
    """from 1, in the order of the item's own"""
    text: str
    propensity: float
    """probability with which it was chosen"""


class Item(msgspec.Struct, omit_defaults=True):
    """One item of an answer."""

    item_id: Id
    rank: int
    """from 1"""
    score: float | None = None
    author_id: Id | None = None
    title: str | None = None
    sources: list[str] = []
    """what proposed it"""
    explored: bool = False
    """drawn at random"""
    interstitial: list[str] = []
    """rules of the safety policy that want a notice before it"""
    predictions: dict[str, float] = {}
    """action → probability, dwell_seconds → expected seconds"""
    reason: str | None = None
    creative: Creative | None = None
    """what to show of it, where it has several"""


class Slate(msgspec.Struct, omit_defaults=True):
    """An answer with items."""

    request_id: str
    """to be sent along with the events that follow"""
    run_id: str | None
    items: list[Item]
    user_id: Id | None = None
    fallback: str | None = None
    """why the list is not the person's own: "unknown user", "no history", "too few candidates", "pool_pending" """
    next: str | None = None
    """path of the items that follow"""
    arms: dict[str, str] = {}
    """experiment → variant that answered"""
    notes: list[str] = []


class Near(msgspec.Struct, omit_defaults=True):
    """One of the nearest items or users."""

    id: Id
    score: float
    title: str | None = None
    interactions: int = 0


class Nearest(msgspec.Struct, omit_defaults=True):
    """Items like an item, or users like a user."""

    id: Id
    source: str
    """the source that measured"""
    nearest: list[Near]


class Explained(msgspec.Struct, omit_defaults=True):
    """Why somebody is, or is not, shown an item."""

    user_id: Id
    item_id: Id
    run_id: str | None
    score: float | None = None
    rank: int | None = None
    """in the pool of the user now; None where it is not among them"""
    pool: int = 0
    """candidates in that pool"""
    hidden_by: list[str] = []
    """what keeps it from being shown"""
    sources: list[str] = []
    predictions: dict[str, float] = {}
    reason: str | None = None


class Features(msgspec.Struct):
    """Features of a user and an item as the rankers see them."""

    user_id: Id
    item_id: Id
    run_id: str | None
    now: int
    """moment of the counts, µs since 1970 UTC"""
    features: dict[str, float | None]


class Person(msgspec.Struct, omit_defaults=True):
    """What is known of a user."""

    user_id: Id
    known: bool
    """whether the run knows the user"""
    attributes: dict[str, Any] = {}
    follows: list[Id] = []
    blocks: list[Id] = []
    history: list[Id] = []
    """items engaged with, latest first, at most 50"""


class Thing(msgspec.Struct, omit_defaults=True):
    """What is known of an item."""

    item_id: Id
    known: bool
    """whether the run knows the item"""
    attributes: dict[str, Any] = {}
    interactions: int = 0
    impressions: int = 0


class Attributes(msgspec.Struct, omit_defaults=True):
    """Attributes of a user or an item, as columns of the tables."""

    attributes: dict[str, Any] = {}


class Done(msgspec.Struct, omit_defaults=True):
    """That something was written to the log and counts from now on."""

    accepted: int
    rejected: list[dict[str, Any]] = []
    duplicates: int = 0
    erased: dict[str, int] = {}


class RunInfo(msgspec.Struct, omit_defaults=True):
    """One run."""

    id: str
    created_at: str = ""
    current: bool = False
    served: bool = False


class Runs(msgspec.Struct):
    """The runs of the server's artifacts, oldest first."""

    runs: list[RunInfo]


class Switched(msgspec.Struct):
    """Which run is served now."""

    run_id: str
    before: str | None


class ExperimentInfo(msgspec.Struct):
    """An experiment that was started."""

    name: str
    version: int
    state: str
    """running or stopped"""
    day: int
    days: int
    """days that it is to last"""
    variants: list[str]
    served: bool
    """whether this server answers by its variants"""
    primary: str
    """the metric that decides"""
    started_at: str
    stopped_at: str | None = None


class ExperimentList(msgspec.Struct, omit_defaults=True):
    """The experiments, by name."""

    experiments: list[ExperimentInfo]
    troubles: list[str] = []
    """why some that run are not served"""


class Reason(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Why something is done, for its log."""

    reason: str = ""


class Health(msgspec.Struct, omit_defaults=True):
    """Whether the server lives, or is ready."""

    status: str
    run_id: str | None = None
    reasons: list[str] = []
    """what is not as it should be"""


class Problem(msgspec.Struct, omit_defaults=True):
    """What was wrong with a request, or with the server."""

    error: str
    """a word for programs"""
    message: str
    hint: str | None = None
