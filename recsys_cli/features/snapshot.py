"""Features as of now, for serving: everything counted beforehand, gathered per request.

The values come from the same definitions, counters and formulas as the training table. What depends on a
user or an item alone is kept as a matrix; pairs are found by key and put through the formulas per request.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from recsys_cli.data.catalogue import Catalogue
from recsys_cli.data.log import Log
from recsys_cli.features.before import Before
from recsys_cli.features.circle import Circle
from recsys_cli.features.columns import DATES
from recsys_cli.features.evaluate import Evaluator, same_codes
from recsys_cli.features.families import ItemKeys, family
from recsys_cli.features.overlap import Overlap
from recsys_cli.features.plan import Context, Plan, general_names
from recsys_cli.features.questions import Questions
from recsys_cli.features.sessions import Visits
from recsys_cli.features.social import author_of_user
from recsys_cli.features.spec import Feature, FeatureSpec
from recsys_cli.features.store import PairStore
from recsys_cli.features.tastes import Tastes
from recsys_cli.features.vectors import VECTORS, interest, unit

_KEYS = ("author", "format", "topics")
_SIZES = ("n_users", "n_authors", "n_topics", "n_formats", "n_surfaces")
_ARRAYS = (
    "user_block",
    "item_block",
    "surface_block",
    "everything",
    "user_times",
    "item_created",
    "profile_norm",
    "visit_times",
    "visit_counts",
    "follow_keys",
    "author_user",
    "author_of_user",
    "usual",
)


@dataclass(frozen=True)
class Snapshot:
    """Feature values of every user and item, and counters of every pair that occurred, as of `now`."""

    spec: FeatureSpec
    now: int
    keys: ItemKeys
    stores: dict[str, PairStore]
    """family of pairs → its counters"""
    user_block: np.ndarray
    """float32[n_users + 1, user features], the last row for unknown users"""
    item_block: np.ndarray
    """float32[n_items + 1, item features], likewise"""
    surface_block: np.ndarray
    """float32[n_surfaces + 1, features of the surface]"""
    everything: np.ndarray
    """float32[actions + 4] log-odds over all impressions, see `plan.general_names`"""
    user_times: np.ndarray
    """int64[3, n_users + 1] µs: created, last impression, last interaction; 0 never"""
    item_created: np.ndarray
    """int64[n_items + 1] µs"""
    profile_norm: np.ndarray
    """float32[n_users + 1] length of the user's topic profile"""
    visit_times: np.ndarray
    """int64[3, n_users + 1], see `sessions.Visits`"""
    visit_counts: np.ndarray
    """float32[2, n_users + 1], likewise"""
    follow_keys: np.ndarray
    """int64 user · n_authors + author, ascending"""
    author_user: np.ndarray
    author_of_user: np.ndarray
    usual: np.ndarray
    """int16[2] the commonest surface and device, -1 where the log has none"""
    before: Before | None = None
    """counts of the time before the log, where the dataset tells of it"""
    tastes: Tastes | None = None
    """tastes from that time, likewise"""
    circle: Circle | None = None
    """what people's follows did, where authors are users"""
    same: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    """attribute → codes of users and of items, see `same_codes`, the last of each unknown"""
    vectors: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    """column of items ("item.text") → float32[n_items + 1, D] of length 1, and float32[n_users + 1, D] the sum of
    those of a user's interactions"""
    overlaps: dict[str, Overlap] = field(default_factory=dict)
    """pair of columns → values of users and items"""
    dates: dict[str, np.ndarray] = field(default_factory=dict)
    """column ("user.joined") → int64[n + 1] µs, 0 unknown"""
    usual_more: dict[str, float] = field(default_factory=dict)
    """further column of impressions → its commonest code or mean; -1 or NaN where nothing is known"""
    _cache: dict = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def build(
        cls,
        spec: FeatureSpec,
        catalogue: Catalogue,
        log: Log,
        now: int,
        follows: dict[str, np.ndarray] | None = None,
        blocks: dict[str, np.ndarray] | None = None,
    ) -> Snapshot:
        """From the rows of `log` strictly before `now` (µs) and the edges that `Dataset.edges` gives."""
        evaluator = Evaluator(spec, catalogue, log.window(end=now), follows, blocks)
        every = evaluator.everything(np.array([now], np.int64))

        def block(place: str, n: int, features: list[Feature]) -> np.ndarray:
            who = np.append(np.arange(n, dtype=np.int32), np.int32(-1))
            out = np.zeros((n + 1, len(features)), np.float32)
            evaluator.fill(Questions.at(now, n + 1, **{place: who}), features, out)
            return out

        users = np.append(np.arange(catalogue.n_users), -1)
        mine = evaluator.history("user").view(users, np.int64(now))
        visits = Visits.of(mine, evaluator.column("positive"), evaluator.session_gap)
        sources, log = {f.source for f in spec.features}, evaluator.log
        vectors = {}
        for f in (f for f in spec.features if f.source == VECTORS and f.measure == "match"):
            items = unit(evaluator.vectors(f.argument))
            vectors[f.argument] = items, interest(mine, items, log.item, log.positive)
        norm = (
            np.sqrt(mine.sum(evaluator.column("profile_square")))
            if "user_topic" in spec.sources
            else np.zeros(len(users))
        )
        stores = {
            s: PairStore.build(evaluator, s, [f for f in spec.features if f.source == s], now, visits)
            for s in spec.sources
            if family(s).place in ("pair", "context") and s != "surface"
        }
        return cls(
            spec=spec,
            now=int(now),
            keys=evaluator.keys,
            stores=stores,
            user_block=block("user", catalogue.n_users, [f for f in spec.features if f.place == "user"]),
            item_block=block("item", catalogue.n_items, [f for f in spec.features if f.place == "item"]),
            surface_block=block("surface", spec.n_surfaces, [f for f in spec.features if f.source == "surface"]),
            everything=np.array([every[name][0] for name in general_names(spec) if name in every], np.float32),
            user_times=np.stack(
                [np.append(catalogue.user_created, 0), mine.last(), mine.last(evaluator.column("positive"))]
            ).astype(np.int64),
            item_created=np.append(catalogue.item_created, 0).astype(np.int64),
            profile_norm=norm.astype(np.float32),
            **dict(zip(("visit_times", "visit_counts"), visits.arrays(), strict=True)),
            follow_keys=evaluator.follows.keys_before(now),
            author_user=catalogue.author_user,
            author_of_user=author_of_user(catalogue),
            usual=np.array([_commonest(evaluator.log.surface), _commonest(evaluator.log.device)], np.int16),
            before=evaluator.before,
            tastes=evaluator.tastes,
            circle=evaluator.circle.now(now) if "circle" in sources else None,
            same={
                f.argument: tuple(
                    np.append(codes, missing).astype(np.int32)
                    for codes, missing in zip(same_codes(catalogue, f.argument), (-1, -2), strict=True)
                )
                for f in spec.features
                if f.source == "same"
            },
            vectors=vectors,
            overlaps=evaluator.overlaps,
            dates={
                f"{f.place}.{f.argument}": np.append(getattr(catalogue, f"{f.place}_columns").times[f.argument], 0)
                for f in spec.features
                if f.source == DATES
            },
            usual_more={
                f.argument.partition(".")[2]: _usual(f, log.context.get(f.argument.partition(".")[2]))
                for f in spec.features
                if f.source == "request" and "." in f.argument and f.measure != "missing"
            },
        )

    def to_arrays(self) -> tuple[dict[str, np.ndarray], dict]:
        """For `arrays.save_arrays`."""
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        arrays.update({f"keys/{k}": getattr(self.keys, k) for k in _KEYS})
        for name, store in self.stores.items():
            arrays.update({f"{name}/{k}": getattr(store, k) for k in ("keys", "counts", "last")})
        for side in ("values", "user_values"):
            arrays.update({f"keys/{side}/{k}": v for k, v in getattr(self.keys, side).items()})
        for attribute, (users, items) in self.same.items():
            arrays[f"same/user/{attribute}"], arrays[f"same/item/{attribute}"] = users, items
        for path, (items, interests) in self.vectors.items():
            arrays[f"vectors/items/{path}"], arrays[f"vectors/interests/{path}"] = items, interests
        for argument, overlap in self.overlaps.items():
            arrays.update(overlap.to_arrays(f"overlaps/{argument}"))
        arrays.update({f"dates/{path}": times for path, times in self.dates.items()})
        for part in (self.tastes, self.circle):
            arrays.update({} if part is None else part.to_arrays())
        sizes = {k: int(getattr(self.keys, k)) for k in _SIZES} | {"sizes": self.keys.sizes}
        names = {s: [store.count_names, store.last_names] for s, store in self.stores.items()}
        meta = {"spec": self.spec.to_json(), "now": self.now, "sizes": sizes, "stores": names}
        meta["usual_more"] = {name: None if np.isnan(v) else v for name, v in self.usual_more.items()}
        if self.before is not None:
            more, meta["before"] = self.before.to_arrays()
            arrays.update(more)
        return arrays, meta

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray], meta: dict) -> Snapshot:
        stores = {
            s: PairStore(*(arrays[f"{s}/{k}"] for k in ("keys", "counts", "last")), tuple(counts), tuple(last))
            for s, (counts, last) in meta["stores"].items()
        }

        def under(start: str) -> dict[str, np.ndarray]:
            return {name.removeprefix(start): a for name, a in arrays.items() if name.startswith(start)}

        held = {side: under(f"keys/{side}/") for side in ("values", "user_values")}
        keys = ItemKeys(**{k: arrays[f"keys/{k}"] for k in _KEYS}, **held, **meta["sizes"])
        given = {name: arrays[name] for name in _ARRAYS}
        given["before"] = Before.from_arrays(arrays, meta["before"]) if "before" in meta else None
        given["tastes"] = Tastes.from_arrays(arrays) if under("tastes/") else None
        given["circle"] = Circle.from_arrays(arrays) if under("circle/") else None
        given["same"] = {a: (users, arrays[f"same/item/{a}"]) for a, users in under("same/user/").items()}
        interests = under("vectors/interests/")
        given["vectors"] = {path: (items, interests[path]) for path, items in under("vectors/items/").items()}
        starts = dict.fromkeys(name.rpartition("/")[0] for name in arrays if name.startswith("overlaps/"))
        given["overlaps"] = {start.removeprefix("overlaps/"): Overlap.from_arrays(arrays, start) for start in starts}
        given["dates"] = under("dates/")
        given["usual_more"] = {name: float("nan") if v is None else v for name, v in meta["usual_more"].items()}
        return cls(spec=FeatureSpec.from_json(meta["spec"]), now=meta["now"], keys=keys, stores=stores, **given)

    def features(
        self,
        users: np.ndarray,
        items: np.ndarray,
        context: Context,
        similarities: dict[str, np.ndarray] | None = None,
        columns: tuple[str, ...] | None = None,
    ) -> np.ndarray:
        """float32[B, K, F]: the features of `columns` (None: all of the spec, in its order).

        users: int32[B], -1 unknown. items: int32[B, K], -1 gives a row of zeros. similarities: retriever →
        float32[B, K], 0 where missing. Ages and recencies are as of `context.now`, counts as of the snapshot.
        """
        columns = None if columns is None else tuple(columns)
        plan = self._cache.get(columns)
        if plan is None:
            plan = self._cache[columns] = Plan(self, columns)
        return plan(np.asarray(users), np.asarray(items), context, similarities or {})


def _usual(f: Feature, values: np.ndarray | None) -> float:
    """The commonest value of a category and the mean of a number, NaN where none is known."""
    if f.measure == "category":
        return float(_commonest(values))
    found = np.zeros(0) if values is None else values[np.isfinite(values)]
    if not len(found):
        return float("nan")
    if not f.codes:
        return float(found.mean(dtype=np.float64))
    kinds, counts = np.unique(found, return_counts=True)
    return float(kinds[counts.argmax()])


def _commonest(codes: np.ndarray | None) -> int:
    counts = np.bincount(codes[codes >= 0]) if codes is not None else np.zeros(0)
    return int(counts.argmax()) if len(counts) else -1
