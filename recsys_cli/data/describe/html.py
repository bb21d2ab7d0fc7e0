"""The description of a dataset as one HTML file."""

from __future__ import annotations

from recsys_cli.data.describe.table import WEEKDAYS, moment, spell, tail_text, without_time
from recsys_cli.report import (
    bar_chart,
    column_chart,
    facts,
    grid,
    html_table,
    line_chart,
    page,
    paragraph,
    percent,
    section,
)


def html_report(d: dict) -> str:
    """Draw the document of `describe_dataset`."""
    c = d["counts"]
    when = (
        f"{moment(c['first'])} to {moment(c['last'])}"
        if c["first"] is not None
        else without_time(d)
    )
    shown = {spell(k): v for k, v in c.items() if k not in ("first", "last", "density") and v is not None}
    shown["days"] = round(c["days"], 1) if c["days"] is not None else "–"
    sections = [
        section("Counts", facts({**shown, "density": percent(c["density"])})),
        _actions(d),
        _distributions(d["distributions"]),
    ]
    if d["homophily"]:
        sections.append(_homophily(d["homophily"]))
    if d["rhythm"]:
        sections.append(_rhythm(d["rhythm"]))
    if d["sessions"]:
        s = d["sessions"]
        rows = [{"": spell(k), **s[k]} for k in ("impressions", "minutes", "gap_hours")]
        sections.append(
            section(
                "Sessions",
                html_table(
                    rows, {"": "", "mean": "mean", "median": "median", "p90": "90 % below", "max": "max"}
                ),
                note=f"{s['count']:,} sessions told from {s['from']}; {s['per_active_user']:.2f} an active user.",
            )
        )
    if d["safety"]:
        sections.append(
            section(
                "Safety labels",
                html_table(
                    d["safety"],
                    {
                        "label": "label",
                        "items_known": "items known",
                        "mean": "mean",
                        "items_above_half": "items above 0.5",
                        "impressions_above_half": "impressions above 0.5",
                    },
                    {"items_above_half": percent, "impressions_above_half": percent},
                ),
            )
        )
    if d["categories"]:
        charts = [bar_chart(list(v), list(v.values()), title=name) for name, v in d["categories"].items()]
        sections.append(section("Categories", grid(*charts)))
    return page(f"Dataset {d['name']}", sections, f"{d['dataset']} · digest {d['digest']} · {when}")


def _actions(d: dict) -> str:
    names = [f"{a['action']} (−)" if a["polarity"] == "negative" else a["action"] for a in d["actions"]]
    parts = [bar_chart(names, [a["rate"] for a in d["actions"]], title="Rate of each action", write=percent)]
    if d["by_position"] and d["by_position"]["position"]:
        p = d["by_position"]
        parts.append(
            line_chart(
                {"interaction rate": (p["position"], p["interaction_rate"])},
                title="Interactions by position",
                x_label="position (0 is the top)",
                y_label="share of impressions",
                from_zero=True,
            )
        )
    note = (
        ""
        if d["negatives_observed"]
        else "Every impression carries a positive action: non-engagement was not observed."
    )
    dwell = d["dwell_seconds"]
    text = (
        paragraph(
            f"Dwell: mean {dwell['mean']:.1f} s, median {dwell['median']:.1f} s, 90 % below {dwell['p90']:.1f} s."
        )
        if dwell and dwell["mean"] is not None
        else ""
    )
    return section("Actions", grid(*parts), text, note=note)


def _distributions(distributions: dict) -> str:
    charts, rows = [], []
    for name, x in distributions.items():
        rows.append(
            {
                "": spell(name),
                "mean": x["mean"],
                "median": x["median"],
                "max": x["max"],
                "none": x["zero_share"],
                "top": x["top_percent_share"],
                "gini": x["gini"],
                "tail": tail_text(x["tail"]),
            }
        )
        if not x["ccdf"]["x"]:
            continue
        series = {"observed": (x["ccdf"]["x"], x["ccdf"]["share"])}
        if tail := x["tail"]:
            at = [v for v in x["ccdf"]["x"] if v >= tail["xmin"]]
            start = next((s for v, s in zip(*x["ccdf"].values(), strict=True) if v >= tail["xmin"]), 0)
            low = tail["xmin"] - 0.5
            series[f"fitted tail, α = {tail['alpha']:.2f}"] = (
                at,
                [start * ((v - 0.5) / low) ** (1 - tail["alpha"]) for v in at],
            )
        charts.append(
            line_chart(
                series,
                title=spell(name).capitalize(),
                log_x=True,
                log_y=True,
                points=["observed"],
                x_label="count k",
                y_label="share with ≥ k",
            )
        )
    table = html_table(
        rows,
        {
            "": "",
            "mean": "mean",
            "median": "median",
            "max": "max",
            "none": "with none",
            "top": "held by top 1 %",
            "gini": "Gini",
            "tail": "tail exponent α",
        },
        {"none": percent, "top": percent},
    )
    return section(
        "Distributions",
        table,
        grid(*charts),
        note=(
            "Tails: power law P(x) ∝ x^−α fitted by maximum likelihood from the xmin with the least Kolmogorov–Smirnov "
            "distance (Clauset et al. 2009). A straight line is no proof of a power law."
        ),
    )


def _homophily(h: dict) -> str:
    if h["follow_similarity"] is None:
        return section(
            "Homophily", paragraph("Nobody who follows or is followed has a profile of interests.")
        )
    mutual = (
        f" {percent(h['reciprocal_share'])} of follows are mutual."
        if h["reciprocal_share"] is not None
        else ""
    )
    return section(
        "Homophily",
        grid(
            bar_chart(
                ["follows", "random pairs"],
                [h["follow_similarity"], h["random_similarity"]],
                title="Mean cosine of interest profiles",
            ),
            bar_chart(
                ["follows", "random pairs"],
                [h["follow_similar_share"], h["random_similar_share"]],
                title="Share of similar pairs (cosine ≥ 0.5)",
                write=percent,
            ),
        ),
        note=f"Profiles count what people engaged with and wrote, by {h['profiles_by']}.{mutual}",
    )


def _rhythm(r: dict) -> str:
    days = r["days"]
    charts = [
        column_chart(range(24), r["impressions_by_hour"], title="Impressions by hour", x_label="hour (UTC)"),
        column_chart(WEEKDAYS, r["impressions_by_weekday"], title="Impressions by weekday"),
        line_chart(
            {
                "impressions": (range(len(days)), r["impressions_by_day"]),
                "interactions": (range(len(days)), r["interactions_by_day"]),
            },
            title="By day",
            x_names=[d[5:] for d in days],
            from_zero=True,
        ),
        line_chart(
            {"active users": (range(len(days)), r["active_users_by_day"])},
            title="Active users by day",
            x_names=[d[5:] for d in days],
            from_zero=True,
        ),
    ]
    if any(r["new_items_by_day"] or ()):
        charts.append(column_chart([d[5:] for d in days], r["new_items_by_day"], title="New items by day"))
    return section("Rhythm", grid(*charts))
