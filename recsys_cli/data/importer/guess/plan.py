"""A mapping from files: what is in it, why, and what is not sure."""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from recsys_cli.data.importer.guess.database_tables import as_address, look_at_tables
from recsys_cli.data.importer.guess.look import Doubt, look
from recsys_cli.data.importer.guess.names import (
    ACTIONS,
    NEGATIVE,
    PRIVATE,
    SHOWN,
    action_name,
    plain,
    roles_of,
)
from recsys_cli.data.importer.guess.roles import File, rename, roles
from recsys_cli.data.importer.guess.tables import assign, covered
from recsys_cli.data.importer.ids import says_missing
from recsys_cli.errors import DataError, UsageError

NO_DATA = (".md", ".pdf", ".html", ".htm", ".py", ".r", ".sh", ".pl", ".yaml", ".yml", ".png", ".jpg", ".ipynb", ".sql")
_ORDER = list(dict.fromkeys(ACTIONS.values()))
PLAIN_LOG = {
    "position": "position",
    "surface": "surface",
    "device": "device",
    "propensity": "propensity",
    "session_id": "session",
    "request_id": "request",
}


@dataclass
class PartGuess:
    """One part of a table: the keys of the mapping, and comments for some of them."""

    keys: dict[str, Any]
    comments: dict[str, str] = field(default_factory=dict)
    """our column, action or key → why"""


@dataclass
class Guess:
    """What was guessed of some files."""

    name: str
    folder: Path
    keys: dict[str, Any]
    """keys of the whole mapping"""
    tables: dict[str, list[PartGuess]]
    doubts: list[Doubt]
    comments: dict[str, str] = field(default_factory=dict)

    @property
    def sure(self) -> bool:
        """Whether nothing is left that could be wrong without showing."""
        return not any(d.asks for d in self.doubts)

    def mapping(self) -> dict[str, Any]:
        """The mapping as a tree."""
        parts = {t: [p.keys for p in ps] for t, ps in self.tables.items()}
        return {"name": self.name, **self.keys} | {t: p[0] if len(p) == 1 else p for t, p in parts.items()}


def guess(given: list[Path | str]) -> Guess:
    """Guess a mapping of files, of all files in folders, or of the tables of one database by its address.

    Raises DataError where a file is not read, a database refuses or nothing is a log, UsageError where a database
    stands beside anything else.
    """
    databases = [found for g in given if (found := as_address(str(g)))]
    if databases and len(given) > 1:
        raise UsageError("a database is guessed alone", "give its address, or files, and join the mappings by hand")
    doubts: list[Doubt] = []
    if databases:
        address, folder = databases[0]
        looked, doubts = look_at_tables(address, folder)
        files = [(roles(one), []) for one in looked]
        name = re.sub(r"\?.*", "", address).rstrip("/").rpartition("/")[2].rpartition(".")
        name = plain(name[0] or name[2])
    else:
        found = _expand([Path(g) for g in given])
        folder = Path(os.path.commonpath([p.resolve().parent for p in found]))
        files = _grouped([roles(look(path)) for path in found])
        name = plain(folder.name)
    tables = assign([f for f, _ in files])
    names = {id(f): [str(p.resolve().relative_to(folder)) for p in ps] for f, ps in files}
    left = "is left out: neither a log of actions nor a table of the users, items or follows of one"
    doubts += [Doubt(f"{f.name} {left}") for f in tables["none"]]
    out: dict[str, list[PartGuess]] = {}
    keys, comments = _ids(tables, doubts)
    _missing(tables["impressions"], keys, doubts)
    for table in ("users", "items"):
        out[table] = [_entity(f, table, names[id(f)]) for f in tables[table]]
    logs = [_log(f, names[id(f)]) for f in tables["impressions"]]
    if not tables["items"]:
        out["items"] = [part for f in tables["impressions"] if (part := _items_of_log(f, names[id(f)]))]
    _same_actions(logs)
    out["impressions"] = logs
    both_ways = keys.get("authors_are_users", False)
    out["follows"] = [_follows(f, names[id(f)], both_ways) for f in tables["follows"]]
    for f in [f for t, group in tables.items() if t != "none" for f in group]:
        doubts += [Doubt(f"{f.name}: {d.text}", d.key, d.asks) for d in f.doubts]
    return Guess(name or "mine", folder, keys, {t: ps for t, ps in out.items() if ps}, doubts, comments)


