"""The result of a benchmark of rankers: a table a view of the test rows, ours among the published."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

ACTIONS_SHOWN = 8


def render_impressions(console: Console, document: dict) -> None:
    """A table of all test rows with ECE and costs, and one of each other view; the best of a column is underlined."""
    names = metric_names(document)
    actions = [n for n in names if ", " not in n and not n.endswith(" ECE")][:ACTIONS_SHOWN]
    other = list(dict.fromkeys(n.split(", ", 1)[1] for n in names if ", " in n))
    rows = [{"method": m["name"], "ours": True, **m} for m in document["models"]]
    rows += [{"method": p["method"], "ours": False, "figures": p["figures"], "source": p["source"]}
             for p in document["published"]]
    console.print(f"{document['title']}: ROC-AUC on all test rows", style="bold", highlight=False)
    console.print(_table(rows, actions, actions, costs=_ece(names)))
    for view in other:
        keys = [f"{a}, {view}" for a in actions]
        known = [r for r in rows if any(r["figures"].get(k) is not None for k in keys)]
        console.print(f"\n{view[0].upper()}{view[1:]}", style="bold", highlight=False)
        console.print(_table(known, actions, keys, costs=None))
    sources = {p["source"] for p in document["published"]}
    counts = ", ".join(f"{v:,} {k.replace('_', ' ')}" for k, v in document["data"].items())
    console.print(
        f"{counts}; sources and features {document['feature_seconds']:.1f} s for all; ms: 500 rows on one core\n"
        f"not bold: {'; '.join(sorted(sources))}", style="dim", highlight=False,
    )
    render_failures(console, document)


def metric_names(document: dict) -> list[str]:
    """Names of the figures in the order of the protocol; of the published ones where every model failed."""
    ours = dict.fromkeys(name for m in document["models"] for name in m["figures"])
    return list(ours or dict.fromkeys(name for p in document["published"] for name in p["figures"]))


def render_failures(console: Console, document: dict) -> None:
    """A line a model that has no figures, with the reason."""
    for model in document["models"]:
        if "error" in model:
            console.print(f"{model['name']} failed: {model['error']}", style="red", highlight=False, markup=False)


def _ece(names: list[str]) -> str:
    return next((n for n in names if n.endswith(" ECE")), "")


def _table(rows: list[dict], actions: list[str], keys: list[str], costs: str | None):
    from rich.table import Table

    def value(row: dict, key: str) -> float | None:
        return row["figures"].get(key)

    def shown(x: float | None) -> str:
        return "" if x is None or x != x else f"{x:.4f}".removeprefix("0")

    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("ranker", overflow="fold")
    for action in actions:
        table.add_column(_short(action), justify="right")
    for heading in ("ECE", "fit s", "ms") if costs is not None else ():
        table.add_column(heading, justify="right")
    known = {k: [v for r in rows if (v := value(r, k)) is not None and v == v] for k in keys}
    best = {k: round(max(v), 4) if v else None for k, v in known.items()}
    for row in sorted(rows, key=lambda r: -max((value(r, k) or 0 for k in keys[:1]), default=0)):
        cells = []
        for key in keys:
            x = value(row, key)
            cells.append(f"[underline]{shown(x)}[/]" if x is not None and round(x, 4) == best[key] else shown(x))
        if costs is not None and "error" in row:
            cells += ["", "failed", ""]
        elif costs is not None and row["ours"]:
            cells += [shown(value(row, costs)), f"{row['fit_seconds']:.0f}", f"{row['serve_ms']:.1f}"]
        table.add_row(row["method"], *cells, style="bold" if row["ours"] else None)
    return table


def _short(action: str) -> str:
    """An action in at most eight letters, so that eight of them fit beside a name."""
    return action if len(action) <= 8 else action.split("_")[0][:8]
