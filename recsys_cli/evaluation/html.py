"""An evaluation report as one HTML page with charts, opened from disk without a network."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from recsys_cli import charts, report
from recsys_cli.evaluation.figures import headline
from recsys_cli.evaluation.frontier_report import cut_in_words, frontier_section
from recsys_cli.evaluation.html_predictions import calibration, predictions, share
from recsys_cli.evaluation.period import window_text
from recsys_cli.evaluation.stage_tables import COLUMNS, positions_in_words, stage_rows
from recsys_cli.evaluation.summary import leading, verdict
from recsys_cli.evaluation.tables import BESIDE, HEADINGS, difference, half_width, has, lost_in_words

ACCURATE = ("recall", "ndcg", "replay", "true_ndcg", "true_value", "precision", "map", "mrr", "hit_rate", "r_precision")
"""Metrics of the first table; the others have one of their own, so that neither is wider than the page."""
LONGEST = 90
"""Letters of an item's text that are shown."""


def evaluation_page(document: dict[str, Any]) -> str:
    """The whole page from the report of `offline.evaluate`."""
    k = headline(document["k"], document["slate_size"])
    sections = [
        _headline(document, k),
        _against(document, k),
        _ranking(document, k),
        _repeats(document),
        _heavy_ranker(document, k),
        _every_k(document),
        _lost(document, k),
        _by_source(document),
        _groups(document),
        frontier_section(document),
        _growth(document),
    ]
    if document["impressions"] is not None:
        sections += [predictions(document["impressions"]), calibration(document["impressions"])]
    sections += [_positions(document), _examples(document), _funnel(document), _method(document)]
    window = document["window"]
    subtitle = f"run {document['run']} · {document['dataset']['name']} · {window_text(window)}"
    return report.page(
        "Evaluation of recommendations", [s for s in sections if s], subtitle, style=charts.STYLE, end=charts.scripts()
    )


def _headline(document: dict, k: int) -> str:
    funnel = document["systems"][0]["metrics"]
    rows = [
        {**t, "wanted": f"> {t['wanted']:g}", "met": {True: "met", False: "not met", None: "cannot tell"}[t["met"]]}
        for t in document["targets"]
    ]
    figures = {"test users": document["users"], "items to find": document["truth"]["relevant"]}
    figures |= {
        f"{HEADINGS[m]}@{k}": round(funnel[f"{m}@{k}"]["value"], 4)
        for m in ("recall", "ndcg", "true_ndcg", "hit_rate", "coverage")
        if f"{m}@{k}" in funnel
    }
    table = report.html_table(
        rows, {"target": "target", "wanted": "wanted", "value": "measured", "met": "", "reason": ""}
    )
    words = [report.paragraph(sentence) for sentence in verdict(document)]
    words += [report.paragraph(f"Left out: {what} ({why}).") for what, why in document["left_out"].items()]
    return report.section("At a glance", *words, report.facts(figures), table)


def _against(document: dict, k: int) -> str:
    compared = document["against"]
    measured = {m: heading for m, heading in HEADINGS.items() if f"{m}@{k}" in compared[0]["metrics"]}
    rows = [
        {
            "against": f"funnel − {r['against']}", "role": r["role"],
            **{m: difference(r["metrics"][f"{m}@{k}"]) for m in measured},
        }
        for r in compared
    ]
    chart = charts.interval_chart(
        ({"name": f"over {r['against']}", **r["metrics"][f"ndcg@{k}"]} for r in compared),
        title=f"NDCG@{k}", note="95 % interval", zero=True, form="+.3f",
    )  # fmt: skip
    return report.section(
        f"The funnel against its parts at {k}", report.grid(chart), report.html_table(rows),
        note="Differences are taken user by user. The best source is picked by NDCG on the very lists that it is then "
        "compared on, which flatters it.",
    )


