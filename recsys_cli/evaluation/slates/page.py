"""A report of slates as one HTML page: verdict in words, charts, segments, comparisons; opened without a network."""

from __future__ import annotations

import html
from typing import Any

from recsys_cli import charts, report
from recsys_cli.evaluation.period import window_text
from recsys_cli.evaluation.slates.metrics import BEYOND, HEADINGS, OF_ALL, OF_SAMPLES
from recsys_cli.evaluation.slates.tables import ONE_BY_ONE, bubble_in_words, cell, in_words, sample_rows

CHARTED = ("ndcg", "graded_ndcg", "recall", "hit_rate", "auc", "coverage", "diversity", "novelty", "popularity")
"""Metrics that have a chart of their own, where they were measured."""


SIDE_BY_SIDE = 3
"""Systems whose lists stand beside one another."""
LONGEST = 90
"""Letters of an item's text that are shown."""


def slates_page(document: dict[str, Any]) -> str:
    """The whole page from the document of a `SlateReport`."""
    k = document["headline"]
    sections = [
        _glance(document, k), _systems(document, k), _lengths(document), _samples(document, k),
        *_comparisons(document, k), *_segments(document, k), _mix(document), _bubble(document),
        *_providers(document, k), *_examples(document), _method(document),
    ]  # fmt: skip
    where = f" · {document['dataset']['name']} · {window_text(document['window'])}" if "dataset" in document else ""
    names = ", ".join(s["name"] for s in document["systems"])
    return report.page(
        "Evaluation of slates", [s for s in sections if s], f"{names}{where}", style=charts.STYLE, end=charts.scripts()
    )


def _glance(document: dict, k: int) -> str:
    first = document["systems"][0]["metrics"]
    figures: dict[str, object] = {"users": document["users"], "items to find": document["truth"]["relevant"]}
    figures |= {
        f"{HEADINGS[m]}@{k}": cell(first[f"{m}@{k}"]) for m in ("ndcg", "recall", "hit_rate", "coverage")
        if f"{m}@{k}" in first
    }  # fmt: skip
    compared = document["comparisons"]
    words = [report.paragraph(c["sentence"]) for c in compared if c["sentence"] and len(compared) <= ONE_BY_ONE]
    parts = charts.interval_chart(
        ({"name": c["second"], **c["metrics"][document["quoted"]]} for c in compared), zero=True, form="+.4f",
        title=f"{document['quoted']} less that of {document['systems'][0]['name']}", note="95 % interval",
    )  # fmt: skip
    # of the first system alone: the others' stand with their segments
    first_name = document["systems"][0]["name"]
    mine = [a for a in document["segments"] if a["system"] == first_name]
    words += [report.paragraph(_lowest(a, k)) for a in mine if _lowest(a, k)]
    words += [report.paragraph(remark) for remark in document["remarks"]]
    return report.section("At a glance", *words, report.facts(figures), parts)


def _lowest(attribute: dict, k: int) -> str:
    metric, row = next(((m, w) for m, w in attribute["worst"].items() if m == f"ndcg@{k}"), (None, None))
    if row is None:
        return ""
    noise = "beyond noise" if row["beyond_noise"] else "within noise"
    return (
        f"{attribute['system']}, by {attribute['by']}: lowest for {row['segment']} ({row['users']:,} users), "
        f"{metric} {row['value']:.3f} below the others ({row['low']:+.3f} to {row['high']:+.3f}), {noise}."
    )


def _systems(document: dict, k: int) -> str:
    systems = document["systems"]
    measured = [m for m in HEADINGS if f"{m}@{k}" in systems[0]["metrics"] and m not in OF_SAMPLES]
    drawn = [
        charts.interval_chart(
            ({"name": s["name"], **s["metrics"][f"{m}@{k}"]} for s in systems),
            title=f"{HEADINGS[m]}@{k}",
            note="95 % interval" if m not in OF_ALL[1:] else "",
        )
        for m in CHARTED
        if m in measured
    ]
    tables = []
    for group in ([m for m in measured if m not in BEYOND and m not in OF_ALL],
                  [m for m in measured if m in BEYOND or m in OF_ALL]):  # fmt: skip
        if group:
            rows = [{"": s["name"], **{m: cell(s["metrics"][f"{m}@{k}"]) for m in group}} for s in systems]
            tables.append(report.html_table(rows, {"": "", **{m: HEADINGS[m] for m in group}}))
    return report.section(f"At {k}", report.grid(*drawn), *tables)


