"""The result of a suite as tables: a row a system with interval, difference to the best part, seconds and memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape

if TYPE_CHECKING:
    from rich.console import Console

SHORT = {"ndcg": "NDCG", "recall": "Recall", "precision": "Prec.", "map": "MAP", "mrr": "MRR", "hit_rate": "Hits",
         "true_ndcg": "true NDCG"}


def suite_rows(document: dict) -> list[dict]:
    """One row a task, system and figure: `task`, `system`, `group`, `metric`, `value`, `low`, `high`, seconds,
    memory, `source` and `error`."""
    out = []
    for task in document["tasks"]:
        for row in task["rows"]:
            base = {"task": task["name"], "system": row["name"], "group": row["group"]}
            costs = {n: row[n] for n in ("fit_seconds", "rank_seconds", "request_ms", "peak_memory_mib")}
            told = {"source": "ours", "error": row.get("error") or row.get("absent")}
            figures = dict(row["figures"])
            if row["to_best"] is not None:
                figures[f"{task['metrics'][0]} less that of the best part"] = row["to_best"]
            for metric, figure in figures.items() or [(None, {"value": None, "low": None, "high": None})]:
                out.append(base | {"metric": metric, **figure} | costs | told)
        for other in task["published"]:
            for metric, value in other["figures"].items():
                out.append(
                    {"task": task["name"], "system": other["method"], "group": "published", "metric": metric,
                     "value": value, "low": None, "high": None, "fit_seconds": None, "rank_seconds": None,
                     "request_ms": None, "peak_memory_mib": None, "source": other["source"], "error": None}
                )
    return out


def render_suite(console: Console, document: dict) -> None:
    """A table a task, and what the tasks come to."""
    console.print(document["title"], style="bold", highlight=False, markup=False)
    for task in document["tasks"]:
        console.print("")
        _render_task(console, task)
    goals = [(task, goal) for task in document["tasks"] for goal in task["goal"]]
    ratios = [task for task in document["tasks"] if task["ratio"] is not None]
    if ratios or goals:
        console.print("")
    for task in ratios:
        console.print(f"{task['name']}: the funnel has {task['ratio']:.3f} of the best part", highlight=False)
    for task, goal in goals:
        got = "not measured" if goal["value"] is None else f"{goal['value']:.4f}"
        said = "reached" if goal["met"] else "missed"
        console.print(f"{task['name']}, {goal['name']}: {got}, to reach {goal['wanted']:g}: {said}", highlight=False,
                      markup=False, style=None if goal["met"] else "yellow")


def _render_task(console: Console, task: dict) -> None:
    from rich.table import Table

    console.print(task["title"], style="bold", highlight=False, markup=False)
    if "error" in task:
        console.print(f"failed: {task['error']}", style="red", highlight=False, markup=False)
        return
    rows = [row for row in task["rows"] if row["group"] != "action"]
    names = _metrics(task, rows)
    rows.sort(key=lambda row: -row["figures"].get(names[0], {"value": -1})["value"])
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("system", overflow="fold", max_width=26)
    for heading in (_heading(names[0]), "95 %", *map(_heading, names[1:]), "to best part, 95 %", "fit s", "rank s",
                    "ms", "MiB"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        figures = row["figures"]
        if names[0] not in figures:
            continue
        first, style = figures[names[0]], {"funnel": "bold", "peer": "dim"}.get(row["group"])
        others = ["" if n not in figures else _four(figures[n]["value"]) for n in names[1:]]
        less = row["to_best"]
        gap = "best part" if row["best_part"] else "" if less is None else f"{_signed(less['value'])} {_span(less)}"
        table.add_row(escape(row["name"]), _four(first["value"]), _span(first), *others, gap,
                      _number(row["fit_seconds"], 1), _number(row["rank_seconds"], 1), _number(row["request_ms"], 1),
                      _number(row["peak_memory_mib"], 0), style=style)
    for other in task["published"]:
        known = [other["figures"].get(n) for n in names]
        shown = ["" if v is None else _four(v) for v in known]
        table.add_row(f"{escape(other['method'])} *", shown[0], "", *shown[1:], "", "", "", "", "", style="dim")
    console.print(table)
    _render_rest(console, task)


def _render_rest(console: Console, task: dict) -> None:
    actions = [row for row in task["rows"] if row["group"] == "action"]
    if actions:
        console.print("ROC-AUC on logged impressions, 95 %", highlight=False)
    for row in actions:
        figure = row["figures"]["roc_auc"]
        console.print(f"  {row['name']:<14} {_four(figure['value'])}  {_span(figure)}", highlight=False, markup=False)
    for row in task["rows"]:
        if "error" in row or "absent" in row:
            said = f"failed: {row['error']}" if "error" in row else row["absent"]
            console.print(f"{row['name']}: {said}", highlight=False, markup=False,
                          style="red" if "error" in row else "yellow")
    order = task.get("told", {}).get("order")
    if order:
        console.print(f"lists are ordered by {order['known']}: {task['told']['why']}", style="dim", highlight=False,
                      markup=False)
    counts = ", ".join(f"{v:,} {k.replace('_', ' ')}" for k, v in task["data"].items())
    sources = "; ".join(dict.fromkeys(p["source"] for p in task["published"]))
    console.print(f"{counts}; {task['seconds']:.0f} s{'; * ' + sources if sources else ''}", style="dim",
                  highlight=False, markup=False)


def _metrics(task: dict, rows: list[dict]) -> list[str]:
    """Figures that some row has: those of the task, then others."""
    found = dict.fromkeys(n for row in rows for n in row["figures"])
    mine = [n for n in task["metrics"] if n in found]
    return [*mine, *(n for n in found if n not in mine)] or task["metrics"]


def _heading(metric: str) -> str:
    name, _, k = metric.partition("@")
    return f"{SHORT.get(name, name)}@{k}" if k else name


def _four(value: float) -> str:
    return f"{value:.4f}".removeprefix("0")


def _signed(value: float) -> str:
    return f"{'−' if value < 0 else '+'}{_four(abs(value))}"


def _span(figure: dict) -> str:
    """An interval to three places: it says no more."""
    low, high = (f"{figure[side]:.3f}".replace("0.", ".", 1).replace("-", "−") for side in ("low", "high"))
    return f"{low} {high}"


def _number(value: float | None, places: int) -> str:
    if value is None or value != value:
        return ""
    return f"{value:,.{0 if value >= 100 else places}f}"
