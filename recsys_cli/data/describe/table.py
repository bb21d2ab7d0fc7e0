"""The description of a dataset on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape

from recsys_cli.report import number, percent

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

BARS = " ▁▂▃▄▅▆▇█"
WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


def moment(microseconds: int | None) -> str:
    """A moment as a reader wants it: 2022-04-25 03:12 UTC."""
    import datetime as dt

    if microseconds is None:
        return "–"
    return dt.datetime.fromtimestamp(microseconds / 1e6, dt.UTC).strftime("%Y-%m-%d %H:%M UTC")


def sparkline(values: list[float]) -> str:
    """One character a value, its height the share of the greatest."""
    top = max(values, default=0) or 1
    return "".join(BARS[round(v / top * (len(BARS) - 1))] for v in values)


def without_time(d: dict) -> str:
    """What there is in the place of time."""
    return "no time, order only" if d["has_order"] else "neither time nor order"


def spell(name: str) -> str:
    """A key of the description as words."""
    return name.replace("_", " ")


def tail_text(tail: dict | None) -> str:
    """The fitted tail of a distribution in words: α 2.41 ± 0.05 from 12 (n 843)."""
    if tail is None:
        return "–"
    return f"{tail['alpha']:.2f} ± {tail['standard_error']:.2f} from {tail['xmin']:,} (n {tail['n']:,})"


def _table(*columns: str, left: int = 1) -> Table:
    from rich.table import Table

    out = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for i, column in enumerate(columns):
        out.add_column(column, justify="left" if i < left else "right", no_wrap=True)
    return out


def _heading(console: Console, text: str) -> None:
    console.print(f"\n[bold]{text}[/bold]", highlight=False)


def render(console: Console, d: dict) -> None:
    """Print the document of `describe_dataset`."""
    c = d["counts"]
    when = (
        f"{moment(c['first'])} to {moment(c['last'])}, {c['days']:.1f} days"
        if c["days"] is not None
        else without_time(d)
    )
    console.print(f"[bold]{escape(d['name'])}[/bold] ({d['dataset']}, digest {d['digest']}): {when}", highlight=False)
    if d["splits"]:
        parts = ", ".join(f"{name} {part['rows']:,} rows" for name, part in d["splits"].items())
        console.print(f"published in parts: {parts}", highlight=False)
    rows = _table("", "count", left=1)
    for key, value in c.items():
        if key not in ("first", "last", "days"):
            rows.add_row(spell(key), percent(value) if key == "density" else number(value))
    console.print(rows)

    _actions(console, d)
    _distributions(console, d["distributions"])
    _homophily(console, d["homophily"])
    _time(console, d)
    _labels(console, d)


def _actions(console: Console, d: dict) -> None:
    unobserved = "" if d["negatives_observed"] else " (every impression carries one: non-engagement was not observed)"
    _heading(console, f"Actions{unobserved}")
    rows = _table("action", "polarity", "count", "rate", left=2)
    for a in d["actions"]:
        rows.add_row(a["action"], a["polarity"], number(a["count"]), percent(a["rate"]))
    console.print(rows)
    if d["dwell_seconds"] and d["dwell_seconds"]["mean"] is not None:
        w = d["dwell_seconds"]
        console.print(
            f"dwell: mean {w['mean']:.1f} s, median {w['median']:.1f} s, 90 % below {w['p90']:.1f} s",
            highlight=False,
        )


def _distributions(console: Console, distributions: dict) -> None:
    _heading(console, "Distributions")
    rows = _table("", "mean", "median", "max", "zero", "top 1 %", "Gini", "tail exponent")
    for name, x in distributions.items():
        rows.add_row(
            spell(name),
            number(x["mean"]),
            number(x["median"]),
            number(x["max"]),
            percent(x["zero_share"]),
            percent(x["top_percent_share"]),
            number(x["gini"]),
            tail_text(x["tail"]),
        )
    console.print(rows)


def _homophily(console: Console, h: dict | None) -> None:
    if h is None:
        return
    _heading(console, "Homophily")
    if h["follow_similarity"] is None:
        console.print("nobody who follows or is followed has a profile", highlight=False)
        return
    console.print(
        f"interests by {h['profiles_by']}: cosine of follows {h['follow_similarity']:.3f}, of random pairs "
        f"{h['random_similarity']:.3f}; similar (≥ 0.5): {percent(h['follow_similar_share'])} of follows, "
        f"{percent(h['random_similar_share'])} of random pairs",
        highlight=False,
    )
    if h["reciprocal_share"] is not None:
        console.print(f"mutual follows: {percent(h['reciprocal_share'])}", highlight=False)


def _time(console: Console, d: dict) -> None:
    s, r = d["sessions"], d["rhythm"]
    if s is not None:
        _heading(console, f"Sessions (from {s['from']})")
        rows = _table("", "mean", "median", "90 % below", "max")
        for name in ("impressions", "minutes", "gap_hours"):
            rows.add_row(spell(name), *(number(s[name][k]) for k in ("mean", "median", "p90", "max")))
        console.print(
            f"{number(s['count'])} sessions, {number(s['per_active_user'])} an active user", highlight=False
        )
        console.print(rows)
    if r is not None:
        _heading(console, "Rhythm (UTC)")
        console.print(f"impressions by hour     0 {sparkline(r['impressions_by_hour'])} 23", highlight=False)
        week = "  ".join(
            f"{n} {v / max(sum(r['impressions_by_weekday']), 1):.0%}"
            for n, v in zip(WEEKDAYS, r["impressions_by_weekday"], strict=True)
        )
        console.print(f"impressions by weekday  {week}", highlight=False)
        console.print(f"impressions by day      {sparkline(r['impressions_by_day'][-60:])}", highlight=False)
        if any(r["new_items_by_day"] or ()):
            console.print(
                f"new items by day        {sparkline(r['new_items_by_day'][-60:])}", highlight=False
            )


def _labels(console: Console, d: dict) -> None:
    if d["safety"]:
        _heading(console, "Safety labels")
        rows = _table("label", "items known", "mean", "items above 0.5", "impressions above 0.5")
        for x in d["safety"]:
            rows.add_row(
                x["label"],
                number(x["items_known"]),
                number(x["mean"]),
                percent(x["items_above_half"]),
                percent(x["impressions_above_half"]),
            )
        console.print(rows)
    if d["categories"]:
        _heading(console, "Categories")
        for name, counts in d["categories"].items():
            listed = ", ".join(f"{v} {n:,}" for v, n in counts.items())
            console.print(f"{name}: {listed}", highlight=False, markup=False)
