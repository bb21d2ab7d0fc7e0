"""Which file is which table: the log, its users and items, and who follows whom."""

from __future__ import annotations

import polars as pl

from recsys_cli.data.importer.guess.look import Doubt
from recsys_cli.data.importer.guess.names import plain
from recsys_cli.data.importer.guess.roles import File, by_place
from recsys_cli.errors import DataError

NAMELESS = ("id", "key", "code", "name", "row", "index", "nr", "number", "no")
"""Names of a column of ids that do not say whose."""


def assign(files: list[File]) -> dict[str, list[File]]:
    """Table → its files; "none" for those that are left out. Raises DataError where no file is a log."""
    out: dict[str, list[File]] = {t: [] for t in ("impressions", "users", "items", "follows", "none")}
    scores = {id(f): _log_score(f) for f in files}
    likely = [f for f in files if scores[id(f)] >= 2 and not _is_follows(f) and not _is_catalogue(f, files)]
    if not likely:
        likely = [f for f in files if scores[id(f)] >= 1.5 and not _is_follows(f) and not _is_catalogue(f, files)]
        likely = sorted(likely, key=lambda f: -scores[id(f)])[:1]
    if not likely:
        likely = [f for f in files if f.looked.named and not _is_follows(f) and not f.explode and by_place(f)][:1]
    if not likely:
        columns = "; ".join(f"{f.name}: {', '.join(list(f.profiles)[:8])}" for f in files[:3])
        raise DataError(
            f"no log among the files: none has a column of users and one of items ({columns})",
            "name the file that says who did what, or copy configs/import/template.yaml and say which columns they are",
        )
    strong = [f for f in likely if any(r in f.roles for r in ("rating", "event", "label")) or f.flags]
    if strong and len(strong) < len(likely):
        # beside a log that says what was done, words that somebody gave an item are no log, nor are lists without times
        likely = [f for f in likely if f in strong or not ("topics" in f.roles or f.explode)]
    out["impressions"] = likely
    users = _distinct(likely, "user")
    items = _distinct(likely, "item")
    for file in files:
        if file not in likely:
            out[_other(file, users, items)].append(file)
    if out["items"]:
        # what describes the items has settled which column they are
        for doubt in (d for f in likely for d in f.doubts if d.key == "item_id"):
            doubt.asks = False
    return out


def _log_score(file: File) -> float:
    if "user" not in file.roles or "item" not in file.roles:
        return 0
    score = 2.0 if file.looked.named else 1.5
    score += 1.0 * any(r in file.roles for r in ("time", "rating", "event", "count", "label")) + 0.5 * bool(file.flags)
    if file.table_by_name in ("users", "items", "follows"):
        score -= 1.0
    return score


def _is_follows(file: File) -> bool:
    roles = file.roles
    if "followee" in roles and ("follower" in roles or "user" in roles) and "item" not in roles:
        return True
    pair = len(file.profiles) <= 4 and "user" in roles and "item" in roles and not file.looked.named
    return pair and file.table_by_name == "follows"


def _is_catalogue(file: File, files: list[File]) -> bool:
    """Whether a file describes items, though it names a user (their author) too."""
    item = file.profile_of("item")
    if item is None or not item.distinct or len(files) == 1:
        return False
    named = file.table_by_name == "items"
    others = [f for f in files if f is not file and "user" in f.roles and "item" in f.roles]
    return bool(others) and (named or "text" in file.roles or not file.looked.named) and file.table_by_name != "log"


def _distinct(files: list[File], role: str) -> pl.Series:
    return pl.concat([f.profile_of(role).values.rename("id") for f in files]).unique()


def alike(one: pl.Series, other: pl.Series) -> float:
    """Share of the ids of either that both have."""
    both = int(one.is_in(other.implode()).sum())
    return both / max(len(one) + len(other) - both, 1)


def covered(ids: pl.Series, by: pl.Series) -> float:
    """Share of some ids that others hold."""
    return float(ids.is_in(by.implode()).mean() or 0) if len(ids) else 0.0


def _other(file: File, users: pl.Series, items: pl.Series) -> str:
    """The table of a file that is no log; its roles get the id that tells it."""
    if _is_follows(file):
        if "followee" not in file.roles:
            file.roles["followee"] = file.roles.pop("item")
        file.roles.setdefault("follower", file.roles.get("user", ""))
        return "follows"
    found: dict[tuple[str, str], float] = {}
    for column, p in file.profiles.items():
        if not p.distinct or p.kind not in ("integer", "text", "words"):
            continue
        for table, role, ids in (("users", "user", users), ("items", "item", items)):
            share = alike(p.values, ids) + 0.5 * covered(ids, p.values)
            # whole numbers meet by chance: a name of the file or the column must say that they are these
            said = file.roles.get(role) == column or file.table_by_name == table or plain(column) in NAMELESS
            if share > 0.05 and (said or not file.looked.named or p.kind != "integer"):
                by_role = 1.0 * (file.looked.named and file.roles.get(role) == column)
                found[table, column] = share + by_role + 0.6 * (file.table_by_name == table)
    if not found:
        return "none"
    (table, column), _ = max(found.items(), key=lambda kv: kv[1])
    role = table.removesuffix("s")
    rivals = [c for (t, c) in found if t != table and found[t, c] > 0.8 * found[table, column]]
    if rivals:
        told = (
            f"{file.name} is taken for {table}, yet its ids are those of {'items' if role == 'user' else 'users'} too"
        )
        file.doubts.append(Doubt(told, role + "_id", asks=file.table_by_name != table))
    if not file.looked.named:
        # what user and item of a log would be is nothing of the kind in a table of things
        file.roles = {r: c for r, c in file.roles.items() if r in ("time", "name")}
        file.doubts = [d for d in file.doubts if d.key in ("encoding", "header", "names")]
    file.roles[role] = column
    return table
