"""What a mapping file may say: which files make which table, and how each of our columns is filled."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, NonNegativeInt, PositiveFloat, PositiveInt, create_model, model_validator

from recsys_cli.config import Section, read_yaml, validate
from recsys_cli.data.schema import COLUMNS, NEGATIVE_ACTIONS, ColumnKind
from recsys_cli.errors import ConfigError

Scalar = bool | int | float | str


def _as_list(value: Any) -> Any:
    return value if isinstance(value, list) or value is None else [value]


def _no_quote(value: Any) -> Any:
    return None if value in ("none", "") else value


def _as_explode(value: Any) -> Any:
    return {"column": value} if isinstance(value, str) else value


def _as_column(value: Any) -> Any:
    return {"column": value} if isinstance(value, str | list) else value


class Column(Section):
    """How one of our columns is filled. `name` alone is short for `{column: name}`."""

    column: Annotated[list[str] | None, BeforeValidator(_as_list)] = None
    """Source column; of several names the first that the file has."""
    compose: list[str] | None = None
    """Source columns that make an id together, where no single one does: their values with bars between them."""
    row_number: bool = False
    """The number of the row in its file as id, where the source has none."""
    value: Scalar | None = None
    """The same value for every row, instead of a source column."""
    optional: bool = False
    """Leave our column out where the file has no such source column, instead of refusing the file."""
    type: ColumnKind | None = None
    """Type of an attribute; by default numbers are recognised, typed files tell it, and all else is a category."""
    missing: Annotated[list[str], BeforeValidator(_as_list)] = []
    """Further spellings of "unknown" in this column."""
    default: Scalar | None = None
    """Stands for the source's value where that is unknown."""
    replace: dict[str, str] = {}
    """Source value → our value, for categories and text."""
    scale: float = 1.0
    """Factor on a number, for example 0.001 from milliseconds to seconds."""
    unit: Literal["s", "ms", "us", "ns"] | None = None
    """Unit of a numeric time since 1970."""
    since: dt.datetime | None = None
    """Moment that a numeric time counts from, instead of 1970."""
    format: str | None = None
    """Form of a written time: "iso", or a pattern such as "%Y-%m-%d %H:%M"."""
    zone: str = "UTC"
    """Time zone of a written time that does not carry its own, for example "Asia/Shanghai"."""
    order: bool = False
    """The number is an order within its user, not a moment: the dataset is marked as having no time. `order: true`
    alone, without a column, says that the rows of the files are in order."""
    separator: str | None = None
    """Separator between the elements of a list or vector."""
    at_least: float | None = None
    """True where the number is this or more."""
    above: float | None = None
    """True where the number is more."""
    at_most: float | None = None
    """True where the number is this or less."""
    below: float | None = None
    """True where the number is less."""
    is_in: Annotated[list[Scalar] | None, BeforeValidator(_as_list)] = None
    """True where the source value is one of these: texts as they are written, numbers and true or false by meaning."""

    @property
    def thresholds(self) -> dict[str, float]:
        """The conditions on a number that make it true; empty where there are none."""
        named = {n: getattr(self, n) for n in ("at_least", "above", "at_most", "below")}
        return {n: v for n, v in named.items() if v is not None}

    @model_validator(mode="after")
    def _one_source(self):
        given = [self.column is not None, self.value is not None, self.compose is not None, self.row_number]
        if sum(given) > 1:
            raise ValueError("give one of `column`, `value`, `compose` and `row_number`")
        if self.thresholds and isinstance(self.default, str):
            raise ValueError("`default` beside a threshold stands for the unknown number: give a number")
        if self.unit and self.format:
            raise ValueError("give `unit` for a number or `format` for a written time, not both")
        if self.since and not self.unit:
            raise ValueError("`since` needs the `unit` of the number")
        if self.zone != "UTC":
            import zoneinfo

            try:
                zoneinfo.ZoneInfo(self.zone)
            except (zoneinfo.ZoneInfoNotFoundError, ValueError):
                raise ValueError(f"no time zone {self.zone!r}") from None
        return self


    @property
    def in_order(self) -> bool:
        """Whether rows are said to be in order, without a column that numbers them."""
        return self.order and self.column is None and self.value is None


