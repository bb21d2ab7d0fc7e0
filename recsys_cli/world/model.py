"""A world: its people, graph and content, made from a configuration and a seed or read from `truth/`."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa

from recsys_cli.arrays import load_arrays, save_arrays
from recsys_cli.world.config import WorldConfig
from recsys_cli.world.content import Content, make_content, make_future
from recsys_cli.world.graph import Edges, Graph, make_graph
from recsys_cli.world.people import AGE_GROUPS, COUNTRIES, LANGUAGES, People, make_people
from recsys_cli.world.responses import Behaviour
from recsys_cli.world.visits import block_size, requests_a_visit
from recsys_cli.world.words import topic_names

SIGNUP_TOPICS = 3
TRUTH_FILE = "world.arrays"


@dataclass
class Model:
    """Everything that is true of a world before its log begins, and the items that come after the log."""

    config: WorldConfig
    seed: int
    people: People
    graph: Graph
    content: Content
    """items of the log"""
    future: Content
    """items of the `horizon_days` after it"""
    mean_requests: float
    """requests on a day with a visit, on average"""

    @classmethod
    def create(cls, config: WorldConfig, seed: int) -> Model:
        """The same world for the same configuration and seed."""
        people = make_people(config, seed)
        return cls(
            config=config, seed=seed, people=people, graph=make_graph(config, people, seed),
            content=make_content(config, people, seed), future=make_future(config, people, seed),
            mean_requests=requests_a_visit(config, people),
        )

    @property
    def block(self) -> int:
        """Users who share a stream of random numbers."""
        return block_size(len(self.people))

    @property
    def blocks(self) -> int:
        return -(-len(self.people) // self.block)

    def users_of(self, block: int) -> slice:
        return slice(block * self.block, min((block + 1) * self.block, len(self.people)))

    @cached_property
    def behaviour(self) -> Behaviour:
        """Over the items of the log and, after them, those of the future."""
        return Behaviour(self.config.behaviour, self.people, self.content.then(self.future))

    @property
    def signup_topics(self) -> np.ndarray:
        """int16[users, SIGNUP_TOPICS] topics that people chose when they joined, -1 where they chose fewer."""
        return self.people.interest_topics[:, :SIGNUP_TOPICS]

    def users_table(self) -> pa.Table:
        """Rows of `users.parquet`. User ids are positions plus one."""
        people = self.people
        chosen = self.signup_topics
        offsets = np.concatenate([[0], np.cumsum((chosen >= 0).sum(axis=1))]).astype(np.int32)
        topics = pa.array(topic_names(self.config.topics)).take(pa.array(chosen[chosen >= 0]))
        return pa.table({
            "user_id": np.arange(1, len(people) + 1, dtype=np.int64),
            "created_at": pa.array(people.created, pa.timestamp("us", "UTC")),
            "language": pa.array(LANGUAGES).take(pa.array(people.language)),
            "country": pa.array([c[0] for c in COUNTRIES]).take(pa.array(people.country)),
            "age_group": pa.array(AGE_GROUPS).take(pa.array(people.age_group)),
            "signup_topics": pa.ListArray.from_arrays(pa.array(offsets), topics),
        })

    def follows_table(self) -> pa.Table:
        """Rows of `follows.parquet`: the follows that stand when the log begins."""
        edges = self.graph.follows
        return pa.table({
            "follower_id": edges.source.astype(np.int64) + 1, "followee_id": edges.target.astype(np.int64) + 1,
            "created_at": pa.array(edges.created, pa.timestamp("us", "UTC")),
        })

    def blocks_table(self) -> pa.Table:
        """Rows of `blocks.parquet`: the blocks and mutes that stand when the log begins."""
        pairs = (self.graph.blocks, self.graph.mutes)
        kind = np.repeat(np.array([0, 1], np.int8), [len(e) for e in pairs])
        return pa.table({
            "user_id": np.concatenate([e.source for e in pairs]).astype(np.int64) + 1,
            "author_id": np.concatenate([e.target for e in pairs]).astype(np.int64) + 1,
            "created_at": pa.array(np.concatenate([e.created for e in pairs]), pa.timestamp("us", "UTC")),
            "kind": pa.array(["block", "mute"]).take(pa.array(kind)),
        })

    def save(self, folder: Path, end_state: dict[str, np.ndarray]) -> None:
        """Write `world.arrays`; end_state: what the log changed, by name (see `simulator.World`)."""
        arrays = {f"end/{k}": v for k, v in end_state.items()}
        for name in ("people", "content", "future"):
            part = getattr(self, name)
            arrays.update({f"{name}/{f.name}": getattr(part, f.name) for f in fields(part)})
        arrays["tie"] = self.graph.tie
        for name in ("follows", "blocks", "mutes"):
            edges = getattr(self.graph, name)
            arrays.update({f"{name}/{f.name}": getattr(edges, f.name) for f in fields(edges)})
        meta = {"config": self.config.model_dump(mode="json"), "seed": self.seed, "mean_requests": self.mean_requests}
        save_arrays(folder / TRUTH_FILE, arrays, meta)

    @classmethod
    def load(cls, folder: Path) -> tuple[Model, dict[str, np.ndarray]]:
        """Read what `save` wrote; raises ArtifactError where it is damaged."""
        arrays, meta = load_arrays(folder / TRUTH_FILE)

        def part(kind, name: str):
            return kind(*(arrays[f"{name}/{f.name}"] for f in fields(kind)))

        graph = Graph(part(Edges, "follows"), arrays["tie"], part(Edges, "blocks"), part(Edges, "mutes"))
        model = cls(
            config=WorldConfig.model_validate(meta["config"]), seed=meta["seed"], people=part(People, "people"),
            graph=graph, content=part(Content, "content"), future=part(Content, "future"),
            mean_requests=meta["mean_requests"],
        )
        return model, {k[4:]: v for k, v in arrays.items() if k.startswith("end/")}


