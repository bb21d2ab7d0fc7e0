"""The registry of candidate sources: `kind:` of the configuration → class."""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import Annotated

from pydantic import Field

from recsys_cli.plugins import installed
from recsys_cli.retrieval.base import Retriever
from recsys_cli.retrieval.blend import Blend
from recsys_cli.retrieval.config import RetrieverConfig
from recsys_cli.retrieval.content.content import Content
from recsys_cli.retrieval.embeddings.lightgcn import LightGcn
from recsys_cli.retrieval.embeddings.twhin import Twhin
from recsys_cli.retrieval.embeddings.two_tower import TwoTower
from recsys_cli.retrieval.exploration.fresh import Fresh
from recsys_cli.retrieval.exploration.random_items import Random
from recsys_cli.retrieval.factors.als import Als
from recsys_cli.retrieval.factors.factorisation import Bpr, Nmf, Svd
from recsys_cli.retrieval.graph.in_network import InNetwork
from recsys_cli.retrieval.graph.real_graph import RealGraph
from recsys_cli.retrieval.graph.simclusters import SimClusters
from recsys_cli.retrieval.graph.social_graph import RandomWalk, TwoHop
from recsys_cli.retrieval.graph.social_proof import SocialProof
from recsys_cli.retrieval.linear.ease_slim import Ease, Slim
from recsys_cli.retrieval.linear.graph_filter import GraphFilter
from recsys_cli.retrieval.neighbours.item_neighbours import ItemNeighbours, Rp3Beta
from recsys_cli.retrieval.neighbours.user_neighbours import UserNeighbours
from recsys_cli.retrieval.popularity.popularity import Popularity, Trending
from recsys_cli.retrieval.popularity.segment_trending import SegmentTrending
from recsys_cli.retrieval.semantic.generative import Generative
from recsys_cli.retrieval.semantic.source import Semantic
from recsys_cli.retrieval.sequential.autoregression import LinearAutoregressive
from recsys_cli.retrieval.sequential.networks.retriever import Bert4Rec, Gru4Rec, SasRec
from recsys_cli.retrieval.sequential.next_basket import NextBasket
from recsys_cli.retrieval.sequential.repeat_consumption import RepeatConsumption
from recsys_cli.retrieval.sequential.session_neighbours import SessionNeighbours
from recsys_cli.retrieval.sequential.transitions import Markov, SequentialRules

SOURCES: dict[str, type[Retriever]] = {
    "in_network": InNetwork,
    "social_proof": SocialProof,
    "trending": Trending,
    "popularity": Popularity,
    "item_neighbours": ItemNeighbours,
    "als": Als,
    "two_tower": TwoTower,
    "graph_filter": GraphFilter,
    "ease": Ease,
    "slim": Slim,
    "rp3beta": Rp3Beta,
    "blend": Blend,
    "user_neighbours": UserNeighbours,
    "two_hop": TwoHop,
    "random_walk": RandomWalk,
    "real_graph": RealGraph,
    "content": Content,
    "simclusters": SimClusters,
    "bpr": Bpr,
    "svd": Svd,
    "nmf": Nmf,
    "twhin": Twhin,
    "lightgcn": LightGcn,
    "gru4rec": Gru4Rec,
    "sasrec": SasRec,
    "bert4rec": Bert4Rec,
    "markov": Markov,
    "sequential_rules": SequentialRules,
    "linear_autoregressive": LinearAutoregressive,
    "session_neighbours": SessionNeighbours,
    "repeat_consumption": RepeatConsumption,
    "next_basket": NextBasket,
    "fresh": Fresh,
    "segment_trending": SegmentTrending,
    "semantic": Semantic,
    "generative": Generative,
    "random": Random,
}
"""`kind` → class; installed packages add theirs under the entry points `recsys.retrievers`."""
BUILT_IN = tuple(SOURCES)
"""Kinds that this package brings."""
SOURCES |= installed(
    "recsys.retrievers", SOURCES,
    lambda entry: entry.config_type if isinstance(entry, type) and issubclass(entry, Retriever) else None,
)

OPTIONAL = frozenset(
    {
        "random",
        "blend",
        "two_hop",
        "random_walk",
        "real_graph",
        "content",
        "semantic",
        "generative",
        "simclusters",
        "bpr",
        "nmf",
        "twhin",
        "lightgcn",
        "gru4rec",
        "sasrec",
        "bert4rec",
        "fresh",
    }
)
"""Kinds that wait to be enabled."""
BY_DATA = frozenset(
    {
        "two_tower",
        "ease",
        "graph_filter",
        "rp3beta",
        "slim",
        "user_neighbours",
        "svd",
        "markov",
        "sequential_rules",
        "linear_autoregressive",
        "session_neighbours",
        "repeat_consumption",
        "next_basket",
        "segment_trending",
    }
)
"""Kinds that training fits where the data is such that they can pay."""

RetrieverSettings = Annotated[reduce(or_, (cls.config_type for cls in SOURCES.values())), Field(discriminator="kind")]


def default_retrieval() -> dict[str, RetrieverConfig]:
    """Source name → settings: one of each built-in kind under its own name, those in `OPTIONAL` not enabled and those
    in `BY_DATA` left to the data."""
    return {
        kind: SOURCES[kind].config_type(enabled="auto" if kind in BY_DATA else kind not in OPTIONAL)
        for kind in BUILT_IN
    }


def make(config: RetrieverConfig) -> Retriever:
    """An unfitted source of the configured kind."""
    return SOURCES[config.kind](config)