class ActionColumn(Column):
    """A Boolean column of `impressions`: one thing that the user did with the item."""

    polarity: Literal["positive", "negative"] | None = None
    """Whether it speaks for or against the item; by default the house knows hide, mute, block and report."""


class Source(Section):
    """Which files, and how they are written."""

    files: Annotated[list[str], BeforeValidator(_as_list)] = []
    """File names or globs below the folder given with --from; .gz and .zst are unpacked on the way."""
    database: str | None = Field(None, alias="from")
    """Address of a database instead of files, such as postgresql://user:${PASSWORD}@host/name or sqlite:///FILE;
    `${NAME}` stands for an environment variable. Needs the extra `sql`."""
    table: str | None = None
    """Table (or SCHEMA.TABLE) of the database that is read whole."""
    query: str | None = None
    """SELECT whose rows are read, instead of a table."""
    optional: bool = False
    """Skip this part where none of its files is there (at least one part of a table must be)."""
    format: Literal["csv", "jsonl", "parquet", "adjacency", "sequences", "grouped"] | None = None
    """Form of the files, by default from their names; Parquet shows in the first bytes. "adjacency": a line is a user
    and then items; "sequences": line n holds the items of user n, oldest first; both give the source columns user,
    item, rank. "grouped": a line `ID:` heads the rows below it and becomes their source column `group`. "jsonl" reads
    a JSON array of objects and lines of Python dictionaries too."""
    separator: str | None = None
    """Between the fields of text files, of one or more characters; by default from the name (comma, tab), in lists of
    ids blanks and tabs."""
    header: bool = True
    """Whether the first line of a CSV names the columns."""
    names: list[str] | None = None
    """Names of the columns where there is no header, or instead of those that it gives."""
    typed_header: bool = False
    """The names in the header carry a type after a colon, as in RecBole's atomic files; it is cut off."""
    encoding: str = "utf-8"
    """Encoding of text files; UTF-16 and byte-order marks are recognised."""
    quote: Annotated[str | None, Field(max_length=1), BeforeValidator(_no_quote)] = '"'
    """Character that encloses fields holding separators or line ends; null or none where quotes mean nothing."""
    escape: Annotated[str | None, Field(min_length=1, max_length=1)] = None
    """Character that takes the next one as it is, such as a backslash before a quote within a field; a backslash is
    recognised where quotes are written in no other way."""
    longest_field: PositiveInt = 100
    """A quoted field over more lines than this, or one whose lines look like rows, is refused with every line."""
    where: dict[str, Annotated[list[Scalar], BeforeValidator(_as_list)]] = {}
    """Only rows whose column holds one of the values, for files that hold several kinds of rows."""
    missing: Annotated[list[str] | None, BeforeValidator(_as_list)] = None
    """Spellings of "unknown" in these files, instead of the mapping's."""

    @model_validator(mode="after")
    def _names(self):
        if bool(self.files) == bool(self.database):
            raise ValueError("give `files`, or `from` for a database")
        if (self.table is None) == (self.query is None) and self.database:
            raise ValueError("`from` needs either `table` or `query`")
        if (self.table or self.query) and not self.database:
            raise ValueError("`table` and `query` need `from`, the address of the database")
        if not self.header and self.names is None and self.format in (None, "csv"):
            raise ValueError("`header: false` needs `names`")
        if self.format == "grouped" and len(self.names or ()) < 2:
            raise ValueError("`format: grouped` needs `names` of two columns or more")
        return self


class Join(Source):
    """A small table whose columns are added to the rows: the author of an item from a file of its own."""

    match: dict[str, str]
    """Our source column → the column of this file that it must equal; the first match counts."""


