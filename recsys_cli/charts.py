"""Charts of HTML reports, drawn in the reader's browser by Vega-Lite from a script that lies in the page itself.

Each function returns HTML with its data as JSON beside it; `page` of `report` takes them like any other part, with
`scripts()` at its end. Colours are the page's own, so that a chart follows light, dark and print. Values are told on
hover, legends switch series, shift and wheel zoom into lines. Where nothing is known nothing is drawn, and a chart that
the browser cannot draw says so and stops nothing: every figure stands in a table too.
"""

from __future__ import annotations

import functools
import html
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

SERIES = 7
"""Colours of series that can be told apart, with any colour vision (after Okabe and Ito, 2008)."""
GREY = "var(--s7)"
NAMED_AT_END = 4
"""Lines that have their name at their end; more would stand on one another."""
ROW, LINES = 26, 260
"""Points of height of a row of bars or intervals, and of a chart of lines."""
STYLE = """
:root{--s0:#0072b2;--s1:#d55e00;--s2:#009e73;--s3:#cc79a7;--s4:#b07d00;--s5:#56b4e9;--s6:#7a5195;--s7:#98a0ad}
@media screen and (prefers-color-scheme:dark){:root{--s0:#5db2f5;--s1:#ff9a52;--s2:#3fd3a6;--s3:#f0a6d0;--s4:#e6b93c;
--s5:#9bdcff;--s6:#c5a3e6;--s7:#7d8798}}
.chart{width:100%;min-height:40px}.chart svg{max-width:100%}.chart .vega-embed{width:100%;padding:0!important}
#vg-tooltip-element{position:fixed;z-index:9;visibility:hidden;background:var(--paper);color:var(--ink);
border:1px solid var(--line);border-radius:6px;padding:6px 9px;font:12px system-ui,sans-serif;pointer-events:none}
#vg-tooltip-element.visible{visibility:visible}#vg-tooltip-element td{border:0;padding:1px 6px 1px 0}
#vg-tooltip-element td.key{color:var(--soft)}
"""
_CONFIG: dict[str, Any] = {
    "background": "transparent", "font": "system-ui, sans-serif", "view": {"stroke": None},
    "axis": {"labelColor": "var(--soft)", "titleColor": "var(--soft)", "gridColor": "var(--line)", "labelFontSize": 12,
             "domainColor": "var(--line)", "labelOverlap": True, "tickColor": "var(--line)",
             "titleFontWeight": "normal", "titleFontSize": 12},
    "legend": {"labelColor": "var(--soft)", "titleColor": "var(--soft)", "labelFontSize": 12, "orient": "top",
               "title": None, "columns": 2, "symbolType": "stroke", "symbolStrokeWidth": 3, "labelLimit": 150},
    "range": {"category": [f"var(--s{n})" for n in range(SERIES + 1)]},
    "text": {"color": "var(--ink)", "fontSize": 12},
}  # fmt: skip
_DRAW = """
for(const e of document.querySelectorAll('.chart'))try{vegaEmbed(e,JSON.parse(e.nextElementSibling.textContent),
{renderer:'svg',actions:false,tooltip:{disableDefaultStyle:true}})
.catch(x=>{e.textContent='cannot be drawn: '+x.message})}
catch(x){e.textContent='cannot be drawn: '+x.message}
"""


@functools.cache
def scripts() -> str:
    """The script that draws the charts of a page, for its end: Vega, Vega-Lite and Vega-Embed, and one line of ours.

    It is put together once by vl-convert and kept in the user's cache; where it cannot be had, the page says so.
    """
    try:
        source = _library()
    except (ImportError, OSError, ValueError) as error:
        told = html.escape(f"Charts cannot be drawn here ({type(error).__name__}); every figure is in the tables.")
        return f'<p class="note">{told}</p>'
    return (
        f"<noscript><p>Charts need JavaScript; every figure is in the tables.</p></noscript>"
        f"<script>{source.replace('</script', '<' + chr(92) + '/script')}</script><script>{_DRAW}</script>"
    )


def _library() -> str:
    from importlib.metadata import version

    import vl_convert

    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "recsys"
    kept = cache / f"vega-{version('vl-convert-python')}.js"
    try:
        return kept.read_text("utf-8")
    except OSError:
        source = vl_convert.javascript_bundle()
    try:
        from recsys_cli.files import write_bytes

        write_bytes(kept, source.encode())
    except OSError:  # a home that cannot be written costs two seconds a report, and nothing else
        return source
    return source


