"""HTML reports in one file: tables and charts as inline SVG, readable in light and dark, with no network.

Every chart function returns a string of HTML to hand to `section`, and those to `page`. Numbers may be
given as lists or arrays; NaN and None leave a gap, and nothing is drawn where no number is known. Text is escaped.
"""

from __future__ import annotations

import functools
import html
import math
from collections.abc import Callable, Iterable, Mapping, Sequence

from recsys_cli.axes import Axis, short

WIDTH, HEIGHT = 520, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 12, 12, 40
_SERIES = 8
"""Colours to tell series apart; further series start again."""
MANY_COLUMNS = 12
"""Columns beyond which a table is written smaller, so that it stands in a window of 1,200 points whole."""

_STYLE = """
:root{color-scheme:light dark;--ink:#1d2330;--soft:#5c6575;--line:#d9dde5;--paper:#fff;--card:#f6f7f9;
--s0:#2563c9;--s1:#d9730d;--s2:#16876b;--s3:#b3379b;--s4:#8a6d00;--s5:#0d8bb5;--s6:#c43c3c;--s7:#6a5acd}
@media screen and (prefers-color-scheme:dark){:root{--ink:#e7eaf0;--soft:#9aa4b5;--line:#3a4252;--paper:#14181f;
--card:#1c222c;
--s0:#6ea8ff;--s1:#ffa552;--s2:#4fd1a9;--s3:#ea85d3;--s4:#d9bd4a;--s5:#5cc8ea;--s6:#ff8a8a;--s7:#aa9cff}}
*{box-sizing:border-box}body{margin:0 auto;max-width:1160px;padding:24px 20px 64px;background:var(--paper);
color:var(--ink);font:15px/1.5 system-ui,sans-serif}h1{font-size:1.6rem;margin:0 0 2px}h2{font-size:1.15rem;
margin:36px 0 8px;padding-top:12px;border-top:1px solid var(--line)}p{margin:6px 0;max-width:75ch}
.sub,.note,figcaption .more{color:var(--soft)}.grid{display:grid;gap:18px;
grid-template-columns:repeat(auto-fit,minmax(min(460px,100%),1fr));align-items:start}
figure{margin:8px 0;min-width:0}figcaption{font-weight:600;font-size:.92rem;margin-bottom:4px}
figcaption .more{font-weight:400}svg{width:100%;height:auto;display:block;overflow:visible}
svg text{fill:var(--soft);font:12px system-ui,sans-serif}svg .value{fill:var(--ink)}
svg .axis{stroke:var(--line);stroke-width:1;fill:none}svg .zero{stroke:var(--soft);stroke-width:1}
.legend{display:flex;flex-wrap:wrap;gap:2px 14px;font-size:.82rem;color:var(--soft);margin:2px 0}
.legend i{display:inline-block;width:10px;height:10px;border-radius:2px;margin-right:5px}
.legend .s0{background:var(--s0)}.legend .s1{background:var(--s1)}.legend .s2{background:var(--s2)}
.legend .s3{background:var(--s3)}.legend .s4{background:var(--s4)}.legend .s5{background:var(--s5)}
.legend .s6{background:var(--s6)}.legend .s7{background:var(--s7)}
.scroll{overflow-x:auto}table{border-collapse:collapse;font-size:.88rem;font-variant-numeric:tabular-nums}
table.wide{font-size:.78rem}
th,td{padding:4px 10px 4px 0;text-align:left;border-bottom:1px solid var(--line);vertical-align:top}
th{color:var(--soft);font-weight:600}td.n,th.n{text-align:right}
.facts{display:flex;flex-wrap:wrap;gap:10px;margin:10px 0}.facts div{background:var(--card);border-radius:8px;
padding:8px 14px;min-width:110px}.facts b{display:block;font-size:1.15rem;font-variant-numeric:tabular-nums}
.facts span{color:var(--soft);font-size:.82rem}
@media print{body{max-width:none}h2{break-after:avoid}figure{break-inside:avoid}}
"""


