"""What only the world behind a generated dataset knows: how likely people were, and are, to respond.

A log is a poor judge of what its policy did not show: an item that nobody was shown cannot be found in it. A
generated world has no such blind spot. For each logged impression its `truth/` holds the probability of every action,
and its behaviour model answers the same for any user and item. Evaluation may ask it, training never does. Where a
dataset has no truth (it was imported, or generated with --no-truth) there is no oracle, and no world is imported.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys_cli.data.dataset import table_files
from recsys_cli.data.vocabulary import lookup
from recsys_cli.errors import DataError
from recsys_cli.evaluation.ranking_metrics import graded_ndcg
from recsys_cli.features.context import Context
from recsys_cli.pipeline.candidates import Candidates
from recsys_cli.pipeline.filters import Policy, prefilters
from recsys_cli.pipeline.query import Query
from recsys_cli.pipeline.utility import multipliers, weights_of
from recsys_cli.retrieval.topk import topk

if TYPE_CHECKING:
    from recsys_cli.data.dataset import Dataset
    from recsys_cli.engine import RecommendationEngine
    from recsys_cli.world.simulate import EdgeSet
    from recsys_cli.world.simulator import World

MAX_PAIRS = 20_000_000
"""Pairs of user and item that the world is asked for at most; in larger worlds so many users are drawn."""
MIN_USERS = 200
"""Users drawn at least, however large the catalogue."""
PAIRS_AT_ONCE = 500_000
"""Pairs asked at once, which bounds the memory."""


def has_truth(dataset: Dataset) -> bool:
    """Whether the dataset was generated with its truth beside it."""
    return "generator" in dataset.manifest.origin and (dataset.path / "truth").is_dir()


def logged_responses(
    dataset: Dataset, start: int, end: int, order: np.ndarray | None = None
) -> dict[str, np.ndarray] | None:
    """The true probability of each action (and "dwell": expected seconds) of the impressions in [start, end) µs.

    float32[n] each, in the order of `dataset.log.window(start, end)`; order: int64[n] the row of the table in order of
    time at each place of that log, where it was put in another order (`Split.order`). None where the dataset has no
    truth. Raises DataError where the truth is not that of these impressions.
    """
    if not has_truth(dataset):
        return None
    import polars as pl

    frame = dataset.table("impressions", ["user_id", "timestamp"])
    frame = frame.with_columns(pl.Series("_user", lookup(dataset.user_ids, frame["user_id"]))).with_row_index("_row")
    rows = frame.sort(["timestamp", "_user"], maintain_order=True)["_row"].to_numpy().astype(np.int64)
    rows = rows if order is None else rows[order]
    rows = rows[slice(*np.searchsorted(dataset.log.time, [start, end]))]
    order = np.argsort(rows)
    columns = _picked(table_files(dataset.path / "truth", "responses"), rows[order], frame.height)
    out = {}
    for name, values in columns.items():
        column = np.empty(len(rows), np.float32)
        column[order] = values
        out["dwell" if name == "dwell_mean" else name.removeprefix("p_")] = column
    return out


def _picked(files: list[Path], rows: np.ndarray, height: int) -> dict[str, np.ndarray]:
    """Columns of some rows (ascending) of a table in several files that should have `height` rows together."""
    again = "generate the dataset again with `recsys generate-data`"
    columns: dict[str, list[np.ndarray]] = {}
    first = 0
    for file in files:
        try:
            part = pq.ParquetFile(file)
            for group in range(part.num_row_groups):
                last = first + part.metadata.row_group(group).num_rows
                low, high = np.searchsorted(rows, [first, last])
                if high > low:
                    table = part.read_row_group(group)
                    for name in table.column_names:
                        columns.setdefault(name, []).append(table[name].to_numpy()[rows[low:high] - first])
                first = last
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{file} cannot be read as Parquet: {str(error).splitlines()[0]}", again) from None
    if first != height:
        folder = files[0].parent if files else "truth/"
        raise DataError(f"{folder}: {first:,} rows of responses for {height:,} impressions", again)
    return {name: np.concatenate(values) for name, values in columns.items()}


class Oracle:
    """The true utility of any item for any user at the moment of an evaluation.

    It is the pipeline's own utility (`pipeline.utility`: weights of actions and dwell, with their personal and segment
    multipliers), with true probabilities in the place of predicted ones. Requests are those of people on their usual
    device and on the surface that most visits are on. What a user may be shown is what the pipeline's filters and the
    drops of its safety policy let through.
    """

    def __init__(self, world: World, engine: RecommendationEngine):
        """engine: as of the moment asked about."""
        from recsys_cli.world.visits import SURFACE_SHARES

        self._world, self._engine = world, engine
        self._negative = engine.bundle.negative_actions
        self._weights = weights_of(engine.pipeline.utility, engine.bundle.proposed_weights)
        self._personal = multipliers(engine.pipeline.utility, engine.bundle)
        self._surface = int(np.argmax(SURFACE_SHARES))
        self._ties = ties_of(world, engine)
        filters, rules = prefilters(engine.pipeline.filters, engine.bundle.repeats), engine.safety_rules
        everything = np.arange(engine.state.catalogue.n_items, dtype=np.int32)[None]
        anyone = self._passing(filters, np.array([-1], np.int32), everything)
        self._items = everything[anyone]
        """int32[W] what is open to somebody"""
        self._filters = filters if rules is None else [*filters, Policy(rules)]

    @classmethod
    def of(cls, dataset: Dataset, engine: RecommendationEngine) -> Oracle | None:
        """The oracle of a dataset, None where it has no truth; raises DataError where the truth is another's."""
        if not has_truth(dataset):
            return None
        from recsys_cli.world.simulator import World

        return cls(World.open(dataset.path), engine)

    @property
    def surface(self) -> str:
        """The surface that people are taken to be on."""
        return self._world.surfaces[self._surface]

    def users(self, n: int, seed: int) -> np.ndarray:
        """Places of the users to ask about among n, ascending: all where that is affordable, else drawn."""
        affordable = max(MIN_USERS, MAX_PAIRS // max(len(self._items), 1))
        if n <= affordable:
            return np.arange(n)
        return np.sort(np.random.default_rng(seed).choice(n, affordable, replace=False))

    def may_show(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """bool[B, K]: whether the pipeline may show the user the item; False for -1."""
        return self._passing(self._filters, users, items)

    def utility(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """float32[B, K]: the expected utility of each place of a slate, shown as one; 0 for an empty place (-1).

        A slate of one item is the item alone: at the top, and nothing above it to tire of.
        """
        now = np.full(len(users), self._engine.state.now)
        surface = np.full(len(users), self._surface)
        device = self._world.model.people.device[users]
        chances = self._world.probabilities(users, items, now, surface, device, follows=self._ties)
        total = np.zeros(items.shape, np.float32)
        for action, chance in chances.items():
            weight = np.float32(self._weights.get(action, 0.0) * (-1 if action in self._negative else 1))
            personal = None if self._personal is None else self._personal.of(users, action)
            if weight:
                total += chance * (weight if personal is None else weight * personal[:, None])
        return np.where(items >= 0, total, np.float32(0))

    def best(self, users: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray, float]:
        """The k items of highest true utility for each user among all that may be shown.

        Returns int32[B, k] items (-1 where there are fewer), their float32[B, k] utility (0 there) and how many items a
        user may be shown, on average. Equal utility goes to the lower position.
        """
        items, utility, open_to = np.full((len(users), k), -1, np.int32), np.zeros((len(users), k), np.float32), 0
        width = len(self._items)
        step = max(PAIRS_AT_ONCE // max(width, 1), 1)
        for low in range(0, len(users), step):
            mine = users[low : low + step]
            grid = np.broadcast_to(self._items, (len(mine), width))
            row, column = np.nonzero(self.may_show(mine, grid))
            open_to += len(row)
            worth = np.full(grid.shape, -np.inf, np.float32)
            worth[row, column] = self.utility(mine[row], self._items[column][:, None])[:, 0]
            place, found = topk(worth, k)
            filled = place >= 0
            items[low : low + step][filled] = self._items[place[filled]]
            utility[low : low + step][filled] = found[filled]
        return items, utility, open_to / max(len(users), 1)

    def figures(
        self, users: np.ndarray, items: np.ndarray, ideal: np.ndarray, ks: Sequence[int], slate: int
    ) -> dict[str, np.ndarray]:
        """True NDCG of lists at every k, and for every k up to `slate` their true value: float64[B] each.

        items: int32[B, K], -1 in empty places. ideal: the utility that `best` gives. What may not be shown is an empty
        place here.

        true_ndcg: graded gains, an item's true utility shown alone, at least 0; 1 for the best k of all items.
        true_value: expected utility of a place when the first k are shown as one slate, where people tire of authors
        and topics and look less closely further down.
        """
        width = max(ks)
        listed = items[:, :width]
        listed = np.where(self.may_show(users, listed), listed, -1)
        row, column = np.nonzero(listed >= 0)
        gain = np.zeros(listed.shape, np.float32)
        gain[row, column] = self.utility(users[row], listed[row, column][:, None])[:, 0]
        gain, ideal = np.maximum(gain, 0), np.maximum(ideal, 0)
        out = {f"true_ndcg@{k}": graded_ndcg(gain, ideal, k) for k in ks}
        seen_at_once = [k for k in ks if k <= slate]
        if seen_at_once:
            value = np.cumsum(self.utility(users, listed[:, : max(seen_at_once)]), axis=1, dtype=float)
            out |= {f"true_value@{k}": value[:, min(k, value.shape[1]) - 1] / k for k in seen_at_once}
        return out

    def _passing(self, filters: list, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        engine = self._engine
        query = Query(
            users=users, size=items.shape[1], bundle=engine.bundle, state=engine.state, snapshot=engine.snapshot,
            context=Context(now=engine.state.now), seed=engine.seed,
        )
        # filters close up what they take out: the place goes along as a score
        place = np.broadcast_to(np.arange(items.shape[1], dtype=np.int32), items.shape)
        left = Candidates(items, np.zeros(items.shape, np.uint8), {"place": place}).keep(items >= 0)
        for check in filters:
            left = check(query, left)
        out = np.zeros(items.shape, bool)
        row, column = np.nonzero(left.filled)
        out[row, left.scores["place"][row, column]] = True
        return out


def ties_of(world: World, engine: RecommendationEngine) -> EdgeSet:
    """The world's ties that stand at the moment of the engine: those of the follows that its state knows."""
    from recsys_cli.world.simulate import EdgeSet

    state, ties = engine.state, world.follows()
    followee = state.catalogue.author_user[state.follows.values]
    keys = state.follows.rows.astype(np.int64) * ties.n + followee
    held = np.isin(ties.keys, keys[followee >= 0])
    return EdgeSet(ties.n, ties.keys[held], ties.value[held])
