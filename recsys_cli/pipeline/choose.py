"""Nothing that does not pay: which order of the candidates makes the best lists on the validation window.

Compared are every source alone, their merge, their fusion even and weighted, the light ranker, the relevance ranker,
and the heavy ranker's utility times the relevance to several powers. The criterion is NDCG@10 of what users turned to;
where the log tells with which probability it showed each item, the self-normalised inverse-propensity estimate of how
many of the ten would have been interacted with. Among orders that are within noise of the best the simplest is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from recsys_cli.features.context import Context
from recsys_cli.metrics import list_ndcg
from recsys_cli.pipeline.candidates import Candidates
from recsys_cli.pipeline.order import FUSION, HEAVY, LIGHT, MERGE, RELEVANCE, WEIGHTED, Order
from recsys_cli.pipeline.query import Query
from recsys_cli.pipeline.request_features import RANK
from recsys_cli.pipeline.requests import Asked, Kept, Moment, ask
from recsys_cli.pipeline.scoring import HeavyRanking, LightRanking, RelevanceRanking, Utility, with_relevance
from recsys_cli.pipeline.selection import Caps
from recsys_cli.pipeline.utility import multipliers

if TYPE_CHECKING:
    from recsys_cli.pipeline.bundle import Bundle
    from recsys_cli.pipeline.config import PipelineConfig

K = 10
"""Length of the lists that are compared."""
DEPTH = 50
"""Length to which they are kept, so that caps can reach down."""
POWERS = (0.0, 0.5, 1.0, 2.0)
"""Powers of the relevance that multiply the utility."""
FEW_USERS = 20
"""Users with something to find, with fewer of whom nothing is chosen."""
RESAMPLES = 400
NOISE = 0.5
"""Standard errors of the paired difference to the best within which a simpler order is as good."""
NAMED = "the settings name it"
"""Why an order is taken that nobody had to choose."""
ABSENT = "and this run has none: the next simpler order takes its place"
CAPS_MAY_COST = 0.01
"""Share of the criterion that caps may cost and be kept."""


@dataclass
class Lists:
    """The first DEPTH items of each order for the users of a moment."""

    users: np.ndarray
    known: np.ndarray
    """bool[U]: who has a history"""
    items: dict[str, np.ndarray] = field(default_factory=dict)
    """order → int32[U, DEPTH], -1 filling"""

    def put(self, name: str, rows: slice, candidates: Candidates, scores: np.ndarray) -> None:
        out = self.items.setdefault(name, np.full((len(self.users), DEPTH), -1, np.int32))
        best = candidates.with_scores(order=scores).best("order", DEPTH).items
        out[rows, : best.shape[1]] = best


def name_of(order: str, exponent: float) -> str:
    """How an order is called in reports."""
    return f"heavy × relevance^{exponent:g}" if order == HEAVY and exponent else order


def every_order(
    bundle: Bundle, config: PipelineConfig, moment: Moment, seed: int, threads: int = 1, kept: Kept | None = None
) -> Lists:
    """The lists that every order makes for the users of a moment; kept: see `requests.ask`."""
    lists = Lists(moment.users, moment.state.history.lengths[moment.users] > 0)

    def score(asked: Asked) -> None:
        rows, query, found = asked
        for name, candidates, scores in _scored(bundle, config, query, found):
            lists.put(name, rows, candidates, scores)

    for _ in ask(bundle, config, moment, seed, score, threads, kept):
        pass
    return lists


def with_caps(bundle: Bundle, config: PipelineConfig, moment: Moment, items: np.ndarray, seed: int) -> np.ndarray:
    """Lists int32[U, DEPTH] of a moment's users after the caps of a slate of K."""
    query = Query(
        users=moment.users, size=K, bundle=bundle, state=moment.state, snapshot=moment.snapshot,
        context=Context(now=moment.state.now), seed=seed,
    )
    return Caps(config.diversity, 0)(query, Candidates(items, np.zeros(items.shape, np.uint32))).items


Scored = Iterator[tuple[str, Candidates, np.ndarray]]
"""(order, candidates, their scores float32[B, K]), one order after the other"""


def _scored(bundle: Bundle, config: PipelineConfig, query: Query, found: Candidates) -> Scored:
    """(order, candidates, scores float32[B, K]) of every order."""
    utility = Utility(
        config.utility, config.heavy, multipliers(config.utility, bundle), proposed=bundle.proposed_weights
    )
    for name in bundle.proposing:
        if RANK + name in found.scores:
            yield name, found, utility.by(query, found, name)
    yield MERGE, found, utility.by(query, found, MERGE)
    yield FUSION, found, utility.by(query, found, FUSION)
    if bundle.fusion:
        yield WEIGHTED, found, utility.by(query, found, WEIGHTED)
    if bundle.light is None and bundle.relevance is None and bundle.heavy is None:
        return
    cut = LightRanking(config.light, Order(LIGHT, LIGHT))(query, found)
    if bundle.light is not None and config.light.enabled:
        yield LIGHT, cut, cut.scores["light"]
    if bundle.relevance is not None:
        cut = RelevanceRanking()(query, cut)
        yield RELEVANCE, cut, cut.scores["relevance"]
    if bundle.heavy is None or not config.heavy.enabled:
        return
    cut = HeavyRanking(config.heavy)(query, cut)
    worth, given = utility.by(query, cut, HEAVY), config.utility.relevance
    powers = POWERS if given is None else (given,)
    for power in powers if bundle.relevance is not None else (0.0,):
        yield name_of(HEAVY, power), cut, with_relevance(worth, cut.scores.get("relevance"), power)


