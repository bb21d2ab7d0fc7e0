"""The log told again row by row: every counter is a list of past rows, every formula plain arithmetic."""

from __future__ import annotations

import math

import numpy as np

from recsys_cli.data.catalogue import Catalogue
from recsys_cli.data.encode import hashed_names
from recsys_cli.features.dataset_columns import column_vectors
from recsys_cli.features.spec import Feature, FeatureSpec
from recsys_cli.testing.small_world import AUTHORS, HOUR, ITEMS, TOPICS, USERS, WORDS, SmallWorld

HASHES = dict(zip(hashed_names(WORDS).tolist(), WORDS, strict=True))


def replayed(world: SmallWorld, spec: FeatureSpec, feature: Feature, row: int) -> float:
    """A feature as of one row of the log."""
    log = world.log
    about = (int(a[row]) for a in (log.user, log.item, log.surface, log.device, log.time))
    more = {name: values[row] for name, values in log.context.items()}
    return float(Replay(spec, world.catalogue, log, world.edges).value(feature, *about, more))


def prior_rows(catalogue: Catalogue, spec: FeatureSpec, source: str, user: int, item: int, action: str) -> list[tuple]:
    """The (user, item) rows of an action that share a key, one entry a shared key."""

    def keys(u: int, i: int) -> list:
        author = int(catalogue.item_author[i])
        media, seconds = int(catalogue.item_codes["media_type"][i]), catalogue.item_numbers["duration_seconds"][i]
        length = None if np.isnan(seconds) else sum(edge <= seconds for edge in spec.config.length_edges_seconds)
        topics = catalogue.item_topics[i][: spec.config.max_topics].tolist()
        if source in ("topic", "user_topic"):
            return [(t, u if source == "user_topic" else None) for t in topics]
        return {
            "user": [u], "item": [i], "author": [author] if author >= 0 else [],
            "user_author": [(u, author)] if author >= 0 else [], "user_item": [(u, i)],
            "user_format": [] if media < 0 and length is None else [(u, media, length)],
        }[source]

    mine, rows = set(keys(user, item)), catalogue.before[action]
    return [
        (u, int(i)) for u in range(USERS) for i in rows[u] for _ in range(len(mine & set(keys(u, int(i)))))
    ]


def prior_history(catalogue: Catalogue, spec: FeatureSpec, f, user: int, item: int) -> float:
    liked = {(u, int(i)) for u in range(USERS) for i in catalogue.before["like"][u]}

    def logit(p: float) -> float:
        return math.log(p / (1 - p))

    def rate(source: str) -> float:
        if source == "everything":
            watched = [(u, int(i)) for u in range(USERS) for i in catalogue.before["watch"][u]]
            return logit((sum(r in liked for r in watched) + 1) / (len(watched) + 2))
        parents = {"user_topic": ["user", "topic"], "user_format": ["user"]}.get(source, ["everything"])
        prior = sum(rate(p) for p in parents) - (len(parents) - 1) * rate("everything")
        strength = {"user": 10, "author": 20, "item": 20, "topic": 50, "user_topic": 10, "user_format": 10}[source]
        watched = prior_rows(catalogue, spec, source, user, item, "watch")
        pull = strength / (1 + math.exp(-prior))
        return logit((sum(r in liked for r in watched) + pull) / (len(watched) + strength))

    source = f.key.removeprefix("prior_")
    if f.measure == "count":
        return math.log1p(len(prior_rows(catalogue, spec, source, user, item, f.argument)))
    return rate(source)


def prior_taste(catalogue: Catalogue, spec: FeatureSpec, f: Feature, user: int, item: int) -> float:
    """By a dense singular value decomposition of who did what."""
    rows, dims = catalogue.before[f.argument], spec.config.before_taste_dims
    did = np.zeros((USERS, ITEMS))
    did[rows.rows, rows.values] = 1
    of_user, of_item = (np.maximum(did.sum(axis=a), 1) for a in (1, 0))
    left, strength, right = np.linalg.svd(did / np.sqrt(of_user[:, None] * of_item))
    mine, theirs = left[user, :dims] * strength[:dims], right[:dims, item]
    dot = float(mine @ theirs)
    return dot * math.sqrt(of_item[item]) if f.measure == "dot" else dot / np.linalg.norm(mine) / np.linalg.norm(theirs)


