"""The result of a suite as a page in Markdown: a table a task, the product beside its peers and its best part."""

from __future__ import annotations

from typing import Any

SHOWN = ("funnel", "peer", "baseline")
"""Groups of rows on the page; of the parts the best one stands beside them."""


def suite_page(document: dict[str, Any], file: str) -> str:
    """The page; file: the suite as it was named on the command line."""
    first = document["tasks"][0]["metrics"][0] if document["tasks"] else ""
    lines = [
        f"# {document['title']}",
        "",
        f"Written by `recsys benchmark {file} --from DIR --page FILE` on {document['created_at'][:10]}, "
        f"{document['cores']} cores, seed {document['seed']}. Intervals are 95 %, by resampling users; *ours less* is "
        f"our list's {_plain(first)} less that of the row, person by person, with its interval. Other toolkits run in "
        "virtual environments of their own, with the settings that their scripts name; ours is trained as the task "
        "says, else with its defaults, and its seconds are those of importing and training. Seconds are by the clock.",
        "",
    ]
    for task in document["tasks"]:
        lines += _task(task)
    return "\n".join(lines).rstrip() + "\n"


def _task(task: dict[str, Any]) -> list[str]:
    out = [f"## {task['title']}", ""]
    if "error" in task:
        return [*out, f"Failed: {task['error']}", ""]
    counts = ", ".join(f"{value:,} {name.replace('_', ' ')}" for name, value in task["data"].items())
    out += [f"{counts}.", ""]
    names = task["metrics"]
    out.append(f"| system | {' | '.join(map(_plain, names))} | ours less | fit s | rank s | peak MiB |")
    out.append("|---|" + "---:|" * (len(names) + 4))
    rows = [row for row in task["rows"] if names[0] in row["figures"] and (row["group"] in SHOWN or row["best_part"])]
    for row in sorted(rows, key=lambda r: -r["figures"][names[0]]["value"]):
        figures = [_first(row["figures"][names[0]])]
        figures += [f"{row['figures'][n]['value']:.4f}" if n in row["figures"] else "" for n in names[1:]]
        name = {"funnel": f"**{row['name']}**"}.get(row["group"], row["name"])
        name += " (our best part)" if row["best_part"] else ""
        costs = (_number(row[n], d) for n, d in (("fit_seconds", 1), ("rank_seconds", 2), ("peak_memory_mib", 0)))
        out.append(f"| {name} | {' | '.join(figures)} | {_less(row.get('funnel_less'))} | {' | '.join(costs)} |")
    out.append("")
    for row in task["rows"]:
        if told := row.get("absent") or (f"failed: {row['error']}" if "error" in row else None):
            out += [f"- {row['name']}: {told}"]
    out += [f"- {line}" for line in verdicts(task)]
    return [*out, ""]


def verdicts(task: dict[str, Any]) -> list[str]:
    """For each peer that the product is not surely above, a sentence; one where it is above all."""
    peers = [row for row in task["rows"] if row.get("funnel_less") is not None]
    if not peers:
        return []
    below = [row["name"] for row in peers if _side(row["funnel_less"]) < 0]
    tied = [row["name"] for row in peers if _side(row["funnel_less"]) == 0]
    out = [f"below {', '.join(below)}"] if below else []
    out += [f"not to be told from {', '.join(tied)}"] if tied else []
    return out or [f"above every peer that ran ({len(peers)}), beyond noise"]


def _side(less: dict[str, float]) -> int:
    """1 where the difference is surely above 0, -1 where it is below, 0 where that is open; without an interval, as
    where next to everybody has the same difference, its sign."""
    low, high = (less["low"], less["high"]) if less["low"] == less["low"] else (less["value"], less["value"])
    return int(low > 0) - int(high < 0)


def _plain(metric: str) -> str:
    name, _, k = metric.partition("@")
    name = name.upper() if name in ("ndcg", "map", "mrr") else name.replace("_", " ").capitalize()
    return f"{name}@{k}" if k else name


def _first(figure: dict[str, float]) -> str:
    span = "" if figure["low"] != figure["low"] else f" [{figure['low']:.3f}, {figure['high']:.3f}]"
    return f"{figure['value']:.4f}{span}"


def _less(figure: dict[str, float] | None) -> str:
    if figure is None:
        return ""
    span = "" if figure["low"] != figure["low"] else f" [{figure['low']:+.3f}, {figure['high']:+.3f}]"
    return f"{figure['value']:+.4f}{span}"


def _number(value: float | None, places: int) -> str:
    return "" if value is None or value != value else f"{value:,.{places}f}"
