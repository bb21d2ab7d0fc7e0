"""What the columns of a file are for: by their names where it has names, by what they hold where it has none."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import orjson
import polars as pl

from recsys_cli.data.importer.guess.look import Doubt, Looked
from recsys_cli.data.importer.guess.names import ACTIONS, place_of, plain, roles_of, table_of
from recsys_cli.data.importer.guess.profile import Profile, looks_labelled, profile
from recsys_cli.data.importer.lists import exploded
from recsys_cli.data.importer.mapping import Explode

NUMERIC = ("integer", "decimal")
IDS = ("integer", "text", "words", "bool", "decimal")
FITS: dict[str, tuple[str, ...]] = {
    "user": IDS,
    "session": IDS,
    "item": IDS,
    "artist": IDS,
    "author": IDS,
    "follower": IDS,
    "followee": IDS,
    "request": IDS,
    "time": ("time",),
    "created": ("time",),
    "rating": NUMERIC,
    "count": NUMERIC,
    "dwell": NUMERIC,
    "duration": NUMERIC,
    "position": ("integer",),
    "propensity": NUMERIC,
    "event": ("text", "words", "integer", "bool"),
    "text": ("text", "words"),
    "topics": ("text", "words", "list", "integer"),
    "language": ("text",),
    "media_type": ("text",),
    "surface": ("text", "integer"),
    "device": ("text", "words", "integer"),
}
"""Role → kinds of column that can have it."""
MOST_EVENTS = 30


@dataclass
class File:
    """A file with the roles of its columns."""

    looked: Looked
    profiles: dict[str, Profile]
    roles: dict[str, str] = field(default_factory=dict)
    """role → source column"""
    doubts: list[Doubt] = field(default_factory=list)
    explode: dict[str, Any] | None = None

    @property
    def name(self) -> str:
        return self.looked.file.name

    @cached_property
    def table_by_name(self) -> str | None:
        return table_of(self.name)

    def profile_of(self, role: str) -> Profile | None:
        return self.profiles.get(self.roles.get(role, ""))

    @property
    def flags(self) -> list[str]:
        """Columns of truth values whose names are those of actions."""
        taken = set(self.roles.values())
        return [
            c
            for c, p in self.profiles.items()
            if c not in taken
            and plain(c) in ACTIONS
            and p.unique <= 2
            and (p.kind == "bool" or (p.kind == "integer" and p.low >= 0 and p.high <= 1))
        ]

    def depends(self, column: str, on: str) -> bool:
        """Whether hardly any value of `on` has two values of `column`, as a name beside an id."""
        frame = self.looked.frame.select(on, column).drop_nulls()
        return frame.n_unique() <= 1.02 * frame[on].n_unique() + 1


def roles(looked: Looked) -> File:
    """The roles of a file's columns."""
    file = File(looked, {c: profile(looked.frame[c]) for c in looked.frame.columns}, doubts=list(looked.doubts))
    if looked.source.get("format") in ("adjacency", "sequences"):
        file.roles = {"user": "user", "item": "item"}
        if looked.source["format"] == "sequences":
            file.roles["order"] = "rank"
        return file
    if not looked.named:
        _unfold_labels(file)
        _by_content(file)
        return file
    _by_name(file)
    if "item" not in file.roles and ("user" in file.roles or "session" in file.roles):
        _unfold(file)
    return file


def _by_name(file: File) -> None:
    found: dict[str, list[str]] = {}
    for column, p in file.profiles.items():
        for role in roles_of(column):
            if p.kind in FITS[role] and not (role == "event" and p.unique > MOST_EVENTS):
                found.setdefault(role, []).append(column)
    if "user" not in found and "session" in found:
        found["user"] = found["session"]
        file.doubts.append(Doubt(f"no column names a user: each {found['user'][0]} is taken for one", "user_id"))
    if "session" in found and found["user"] != found["session"]:
        user, session = (file.profiles[found[r][0]] for r in ("user", "session"))
        if user.known < 0.9 * user.rows and session.known > 0.9 * session.rows:
            share = 1 - user.known / user.rows
            told = f"{user.name} is missing in {share:.0%} of the rows: each {session.name} is taken for a user"
            file.doubts.append(Doubt(told, "user_id"))
            found["user"] = found["session"]
    if "item" not in found and "artist" in found and "user" in found:
        found["item"] = found["artist"]
    for role, columns in found.items():
        best = _best(role, columns, file)
        file.roles[role] = best
        others = [c for c in columns if c != best and not file.depends(c, best) and not file.depends(best, c)]
        if role in ("user", "item") and others:
            key = f"{role}_id"
            file.doubts.append(Doubt(f"{best} is taken for the {role}; {', '.join(others)} could be it too", key, True))
    if "time" not in file.roles:
        times = [c for c, p in file.profiles.items() if p.kind == "time"]
        if times:
            file.roles["time"] = times[0]
            file.doubts.append(Doubt(f"{times[0]} is taken for the time by what it holds", "timestamp"))
    for column in list(file.roles.values()):
        file.doubts += [d for d in file.profiles[column].doubts if d not in file.doubts]