class Explode(Section):
    """A column of lists of which each element becomes a row; `rank` is then its place, 0 the first."""

    column: str
    """Source column: a list, a text written as a JSON or Python list, or a text with separators."""
    separator: str | None = None
    """Between the elements of a text; by default blanks."""
    label: str | None = None
    """What stands between an element and its label, as "-" in `N3-1`: the label becomes the source column `label`. By
    default recognised where every element ends in -0 or -1; "" keeps elements whole."""


class Part(Source):
    """One part of a table."""

    explode: Annotated[Explode | None, BeforeValidator(_as_explode)] = None
    """A list column of which each element becomes a row. Where elements are objects, `COLUMN.FIELD` maps a field."""
    join: Annotated[list[Join], BeforeValidator(_as_list)] = []
    """Files whose columns are added to these rows."""


ColumnSpec = Annotated[Column, BeforeValidator(_as_column)]


def _columns(table: str):
    """A Section with one field a column of the table, required where the schema requires it."""
    fields: dict[str, Any] = {
        name: (ColumnSpec, ...) if required and name != "timestamp" else (ColumnSpec | None, None)
        for name, (_, required) in COLUMNS[table].items()
    }
    return create_model(f"{table.capitalize()}Columns", __base__=Section, **fields)


def _as_attributes(value: Any) -> Any:
    if value == "all":
        return {"*": {}}
    if isinstance(value, list):
        return {name: {} for name in value}
    if isinstance(value, dict):
        return {
            k: {"type": v} if isinstance(v, str) and v in ColumnKind.__args__ else _as_column(v)
            for k, v in value.items()
        }
    return value


class EntityPart(Part):
    """One part of `users` or `items`."""

    attributes: Annotated[dict[str, Column], BeforeValidator(_as_attributes)] = {}
    """Further columns to keep: `all`, a list of names, or name (or glob) → type or column."""
    leave_out: Annotated[list[str], BeforeValidator(_as_list)] = []
    """Source columns (or globs) that `attributes` must not take."""
    duplicates: Literal["reject", "first"] = "reject"
    """A second row of one id is refused, or the first row silently stands for all."""


UsersPart = create_model("UsersPart", __base__=EntityPart, columns=(_columns("users"), ...))
ItemsPart = create_model("ItemsPart", __base__=EntityPart, columns=(_columns("items"), ...))
HistoryPart = create_model("HistoryPart", __base__=Part, columns=(_columns("history"), ...))
BlocksPart = create_model("BlocksPart", __base__=Part, columns=(_columns("blocks"), ...))


class FollowsPart(Part):
    """One part of `follows`."""

    both_ways: bool = False
    """Each pair is a friendship: it is a follow in both directions."""
    duplicates: Literal["reject", "first"] = "reject"
    """A second row of one edge is refused, or the first row silently stands for all."""
    columns: _columns("follows")  # type: ignore[valid-type]
    """How follower_id, followee_id, created_at and weight are filled."""


class ImpressionsPart(Part):
    """One part of `impressions`."""

    columns: _columns("impressions")  # type: ignore[valid-type]
    """How user_id, item_id, timestamp and the optional columns are filled; without `timestamp` the rows have neither
    time nor an order that means anything."""
    actions: Annotated[dict[str, Annotated[ActionColumn, BeforeValidator(_as_column)]], Field(min_length=1)]
    """Action → how it is told from the row, in the order of reports."""
    attributes: Annotated[dict[str, Column], BeforeValidator(_as_attributes)] = {}
    """Further columns to keep, as in `users`: only what was known before the outcome. They become features where
    `features.columns.impression` names them. A number in a text file needs its type, `float` or `int`."""
    leave_out: Annotated[list[str], BeforeValidator(_as_list)] = []
    """Source columns (or globs) that `attributes` must not take."""
    split: Literal["train", "valid", "test"] | None = None
    """Name of the published part that these rows are, where the source fixes train and test."""


