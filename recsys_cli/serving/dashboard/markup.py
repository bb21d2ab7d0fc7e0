"""HTML in which every text is escaped: whatever is no `Markup` already becomes one by way of escaping.

Pages are put together from `tag`. Only functions that escape for themselves may call `Markup` on a text.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode

from recsys_cli.report import number

SHORT = 14
"""Characters up to which a text in a table stands on one line."""
VOID = frozenset(("meta", "link", "input", "br"))


class Markup(str):
    """HTML that is finished: nothing of it is escaped again."""

    __slots__ = ()


Part = object
"""What may stand in HTML: Markup as it is, None for nothing, sequences in their order, anything else escaped."""


def escaped(part: Part) -> Markup:
    """A part as HTML."""
    if isinstance(part, Markup):
        return part
    if part is None:
        return Markup("")
    if isinstance(part, list | tuple):
        return Markup("".join(map(escaped, part)))
    return Markup(html.escape(part if isinstance(part, str) else number(part), quote=True))


def tag(name: str, /, *parts: Part, **attributes: Any) -> Markup:
    """One element. Attributes: `class_`, `for_` and `aria_label` are written class, for and aria-label; None and False
    are left out, True stands without a value."""
    written = []
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        key = key.rstrip("_").replace("_", "-")
        written.append(f" {key}" if value is True else f' {key}="{html.escape(str(value), quote=True)}"')
    opening = f"<{name}{''.join(written)}>"
    return Markup(opening if name in VOID else f"{opening}{escaped(parts)}</{name}>")


def link(text: Part, *path: object, **query: Any) -> Markup:
    """A link below /dashboard; parts of the path and of the query are quoted."""
    return tag("a", text, href=address(*path, **query))


def address(*path: object, **query: Any) -> str:
    """A path below /dashboard."""
    place = "/".join(["/dashboard", *(quote(str(part), safe="") for part in path)])
    asked = {name: value for name, value in query.items() if value is not None}
    return f"{place}?{urlencode(asked)}" if asked else place


def section(title: str, *parts: Part, note: str = "") -> Markup:
    """A headed part of a page; `note` is a sentence under the heading."""
    return tag("section", tag("h2", title), tag("p", note, class_="note") if note else None, *parts)


def facts(values: Mapping[str, Part]) -> Markup:
    """Headline figures: label → value."""
    told = {label: "–" if value is None else value for label, value in values.items()}
    pairs = [tag("div", tag("dt", label), tag("dd", value)) for label, value in told.items()]
    return tag("dl", pairs, class_="facts")


def table(
    columns: Mapping[str, str], rows: Sequence[Mapping[str, Part]], caption: str, empty: str = "nothing"
) -> Markup:
    """Rows as a table that can be scrolled by keyboard. columns: key → heading. Numbers stand to the right.

    empty: what is said where there are no rows.
    """
    if not rows:
        return tag("p", empty, class_="note")
    right = {key for key in columns if all(isinstance(row.get(key), int | float | None) for row in rows)}

    def cell(name: str, key: str, value: Part, **more: str) -> Markup:
        shown = number(value) if value is None or not isinstance(value, str | list | tuple) else value
        short = isinstance(value, str) and not isinstance(value, Markup) and len(value) <= SHORT
        return tag(name, shown, class_="n" if key in right else "short" if short else None, **more)

    head = tag("tr", [cell("th", key, heading, scope="col") for key, heading in columns.items()])
    body = [tag("tr", [cell("td", key, row.get(key)) for key in columns]) for row in rows]
    inner = tag("table", tag("caption", caption), tag("thead", head), tag("tbody", body))
    return tag("div", inner, class_="scroll", tabindex="0", role="region", aria_label=caption)


def grid(*parts: Part) -> Markup:
    """Charts side by side where the window is wide enough."""
    held = [part for part in parts if part]
    return tag("div", held, class_="grid") if held else Markup("")


def chart(drawn: str) -> Markup:
    """A chart of `recsys_cli.report`, which has escaped its texts."""
    return Markup(drawn)


def search(label: str, place: str, name: str, value: str = "", button: str = "Show", **hidden: str) -> Markup:
    """A form with one field, asked for by GET."""
    held = [tag("input", type="hidden", name=key, value=text) for key, text in hidden.items()]
    field = tag("input", type="text", name=name, id=f"f-{name}", value=value, maxlength=200, required=True,
                autocomplete="off")
    return tag("form", held, tag("label", label, for_=f"f-{name}"), field, tag("button", button), method="get",
               action=place)


def listed(parts: Iterable[Part]) -> Markup:
    """Sentences one below the other."""
    return tag("ul", [tag("li", part) for part in parts])


def percent(part: float, whole: float) -> str:
    """A share as per cent, – of nothing."""
    return "–" if not whole else f"{100 * part / whole:.3g} %"


def milliseconds(seconds: float | None) -> str:
    """A time as it is read: 12.3 ms."""
    return "–" if seconds is None else f"{seconds * 1e3:,.3g} ms"