def _expand(paths: list[Path]) -> list[Path]:
    found: dict[Path, None] = {}
    for path in paths:
        inside = sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else [path]
        if path.is_dir():
            inside = [p for p in inside if p.suffix.lower() not in NO_DATA and p.name[:1] not in "._"]
            inside = [p for p in inside if not p.name.lower().startswith(("readme", "license"))]
        found |= dict.fromkeys(inside)
    if not found:
        raise DataError(f"no data files in {', '.join(map(str, paths))}", "name CSV, TSV, JSON lines or Parquet files")
    return list(found)


def _grouped(files: list[File]) -> list[tuple[File, list[Path]]]:
    """Files that are written alike and have the same named columns as one."""
    groups: dict[tuple, tuple[File, list[Path]]] = {}
    for n, file in enumerate(files):
        written = repr(sorted((k, v) for k, v in file.looked.source.items() if k != "encoding"))
        same = (tuple(file.profiles), tuple(sorted(file.roles.items())), written, file.looked.file.suffix)
        key = same if file.looked.named and {"user", "item"} <= set(file.roles) and not file.flags else (n,)
        if key in groups and "event" not in file.roles and action_of_file(file) != action_of_file(groups[key][0]):
            key = (n,)
        groups.setdefault(key, (file, []))[1].append(file.looked.file)
    return list(groups.values())


def _ids(tables: dict[str, list[File]], doubts: list[Doubt]) -> tuple[dict[str, Any], dict[str, str]]:
    """Keys of the mapping about ids, with comments."""
    keys: dict[str, Any] = {}
    comments: dict[str, str] = {}
    for table in ("users", "items"):
        if tables[table]:
            keys[f"unknown_{table}"] = "add"
            comments[f"unknown_{table}"] = f"rows of {table} that no file describes are kept"
    users = pl.concat([f.profile_of("user").values.rename("id") for f in tables["impressions"]]).unique()
    authors = [p.values for f in tables["items"] if (p := f.profile_of("author") or f.profile_of("user"))]
    known = [*(f.profile_of("user").values for f in tables["users"]), users]
    same = bool(authors) and covered(authors[0], pl.concat([k.rename("id") for k in known])) > 0.5
    followed = [p.values for f in tables["follows"] if (p := f.profile_of("followee"))]
    by_follows = bool(followed) and covered(followed[0], pl.concat([k.rename("id") for k in known])) > 0.5
    if (by_follows and (same or not authors)) or (same and not followed and _tells(tables)):
        keys["authors_are_users"] = True
        comments["authors_are_users"] = "who is followed, or made an item, is among the users"
    elif followed and not authors:
        doubts.append(
            Doubt("who is followed is neither a user of the log nor an author of an item", "followee_id", True)
        )
    return keys, comments


def _missing(logs: list[File], keys: dict[str, Any], doubts: list[Doubt]) -> None:
    """Words for "unknown" among the ids of the log, and how many rows have none."""
    words: dict[str, None] = {}
    worst = 0.0
    for file in logs:
        for role in ("user", "item"):
            p = file.profile_of(role)
            column = file.looked.frame[p.name].cast(pl.String)
            found = column.to_frame("t").filter(says_missing(pl.col("t")))["t"].unique(maintain_order=True)
            words |= dict.fromkeys(found.to_list())
            worst = max(worst, 1 - p.known / p.rows)
    if any(words):
        keys["missing"] = ["", *(w for w in words if w)]
    if worst > 0.005:
        keys["max_reject_share"] = min(1.0, round(1.5 * worst + 0.01, 2))
        doubts.append(Doubt(f"{worst:.1%} of the rows of the log have no user or item, and are refused", "missing"))