def _best(role: str, columns: list[str], file: File) -> str:
    """Of several columns of a role the one to take: a name that says no more than it, ids before names."""

    def rank(column: str) -> tuple:
        if role == "time":
            written = file.profiles[column].time.get("format", "iso")
            days = not file.profiles[column].values.head(20).str.contains(r"\d[T ]\d|\d:\d").any()
            return "unit" not in file.profiles[column].time, days and written != "iso", roles_of(column)[:1] != [role]
        names = plain(column.rpartition(".")[2])
        exact = names in (role, f"{role}id", "parentasin")
        first = roles_of(column)[:1] == [role]
        words = role in ("user", "item") and file.profiles[column].kind == "words"
        return not exact, not first, words, not names.endswith("id"), place_of(column, role)

    return min(columns, key=rank)


def _unfold(file: File) -> None:
    """Find the items within a column of lists: objects, labelled texts or plain lists."""
    frame = file.looked.frame
    for column, p in file.profiles.items():
        if column in file.roles.values():
            continue
        if p.kind == "objects":
            fields = _fields(frame[column])
            _explode(file, column, {}, {f"{column}.{name}" for name in fields})
        elif p.kind == "list" or (p.kind == "words" and looks_labelled(frame[column])):
            label = {"label": "-"} if looks_labelled(frame[column]) else {}
            _explode(file, column, {"separator": " ", **label} if label else {}, {column})
        else:
            continue
        return


def _unfold_labels(file: File) -> None:
    """A column of labelled items in a file without names."""
    for column in file.looked.frame.columns:
        if looks_labelled(file.looked.frame[column]):
            _explode(file, column, {"separator": " ", "label": "-"}, {column})
            return


def _fields(column: pl.Series) -> list[str]:
    """Names of the fields of the objects in a column of lists."""
    names: dict[str, None] = {}
    for value in column.drop_nulls().head(200).to_list():
        elements = orjson.loads(value) if isinstance(value, str) else value
        for element in elements if isinstance(elements, list) else [elements]:
            element = orjson.loads(element) if isinstance(element, str) else element
            names |= dict.fromkeys(element) if isinstance(element, dict) else {}
    return list(names)


def _explode(file: File, column: str, how: dict[str, Any], wanted: set[str]) -> None:
    file.explode = {"column": column, **how}
    frame, _ = exploded(file.looked.frame, Explode(**file.explode), file.name, wanted, {})
    file.looked.frame = frame
    file.profiles = {c: profile(frame[c]) for c in frame.columns}
    if not file.looked.named:
        return
    file.roles, file.doubts = {}, list(file.looked.doubts)
    _by_name(file)
    file.roles = {r: c for r, c in file.roles.items() if c != "rank"}
    if "rank" in frame.columns:
        file.roles["position" if how.get("label") else "order"] = "rank"
    if "item" not in file.roles and column in frame.columns:
        file.roles["item"] = column
    file.doubts.append(Doubt(f"each element of {column} becomes a row", "explode"))