def _ranking(document: dict, k: int) -> str:
    def chart(metric: str) -> str:
        return charts.interval_chart(
            best_first(
                ({"name": s["name"], **s["metrics"][f"{metric}@{k}"]} for s in document["systems"]), "value"
            ),
            title=f"{HEADINGS[metric]}@{k}", note="95 % interval", most=document["systems"][0]["name"],
        )  # fmt: skip

    measured = {m: heading for m, heading in HEADINGS.items() if f"{m}@{k}" in document["systems"][0]["metrics"]}
    tables = []
    for group in (ACCURATE, [m for m in measured if m not in (*ACCURATE, *BESIDE)], BESIDE):
        columns = {m: heading for m, heading in measured.items() if m in group}
        rows = [
            {"system": s["name"], **{m: half_width(s["metrics"][f"{m}@{k}"]) for m in columns}}
            for s in document["systems"]
        ]
        tables.append(report.html_table(rows, {"system": "system", **columns}))
    frontier = charts.scatter_chart(
        ({"name": s["name"], "x": s["metrics"][f"diversity@{k}"]["value"], "y": s["metrics"][f"ndcg@{k}"]["value"]}
         for s in leading(document)),
        title="Accuracy against diversity", x_label=f"topic diversity@{k}", y_label=f"NDCG@{k}",
        most=document["systems"][0]["name"],
    )  # fmt: skip
    sourced = document["sourced"]
    charted = ("ndcg", "recall", "replay", "true_ndcg", "true_value", "coverage", "diversity")
    return report.section(
        f"The funnel, each source alone, and baselines at {k}",
        report.grid(*(chart(m) for m in charted if m in measured), frontier),
        *tables,
        report.paragraph(
            f"All sources together propose {sourced['candidates']:,.0f} candidates a user and hold "
            f"{sourced['recall']['value']:.1%} of the items to find: the ceiling of everything that ranks them."
        ),
    )


def _repeats(document: dict) -> str:
    if not document["repeats"]:
        return ""
    rows = [
        {"of": row["of"], "users": row["users"], "to find": row["relevant"], "system": name}
        | {metric: half_width(figure, 4) for metric, figure in metrics.items()}
        for row in document["repeats"]
        for name, metrics in row["systems"].items()
    ]
    return report.section(
        "New items, repeats and both",
        report.html_table(rows),
        note="The same lists, measured by what the user had not had before the test window, had had, and by both.",
    )


def _heavy_ranker(document: dict, k: int) -> str:
    compared = document["heavy_ranker"]
    if not compared:
        return ""
    measured = {m: heading for m, heading in HEADINGS.items() if f"{m}@{k}" in compared[0]["metrics"]}
    rows = [
        {"against": f"funnel − {r['against']}", **{m: difference(r["metrics"][f"{m}@{k}"]) for m in measured}}
        for r in compared
    ]

    def chart(metric: str) -> str:
        return charts.interval_chart(
            ({"name": f"over {r['against']}", **r["metrics"][f"{metric}@{k}"]} for r in compared),
            title=f"{measured[metric]}@{k}", note="95 % interval", zero=True, form="+.3f",
        )  # fmt: skip

    return report.section(
        f"What ranking adds at {k}",
        report.grid(*(chart(m) for m in measured)),
        report.html_table(rows, {"against": "", **measured}),
        note="Both sides are slates as served, from the same candidates, with the same caps and the same exploration; "
        "differences are taken user by user.",
    )


def _every_k(document: dict) -> str:
    ks = document["k"]
    if len(ks) < 2:
        return ""

    funnel = document["systems"][0]["name"]
    # few enough to have their names at their ends; the others are grey
    first = [funnel, *(row["against"] for row in document["against"])]

    def chart(metric: str) -> str:
        rows = [
            {"series": s["name"], "x": k, "y": f["value"],
             **({"low": f["low"], "high": f["high"]} if s["name"] == funnel else {})}
            for s in document["systems"] for k in ks
            if (f := s["metrics"].get(f"{metric}@{k}")) is not None
        ]  # fmt: skip
        return charts.line_chart(rows, title=HEADINGS[metric], x_label="length of list", leading=first, log_x=True)

    charted = ("recall", "ndcg", "true_ndcg", "precision", "coverage")
    return report.section("By length of list", report.grid(*(chart(m) for m in charted if has(document, m))))