def _tells(tables: dict[str, list[File]]) -> bool:
    """Whether the author of items is named by a column that speaks of users."""
    return any("user" in f.roles for f in tables["items"])


def _source(file: File, names: list[str]) -> dict[str, Any]:
    keys = {"files": names[0] if len(names) == 1 else names} if names else {}
    keys |= file.looked.source
    return keys | ({"explode": file.explode} if file.explode else {})


def _time(file: File, role: str) -> dict[str, Any] | None:
    p = file.profile_of(role)
    return None if p is None or p.time is None else {"column": p.name, **p.time}


def _entity(file: File, table: str, names: list[str]) -> PartGuess:
    """A part of `users` or `items`."""
    role = table.removesuffix("s")
    part = PartGuess(_source(file, names))
    if not file.looked.named:
        words = [c for c, p in file.profiles.items() if p.kind == "words" and p.unique > 0.5 * p.known]
        if table == "items" and words:
            file.roles.setdefault("text", words[0])
        file.roles.pop("name", None)
        rename(file)
        part.keys |= {"names": file.looked.source["names"]}
    p = file.profile_of(role)
    if p.unique < p.known:
        part.keys["duplicates"] = "first"
        part.comments["duplicates"] = "some ids stand in several rows; the first counts"
    columns: dict[str, Any] = {f"{role}_id": p.name}
    taken = {p.name}
    wanted = (
        {"created_at": "created"}
        if table == "users"
        else {
            "author_id": "author",
            "text": "text",
            "topics": "topics",
            "created_at": "created",
            "media_type": "media_type",
            "language": "language",
            "duration_seconds": "duration",
        }
    )
    if table == "items" and "author" not in file.roles and "user" in file.roles:
        file.roles["author"] = file.roles["user"]
    for ours, theirs in wanted.items():
        q = file.profile_of(theirs) or (file.profile_of("time") if theirs == "created" else None)
        if q is None or q.name in taken:
            continue
        taken.add(q.name)
        columns[ours] = _entity_column(ours, q, file, part)
    left_out = [c for c, q in file.profiles.items() if c not in taken and _no_attribute(q)]
    part.keys["columns"] = columns
    if len(file.profiles) > len(taken) + len(left_out):
        part.keys["attributes"] = "all"
        part.comments["attributes"] = "all other columns; models may use them"
        if left_out:
            part.keys["leave_out"] = left_out
            part.comments["leave_out"] = "of no use as attributes: nearly every row has its own, or private"
    return part


def _entity_column(ours: str, q, file: File, part: PartGuess) -> Any:
    if ours == "created_at":
        return {"column": q.name, **q.time}
    if ours == "topics" and q.kind in ("text", "words"):
        separator = _list_separator(q.values)
        if separator:
            part.comments["topics"] = f"a list with {separator!r} between its elements"
            return {"column": q.name, "separator": separator}
    if ours == "duration_seconds" and (plain(q.name).endswith("ms") or q.high > 50_000):
        part.comments["duration_seconds"] = "taken for milliseconds"
        return {"column": q.name, "scale": 0.001}
    return q.name


def _list_separator(values: pl.Series) -> str | None:
    """What stands between the elements of lists written as texts: most values have it, and parts come again."""
    for separator in ("|", ";", ","):
        with_it = values.filter(values.str.contains(separator, literal=True))
        if len(with_it) < max(1 if separator == "|" else 2, 0.02 * len(values)):
            continue
        parts = values.str.split(separator).explode().str.strip_chars()
        if separator == "|" or parts.n_unique() < 0.7 * len(parts):
            return separator
    return None


def _no_attribute(p) -> bool:
    own = p.kind in ("text", "words") and p.unique > max(50, 0.5 * p.known)
    return own or p.kind in ("objects", "record", "empty") or plain(p.name) in PRIVATE or p.name.startswith("unnamed")