def _by_content(file: File) -> None:
    """Roles of the columns of a file without names: the user stands before the item, as in nearly every such file."""
    profiles = file.profiles
    time = next((c for c, p in profiles.items() if p.kind == "time"), None)
    if time:
        file.roles["time"] = time
        file.doubts += profiles[time].doubts
    unfolded = file.explode["column"] if file.explode else None
    used = {time, "rank", "label", unfolded}
    ids = [c for c, p in profiles.items() if p.kind in ("integer", "text", "words") and c not in used and p.known]
    if unfolded:
        numbered = profiles[ids[0]].kind == "integer" and len(ids) > 1
        if numbered:
            file.roles["request"] = ids[0]
        file.roles |= {"user": ids[1 if numbered else 0], "item": unfolded, "position": "rank", "label": "label"}
        file.doubts.append(Doubt(f"{file.roles['user']} is taken for the user by its place", "user_id"))
        return
    if len(ids) > 2 and _numbers_rows(file, ids[0]):
        ids = ids[1:]
    ids = [c for c in ids if profiles[c].unique > 1] or ids
    if ids:
        file.roles["id"] = ids[0]
    if len(ids) < 2:
        return
    user, item, *others = ids
    file.roles |= {"user": user, "item": item}
    for column in [*others, *(c for c, p in profiles.items() if p.kind == "decimal")]:
        _further(file, column, item)
    if "event" in file.roles and file.roles.pop("rating", None):
        file.doubts = [d for d in file.doubts if d.key != "rating"]
    flags = [c for c, p in profiles.items() if p.kind == "bool" and c not in used]
    if flags and "event" not in file.roles:
        file.roles["label"] = flags[0]
    file.doubts.append(Doubt(f"{user} is taken for the user and {item} for the item, since they come first", "user_id"))


def by_place(file: File) -> bool:
    """Take the first two columns that can be ids for user and item, where names say nothing; whether there are two."""
    roles, doubts = file.roles, file.doubts
    file.roles, file.doubts = {}, []
    _by_content(file)
    user, item = file.profile_of("user"), file.profile_of("item")
    found = user is not None and item is not None and not user.distinct and item.kind != "words"
    if found:
        told = (
            f"the names of the columns say nothing: is {file.roles['user']} the user and {file.roles['item']} the item?"
        )
        file.roles = {**file.roles, **{r: c for r, c in roles.items() if c not in file.roles.values()}}
        file.doubts = [*doubts, Doubt(told, "user_id", True)]
    else:
        file.roles, file.doubts = roles, doubts
    return found


def _numbers_rows(file: File, column: str) -> bool:
    """Whether a column of whole numbers counts the rows."""
    p = file.profiles[column]
    if p.kind != "integer" or not p.distinct:
        return False
    return bool(file.looked.frame[column].cast(pl.Int64, strict=False).is_sorted())


def _are_events(p: Profile) -> bool:
    """Whether the values of a column are things that people do."""
    return p.unique <= MOST_EVENTS and any(plain(v) in ACTIONS for v in p.values.to_list())


def _further(file: File, column: str, item: str) -> None:
    """The role of a column behind user and item."""
    p, roles = file.profiles[column], file.roles
    if p.kind in NUMERIC and "rating" not in roles and 3 <= p.unique <= 21 and p.low >= -1 and 1 < p.high <= 100:
        roles["rating"] = column
        file.doubts.append(Doubt(f"{column} is taken for a rating of {p.low:g} to {p.high:g}", "rating"))
    elif p.kind == "text" and "event" not in roles and _are_events(p):
        roles["event"] = column
        file.doubts.append(Doubt(f"{column} is taken for what the user did", "event"))
    elif p.kind in ("text", "words") and file.depends(column, item):
        roles["name"] = column
    elif p.kind == "integer" and p.unique > 2 and "count" not in roles and "time" not in roles:
        roles["count"] = column
        file.doubts.append(Doubt(f"{column} is taken for how often", "count"))
    elif p.kind in ("integer", "text", "words"):
        file.doubts.append(Doubt(f"{item} is taken for the item; {column} could be it too", "item_id", True))


def rename(file: File) -> None:
    """Names that say what a column is taken for, in a file that gives none."""
    if file.looked.named:
        return
    given = file.looked.source["names"]
    names: dict[str, str] = {}
    for role, c in file.roles.items():
        if c in given and role != "id":
            names.setdefault(c, {"time": "timestamp"}.get(role, role))
    file.looked.source["names"] = [names.get(c, c) for c in given]
    file.looked.frame = file.looked.frame.rename({c: n for c, n in names.items() if c in file.looked.frame.columns})
    file.profiles = {names.get(c, c): p for c, p in file.profiles.items()}
    for name, p in file.profiles.items():
        p.name = name
    file.roles = {role: names.get(c, c) for role, c in file.roles.items()}
    if file.explode:
        file.explode = {**file.explode, "column": names.get(file.explode["column"], file.explode["column"])}