def _lengths(document: dict) -> str:
    ks = document["k"]
    if len(ks) < 2:
        return ""
    drawn = []
    for metric in ("ndcg", "recall", "precision", "coverage"):
        rows = [
            {"series": s["name"], "x": k, "y": f["value"], "low": f["low"], "high": f["high"]}
            for s in document["systems"] for k in ks
            if (f := s["metrics"].get(f"{metric}@{k}")) is not None
        ]  # fmt: skip
        drawn.append(charts.line_chart(rows, title=HEADINGS[metric], x_label="length of list", log_x=True))
    return report.section("By length of list", report.grid(*drawn))


def _samples(document: dict, k: int) -> str:
    if not document["samples"]:
        return ""
    heads = {"system": "", "metric": "", "alone": "among all", "sampled": "sampled", "corrected": "corrected"}
    heads["em"] = "by EM"
    return report.section(
        "Sampled metrics", report.html_table(sample_rows(document, k), heads),
        note=f"{in_words(document['samples']).capitalize()} (corrected: Krichene and Rendle, KDD 2020; by EM: "
        "the distribution of ranks that makes the drawn ones likeliest, Li et al., KDD 2020).",
    )  # fmt: skip


def _comparisons(document: dict, k: int) -> list[str]:
    out = []
    for c in document["comparisons"] if len(document["comparisons"]) <= ONE_BY_ONE else ():
        there = {m: r for m, r in c["metrics"].items() if m.endswith(f"@{k}") and r["value"] == r["value"]}
        accuracy = [m for m in there if m.partition("@")[0] not in BEYOND]
        chart = charts.interval_chart(
            ({"name": HEADINGS[m.partition("@")[0]], **there[m]} for m in accuracy), zero=True, form="+.4f",
            title=f"Difference at {k}", note="95 % interval",
        )  # fmt: skip
        rows = [
            {
                "metric": f"{HEADINGS[m.partition('@')[0]]}@{k}", "first": f"{r['first']:.4f}",
                "second": f"{r['second']:.4f}", "difference": f"{r['value']:+.4f}",
                "p": "–" if r["p_holm"] is None else f"{r['p_holm']:.3f}", "verdict": r["verdict"],
                "detectable": "–" if r["detectable"] is None else f"{r['detectable']:.4f}",
            }
            for m, r in there.items()
        ]  # fmt: skip
        heads = {"metric": "", "first": c["first"], "second": c["second"], "difference": "difference",
                 "p": "p (Holm)", "verdict": "", "detectable": "detectable"}  # fmt: skip
        users = [{n: v for n, v in row.items() if n != "metric"} for row in c["users"]]
        changes = report.grid(
            *(f"<div><h3>{title}</h3>{report.html_table(rows_)}</div>"
              for title, rows_ in (("Users with the largest change", users),
                                   ("Items with the largest change", c["items"]))
              if rows_)
        )  # fmt: skip
        note = "Detectable: the smallest true difference that these users would have shown with 80 % chance."
        out.append(
            report.section(
                f"{c['second']} less {c['first']}",
                report.grid(chart),
                report.html_table(rows, heads),
                changes,
                note=note,
            )
        )
    return out


def _segments(document: dict, k: int) -> list[str]:
    out = []
    for by in dict.fromkeys(a["by"] for a in document["segments"]):
        mine = [a for a in document["segments"] if a["by"] == by]
        shown = [m for m in ("ndcg", "recall", "hit_rate") if f"{m}@{k}" in mine[0]["segments"][0]["metrics"]]
        drawn = [
            charts.interval_chart(
                ({"name": row["segment"], "series": a["system"], **row["metrics"][f"{m}@{k}"]}
                 for a in mine for row in a["segments"]),
                title=f"{HEADINGS[m]}@{k}", note="95 % interval",
            )
            for m in shown
        ]  # fmt: skip
        rows = [
            {"system": a["system"], "segment": row["segment"], "users": row["users"],
             **{HEADINGS[m]: cell(row["metrics"][f"{m}@{k}"]) for m in shown}}
            for a in mine for row in a["segments"]
        ]  # fmt: skip
        remark = mine[0]["remark"] or ""
        out.append(report.section(f"By {by}", report.grid(*drawn), report.html_table(rows), note=remark))
    return out