def _log(file: File, names: list[str]) -> PartGuess:
    """A part of the log."""
    rename(file)
    part = PartGuess(_source(file, names))
    columns: dict[str, Any] = {"user_id": file.roles["user"], "item_id": file.roles["item"]}
    moment = _time(file, "time")
    if moment is not None:
        columns["timestamp"] = moment
        written = moment.get("format")
        if (
            written
            and "%z" not in written
            and not file.profiles[moment["column"]]
            .values.head(20)
            .str.contains(r"(Z|[+-]\d\d:?\d\d|UTC|GMT)\s*$")
            .all()
            and written != "%Y%m%d"
        ):
            part.comments["timestamp"] = "times without a zone are taken for UTC; else add `zone: Europe/Berlin`"
    elif "order" in file.roles:
        columns["timestamp"] = {"column": file.roles["order"], "order": True}
        part.comments["timestamp"] = "no time, but an order"
    else:
        file.doubts.append(Doubt("no column is a time: recent and old actions count alike", "timestamp"))
    for ours, role in PLAIN_LOG.items():
        p = file.profile_of(role)
        if p is not None and p.name not in (columns["user_id"], columns["item_id"]):
            columns[ours] = p.name
    dwell = file.profile_of("dwell")
    if dwell is not None and dwell.low is not None and dwell.low >= 0:
        thousandth = plain(dwell.name).endswith("ms") or dwell.high > 100_000
        columns["dwell_seconds"] = {"column": dwell.name, "scale": 0.001} if thousandth else dwell.name
        if thousandth:
            part.comments["dwell_seconds"] = "taken for milliseconds"
    part.keys |= {"columns": columns, "actions": _actions(file, part)}
    return part


def _items_of_log(file: File, names: list[str]) -> PartGuess | None:
    """Items from the log itself, where it says what they are called."""
    text = file.profile_of("name") or file.profile_of("text")
    item = file.roles["item"]
    if text is None or file.explode or text.name == item or not file.depends(text.name, item):
        return None
    keys = _source(file, names) | {"duplicates": "first", "columns": {"item_id": item, "text": text.name}}
    return PartGuess(keys, {"duplicates": "the log names an item in every one of its rows"})


def action_of_file(file: File) -> str:
    """The action that the name of a log speaks of, "" where it speaks of none."""
    words = [plain(w) for w in file.name.partition(".")[0].replace("-", "_").split("_")]
    words = [w if w in ACTIONS else w.removesuffix("s") for w in words]
    return next((action_name(w) for w in words if w in ACTIONS and ACTIONS[w] != "undone"), "")


def _actions(file: File, part: PartGuess) -> dict[str, Any]:
    """What the user did, from events, truth values, ratings or counts, in this order."""
    actions: dict[str, Any] = {}
    event = file.profile_of("event")
    if event is not None:
        actions |= _of_events(file, event, part)
    for column in [*([file.roles["label"]] if "label" in file.roles else []), *file.flags]:
        name = "click" if column == file.roles.get("label") else action_name(column)
        actions[name] = {"column": column} | ({"polarity": "negative"} if name in ("dislike", "skip") else {})
    rating = file.profile_of("rating")
    if rating is not None:
        actions |= _of_ratings(file, rating, part)
    count = file.profile_of("count")
    if not actions and count is not None:
        name = action_name(count.name) if plain(count.name) in ACTIONS else "play"
        actions[name] = {"column": count.name, "above": 0}
        part.comments[name] = "a higher number counts only the more who are really fond: {at_least: …}"
    if not actions:
        name = action_of_file(file) or "click"
        actions[name] = {"value": True}
        part.comments[name] = "every row is one; what was shown and not chosen is not in the file"
        unused = [c for c, p in file.profiles.items() if p.kind == "bool" and c not in file.roles.values()]
        if unused:
            file.doubts.append(Doubt(f"is {unused[0]} what the user did? every row counts as a {name}", name, True))
    return actions