def _by_source(document: dict) -> str:
    rows = sorted(document["by_source"], key=lambda r: -r["slots"])
    columns = {
        "source": "source",
        "slots": "slots",
        "share": "share of slots",
        "alone": "proposed by it alone",
        "hits": "hits",
        "share_of_hits": "share of hits",
        "precision": "precision",
    }
    formats = dict.fromkeys(("share", "alone", "share_of_hits"), share)
    names = [r["source"] for r in rows]
    return report.section(
        "What each source brings to the slates",
        report.grid(
            charts.bar_chart(names, [r["share"] for r in rows], title="Share of slots", form=".1%"),
            charts.bar_chart(names, [r["precision"] for r in rows], title="Precision of its slots", form=".3f"),
        ),
        report.html_table(rows, columns, formats),
        note="An item that several sources proposed counts for each of them.",
    )


def _groups(document: dict) -> str:
    if not document["groups"]:
        return ""
    rows = [
        {"group": g["group"], "users": g["users"], **{m: half_width(v, 4) for m, v in g["metrics"].items()}}
        | {f"{m} over popularity": difference(v) for m, v in g["over_popularity"].items()}
        for g in document["groups"]
    ]
    return report.section("The funnel by what was known of the user", report.html_table(rows))


def _lost(document: dict, k: int) -> str:
    ages = [
        {"name": row["age"], "series": name, **figure["recall"]}
        for row in document["ages"]
        for name, figure in row["systems"].items()
    ]
    alike = [{"name": r["system"], **r["rank_biased_overlap"]} for r in document["overlap"]]
    return report.section(
        "Where what was to be found is lost, and what lists have in common",
        report.paragraph(lost_in_words(document)),
        report.paragraph(cut_in_words(document)) if document["cut"] else "",
        report.grid(
            charts.interval_chart(
                ({"name": r["fate"], **r} for r in document["lost"]), title="What becomes of the items to find",
                note="share, 95 % interval", most="shown", zero=True,
            ),
            charts.interval_chart(ages, title=f"Recall@{k} by age of the item", note="95 % interval"),
            charts.interval_chart(
                best_first(alike, "value"), title="Rank-biased overlap with the funnel", note="1: the same list"
            ),
        ),
        note="Not proposed by any source; taken out by a filter; left out by the light ranker's cut; ranked behind the "
        "slate; taken out by exploration, caps or safety; shown.",
    )  # fmt: skip


def _growth(document: dict) -> str:
    growth = document.get("growth")
    if not growth:
        return ""
    rows = [
        {"series": r["system"], "x": str(r["known"]), "y": r["value"],
         **({"low": r["low"], "high": r["high"]} if r["system"] == "funnel" else {})}
        for r in growth["rows"]
    ]  # fmt: skip
    last = [r for r in growth["rows"] if r["known"] == growth["known"][-1] and r["system"] != "funnel"]
    leaders = ["funnel", *(r["system"] for r in best_first(last, "value")[:3])]
    return report.section(
        "By how much is known of a person",
        report.grid(
            charts.line_chart(
                rows, title=f"NDCG@{growth['k']}", x_label="known interactions", leading=leaders,
                names=[str(n) for n in growth["known"]],
            )
        ),
        note=f"The same {growth['users']:,} people each time; of what they did only the latest interactions are known. "
        "What they were shown stays out of their lists, and whom they follow stays known.",
    )  # fmt: skip


def _positions(document: dict) -> str:
    rows = document["positions"]
    if not rows:
        return ""
    return report.section(
        "How much oftener the first places are looked at",
        report.grid(
            charts.interval_chart(
                ({"name": str(row["position"]), **row} for row in rows), note="95 % interval", zero=True,
                title="Taken, as a multiple of the first place",
            )
        ),
        note=positions_in_words(document),
    )  # fmt: skip