def _providers(document: dict, k: int) -> list[str]:
    out = []
    for system in document["systems"]:
        rows = system.get("providers") or []
        if rows:
            told = [{**r, "exposure": f"{r['exposure']:.2%}", "merit": f"{r['merit']:.2%}"} for r in rows]
            note = (
                "Exposure: a share of places, the first worth most. Merit: a share of the relevant pairs. "
                "The authors whose shares are furthest apart."
            )
            table = report.html_table(
                told, {"author": "author", "exposure": "exposure", "merit": "merit", "items": "items"}
            )
            out.append(report.section(f"Authors in {system['name']}, first {k}", table, note=note))
    return out


def _mix(document: dict) -> str:
    systems = [s for s in document["systems"] if s.get("sources")]
    if not systems:
        return ""
    rows = [
        {"name": row["source"], "series": s["name"], "value": row["share"], "alone": row["alone"]}
        for s in systems for row in s["sources"]
    ]  # fmt: skip
    told = [
        {"system": r["series"], "source": r["name"], "share": f"{r['value']:.1%}", "alone": f"{r['alone']:.1%}"}
        for r in rows
    ]
    chart = charts.interval_chart(rows, title="Share of places", zero=True, form=".1%")
    heads = {"system": "", "source": "source", "share": "share of places", "alone": "proposed by it alone"}
    return report.section(
        "Where the lists come from", report.grid(chart), report.html_table(told, heads),
        note="An item that several sources proposed counts for each of them.",
    )  # fmt: skip


def _bubble(document: dict) -> str:
    systems = [s for s in document["systems"] if s.get("filter_bubble")]
    if not systems:
        return ""
    rows = [
        {"series": f"{s['name']}, {kind}", "x": str(row["session"]), "y": row[kind]["value"], "low": row[kind]["low"],
         "high": row[kind]["high"]}
        for s in systems for kind in ("taking", "leaving") for row in s["filter_bubble"]["rows"]
    ]  # fmt: skip
    names = [str(row["session"]) for row in systems[0]["filter_bubble"]["rows"]]
    chart = charts.line_chart(rows, title="Effective number of topics", x_label="session", names=names, form=".2f")
    return report.section(
        "Filter bubble", *(report.paragraph(f"{s['name']}: {bubble_in_words(s)}") for s in systems), report.grid(chart)
    )


def _examples(document: dict) -> list[str]:
    """Lists of the first few systems beside one another, and what their people took."""
    parts = []
    for person in document["examples"]:
        blocks = []
        for name, of in list(person["lists"].items())[:SIDE_BY_SIDE]:
            told = any(r.get("reason") for r in of["items"])  # of runs; nobody knows why a file lists what it lists
            rows = [
                {"": r["rank"], "item": text_of(r), **({"reason": r.get("reason", "")} if told else {}),
                 "taken": "✓" if r["taken"] else ""}
                for r in of["items"]
            ]  # fmt: skip
            title = f"<h3>{html.escape(name)}: NDCG {of['ndcg']:.3f}</h3>"
            blocks.append(f"<div>{title}{report.html_table(rows)}</div>")
        took = [{"took": text_of(r)} for r in person["took"]]
        parts.append(report.paragraph(f"User {person['user']}"))
        parts.append(report.grid(*blocks, f"<div><h3>took</h3>{report.html_table(took)}</div>"))
    note = "From the best to the worst of the first system's lists."
    return [report.section("Some lists", *parts, note=note)] if parts else []


def text_of(row: dict[str, Any]) -> str:
    """An item by its text, shortened, or else by its id."""
    text = row["text"]
    return str(row["item"]) if not text else text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _method(document: dict) -> str:
    by_reason: dict[str, list[str]] = {}
    for metric, why in document["left_out"].items():
        by_reason.setdefault(why, []).append(HEADINGS[metric])
    lines = [f"Left out: {', '.join(metrics)} ({why})." for why, metrics in by_reason.items()]
    lines += [f"{s['name']}: {count:,} {what}." for s in document["systems"] for what, count in s["rows"].items()]
    lines += [
        f"Truth: {count:,} {what}." for what, count in document["truth"].items() if what not in ("relevant", "graded")
    ]
    how = (
        "bootstrap-t intervals over users: what differs from day to day is not in them. Those of shares of "
        "users are mid-P; of other figures there is none where fewer than ten users differ from the rest"
        if document["days"] is None
        else f"two-way intervals over users and {document['days']} days"
    )
    lines.append(
        "Means are over users with anything to find; a user without a list counts with an empty one. Intervals are "
        f"95 % {how}. Differences are taken user by user, tested by the paired t-test and corrected by Holm."
    )
    return report.section("How this was measured", *map(report.paragraph, lines))
