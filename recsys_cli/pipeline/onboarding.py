"""Candidates for somebody of whom nothing is known but the topics that they chose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from recsys_cli.errors import UsageError, did_you_mean
from recsys_cli.pipeline.candidates import Candidates

if TYPE_CHECKING:
    from recsys_cli.data.catalogue import Catalogue
    from recsys_cli.data.state import State

EACH = 100
"""Items of a topic that are looked at, those with most recent interactions."""
RECIPROCAL = 60
"""Constant of reciprocal-rank fusion, as where sources are merged."""


def topic_codes(catalogue: Catalogue, topics: Sequence[str]) -> np.ndarray:
    """int32 codes of topics by name; UsageError for one that the data does not have."""
    names = catalogue.names.get("topics", [])
    if not names:
        raise UsageError("the run's items have no topics", "name items with --history instead")
    place = {name: code for code, name in enumerate(names)}
    for topic in topics:
        if topic not in place:
            raise UsageError(f"no topic {topic!r} in this run", did_you_mean(topic, names, f"it has {len(names):,}"))
    return np.array(sorted({place[topic] for topic in topics}), np.int32)


def attribute_codes(catalogue: Catalogue, attributes: Mapping[str, str]) -> dict[str, int]:
    """Attribute of users → code of its value; UsageError for an attribute or value that the data does not have."""
    out = {}
    for name, value in attributes.items():
        if name not in catalogue.user_codes:
            known = list(catalogue.user_codes)
            hint = did_you_mean(name, known, f"known: {', '.join(known) or 'none'}")
            raise UsageError(f"users of this run have no category {name!r}", hint)
        names = catalogue.names.get(f"user.{name}", [])
        if value not in names:
            hint = did_you_mean(value, names, f"it is one of {', '.join(names[:12])}")
            raise UsageError(f"{name} never is {value!r} in this run", hint)
        out[name] = names.index(value)
    return out


def topic_candidates(state: State, topics: np.ndarray, sources: Sequence[str]) -> Candidates:
    """One user's candidates: of each topic the items with most recent interactions, those of several topics summed.

    topics: int32 codes. sources: names of all sources; whichever orders lists of new people finds the place of each
    item on this list as its rank.
    """
    items = state.catalogue.item_topics
    worth = state.trending.astype(np.float64) + 1e-3 * np.log1p(state.interactions)
    score = np.zeros(state.catalogue.n_items)
    for topic in topics.tolist():
        on = np.unique(items.rows[items.values == topic])
        on = on[state.available[on]]
        best = on[np.argsort(-worth[on], kind="stable")[:EACH]]
        score[best] += 1 / (RECIPROCAL + 1 + np.arange(len(best)))
    found = np.flatnonzero(score)
    place = np.empty(len(found), np.float32)
    place[np.argsort(-score[found], kind="stable")] = np.arange(1, len(found) + 1)
    scores = {"rrf": score[found][None].astype(np.float32)}
    scores |= {f"rank_{name}": place[None] for name in sources}
    return Candidates(found[None].astype(np.int32), np.zeros((1, len(found)), np.uint32), scores)