def _examples(document: dict) -> str:
    """Lists beside what their people took."""
    parts = []
    for person in document["examples"]:
        listed = [
            {"": row["rank"], "shown": _named(row), "reason": row["reason"], "taken": "✓" if row["taken"] else ""}
            for row in person["items"]
        ]
        took = [{"took": _named(row), "shown": "✓" if row["shown"] else ""} for row in person["took"]]
        parts += [
            report.paragraph(
                f"User {person['user']}: {person['known']:,} known interactions, NDCG {person['ndcg']:.3f}."
            ),
            report.grid(f"<div>{report.html_table(listed)}</div>", f"<div>{report.html_table(took)}</div>"),
        ]
    note = "From the best to the worst of a draw of test users: what they would have been shown, and what they took."
    return report.section("Some lists", *parts, note=note) if parts else ""


def _named(row: dict[str, Any]) -> str:
    """An item by its text, shortened, or else by its id."""
    text = " ".join(row["text"].split())
    return f"{row['item']}" if not text else text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _funnel(document: dict) -> str:
    rows = document["funnel"]
    return report.section(
        "Stages",
        report.grid(
            charts.bar_chart(
                [r["stage"] for r in rows], [r["out"] for r in rows], title="Candidates a user after each stage"
            ),
            charts.bar_chart([r["stage"] for r in rows], [r["ms_per_user"] for r in rows], title="Milliseconds a user"),
        ),
        report.html_table(
            list(stage_rows(document, difference)),
            {**COLUMNS, "changed": "changes", "ndcg": "NDCG", "diversity": "topic diversity", "authors": "authors"},
        ),
        note="What a stage brings: the slates with it less those of the same ranking without it, user by user; "
        "changes: the share of the slates that are others without it.",
    )


def _when(window: dict) -> str:
    return f"before the test rows: {window_text(window)}" if window["start"] is None else f"at {window['start']}"


def _method(document: dict) -> str:
    truth = document["truth"]
    published = "are left out" if document["truths"] == "reachable" else "stay in the denominators"
    return report.section(
        "How this was measured",
        *map(report.paragraph, document["remarks"]),
        report.paragraph(
            f"Every list was made from what was known {_when(document['window'])}. An item is to be found if its "
            f"user interacted with it in the window and never before. Of {truth['interactions']:,} pairs of user and "
            f"item, {truth['repeated']:,} were known to the user before; {truth['not_yet_published']:,} were published "
            f"only after the cutoff and {published}; {truth['seen_before']:,} had been shown before without "
            f"interaction, of which {truth['seen_left_out']:,} are left out, since no list may hold them. The funnel's "
            f"list is the slate as served, {document['slate_size']} items, and behind it the rest of the ranking, "
            "before exploration, caps and safety. Intervals are 95 % bootstrap-t intervals over users, that of "
            "coverage comes from the jackknife, those of shares of users are mid-P; where fewer than ten users differ "
            "from the rest there is none."
        ),
        *_of_truth(document),
        report.paragraph(
            "People could only turn to what the policy of that time showed them: a list is rewarded for what that "
            "policy liked too, and a good item that nobody was shown counts as wrong. Compare systems with one another "
            "on the same window, and settle what to serve by an experiment."
        ),
    )


def _of_truth(document: dict) -> list[str]:
    oracle = document["oracle"]
    if oracle is None:
        return []
    some = oracle["users"] < document["users"]
    asked = f", asked about {oracle['users']:,} users drawn with the seed" if some else ""
    text = (
        "The world behind this generated dataset knows how likely each person is to respond to each item. True NDCG "
        "takes as an item's gain its true expected utility by the weights of pipeline.utility (shown alone at the "
        f"top, at the cutoff, on the surface {oracle['surface']} and the person's usual device; at least 0) and as "
        f"ideal the best of the {oracle['items']:,.0f} items that the pipeline may show a person on average{asked}. "
        "True value is the expected utility of a place when the list is shown as one slate, where people tire of "
        "authors and topics and look less closely further down. What may not be shown to a person counts as an "
        "empty place."
    )
    return [report.paragraph(text)]


def best_first(rows: Iterable[dict[str, Any]], by: str) -> list[dict[str, Any]]:
    """Rows by a figure, the highest first, those without one last."""
    return sorted(rows, key=lambda row: -row[by] if row[by] is not None and row[by] == row[by] else float("inf"))