def _of_events(file: File, event, part: PartGuess) -> dict[str, Any]:
    actions: dict[str, Any] = {}
    values = event.values.to_list()
    shown = [v for v in values if plain(v) in SHOWN]
    unknown = []
    for value in values:
        if value in shown and len(values) > len(shown):
            continue
        if plain(value) not in ACTIONS and value not in shown:
            unknown.append(value)
        name = action_name(value)
        name = f"{plain(event.name)}_{name}" if name.isdigit() else name
        entry = actions.setdefault(name, {"column": event.name, "is_in": []})
        entry["is_in"].append(value)
        if ACTIONS.get(plain(value)) in NEGATIVE and name not in ("hide", "mute", "block", "report"):
            entry["polarity"] = "negative"
    if shown and len(values) > len(shown):
        file.doubts.append(Doubt(f"{', '.join(shown)} says that an item was shown, and no more", "actions"))
    if unknown:
        asks = any(v.strip().lstrip("-").isdigit() for v in unknown)
        shown_values = ", ".join(map(repr, unknown[:6]))
        told = f"what {shown_values} of {event.name} mean is not known: each speaks for the item here"
        file.doubts.append(Doubt(told, "actions", asks))
    return actions


def _of_ratings(file: File, rating, part: PartGuess) -> dict[str, Any]:
    low, high = rating.low, rating.high
    if low < 0:
        return {
            "like": {"column": rating.name, "above": 0},
            "dislike": {"column": rating.name, "below": 0, "polarity": "negative"},
        }
    if high <= 1:
        return {"like": {"column": rating.name, "above": 0.5 if rating.unique > 2 else 0}}
    bound = math.ceil(0.75 * high)
    zero = "; 0 may mean that none was given" if low == 0 and high >= 5 else ""
    part.comments["like"] = f"ratings run from {low:g} to {high:g}; below {bound} is seen, yet not liked{zero}"
    return {"like": {"column": rating.name, "at_least": bound}}


def _same_actions(logs: list[PartGuess]) -> None:
    """Every part gives the same actions in the same order; what a part cannot have is false."""
    names = list(dict.fromkeys(a for part in logs for a in part.keys["actions"]))
    polarity = {a: s["polarity"] for part in logs for a, s in part.keys["actions"].items() if "polarity" in s}
    against = [*polarity, *NEGATIVE]
    names.sort(key=lambda a: (a in against, _ORDER.index(a) if a in _ORDER else len(_ORDER)))
    for part in logs:
        own = part.keys["actions"]
        part.keys["actions"] = {
            a: own.get(a, {"value": False} | ({"polarity": polarity[a]} if a in polarity else {})) for a in names
        }


def _follows(file: File, names: list[str], people: bool) -> PartGuess:
    file.roles = {r: c for r, c in file.roles.items() if r in ("follower", "followee", "time", "count")}
    rename(file)
    columns: dict[str, Any] = {"follower_id": file.roles["follower"], "followee_id": file.roles["followee"]}
    moment = _time(file, "time")
    if moment:
        columns["created_at"] = moment
    count = file.profile_of("count")
    if count is not None and count.low >= 0 and roles_of(count.name):
        columns["weight"] = count.name
    part = PartGuess(_source(file, names))
    frame = file.looked.frame.select(columns["follower_id"], columns["followee_id"]).cast(pl.String)
    if frame.n_unique() < frame.height:
        part.keys["duplicates"] = "first"
        part.comments["duplicates"] = "some edges stand in several rows"
    swapped = frame.select(columns["followee_id"], columns["follower_id"])
    swapped.columns = frame.columns
    both = swapped.join(frame, on=frame.columns, how="semi").height
    friends = "friend" in file.name.lower() or "friend" in str(columns["followee_id"]).lower()
    if friends and people and both < 0.5 * frame.height:
        part.keys["both_ways"] = True
        part.comments["both_ways"] = "the file speaks of friends, and holds each pair once"
    part.keys["columns"] = columns
    return part
