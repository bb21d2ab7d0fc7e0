"""Who follows and who blocked whom."""

from __future__ import annotations

import numpy as np

from recsys_cli.arrays import find_rows, find_sorted, in_rows
from recsys_cli.features import formulas
from recsys_cli.features.edges import author_of_user
from recsys_cli.features.family import Arrays, AsOf, DatasetFacts, FeatureFamily, Served, SnapshotInputs, Values
from recsys_cli.features.request import Request
from recsys_cli.features.rows import known
from recsys_cli.features.spec import Definitions, Feature, Features


class Social(FeatureFamily):
    """Whether user and author follow each other, and how many follow or blocked them."""

    name = "social"

    def define(self, facts: DatasetFacts) -> Definitions:
        def feature(name: str, group: str, place: str, meaning: str, formula: str) -> Feature:
            return Feature(name, group, place, name, meaning, formula)

        if not facts.catalogue.n_authors:
            return
        yield feature("follows_author", "pair", "pair", "the user follows the author", "1 or 0")
        yield feature("author_followers", "author", "item", "followers of the author", "ln(1 + followers)")
        yield feature("user_following", "user", "user", "authors the user follows", "ln(1 + authors)")
        if (facts.catalogue.author_user >= 0).any():
            yield feature("user_followers", "user", "user", "followers of the user", "ln(1 + followers)")
            yield feature("mutual_follow", "pair", "pair", "user and author follow each other", "1 or 0")
            yield feature("follows_user", "pair", "pair", "the author follows the user", "1 or 0")
        if {"block", "mute"} & set(facts.negative):
            yield feature("author_blockers", "author", "item", "users who blocked or muted the author", "ln(1 + users)")
            yield feature("user_blocking", "user", "user", "authors the user blocked or muted", "ln(1 + authors)")

    def compute(self, features: Features, rows: AsOf) -> Values:
        for f in features:
            yield f.name, _value(f.measure, rows)

    def freeze(self, features: Features, inputs: SnapshotInputs) -> Arrays:
        catalogue = inputs.past.catalogue
        return {
            "follows": inputs.past.follows.keys_before(inputs.now), "author_user": catalogue.author_user,
            "author_of_user": author_of_user(catalogue),
        }

    def moves(self, feature: Feature) -> bool:
        return False

    def serve(self, features: Features, request: Request, held: Arrays) -> Served:
        features = [f for f in features if f.place == "pair"]
        if not features:
            return
        users, author, n_authors = request.users, request.author, request.frozen.keys.n_authors
        forth, back = _follows(held["follows"], users[:, None], author, n_authors), None
        for f in features:
            if f.measure != "follows_author" and back is None:
                back = _followed_by(request, held)
            value = {"follows_author": forth, "follows_user": back}.get(f.measure)
            yield f.name, forth & back if value is None else value


def _followed_by(request: Request, held: Arrays) -> np.ndarray:
    """bool[B, K]: whether the items' authors follow the users."""
    author, users = request.author, request.users
    writer = np.where(author >= 0, held["author_user"].take(author, mode="clip"), -1)
    own = np.where(users >= 0, held["author_of_user"].take(users, mode="clip"), -1)
    beside = request.frozen.arrays.get("followees")
    if beside is None:
        return _follows(held["follows"], writer, own[:, None], request.frozen.keys.n_authors)
    return in_rows(beside["followers.offsets"], beside["followers.values"], own, writer)


def _value(measure: str, rows: AsOf) -> np.ndarray:
    past, author, time = rows.past, rows.author(), rows.time
    if measure in ("author_followers", "author_blockers"):
        edges = past.follows if measure == "author_followers" else past.blocks
        return formulas.size(edges.count("author", author, time))
    if measure in ("user_following", "user_blocking"):
        edges = past.follows if measure == "user_following" else past.blocks
        return formulas.size(edges.count("user", rows.user, time))
    own = known(author_of_user(past.catalogue), rows.user, -1)
    if measure == "user_followers":
        return formulas.size(past.follows.count("author", own, time))
    if measure == "follows_author":
        return past.follows.before(rows.user, author, time)
    back = past.follows.before(known(past.catalogue.author_user, author, -1), own, time)
    return back if measure == "follows_user" else past.follows.before(rows.user, author, time) & back


def _follows(held: np.ndarray, users: np.ndarray, authors: np.ndarray, n_authors: int) -> np.ndarray:
    """bool: whether a user follows an author. held: int64 user · n_authors + author, ascending."""
    width = max(n_authors, 1)
    if users.ndim == 2 and users.shape[1] == 1:  # users [B, 1] of whom many authors are asked for
        return find_rows(held, users[:, 0], width, authors) >= 0
    keys = np.where((users >= 0) & (authors >= 0), users.astype(np.int64) * width + authors, -1)
    return find_sorted(held, keys) < len(held)