class Mapping(Section):
    """A mapping file."""

    name: str
    """Name of the dataset."""
    users: Annotated[list[UsersPart], BeforeValidator(_as_list)] = []
    """Where users come from; without it they are the users of the impressions."""
    items: Annotated[list[ItemsPart], BeforeValidator(_as_list)] = []
    """Where items come from; without it they are the items of the impressions."""
    impressions: Annotated[list[ImpressionsPart], BeforeValidator(_as_list), Field(min_length=1)]
    """Where the log comes from: one part or a list of parts, read one after the other."""
    follows: Annotated[list[FollowsPart], BeforeValidator(_as_list)] = []
    """Who follows whom."""
    blocks: Annotated[list[BlocksPart], BeforeValidator(_as_list)] = []
    """Who blocks or mutes whom."""
    history: Annotated[list[HistoryPart], BeforeValidator(_as_list)] = []
    """What users did before the log begins, where no time of it is known."""
    missing: Annotated[list[str], BeforeValidator(_as_list)] = [""]
    """Spellings of "unknown" in every text file."""
    user_ids: Literal["auto", "integer", "text"] = "auto"
    """Type of user ids; `auto` takes integers where every row has one in its plain form (7, not 007), else text."""
    item_ids: Literal["auto", "integer", "text"] = "auto"
    """Type of item ids."""
    author_ids: Literal["auto", "integer", "text"] = "auto"
    """Type of author ids."""
    authors_are_users: bool = False
    """Author ids and user ids name the same people."""
    unknown_users: Literal["reject", "add"] = "reject"
    """A row of a user whom `users` does not hold is refused, or the user is added without attributes."""
    unknown_items: Literal["reject", "add"] = "reject"
    """Likewise for items."""
    drop_exact_repeats: bool = False
    """Leave out impressions that equal an earlier one in every column (the summary counts them)."""
    max_reject_share: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Refuse the import where a table loses more than this share of its rows."""
    earliest: dt.date = dt.date(1990, 1, 1)
    """Times before this day are refused: in the wrong unit, almost surely."""
    future_days: PositiveFloat | NonNegativeInt = 1.0
    """Times further ahead of now than this are refused."""

    @property
    def actions(self) -> dict[str, str]:
        """Action → polarity, of the first part; every part must have the same."""
        return {
            name: column.polarity or ("negative" if name in NEGATIVE_ACTIONS else "positive")
            for name, column in self.impressions[0].actions.items()
        }

    def file_names(self) -> list[str]:
        """Names and globs of all files that are read."""
        parts = (part for table in COLUMNS for part in getattr(self, table))
        return list(dict.fromkeys(name for part in parts for name in part.files))

    @model_validator(mode="after")
    def _same_actions(self):
        for part in self.impressions[1:]:
            if list(part.actions) != list(self.impressions[0].actions):
                raise ValueError("every part of `impressions` must give the same actions in the same order")
        if any(part.split for part in self.impressions) and not all(part.split for part in self.impressions):
            raise ValueError("`split` names the part of every file of impressions, or of none")
        for part in self.impressions:
            kinds = {spec.type for spec in part.attributes.values()} & {"list", "timestamp", "vector"}
            if kinds:
                raise ValueError(f"attributes of `impressions` are numbers or categories, none can be a {kinds.pop()}")
        if any(part.both_ways for part in self.follows) and not self.authors_are_users:
            raise ValueError("`both_ways` needs `authors_are_users: true`: friends follow each other")
        taken = set(self.actions) & set(COLUMNS["impressions"])
        if taken:
            raise ValueError(
                f"an action cannot be called {sorted(taken)[0]!r}: impressions have a column of that name"
            )
        return self


def read_mapping(path: str | Path) -> Mapping:
    """Read and check a mapping file; raises ConfigError with file, line and the nearest known key."""
    path = Path(path)
    if not path.is_file():
        raise ConfigError(
            f"no mapping file {path}",
            "configs/import/ holds one a known source; template.yaml explains all keys",
        )
    tree = read_yaml(path)
    try:
        return validate(Mapping, tree, path)
    except ConfigError as error:
        hint = error.hint
        if hint is None or "config schema" in hint:
            hint = "configs/import/template.yaml explains every key"
        raise ConfigError(error.message, hint) from None