# --- the page ---------------------------------------------------------------------------------------------


def page(title: str, sections: Iterable[str], subtitle: str = "", *, style: str = "", end: str = "") -> str:
    """A whole HTML document from the results of `section`; style: further CSS. end: HTML behind everything."""
    sub = f'<p class="sub">{html.escape(subtitle)}</p>' if subtitle else ""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}{style}</style></head><body>\n"
        f"<h1>{html.escape(title)}</h1>{sub}\n" + "\n".join(sections) + f"\n{end}</body></html>\n"
    )


def section(title: str, *parts: str, note: str = "") -> str:
    """A headed part of the page; `note` is a sentence under the heading."""
    text = f'<p class="note">{html.escape(note)}</p>' if note else ""
    return f"<section><h2>{html.escape(title)}</h2>{text}{''.join(parts)}</section>"


def grid(*parts: str) -> str:
    """Charts side by side where the window is wide enough; nothing where there is none."""
    return "" if not any(parts) else f'<div class="grid">{"".join(parts)}</div>'


def paragraph(text: str) -> str:
    """A text as a paragraph of its own."""
    return f"<p>{html.escape(text)}</p>"


def facts(values: Mapping[str, object]) -> str:
    """Headline numbers: label → value."""
    cells = "".join(
        f"<div><b>{html.escape(number(v))}</b><span>{html.escape(k)}</span></div>" for k, v in values.items()
    )
    return f'<div class="facts">{cells}</div>'


