"""Where the class of each built-in kind of source lies, so that a bundle loads those alone that it holds."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from recsys_cli.retrieval.base import Retriever

PLACES = {
    "in_network": "graph.in_network:InNetwork",
    "social_proof": "graph.social_proof:SocialProof",
    "trending": "popularity.popularity:Trending",
    "popularity": "popularity.popularity:Popularity",
    "item_neighbours": "neighbours.item_neighbours:ItemNeighbours",
    "als": "factors.als:Als",
    "two_tower": "embeddings.two_tower:TwoTower",
    "graph_filter": "linear.graph_filter:GraphFilter",
    "ease": "linear.ease_slim:Ease",
    "slim": "linear.ease_slim:Slim",
    "rp3beta": "neighbours.item_neighbours:Rp3Beta",
    "user_neighbours": "neighbours.user_neighbours:UserNeighbours",
    "svd": "factors.factorisation:Svd",
    "random": "exploration.random_items:Random",
    "fresh": "exploration.fresh:Fresh",
    "content": "content.content:Content",
    "semantic": "semantic.source:Semantic",
    "generative": "semantic.generative:Generative",
}
"""`kind` → module:class below this package, of kinds that bundles often hold; the registry has all."""


def source_class(kind: str) -> type[Retriever]:
    """The class of a kind; raises KeyError where the registry has none."""
    if kind in PLACES:
        module, name = PLACES[kind].split(":")
        return getattr(import_module(f"recsys_cli.retrieval.{module}"), name)
    from recsys_cli.retrieval.registry import SOURCES

    return SOURCES[kind]
