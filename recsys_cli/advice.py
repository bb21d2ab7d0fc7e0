"""Which model for my data? The known decision tree, and what this program does with the data by default."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from recsys_cli.data.dataset import Dataset
    from recsys_cli.settings import Settings

FEW_INTERACTIONS = 100_000
"""Below this many, similarities counted between items carry further than learned vectors."""
MANY_INTERACTIONS = 10_000_000
"""Beyond this many, networks that read attributes and histories pay for themselves."""
LITTLE_HISTORY = 3
"""A user with fewer interactions is new to every model that learns from them."""
COLD_SHARE = 0.3
"""Share of new users, or of items nobody touched, from which a start without history is critical."""


@dataclass(frozen=True)
class DataSummary:
    """What decides which models fit a dataset."""

    users: int
    items: int
    impressions: int
    interactions: int
    """impressions with at least one positive action"""
    objectives: tuple[str, ...]
    """positive actions that occur, the commonest first"""
    new_users: float
    """share of users with fewer than LITTLE_HISTORY interactions"""
    new_items: float
    """share of items without an interaction"""
    negatives_observed: bool
    """whether impressions that nobody reacted to are in the log"""
    has_time: bool
    """whether timestamps are moments, not an order alone"""
    given_split: bool
    """whether the source fixes what is tested on"""
    has_text: bool
    has_topics: bool
    has_authors: bool
    has_follows: bool
    has_dwell: bool
    has_propensities: bool


@dataclass(frozen=True)
class Advice:
    """One model that fits, and why."""

    model: str
    why: str
    settings: str
    """how this program has it: sources or rankers by their names in the settings"""


def summarise(dataset: Dataset) -> DataSummary:
    """Counts and presences of a dataset."""
    log, manifest, catalogue = dataset.log, dataset.manifest, dataset.catalogue
    positive = log.positive
    counts = {a: int(log.actions[a].sum()) for a in log.positive_actions}
    by_user = np.bincount(log.user[positive], minlength=catalogue.n_users)
    by_item = np.bincount(log.item[positive], minlength=catalogue.n_items)
    return DataSummary(
        users=catalogue.n_users,
        items=catalogue.n_items,
        impressions=len(log),
        interactions=int(positive.sum()),
        objectives=tuple(sorted((a for a, n in counts.items() if n), key=lambda a: -counts[a])),
        new_users=float((by_user < LITTLE_HISTORY).mean()) if len(by_user) else 0.0,
        new_items=float((by_item == 0).mean()) if len(by_item) else 0.0,
        negatives_observed=manifest.negatives_observed,
        has_time=manifest.has_time,
        given_split=bool(manifest.splits and "test" in manifest.splits),
        has_text=len(catalogue.item_text.values) > 0,
        has_topics=len(catalogue.item_topics.values) > 0,
        has_authors=bool((catalogue.item_author >= 0).any()),
        has_follows="follows" in manifest.tables,
        has_dwell=log.dwell is not None,
        has_propensities=log.propensity is not None,
    )


def advise(data: DataSummary) -> list[Advice]:
    """The models of the guide that fit, the first the one to begin with.

    No interactions: content. Fewer than FEW_INTERACTIONS: neighbours of items; up to MANY_INTERACTIONS: ALS or BPR;
    more: two towers and a ranker. Several objectives: a multi-task ranker. New users or items critical: a hybrid.
    """
    n = data.interactions
    if not n:
        if data.has_text or data.has_topics:
            return [Advice("content", "nobody has interacted with anything yet", "retrieval.content")]
        return [Advice("popularity by hand", "there are neither interactions nor texts or topics", "none")]
    said = f"{n:,} interactions"
    if n < FEW_INTERACTIONS:
        out = [Advice("item–item neighbours", f"{said}: fewer than {FEW_INTERACTIONS:,}", "retrieval.item_neighbours")]
    elif n <= MANY_INTERACTIONS:
        out = [
            Advice(
                "ALS or BPR", f"{said}: between {FEW_INTERACTIONS:,} and {MANY_INTERACTIONS:,}",
                "retrieval.als, retrieval.bpr",
            )
        ]
    else:
        out = [
            Advice(
                "two towers and a ranker", f"{said}: more than {MANY_INTERACTIONS:,}",
                "retrieval.two_tower, ranking.heavy",
            )
        ]
    if len(data.objectives) > 1:
        shown = ", ".join(data.objectives[:4]) + (", …" if len(data.objectives) > 4 else "")
        out.append(
            Advice("multi-task ranker", f"{len(data.objectives)} positive actions: {shown}", "ranking.heavy")
        )
    if max(data.new_users, data.new_items) >= COLD_SHARE:
        out.append(_hybrid(data))
    return out


def _hybrid(data: DataSummary) -> Advice:
    why = (
        f"{data.new_users:.0%} of the users have fewer than {LITTLE_HISTORY} interactions, {data.new_items:.0%} of the "
        "items none"
    )
    if data.has_text or data.has_topics:
        return Advice("hybrid of behaviour and content", why, "retrieval.content, retrieval.two_tower")
    return Advice("popularity for the new", f"{why}, and items have neither text nor topics", "retrieval.popularity")


def properties(data: DataSummary) -> list[tuple[str, bool, str]]:
    """What the data has or lacks: (property, whether it is there, what follows)."""
    return [
        ("moments in time", data.has_time, "trends, ages and a split by time" if data.has_time else "order alone"),
        (
            "a split of its own", data.given_split,
            "is kept for the test" if data.given_split else "windows.split decides what is held out",
        ),
        (
            "impressions without reaction", data.negatives_observed,
            "P(action | shown) is learned and measured" if data.negatives_observed
            else "negatives are drawn; no ROC-AUC and no RCE of what was shown",
        ),
        ("texts", data.has_text, "content, safety" if data.has_text else "no content by words"),
        ("topics", data.has_topics, "topic cap, diversity" if data.has_topics else "the topic cap does nothing"),
        ("authors", data.has_authors, "author cap, ties" if data.has_authors else "the author cap does nothing"),
        ("follows", data.has_follows, "in-network, social proof" if data.has_follows else "no social sources"),
        ("dwell time", data.has_dwell, "expected seconds" if data.has_dwell else "no head for it"),
        (
            "propensities", data.has_propensities,
            "replay by inverse propensity" if data.has_propensities else "lists are judged by what was shown",
        ),
    ]


def advice_document(dataset: Dataset, settings: Settings) -> dict[str, Any]:
    """Everything that `recsys advise` shows: the summary, the advice, and what training would do by default.

    Raises DataError where the dataset cannot be read or its windows would be empty.
    """
    from recsys_cli.data.state import State
    from recsys_cli.data.windows.split import make_split
    from recsys_cli.pipeline.utility import weights_in_use
    from recsys_cli.retrieval.base import Window
    from recsys_cli.retrieval.registry import SOURCES

    data = summarise(dataset)
    sources, split, weights = [], None, None
    if data.interactions:
        made = make_split(settings.windows, dataset, seed=settings.seed)
        cut, dataset = made.windows, dataset.with_log(made.log)
        split = {"kind": made.kind, "says": list(made.messages), "windows": cut.model_dump(mode="json")}
        log = dataset.log.window(end=cut.test_start)
        edges = {table: dataset.edges(table) for table in ("follows", "blocks")}
        state = State.build(dataset.catalogue, log, cut.test_start, **edges)
        window = Window(dataset, dataset.catalogue, log, cut.test_start, state, settings.seed)
        for name, config in settings.retrieval.items():
            lack = "not enabled" if not config.enabled else SOURCES[config.kind](config).missing(window)
            sources.append({"source": name, "used": lack is None, "reason": lack})
        weights = weights_in_use(settings.pipeline.utility, log)
    return {
        "dataset": str(dataset.path),
        "summary": asdict(data),
        "advice": [asdict(a) for a in advise(data)],
        "properties": [{"property": p, "there": there, "follows": what} for p, there, what in properties(data)],
        "sources": sources,
        "split": split,
        "utility": weights,
    }