def html_table(
    rows: Sequence[Mapping[str, object]],
    columns: Sequence[str] | Mapping[str, str] | None = None,
    formats: Mapping[str, Callable[[object], str]] | None = None,
) -> str:
    """Rows as a table.

    columns: keys in order, or key → heading; by default those of the first row. formats: key → function
    that writes a value. Columns of numbers stand to the right.
    """
    if columns is None:
        columns = list(rows[0]) if rows else []
    headings = dict(columns) if isinstance(columns, Mapping) else {c: c for c in columns}
    formats = formats or {}
    right = {k for k in headings if rows and all(isinstance(r.get(k), int | float | None) for r in rows)}
    mark = {k: ' class="n"' if k in right else "" for k in headings}
    head = "".join(f"<th{mark[k]}>{html.escape(h)}</th>" for k, h in headings.items())

    def cell(key: str, value: object) -> str:
        text = formats[key](value) if key in formats and value is not None else number(value)
        return f"<td{mark[key]}>{html.escape(text)}</td>"

    body = "".join(f"<tr>{''.join(cell(k, r.get(k)) for k in headings)}</tr>" for r in rows)
    wide = ' class="wide"' if len(headings) > MANY_COLUMNS else ""
    return f'<div class="scroll"><table{wide}><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def number(value: object) -> str:
    """A value as a reader wants it: thousands separated, four significant digits, – where unknown."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    if isinstance(value, Sequence) or (hasattr(value, "shape") and getattr(value, "ndim", 0)):
        return ", ".join(number(v) for v in value)
    try:
        x = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return str(value)
    if not math.isfinite(x):
        return "–"
    if x == int(x) and abs(x) < 1e15:
        return f"{int(x):,}"
    if abs(x) >= 1000:
        return f"{x:,.0f}"
    return f"{x:.4g}" if abs(x) >= 1e-4 else f"{x:.2e}"


def percent(value: object) -> str:
    """A share as per cent."""
    return "–" if value is None else f"{100 * float(value):.3g} %"  # type: ignore[arg-type]


def _floats(values: Iterable) -> list[float]:
    return [float("nan") if v is None else float(v) for v in values]


def _figure(title: str, svg: str, names: Sequence[str] = (), note: str = "") -> str:
    more = f' <span class="more">{html.escape(note)}</span>' if note else ""
    caption = f"<figcaption>{html.escape(title)}{more}</figcaption>" if title else ""
    legend = (
        "".join(
            f'<span><i class="s{n % _SERIES}"></i>{html.escape(str(name))}</span>'
            for n, name in enumerate(names)
        )
        if len(names) > 1
        else ""
    )
    return f"<figure>{caption}{f'<div class=legend>{legend}</div>' if legend else ''}{svg}</figure>"


def _svg(height: float, parts: Iterable[str], label: str) -> str:
    head = f'<svg viewBox="0 0 {WIDTH} {height:g}" role="img" aria-label="{html.escape(label, quote=True)}">'
    return f"{head}{''.join(parts)}</svg>"


def _tip(text: str) -> str:
    return f"<title>{html.escape(text)}</title>"


def _text(x: float, y: float, text: str, anchor: str = "middle", kind: str = "") -> str:
    mark = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{mark}>{html.escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, kind: str = "axis") -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def _plot_axes(
    x: Axis | None, y: Axis, x_label: str, y_label: str, write_x=short, write_y=short
) -> list[str]:
    parts = []
    for tick in y.ticks:
        at = y(tick)
        parts += [_line(_LEFT, at, WIDTH - _RIGHT, at), _text(_LEFT - 6, at + 4, write_y(tick), "end")]
    for tick in x.ticks if x else ():
        at = x(tick)
        parts += [
            _line(at, HEIGHT - _BOTTOM, at, HEIGHT - _BOTTOM + 4),
            _text(at, HEIGHT - _BOTTOM + 17, write_x(tick)),
        ]
    if x_label:
        parts.append(_text((_LEFT + WIDTH - _RIGHT) / 2, HEIGHT - 4, x_label))
    if y_label:
        turn = f"translate(12 {(HEIGHT - _BOTTOM) / 2:.0f}) rotate(-90)"
        parts.append(f'<text transform="{turn}" text-anchor="middle">{html.escape(y_label)}</text>')
    return parts


def drawn(chart: Callable[..., str]) -> Callable[..., str]:
    """A chart that says so where it cannot be drawn: a picture never stops the result that it shows."""

    @functools.wraps(chart)
    def draw(*values, **options) -> str:
        try:
            return chart(*values, **options)
        except (ArithmeticError, ValueError, TypeError, IndexError, StopIteration) as error:
            told = f"cannot be drawn: {type(error).__name__}"
            return _figure(options.get("title") or "chart", "", note=told)

    return draw


def _nothing(*values: Iterable[float]) -> bool:
    """Whether no figure is known, so that a chart would be empty."""
    return not any(math.isfinite(v) for some in values for v in some)


# --- charts -----------------------------------------------------------------------------------------------


@drawn
def bar_chart(
    labels: Sequence[object],
    values: Sequence,
    *,
    title: str = "",
    note: str = "",
    write: Callable[[object], str] = number,
) -> str:
    """Horizontal bars, one a label, with the value beside each; negative values go to the left."""
    values, names = _floats(values), [str(label) for label in labels]
    if _nothing(values):
        return ""
    left = min(240.0, 16 + 6.6 * max((len(n) for n in names), default=0))
    axis = Axis(values, left, WIDTH - 84, zero=True)
    parts, height = [], 22
    for row, (name, value) in enumerate(zip(names, values, strict=True)):
        y = row * height
        parts.append(_text(left - 8, y + 15, name if len(name) < 36 else f"{name[:35]}…", "end"))
        at, zero = axis(value), axis(0.0)
        if at is None:
            parts.append(_text(left + 6, y + 15, "–", "start"))
            continue
        parts.append(
            f'<rect x="{min(at, zero):.1f}" y="{y + 4}" width="{max(abs(at - zero), 0.8):.1f}" height="14" rx="2" '
            f'fill="var(--s0)"><title>{html.escape(name)}: {html.escape(write(value))}</title></rect>'
        )
        parts.append(_text(max(at, zero) + 6, y + 15, write(value), "start", "value"))
    parts.append(_line(axis(0.0), 0, axis(0.0), max(len(names), 1) * height, "zero"))
    return _figure(title, _svg(max(len(names), 1) * height + 2, parts, title or "bar chart"), note=note)


@drawn
def column_chart(
    labels: Sequence[object],
    values: Sequence,
    *,
    title: str = "",
    note: str = "",
    x_label: str = "",
    y_label: str = "",
    write: Callable[[object], str] = number,
) -> str:
    """Vertical bars for something that has an order: hours, days, the bins of a histogram."""
    values, names = _floats(values), [str(label) for label in labels]
    if _nothing(values):
        return ""
    y = Axis(values, HEIGHT - _BOTTOM, _TOP, zero=True)
    parts = _plot_axes(None, y, x_label, y_label)
    width = (WIDTH - _RIGHT - _LEFT) / max(len(names), 1)
    longest = max((len(n) for n in names), default=1)
    every = max(1, math.ceil(longest * 7.2 / width))
    for n, (name, value) in enumerate(zip(names, values, strict=True)):
        x, at, zero = _LEFT + n * width, y(value), y(0.0)
        if at is not None:
            parts.append(
                f'<rect x="{x + width * 0.08:.1f}" y="{min(at, zero):.1f}" width="{width * 0.84:.1f}" '
                f'height="{max(abs(at - zero), 0.6):.1f}" fill="var(--s0)">{_tip(f"{name}: {write(value)}")}</rect>'
            )
        if n % every == 0:
            parts.append(_text(x + width / 2, HEIGHT - _BOTTOM + 16, name))
    return _figure(title, _svg(HEIGHT, parts, title or "column chart"), note=note)


@drawn
def histogram(
    counts: Sequence,
    edges: Sequence,
    *,
    title: str = "",
    note: str = "",
    x_label: str = "",
    y_label: str = "",
) -> str:
    """Counts between edges (one more edge than counts), each column labelled with its lower edge."""
    return column_chart(
        [short(float(e)) for e in edges[:-1]],
        counts,
        title=title,
        note=note,
        x_label=x_label,
        y_label=y_label,
    )


@drawn
def line_chart(
    series: Mapping[str, tuple[Sequence, Sequence]],
    *,
    title: str = "",
    note: str = "",
    x_label: str = "",
    y_label: str = "",
    log_x: bool = False,
    log_y: bool = False,
    from_zero: bool = False,
    points: Sequence[str] = (),
    bands: Mapping[str, tuple[Sequence, Sequence]] | None = None,
    x_names: Sequence[str] | None = None,
    x_ticks: Sequence[float] | None = None,
) -> str:
    """Lines: name → (x, y).

    points: names drawn as points instead of a line. bands: name → (low, high) shaded about its line. x_names:
    labels for x = 0, 1, 2, … instead of numbers. x_ticks: the places that are named, of which the first and the last
    are the ends of the axis. On a logarithmic axis values of 0 or less are left out.
    """
    data = {name: (_floats(x), _floats(y)) for name, (x, y) in series.items()}
    if _nothing(*(ys for _, ys in data.values())):
        return ""
    shades = {name: (_floats(low), _floats(high)) for name, (low, high) in (bands or {}).items()}
    x = Axis([v for xs, _ in data.values() for v in xs], _LEFT, WIDTH - _RIGHT, log=log_x)
    tall = [v for _, ys in data.values() for v in ys] + [
        v for pair in shades.values() for side in pair for v in side
    ]
    y = Axis(tall, HEIGHT - _BOTTOM, _TOP, log=log_y, zero=from_zero)
    if x_names is not None:
        x.named(len(x_names))
    if x_ticks is not None and len(x_ticks) > 1:
        x.between(x_ticks)
    parts = _plot_axes(
        x, y, x_label, y_label, write_x=(lambda t: x_names[int(t)]) if x_names is not None else short
    )
    for n, (name, (xs, ys)) in enumerate(data.items()):
        colour = f"var(--s{n % _SERIES})"
        if name in shades:
            parts.append(_band(x, y, xs, *shades[name], colour))
        spots = [(x(a), y(b), a, b) for a, b in zip(xs, ys, strict=True)]
        parts += _dots(name, spots, colour) if name in points else [_path(name, spots, colour)]
    return _figure(title, _svg(HEIGHT, parts, title or "line chart"), list(data), note)


Spot = tuple[float | None, float | None, float, float]
"""Where a value stands in the drawing, None where it cannot, and the value: x, y, x of the data, y of the data."""


def _dots(name: str, spots: Sequence[Spot], colour: str) -> list[str]:
    return [
        f'<circle cx="{px:.1f}" cy="{py:.1f}" r="2.6" fill="{colour}" fill-opacity=".75">'
        f"{_tip(f'{name}: {number(a)}, {number(b)}')}</circle>"
        for px, py, a, b in spots
        if px is not None and py is not None
    ]


def _path(name: str, spots: Sequence[Spot], colour: str) -> str:
    """A line that leaves a gap where nothing is known."""
    path, pen = [], "M"
    for px, py, _, _ in spots:
        if px is None or py is None:
            pen = "M"
            continue
        path.append(f"{pen}{px:.1f} {py:.1f}")
        pen = "L"
    return f'<path d="{"".join(path)}" fill="none" stroke="{colour}" stroke-width="2">{_tip(name)}</path>'


def _band(x: Axis, y: Axis, xs: list[float], low: list[float], high: list[float], colour: str) -> str:
    upper = [(x(a), y(b)) for a, b in zip(xs, high, strict=True)]
    lower = [(x(a), y(b)) for a, b in zip(xs, low, strict=True)]
    spots = [p for p in [*upper, *reversed(lower)] if p[0] is not None and p[1] is not None]
    return f'<polygon points="{" ".join(f"{a:.1f},{b:.1f}" for a, b in spots)}" fill="{colour}" fill-opacity=".15"/>'


@drawn
def interval_chart(
    labels: Sequence[object],
    series: Mapping[str, tuple[Sequence, Sequence, Sequence]],
    *,
    title: str = "",
    note: str = "",
    zero_line: bool = False,
    write: Callable[[object], str] = number,
) -> str:
    """Estimates with their intervals: name → (value, low, high), one of each a label.

    zero_line: draw the line of no effect, for differences and lifts.
    """
    names = [str(label) for label in labels]
    data = {k: tuple(_floats(side) for side in sides) for k, sides in series.items()}
    if _nothing(*(value for value, _, _ in data.values())):
        return ""
    left = min(240.0, 16 + 6.6 * max((len(n) for n in names), default=0))
    every = [v for sides in data.values() for side in sides for v in side]
    axis = Axis(every, left, WIDTH - 20, zero=zero_line)
    step = 14.0
    row = max(26.0, step * len(data) + 10)
    height = len(names) * row
    parts = [
        _line(axis(t), 0, axis(t), height, "zero" if zero_line and t == 0 else "axis") for t in axis.ticks
    ]
    parts += [_text(axis(t), height + 16, short(t)) for t in axis.ticks]
    for i, name in enumerate(names):
        parts.append(
            _text(left - 8, i * row + row / 2 + 4, name if len(name) < 36 else f"{name[:35]}…", "end")
        )
        for n, (who, (value, low, high)) in enumerate(data.items()):
            y = i * row + row / 2 + (n - (len(data) - 1) / 2) * step
            at, a, b = axis(value[i]), axis(low[i]), axis(high[i])
            if at is None:
                continue
            colour = f"var(--s{n % _SERIES})"
            tip = f"{name}, {who}: {write(value[i])}" if len(data) > 1 else f"{name}: {write(value[i])}"
            if a is not None and b is not None:
                tip += f" ({write(low[i])} to {write(high[i])})"
                parts.append(
                    f'<line x1="{a:.1f}" y1="{y:.1f}" x2="{b:.1f}" y2="{y:.1f}" stroke="{colour}" stroke-width="2"/>'
                )
            parts.append(
                f'<circle cx="{at:.1f}" cy="{y:.1f}" r="4" fill="{colour}"><title>{html.escape(tip)}</title></circle>'
            )
    return _figure(title, _svg(height + 22, parts, title or "interval chart"), list(data), note)