class Replay:
    def __init__(self, spec, catalogue, log, edges):
        self.spec, self.c, self.log, self.edges = spec, catalogue, log, edges

    def keys(self, source, user, item, surface, time) -> list:
        author, topics = int(self.c.item_author[item]), self.c.item_topics[item][: self.spec.config.max_topics].tolist()
        media, seconds = int(self.c.item_codes["media_type"][item]), self.c.item_numbers["duration_seconds"][item]
        length = None if np.isnan(seconds) else sum(edge <= seconds for edge in self.spec.config.length_edges_seconds)
        one = {
            "everything": (),
            "user": user,
            "item": item,
            "author": author if author >= 0 else None,
            "surface": surface if surface >= 0 else None,
            "user_surface": (user, surface) if surface >= 0 else None,
            "item_surface": (item, surface) if surface >= 0 else None,
            "user_author": (user, author) if author >= 0 else None,
            "user_item": (user, item),
            "user_format": None if media < 0 and length is None else (user, media, length),
            "value_media_type": media if media >= 0 else None,
        }
        if ":" in source:
            parts = {
                "user": user, "item": item, "surface": surface, "daypart": time // (4 * HOUR) % 6,
                "item.language": self.c.item_codes["language"][item],
                "user.country": self.c.user_codes["country"][user],
            }
            key = tuple(int(parts[p]) for p in source.split(":"))
            return [] if min(key) < 0 else [key]
        if source in ("topic", "user_topic"):
            return [t if source == "topic" else (user, t) for t in topics]
        return [] if one[source] is None else [one[source]]

    def topics_of(self, item) -> list[int]:
        return self.c.item_topics[item][: self.spec.config.max_topics].tolist()

    def past(self, source, user, item, surface, now) -> list[int]:
        """Rows before `now` that share a key, one entry a shared key, oldest first."""
        mine, out = self.keys(source, user, item, surface, now), []
        for row in range(len(self.log)):
            if self.log.time[row] >= now:
                break
            then = (self.log.user, self.log.item, self.log.surface, self.log.time)
            theirs = self.keys(source, *(int(column[row]) for column in then))
            out += [row] * len(set(mine) & set(theirs))
        return out

    def did(self, action, row) -> bool:
        if action in ("positive", "negative"):
            return any(self.log.actions[a][row] for a in getattr(self.log, f"{action}_actions"))
        return bool(self.log.actions[action][row])

    def rate(self, source, action, *about) -> float:
        """Log-odds."""
        rows = self.past(source, *about)
        parents = {
            "item": ["author"],
            "user_surface": ["user", "surface"],
            "item_surface": ["item", "surface"],
            "user_author": ["user", "author"],
            "user_topic": ["user", "topic"],
            "user_format": ["user"],
            "everything": [],
            "user:item.language": ["user"],
            "user:daypart": ["user"],
            "item:user.country": ["item"],
        }.get(source, ["everything"])
        strength = {
            "everything": 1,
            "user": 10,
            "author": 20,
            "item": 20,
            "topic": 50,
            "surface": 50,
            "user_surface": 10,
            "item_surface": 20,
            "user_author": 5,
            "user_topic": 10,
            "user_format": 10,
            "value_media_type": 30,
        }.get(source, 10)
        prior = sum(self.rate(p, action, *about) for p in parents) if parents else math.log(0.05 / 0.95)
        if len(parents) == 2:
            prior -= self.rate("everything", action, *about)
        p = (sum(self.did(action, r) for r in rows) + strength / (1 + math.exp(-prior))) / (len(rows) + strength)
        p = min(max(p, 1e-5), 1 - 1e-5)
        return math.log(p / (1 - p))

    def mean(self, source, what, *about) -> float:
        def value(row):
            dwell, length = self.log.dwell[row], self.c.item_numbers["duration_seconds"][self.log.item[row]]
            return math.log1p(dwell) if what == "dwell" else min(dwell / length, 3)

        values = [v for r in self.past(source, *about) if not math.isnan(v := value(r))]
        if source == "everything":
            return sum(values) / (len(values) + 1)
        prior = self.mean({"item": "author", "user_surface": "user"}.get(source, "everything"), what, *about)
        return (sum(values) + 10 * prior) / (len(values) + 10)

    def follows(self, user, author, now, action="follow") -> bool:
        if user < 0 or author < 0:
            return False
        told = (self.edges["from"] == user) & (self.edges["to"] == author) & (self.edges["time"] < now)
        acted = self.log.actions[action] & (self.log.user == user) & (self.c.item_author[self.log.item] == author)
        return bool(told.any() or (acted & (self.log.time < now)).any())

    def visit(self, user, now) -> tuple[list[int], list[int]]:
        """Rows of the visit that goes on at a moment, and all rows of the user before it."""
        rows = [r for r in range(len(self.log)) if self.log.user[r] == user and self.log.time[r] < now]
        here, until = [], now
        while rows and until - self.log.time[rows[-1]] <= HOUR // 2:
            until = self.log.time[rows[-1]]
            here.insert(0, rows.pop())
        return here, rows

    def session(self, f, user, now, *about) -> float:
        here, earlier = self.visit(user, now)
        time, positive = self.log.time, sum(self.did("positive", r) for r in here)
        if f.measure == "since_visit":
            minutes = (now - int(time[earlier[-1]])) / 60e6 if earlier else 525_600
            return min(math.log1p(minutes), math.log1p(525_600))
        prior = 1 / (1 + math.exp(-self.rate("user", "positive", user, *about, now)))
        return {
            "session_impressions": math.log1p(len(here)),
            "session_minutes": math.log1p((now - int(time[here[0]])) / 60e6) if here else 0.0,
            "session_positive": (positive + 2 * prior) / (len(here) + 2),
        }[f.measure]

    def works(self, f, author, now) -> float:
        c = self.c
        if f.measure == "author_credibility":
            return self.credibility(author, now // (24 * HOUR) * 24 * HOUR)
        items = [i for i in range(ITEMS) if 0 < c.item_created[i] < now and c.item_author[i] >= 0]
        worst = {i: max(float(s[i]) for s in c.item_safety.values()) for i in items}
        mine = [i for i in items if c.item_author[i] == author]
        if f.measure == "author_posted":
            return math.log1p(sum(c.item_created[i] >= now - f.span for i in mine))
        mean = sum(worst.values()) / max(len(worst), 1)
        return (sum(worst[i] for i in mine) + 5 * mean) / (len(mine) + 5)

    def credibility(self, author, day) -> float:
        """PageRank told by a dense matrix of users and authors."""
        if author < 0:
            return 0.0
        c, log = self.c, self.log
        node = {a: int(u) if (u := c.author_user[a]) >= 0 else USERS + a for a in range(AUTHORS)}
        nodes = sorted({*range(USERS), *node.values()})
        weight = np.zeros((len(nodes), len(nodes)))
        for user in range(USERS):
            for a in range(AUTHORS):
                acted = sum(
                    log.user[r] == user and c.item_author[log.item[r]] == a and self.did("positive", r)
                    for r in range(len(log)) if log.time[r] < day
                )
                weight[nodes.index(user), nodes.index(node[a])] = math.log1p(acted) + self.follows(user, a, day)
        if not weight.any():
            return 0.0
        total = weight.sum(axis=1, keepdims=True)
        step = np.where(total > 0, weight / np.where(total > 0, total, 1), 1 / len(nodes))
        rank = np.full(len(nodes), 1 / len(nodes))
        for _ in range(20):
            rank = 0.85 * rank @ step + 0.15 / len(nodes)
        return math.log(rank[nodes.index(node[author])] * len(nodes))

    def circle(self, f, user, item, author, now) -> float:
        c, log = self.c, self.log
        if f.measure == "social_proof":
            fans = [int(log.user[r]) for r in range(len(log)) if log.time[r] < now and log.item[r] == item
                    and self.did("positive", r)][-8:]
            own = [next((a for a in range(AUTHORS) if c.author_user[a] == u), -1) for u in fans]
            return math.log1p(sum(self.follows(user, a, now) for a in own))
        writer = int(c.author_user[author]) if author >= 0 else -1
        return math.log1p(sum(self.follows(user, a, now) and self.follows(writer, a, now) for a in range(AUTHORS)))

    def overlap(self, f, user, item) -> float:
        mine, theirs = f.argument.split("|")
        if f.measure == "cosine":
            a, b = self.c.user_columns.vectors[mine][user], self.c.item_columns.vectors[theirs][item]
            return 0.0 if np.isnan(a @ b) else float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
        users = self.c.user_columns.lists if mine == "hobbies" else self.c.user_columns.words
        mine = {HASHES[h] for h in users[mine][user].tolist()}
        if theirs == "tags":
            theirs = {HASHES[h] for h in self.c.item_columns.lists["tags"][item].tolist()}
        else:
            theirs = {self.c.names["topics"][t] for t in self.c.item_topics[item]}
        return len(mine & theirs) / max(len(theirs if f.measure == "share" else mine | theirs), 1)

    def value(self, f, user, item, surface, device, now, more=None) -> float:
        about, log = (user, item, surface, now), self.log
        author = int(self.c.item_author[item])
        if f.family == "prior_history":
            return prior_history(self.c, self.spec, f, user, item)
        if f.family == "prior_tastes":
            return prior_taste(self.c, self.spec, f, user, item)
        if f.measure == "rate":
            return self.rate(f.key, f.argument, *about)
        if f.measure in ("dwell", "completion"):
            return self.mean(f.key, f.measure, *about)
        if f.family == "similarity":
            return user * 10 + item
        if f.family == "social":
            writer = int(self.c.author_user[author]) if author >= 0 else -1
            own = next((a for a in range(AUTHORS) if self.c.author_user[a] == user), -1)
            forth, back = self.follows(user, author, now), self.follows(writer, own, now)
            return {
                "follows_author": forth,
                "follows_user": back,
                "mutual_follow": forth and back,
                "author_followers": math.log1p(sum(self.follows(u, author, now) for u in range(USERS))),
                "user_following": math.log1p(sum(self.follows(user, a, now) for a in range(AUTHORS))),
                "author_blockers": math.log1p(sum(self.follows(u, author, now, "mute") for u in range(USERS))),
                "user_blocking": math.log1p(sum(self.follows(user, a, now, "mute") for a in range(AUTHORS))),
                "user_followers": math.log1p(sum(self.follows(u, own, now) for u in range(USERS))),
            }[f.measure]
        if f.family == "sessions":
            return self.session(f, user, now, item, surface)
        if f.family == "author_record":
            return self.works(f, author, now)
        if f.family == "followees":
            return self.circle(f, user, item, author, now)
        if f.family == "same_value":
            names, codes = self.c.names, (self.c.user_codes["language"][user], self.c.item_codes["language"][item])
            return min(codes) >= 0 and names["user.language"][codes[0]] == names["item.language"][codes[1]]
        if f.family == "vectors":
            side = f.argument.partition(".")[0]
            vectors = column_vectors(self.c, f.argument, self.spec.dims[f.argument])
            if f.measure != "match":
                held = vectors[user if side == "user" else item]
                return float(held[f.span] if f.measure == "number" else not held.any())
            vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
            liked = sum(vectors[log.item[r]] for r in self.past("user", *about) if self.did("positive", r))
            return float(liked @ vectors[item] / np.linalg.norm(liked)) if np.any(liked) else 0.0
        if f.family == "overlap":
            return self.overlap(f, user, item)
        if f.family == "lists":
            if f.argument == "text":
                return math.log1p(len(set(self.c.item_text[item].tolist())))
            held = self.c.user_columns if f.place == "user" else self.c.item_columns
            rows = (held.lists | held.words)[f.argument]
            return math.log1p(len(rows[user if f.place == "user" else item]))
        if f.family == "dates":
            held = self.c.user_columns if f.place == "user" else self.c.item_columns
            since = now - int(held.times[f.argument][user if f.place == "user" else item])
            return float(since == now) if f.measure == "missing" else math.log1p(max(since, 0) / HOUR) * (since != now)
        if f.family == "interests":
            liked = [r for r in self.past("user", *about) if self.did("positive", r)]
            liked = [t for r in liked for t in self.topics_of(log.item[r])]
            shares = np.bincount(liked, minlength=TOPICS) / max(len(liked), 1)
            entropy = -sum(p * math.log(p) for p in shares if p)
            return entropy if f.measure == "entropy" else math.log1p(np.count_nonzero(shares))
        if f.family == "ages":
            created = int(self.c.user_created[user] if f.place == "user" else self.c.item_created[item])
            return (
                float(created == 0)
                if f.measure == "missing"
                else math.log1p(max(now - created, 0) / HOUR) * (created != 0)
            )
        if f.family == "clock":
            angle = 2 * math.pi * (now % f.span) / f.span
            return math.sin(angle) if f.measure == "sine" else math.cos(angle)
        if f.family == "request" and f.argument.startswith("impression."):
            value = float(more[f.argument.partition(".")[2]])
            unknown = math.isnan(value)
            if f.measure == "missing":
                return unknown
            return value + (f.kind == "categorical") if not unknown else 0
        if f.family == "request":
            return 1 + (surface if f.argument == "surface" else device)
        if f.family == "attributes":
            of_users = {**self.c.user_numbers, **self.c.user_codes}
            of_items = {**self.c.item_numbers, **self.c.item_codes, **self.c.item_safety}
            values = of_users if f.place == "user" else of_items
            value = values[f.argument][user if f.place == "user" else item]
            unknown = math.isnan(value)
            if f.kind == "categorical":
                return 0 if unknown else 1 + value
            return (
                unknown
                if f.measure == "missing"
                else 0
                if unknown
                else math.log1p(value)
                if f.measure == "log1p"
                else value
            )
        rows = self.past(f.key, *about)
        if f.measure == "shown":
            return math.log1p(len(rows))
        if f.measure in ("since_shown", "since_positive"):
            times = [int(log.time[r]) for r in rows if f.measure == "since_shown" or self.did("positive", r)]
            return min(math.log1p((now - max(times)) / 60e6 if times else 525_600), math.log1p(525_600))
        if f.measure == "window":
            return math.log1p(
                sum(log.time[r] >= now - f.span and (not f.argument or self.did(f.argument, r)) for r in rows)
            )
        if f.measure == "latest":
            rows = rows[-f.span :]
            prior = self.rate("user", f.argument, *about)
            return (sum(self.did(f.argument, r) for r in rows) + 2 / (1 + math.exp(-prior))) / (len(rows) + 2)
        if f.measure == "latest_dwell":
            known = [math.log1p(log.dwell[r]) for r in rows[-f.span :] if not math.isnan(log.dwell[r])]
            return (sum(known) + 2 * self.mean("everything", "dwell", *about)) / (len(known) + 2)
        if f.measure == "burst":
            liked = [r for r in rows if self.did("positive", r)]
            lived = max(now - int(log.time[rows[0]]), 1) if rows else 1
            recent = sum(log.time[r] >= now - f.span for r in liked)
            return math.log((1 + recent) / (1 + len(liked) * min(f.span / lived, 1)))
        if f.measure == "session":
            here = self.visit(user, now)[0]
            return math.log1p(sum(r in here for r in rows))
        if f.measure == "decayed":
            return math.log1p(sum(2 ** (-(now - int(log.time[r])) / f.span) for r in rows if self.did("positive", r)))
        assert f.measure == "match"
        topics = self.c.item_topics[item][: self.spec.config.max_topics].tolist()
        profile = np.zeros(TOPICS)
        for r in self.past("user", *about):
            if self.did("positive", r):
                for t in self.c.item_topics[log.item[r]][: self.spec.config.max_topics]:
                    profile[t] += 1
        norm = np.linalg.norm(profile) * math.sqrt(len(topics))
        return profile[topics].sum() / norm if norm else 0.0
