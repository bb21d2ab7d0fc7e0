"""A few lists as people read them: titles and reasons beside what the person really took."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from recsys_cli.answers.slate import describe_slate
from recsys_cli.evaluation import ranking_metrics as rm

if TYPE_CHECKING:
    from recsys_cli.engine import RecommendationEngine
    from recsys_cli.evaluation.truth import Truth

PEOPLE = 4
"""From the one whose list is best to the one whose is worst, in equal steps."""
TAKEN = 20
"""Items that a person took, of which so many are named."""


def examples(engine: RecommendationEngine, truth: Truth) -> list[dict[str, Any]]:
    """Lists of `PEOPLE` test users: "user", "known" interactions, "ndcg", "items" and "took".

    engine: as of the start of the test window. "items": "rank", "item", "text", "reason", "taken"; "took": "item",
    "text", "shown" of what they turned to, at most `TAKEN`.
    """
    k = engine.pipeline.slate_size
    slates = engine.slates(truth.users).items
    quality = rm.ndcg(rm.hits(slates, truth.relevant), truth.relevant.lengths, k)
    order = np.argsort(-quality, kind="stable")
    steps = np.linspace(0, len(order) - 1, min(PEOPLE, len(order))).round().astype(int)
    places = order[np.unique(steps)]
    batch = engine.slates(truth.users[places])
    ids = engine.bundle.user_ids.external(truth.users[places])
    out = []
    for row, (place, user) in enumerate(zip(places, ids, strict=True)):
        told = describe_slate(engine.answer_data, batch, row, user)
        taken = truth.relevant[int(place)]
        names = engine.bundle.item_ids.external(taken)
        shown = {item.item_id for item in told.items}
        out.append(
            {
                "user": user,
                "known": int(engine.state.history.lengths[truth.users[place]]),
                "ndcg": float(quality[place]),
                "items": [
                    {"rank": i.rank, "item": i.item_id, "text": i.text, "reason": i.reason, "taken": i.item_id in names}
                    for i in told.items
                ],
                "took": [
                    {"item": name, "text": engine.bundle.labels[int(item)], "shown": name in shown}
                    for item, name in zip(taken[:TAKEN], names[:TAKEN], strict=True)
                ],
            }
        )
    return out
