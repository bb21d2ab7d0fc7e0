"""The features of one user and one item, each with what its number says in plain units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from recsys_cli.data.behaviour import Behaviour, Entities
from recsys_cli.data.state import State
from recsys_cli.errors import UnknownIdError, UsageError
from recsys_cli.features.as_of import Past
from recsys_cli.features.context import Context
from recsys_cli.features.evaluate import fill
from recsys_cli.features.readings import reading
from recsys_cli.features.rows import Rows
from recsys_cli.features.spec import Feature

if TYPE_CHECKING:
    from recsys_cli.data.dataset import Dataset
    from recsys_cli.engine import RecommendationEngine


@dataclass(frozen=True)
class UserItem:
    """What the rankers see of one user and one item at one moment."""

    user: int | str
    item: int | str
    now: int
    """µs"""
    features: tuple[Feature, ...]
    values: np.ndarray
    """float32[F]"""
    entities: Entities
    """who and what it is about, with the history that networks may read"""

    def rows(self, names: dict[str, list[str]]) -> list[dict]:
        """The table form. names: category → names of its codes, as `Catalogue.names` holds them."""
        rows = []
        for f, value in zip(self.features, self.values.tolist(), strict=True):
            told = reading(f, value, names.get(f.vocabulary, ()))
            row = {"name": f.name, "group": f.group, "value": value, "reading": told}
            rows.append(row | {"meaning": f.meaning, "formula": f.formula})
        return rows


def inspect_user_item(
    engine: RecommendationEngine, user_id: int | str, item_id: int | str, context: Context, dataset: Dataset | None
) -> UserItem:
    """What the rankers see of a user and an item at `context.now`.

    dataset: where its log is counted up to that moment; None takes the counts that the run serves with. Raises
    UnknownIdError for a user or item that the run does not know, UsageError where there is no time to count up to.
    """
    bundle = engine.bundle
    if dataset is not None and engine.manifest.windows.places:
        raise UsageError("the run's data has an order but no time to count up to", "leave out --at")
    user, item = bundle.user_ids.position(user_id), bundle.item_ids.position(item_id)
    for kind, place, given in (("user", user, user_id), ("item", item, item_id)):
        if place < 0:
            raise UnknownIdError(f"{kind} {given!r} is not in the run", "ids are those of the data it was trained on")
    users, items = np.array([user], np.int32), np.array([item], np.int32)
    if dataset is None:
        state, moment = engine.state, max(context.now, engine.state.now)
        behaviour = Behaviour.of_state(state, bundle.spec.positive)
        scores = {n: s.score(state, users, items[:, None]) for n, s in bundle.measuring.items()}
        values = engine.snapshot.features(users, items[:, None], context, scores)[0, 0]
    else:
        values, moment = _counted(engine, dataset, users, items, context), context.now
        behaviour = Behaviour.of_log(bundle.catalogue, dataset.log)
    return UserItem(
        bundle.user_ids.external([user])[0], bundle.item_ids.external([item])[0], context.now, bundle.spec.features,
        values, Entities(behaviour, users, items, np.array([moment])),
    )


def _counted(engine: RecommendationEngine, dataset: Dataset, users, items, context: Context) -> np.ndarray:
    """float32[F] from the rows of the log before the moment, as in the training table."""
    bundle, spec, usual = engine.bundle, engine.bundle.spec, engine.snapshot.usual
    log = dataset.log.window(end=context.now)
    edges = {table: dataset.edges(table) for table in ("follows", "blocks")}
    told = {"surface": context.surface, "device": context.device} | context.more
    told = {name: np.array([value]) if told.get(name) is None else told[name] for name, value in usual.items()}
    surface, device = (told.pop(name).astype(np.int16) for name in ("surface", "device"))
    rows = Rows.at(context.now, 1, user=users, item=items, surface=surface, device=device, context=told)
    values = np.zeros((1, len(spec.features)), np.float32)
    state = State.build(bundle.catalogue, log, context.now, **edges)

    def similarity(users: np.ndarray, items: np.ndarray) -> dict[str, np.ndarray]:
        return {n: source.score(state, users, items[:, None])[:, 0] for n, source in bundle.measuring.items()}

    fill(Past(spec, bundle.catalogue, log, **edges), rows, spec.features, values, similarity)
    return values[0]
