"""What a dataset folder holds: tables, columns, actions and the manifest.

A dataset is a folder of Parquet tables with a `dataset.json`. A table is one file `NAME.parquet` or a
folder `NAME/part-*.parquet` read as one. Ids are strings or integers, whatever the owner uses; inside
the program they are int32 positions in a vocabulary: the row order of `users.parquet` and `items.parquet`.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

SCHEMA_VERSION = 1

POSITIVE_ACTIONS = (
    "click", "like", "repost", "reply", "follow", "share", "profile_click", "long_view", "favorite", "purchase",
)
NEGATIVE_ACTIONS = ("hide", "mute", "block", "report")
"""Words of the house for what a user does with an item; a dataset may bring others in its manifest."""

MICROSECONDS = {"s": 1_000_000, "ms": 1_000, "us": 1, "ns": 1e-3}
SECOND, MINUTE, HOUR, DAY = 1_000_000, 60_000_000, 3_600_000_000, 86_400_000_000
"""Lengths of time in the unit of every timestamp in the program: int64 microseconds since 1970 in UTC."""

ColumnKind = Literal["id", "timestamp", "bool", "float", "int", "text", "list", "category", "vector"]

COLUMNS: dict[str, dict[str, tuple[ColumnKind, bool]]] = {
    "users": {"user_id": ("id", True), "created_at": ("timestamp", False)},
    "items": {
        "item_id": ("id", True), "author_id": ("id", False), "created_at": ("timestamp", False),
        "text": ("text", False), "topics": ("list", False), "media_type": ("category", False),
        "language": ("category", False), "duration_seconds": ("float", False),
        "toxicity": ("float", False), "nsfw": ("float", False), "spam": ("float", False),
        "misinformation": ("float", False),
    },
    "impressions": {
        "user_id": ("id", True), "item_id": ("id", True), "timestamp": ("timestamp", True),
        "request_id": ("id", False), "session_id": ("id", False), "position": ("int", False),
        "surface": ("category", False), "device": ("category", False), "source": ("category", False),
        "propensity": ("float", False), "dwell_seconds": ("float", False), "split": ("category", False),
    },
    "follows": {
        "follower_id": ("id", True), "followee_id": ("id", True), "created_at": ("timestamp", False),
        "weight": ("float", False),
    },
    "history": {
        "user_id": ("id", True), "item_id": ("id", True), "action": ("category", True), "rank": ("int", True),
    },
    "blocks": {
        "user_id": ("id", True), "author_id": ("id", True), "created_at": ("timestamp", False),
        "kind": ("category", False),
    },
}
"""Table → column → (kind, required). `users` and `items` may carry any further attribute; each action of
the manifest is one further Boolean column of `impressions`, and those of other names are what was known of an
impression before its outcome: numbers, Booleans or text. In `items`, `toxicity`, `nsfw`, `spam` and
`misinformation` are observed safety labels or scores in [0, 1]. In `blocks`, `kind` is "block" or "mute".
`history` holds what people did before the log begins where no time of it is known: a user's items per action,
`rank` 0 for the oldest.
Timestamps are stored as Parquet timestamp[us, UTC]; Booleans never hold null."""

PARTS = ("train", "valid", "test")
"""Names of the parts that a source may be published in, the values of the column `split` of `impressions`."""

SAFETY_COLUMNS = ("toxicity", "nsfw", "spam", "misinformation")


class Action(BaseModel):
    """One thing a user can do with an item that was shown."""

    model_config = ConfigDict(extra="forbid", defer_build=True)
    polarity: Literal["positive", "negative"] = "positive"
    count: int = 0
    """How many impressions carry it."""


class TableInfo(BaseModel):
    """One table as it was written."""

    model_config = ConfigDict(extra="forbid", defer_build=True)
    rows: int
    digest: str
    """Of the table's content, independent of files, shards and (for `impressions`) row order."""
    columns: dict[str, str]
    """Column name → Arrow type."""


class DatasetManifest(BaseModel):
    """`dataset.json`."""

    model_config = ConfigDict(extra="forbid", defer_build=True)
    schema_version: int = SCHEMA_VERSION
    name: str
    origin: dict = Field(default_factory=dict)
    """Where it came from: the generator's configuration and seed, or the mapping and its files."""
    tables: dict[str, TableInfo]
    actions: dict[str, Action]
    """In the order in which reports show them."""
    time_span: tuple[int, int] | None = None
    """First and last impression in µs; None where the source has no time (order stands in for it)."""
    has_time: bool = True
    """False where timestamps are only the order of the rows."""
    has_order: bool = True
    """Whether the order of a user's rows means something: moments, or an order that the source gives. False for
    plain rows of a file, and for datasets without time of before this was kept."""
    negatives_observed: bool = True
    """False where every impression carries a positive action, so non-engagement was never seen."""
    authors_are_users: bool = False
    """Whether author ids and user ids are the same people."""
    splits: dict[str, tuple[int, int]] | None = None
    """Spans in µs, [start, end), of the parts train, valid and test where the source fixes them. Spans may overlap;
    the column `split` of `impressions` tells of each row."""
    digest: str = ""
    """Of all tables together: two datasets with the same digest hold the same rows."""

    @property
    def events(self) -> int:
        """Offset up to which events of a server's log are among the rows (`import-data --events`); 0 for none."""
        return int(self.origin.get("offset", 0)) if self.origin.get("kind") == "events" else 0

    @model_validator(mode="before")
    @classmethod
    def _order_of_older_datasets(cls, data: Any) -> Any:
        if isinstance(data, dict) and "has_order" not in data:
            return {**data, "has_order": data.get("has_time", True)}
        return data
