"""What stands beside the figures of slates: where their items come from, and some lists as people read them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from recsys_cli.answers.slate import describe_slate
from recsys_cli.evaluation import ranking_metrics as rm
from recsys_cli.evaluation.batch_lists import Served
from recsys_cli.evaluation.examples import PEOPLE, TAKEN
from recsys_cli.evaluation.slates.facts import Facts
from recsys_cli.evaluation.slates.pack import Judged

if TYPE_CHECKING:
    from recsys_cli.engine import RecommendationEngine


def source_mix(served: Served, names: tuple[str, ...]) -> list[dict[str, Any]]:
    """"source", "share" of the places of the slates, "alone": share that nobody else proposed; the largest first.

    An item that several sources proposed counts for each of them. names: of the bits of `served.sources`.
    """
    filled = served.slates >= 0
    total = max(int(filled.sum()), 1)
    out = []
    for bit, name in enumerate(names):
        mine = ((served.sources >> np.uint32(bit)) & np.uint32(1)).astype(bool) & filled
        if mine.any():
            alone = int((mine & (served.sources == np.uint32(1 << bit))).sum())
            out.append({"source": name, "share": int(mine.sum()) / total, "alone": alone / total})
    return sorted(out, key=lambda row: -row["share"])


def examples(judged: Judged, facts: Facts, k: int) -> list[dict[str, Any]]:
    """The lists of some people beside what they took: "user", "took" (item, text) and "lists".

    From the one whose list by the first system is best to the one whose is worst, in equal steps. "lists": system →
    "ndcg" and "items" (rank, item, text, taken), the first k.
    """
    names = list(judged.lists)
    hit = {name: judged.matched(name)[:, :k] > 0 for name in names}
    quality = {name: rm.ndcg(hit[name], judged.relevant.lengths, k) for name in names}
    order = np.argsort(-quality[names[0]], kind="stable")
    steps = np.linspace(0, len(order) - 1, min(PEOPLE, len(order))).round().astype(int)
    out = []
    for row in order[np.unique(steps)].tolist():
        lists = {}
        for name in names:
            items = judged.lists[name][row, :k]
            lists[name] = {
                "ndcg": float(quality[name][row]),
                "items": [
                    {"rank": at + 1, **_named(judged, facts, int(item)), "taken": bool(hit[name][row, at])}
                    for at, item in enumerate(items) if item >= 0
                ],
            }  # fmt: skip
        owner = row if judged.owner is None else int(judged.owner[row])
        took = [_named(judged, facts, int(item)) for item in judged.relevant[row][:TAKEN]]
        out.append({"user": judged.users[owner], "took": took, "lists": lists})
    return out


def give_reasons(people: list[dict[str, Any]], name: str, engine: RecommendationEngine) -> None:
    """Write into the lists that a run made for some people (`examples`) why each item stands there.

    engine: as of the start of the test window. What stands behind the slate has no reason.
    """
    ids = [person["user"] for person in people if name in person["lists"]]
    if not ids:
        return
    batch = engine.slates(engine.bundle.user_ids.positions(np.array(ids)))
    for row, user in enumerate(ids):
        told = {str(i.item_id): i.reason for i in describe_slate(engine.answer_data, batch, row, user).items}
        person = next(p for p in people if p["user"] == user)
        for item in person["lists"][name]["items"]:
            item["reason"] = told.get(str(item["item"]), "")


def _named(judged: Judged, facts: Facts, item: int) -> dict[str, Any]:
    text = "" if facts.texts is None else facts.texts[item] or ""
    return {"item": judged.items[item], "text": " ".join(text.split())}