Criterion = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""int32[U, DEPTH] lists → numerators and denominators float64[U], whose sums' ratio is the figure."""


def ndcg_criterion(moment: Moment) -> Criterion:
    """NDCG@K of each user; its denominators are one."""

    def measure(items: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return list_ndcg(items, moment.wanted, K), np.ones(len(items))

    return measure


def choose(
    measured: dict[str, tuple[np.ndarray, np.ndarray]], known: np.ndarray, told: str, *, seed: int,
    wanted: str = "auto", fallback: str = "popularity",
) -> tuple[Order, dict[str, Any]]:
    """The order to take for known and for new users, and the account of it: figures of every order with their paired
    difference to the best, and why it was taken.

    measured: order → what the criterion gives for its lists. known: bool[U], who has a history. told: the criterion in
    words. wanted: "auto", or the order that the settings name. fallback: what orders the lists of new people where the
    window has too few of them.
    """
    chosen: dict[str, dict[str, Any]] = {}
    for side, mine in (("known", known), ("new", ~known)):
        parts = {name: (above[mine], below[mine]) for name, (above, below) in measured.items()}
        default = FUSION if side == "known" else fallback
        chosen[side] = _choose_side(parts, int(mine.sum()), seed, wanted, default)
    known_order, new_order = (chosen[side]["chosen"].partition(" ")[0] for side in ("known", "new"))
    # one power serves both: that of the known, who make most requests
    leading = chosen["known" if known_order == HEAVY else "new"]["chosen"]
    order = Order(known_order, new_order, exponent=float(leading.partition("^")[2] or 0))
    return order, {"criterion": told, **chosen}


def caps_pay(criterion: Criterion, plain: np.ndarray, capped: np.ndarray) -> dict[str, Any]:
    """What the caps of the slate cost of the criterion: figures before and after, and whether they are kept.

    They are, unless they cost more than CAPS_MAY_COST of it: few people must not let a dear cap pass as noise.
    noise: standard error of the difference.
    """
    parts = [criterion(items) for items in (plain, capped)]
    before, after = (_ratio(*part) for part in parts)
    drawn = np.random.default_rng(0).multinomial(len(plain), np.full(len(plain), 1 / len(plain)), RESAMPLES)
    samples = [(drawn @ above) / np.maximum(drawn @ below, 1e-12) for above, below in parts]
    noise = float((samples[0] - samples[1]).std())
    return {
        "before": before, "after": after, "noise": noise,
        "kept": bool(before - after <= before * CAPS_MAY_COST),
    }


def _ratio(above: np.ndarray, below: np.ndarray) -> float:
    return float(above.sum() / below.sum()) if below.sum() > 0 else 0.0


def _choose_side(
    parts: dict[str, tuple[np.ndarray, np.ndarray]], users: int, seed: int, wanted: str, default: str
) -> dict[str, Any]:
    """The account of one group of users; see `choose`."""
    there = {name.partition(" ")[0] for name in parts}
    named = NAMED if wanted in there or not there else f"{NAMED}, {ABSENT}"
    if users < FEW_USERS:
        chosen = default if wanted == "auto" else wanted
        why = named if wanted != "auto" else f"{users} such users in the validation window: too few to choose by"
        return {"chosen": chosen, "why": why, "users": users, "figures": {}}
    drawn = np.random.default_rng(seed).multinomial(users, np.full(users, 1 / users), RESAMPLES)
    figures = {name: _ratio(*part) for name, part in parts.items()}
    samples = {
        name: (drawn @ above) / np.maximum(drawn @ below, 1e-12) for name, (above, below) in parts.items()
    }
    best = max(figures, key=figures.__getitem__)
    table = {}
    for name, value in sorted(figures.items(), key=lambda pair: -pair[1]):
        low, high = np.quantile(samples[name], [0.025, 0.975])
        gap = samples[name] - samples[best]
        table[name] = {
            "value": value, "low": float(low), "high": float(high), "to_best": value - figures[best],
            "noise": float(gap.std()),
        }
    within = [n for n, row in table.items() if -row["to_best"] <= NOISE * row["noise"]]
    simplest = min(within, key=lambda n: (_complexity(n), -figures[n]))
    if wanted != "auto":
        return {"chosen": wanted, "why": named, "best": best, "users": users, "figures": table}
    why = "it is the best" if simplest == best else f"the simplest within noise of the best ({best})"
    return {"chosen": simplest, "why": why, "best": best, "users": users, "figures": table}


def _complexity(name: str) -> int:
    """How much has to be fitted, kept and asked for an order."""
    kind = name.partition(" ")[0]
    order = (MERGE, FUSION, WEIGHTED, LIGHT, RELEVANCE, HEAVY)
    return order.index(kind) + 1 if kind in order else 0