def _chart(title: str, spec: dict[str, Any], note: str = "") -> str:
    more = f' <span class="more">{html.escape(note)}</span>' if note else ""
    spec = {"$schema": "https://vega.github.io/schema/vega-lite/v6.json", "width": "container",
            "autosize": {"type": "fit-x", "contains": "padding"}, "config": _CONFIG, **spec}  # fmt: skip
    data = json.dumps(spec, ensure_ascii=False, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    label = html.escape(title, quote=True)
    return (
        f'<figure><figcaption>{html.escape(title)}{more}</figcaption><div class="chart" role="img" '
        f'aria-label="{label}"></div><script type="application/json">{data}</script></figure>'
    )


def known(value: Any) -> float | None:
    """A figure as JSON takes it: None for what is unknown or not finite."""
    return float(value) if value is not None and math.isfinite(float(value)) else None


def interval_chart(
    rows: Iterable[Mapping[str, Any]],
    *,
    title: str,
    note: str = "",
    zero: bool = False,
    form: str = ".3f",
    most: str | None = None,
) -> str:
    """Estimates with their intervals, a line each with its value beside it.

    rows: "name", "value", maybe "low" and "high", and "series" where there are several a name. zero: the line of no
    effect. most: the name that stands out.
    """
    data = [
        {"name": str(r["name"]), "series": str(r.get("series", "")),
         **{s: known(r.get(s)) for s in ("value", "low", "high")}}
        for r in rows
    ]  # fmt: skip
    data = [r for r in data if r["value"] is not None]
    if not data:
        return ""
    series = list(dict.fromkeys(r["series"] for r in data))
    names = list(dict.fromkeys(r["name"] for r in data))
    y: dict[str, Any] = {"field": "name", "type": "nominal", "sort": names, "title": None,
                         "axis": {"labelLimit": 190, "ticks": False, "domain": False}}  # fmt: skip
    x = {"type": "quantitative", "title": None, "scale": {"zero": zero}, "axis": {"tickCount": 5}}
    colour: dict[str, Any] = {"value": "var(--s0)"}
    if len(series) > 1:
        colour = {"field": "series", "type": "nominal", "sort": series}
        y |= {"axis": y["axis"]}
    elif most is not None:
        colour = {
            "condition": {"test": f"datum.name === {json.dumps(most)}", "value": "var(--s1)"},
            "value": "var(--s0)",
        }
    offset = {"yOffset": {"field": "series", "sort": series}} if len(series) > 1 else {}
    tips = [{"field": "name", "title": "of"}, *([{"field": "series", "title": "series"}] if len(series) > 1 else []),
            *({"field": f, "format": form, "title": t}
              for f, t in (("value", "value"), ("low", "from"), ("high", "to")))]  # fmt: skip
    shade = {"params": [{"name": "on", "select": {"type": "point", "fields": ["series"]}, "bind": "legend"}]}
    dim = {"opacity": {"condition": {"param": "on", "value": 1}, "value": 0.12}} if len(series) > 1 else {}
    layers: list[dict[str, Any]] = []
    if zero:
        layers.append({"mark": {"type": "rule", "color": "var(--soft)"}, "encoding": {"x": {"datum": 0}}})
    layers += [
        {"mark": {"type": "rule", "strokeWidth": 2.5},
         "encoding": {"x": {**x, "field": "low"}, "x2": {"field": "high"}, "color": colour, "tooltip": tips, **dim}},
        {"mark": {"type": "point", "filled": True, "size": 70, "opacity": 1}, **(shade if len(series) > 1 else {}),
         "encoding": {"x": {**x, "field": "value"}, "color": colour, "tooltip": tips, **dim}},
    ]  # fmt: skip
    if len(series) == 1:
        layers.append(
            {"mark": {"type": "text", "align": "center", "dy": -9, "fontSize": 11},
             "encoding": {"x": {**x, "field": "value"}, "text": {"field": "value", "format": form}}}
        )  # fmt: skip
    height = len(names) * max(ROW + 4, 15 * len(series))
    return _chart(
        title, {"height": height, "data": {"values": data}, "encoding": {"y": y, **offset}, "layer": layers}, note
    )


def bar_chart(
    names: Sequence[object], values: Sequence[Any], *, title: str, note: str = "", form: str = ",.3~f"
) -> str:
    """Horizontal bars, one a name, with the value beside each."""
    data = [{"name": str(n), "value": known(v)} for n, v in zip(names, values, strict=True)]
    data = [r for r in data if r["value"] is not None]
    if not data:
        return ""
    tips = [{"field": "name", "title": "of"}, {"field": "value", "format": form}]
    x = {"field": "value", "type": "quantitative", "title": None, "axis": {"format": form, "tickCount": 5}}
    y = {"field": "name", "type": "nominal", "sort": [r["name"] for r in data], "title": None,
         "axis": {"labelLimit": 190, "ticks": False}}  # fmt: skip
    layers = [
        {"mark": {"type": "bar", "color": "var(--s0)", "cornerRadiusEnd": 2}, "encoding": {"tooltip": tips}},
        {"mark": {"type": "text", "align": "left", "dx": 4}, "encoding": {"text": {"field": "value", "format": form}}},
    ]
    return _chart(
        title,
        {"height": ROW * len(data), "data": {"values": data}, "encoding": {"x": x, "y": y}, "layer": layers},
        note,
    )  # fmt: skip


def line_chart(
    rows: Iterable[Mapping[str, Any]],
    *,
    title: str,
    note: str = "",
    x_label: str,
    leading: Sequence[str] = (),
    log_x: bool = False,
    log_y: bool = False,
    names: Sequence[str] | None = None,
    form: str = ".3f",
) -> str:
    """Lines with their names at their ends.

    rows: "series", "x", "y", maybe "low" and "high". leading: series that are told apart by colour, at most `SERIES`;
    others are grey and named on hover. names: of x where it is an order of words. The axis ends with the data.
    """
    data = []
    for r in rows:
        row = {"series": str(r["series"]), "x": r["x"], **{s: known(r.get(s)) for s in ("y", "low", "high")}}
        if row["y"] is not None:
            data.append(row)
    if not data:
        return ""
    series = list(dict.fromkeys(r["series"] for r in data))
    first = [s for s in (leading or series) if s in series][:SERIES]
    legend = {"values": first, "symbolOpacity": 1} if len(first) > 1 else None
    colour = {"field": "series", "type": "nominal", "legend": legend,
              "scale": {"domain": [*first, *(s for s in series if s not in first)],
                        "range": [*(f"var(--s{n})" for n in range(len(first))),
                                  *(GREY for s in series if s not in first)]}}  # fmt: skip
    x = {"field": "x", "title": x_label, **_x_axis(data, log_x, names)}
    scale = {"type": "log"} if log_y else {"zero": True}
    y = {"field": "y", "type": "quantitative", "title": None, "scale": scale}
    tips = [{"field": "series", "title": "of"}, {"field": "x", "title": x_label},
            {"field": "y", "format": form, "title": title}]  # fmt: skip
    on = {"condition": {"param": "on", "value": 1}, "value": 0.12}
    layers: list[dict[str, Any]] = []
    if any(r["low"] is not None for r in data):
        layers.append(
            {"mark": {"type": "area", "opacity": 0.14},
             "encoding": {"y": {"field": "low", "type": "quantitative"}, "y2": {"field": "high"}}}
        )  # fmt: skip
    params: list[dict[str, Any]] = [{"name": "on", "select": {"type": "point", "fields": ["series"]}, "bind": "legend"}]
    if names is None:
        params.append(
            {"name": "zoom", "bind": "scales", "select": {"type": "interval", "zoom": "wheel![event.shiftKey]"}}
        )
    layers.append(
        {"mark": {"type": "line", "point": {"size": 40}, "strokeWidth": 2.2}, "params": params,
         "encoding": {"y": y, "tooltip": tips, "opacity": on}}
    )  # fmt: skip
    if len(first) <= NAMED_AT_END:
        layers.append(
            {"data": {"values": _ends(data, first)}, "mark": {"type": "text", "align": "right", "dy": -9, "dx": -4},
             "encoding": {"y": {"field": "y", "type": "quantitative"}, "text": {"field": "series"}, "opacity": on}}
        )  # fmt: skip
    spec = {"height": LINES, "data": {"values": data}, "encoding": {"x": x, "color": colour}, "layer": layers}
    return _chart(title, spec, note)


def _x_axis(data: Sequence[Mapping[str, Any]], log: bool, names: Sequence[str] | None) -> dict[str, Any]:
    """An order of words, or numbers from the first to the last of the data."""
    if names is not None:
        return {"type": "ordinal", "sort": list(names), "axis": {"labelAngle": 0}}
    numbers = sorted({float(r["x"]) for r in data})
    ticks = {"values": numbers} if len(numbers) < 9 else {}
    scale = {"domain": [numbers[0], numbers[-1]], "nice": False, "type": "log" if log else "linear"}
    return {"type": "quantitative", "axis": {**ticks, "grid": False}, "scale": scale}


def _ends(data: Sequence[Mapping[str, Any]], series: Sequence[str]) -> list[dict[str, Any]]:
    """Where the names at the ends of lines stand: at the last point of each, pushed up where two would meet."""
    last = {r["series"]: dict(r) for r in data if r["series"] in series}  # rows come in the order of x
    tall = max((max(r["y"], r["high"] or 0.0) for r in data), default=0.0) or 1.0
    apart, below = 15 / LINES * tall, -math.inf
    for row in sorted(last.values(), key=lambda r: r["y"]):
        row["y"] = below = max(row["y"], below + apart)
    return list(last.values())


def reliability_chart(
    predicted: Sequence[float],
    observed: Sequence[float],
    low: Sequence[float],
    high: Sequence[float],
    *,
    title: str,
    note: str = "",
) -> str:
    """Shares of positives by predicted probability with their intervals, beside the line of perfect calibration."""
    data = [
        {"predicted": known(p), "observed": known(o), "low": known(a), "high": known(b)}
        for p, o, a, b in zip(predicted, observed, low, high, strict=True)
    ]
    if not data:
        return ""
    top = max(1e-6, *(max(r["predicted"], r["observed"]) for r in data)) * 1.05
    scale = {"scale": {"domain": [0, top], "nice": False, "clamp": True}, "type": "quantitative"}
    x = {"field": "predicted", "title": "predicted", **scale}
    tips = [{"field": f, "format": ".4f", "title": t}
            for f, t in (("predicted", "predicted"), ("observed", "observed"), ("low", "from"),
                         ("high", "to"))]  # fmt: skip
    ends = [{"predicted": 0, "observed": 0}, {"predicted": top, "observed": top}]
    layers = [
        {"data": {"values": ends}, "mark": {"type": "line", "color": "var(--soft)", "strokeDash": [4, 4]},
         "encoding": {"x": x, "y": {"field": "observed", "title": "observed", **scale}}},
        {"mark": {"type": "rule", "color": "var(--s0)", "clip": True},
         "encoding": {"x": x, "y": {"field": "low", **scale}, "y2": {"field": "high"}}},
        {"mark": {"type": "point", "filled": True, "color": "var(--s0)", "size": 45, "opacity": 1},
         "encoding": {"x": x, "y": {"field": "observed", **scale}, "tooltip": tips}},
    ]  # fmt: skip
    return _chart(title, {"height": 220, "data": {"values": data}, "layer": layers}, note)


def path_chart(
    rows: Iterable[Mapping[str, Any]], *, title: str, note: str = "", x_label: str, y_label: str
) -> str:
    """Points joined in the order of their rows, a line a series: "series", "name" (on hover), "x", "y"."""
    data = [
        {"series": str(r["series"]), "name": str(r["name"]), "x": known(r["x"]), "y": known(r["y"]), "at": at}
        for at, r in enumerate(rows)
    ]
    data = [r for r in data if r["x"] is not None and r["y"] is not None]
    if not data:
        return ""
    series = list(dict.fromkeys(r["series"] for r in data))
    tips = [{"field": "name", "title": "of"}, {"field": "x", "title": x_label, "format": ".3f"},
            {"field": "y", "title": y_label, "format": ".4f"}]  # fmt: skip
    axes = {
        "x": {"field": "x", "type": "quantitative", "title": x_label, "scale": {"zero": False, "padding": 16}},
        "y": {"field": "y", "type": "quantitative", "title": y_label, "scale": {"zero": False, "padding": 16}},
        "color": {"field": "series", "type": "nominal", "sort": series},
        "order": {"field": "at", "type": "quantitative"},
    }
    on = {"condition": {"param": "on", "value": 1}, "value": 0.12}
    mark = {"type": "line", "point": {"size": 55, "filled": True}, "strokeWidth": 2}
    params = [{"name": "on", "select": {"type": "point", "fields": ["series"]}, "bind": "legend"}]
    spec = {"height": LINES, "data": {"values": data}, "params": params, "mark": mark,
            "encoding": {**axes, "tooltip": tips, "opacity": on}}  # fmt: skip
    return _chart(title, spec, note)


def scatter_chart(
    rows: Iterable[Mapping[str, Any]], *, title: str, note: str = "", x_label: str, y_label: str, most: str = ""
) -> str:
    """Named points: "name", "x", "y"; the one called `most` stands out."""
    data = [{"name": str(r["name"]), "x": known(r["x"]), "y": known(r["y"])} for r in rows]
    data = [r for r in data if r["x"] is not None and r["y"] is not None]
    if not data:
        return ""
    tips = [{"field": "name", "title": "of"}, {"field": "x", "title": x_label, "format": ".3f"},
            {"field": "y", "title": y_label, "format": ".3f"}]  # fmt: skip
    colour = {"condition": {"test": f"datum.name === {json.dumps(most)}", "value": "var(--s1)"}, "value": "var(--s0)"}
    x = {"field": "x", "type": "quantitative", "title": x_label, "scale": {"zero": False, "padding": 30}}
    y = {"field": "y", "type": "quantitative", "title": y_label, "scale": {"zero": False, "padding": 16}}
    layers = [
        {
            "mark": {"type": "point", "filled": True, "size": 80, "opacity": 1},
            "encoding": {"color": colour, "tooltip": tips},
        },
        {"mark": {"type": "text", "dy": -10, "fontSize": 11, "limit": 160}, "encoding": {"text": {"field": "name"}}},
    ]
    return _chart(
        title, {"height": LINES, "data": {"values": data}, "encoding": {"x": x, "y": y}, "layer": layers}, note
    )
