"""The frame of every page: head, landmarks, navigation, and what a browser may do with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from recsys_cli.serving.dashboard.markup import Markup, Part, address, escaped, tag

PAGES = {
    "": "Overview", "requests": "Requests", "users": "Users", "items": "Items", "sources": "Sources and stages",
    "experiments": "Experiments", "runs": "Runs", "alerts": "Alerts", "configuration": "Configuration",
}
"""Place below /dashboard → name in the navigation."""
POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""Nothing but the server's own files: no script within a page, no foreign address, no frame around it."""
HEADERS = {
    "content-security-policy": POLICY, "x-content-type-options": "nosniff", "referrer-policy": "same-origin",
    "cache-control": "no-store", "cross-origin-opener-policy": "same-origin",
}
STATIC = {"dashboard.css": "text/css; charset=utf-8", "dashboard.js": "text/javascript; charset=utf-8"}
ICON = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 8 8'%3E%3Cpath fill='%232563c9' " \
    "d='M0 5h2v3H0zM3 2h2v6H3zM6 0h2v8H6z'/%3E%3C/svg%3E"


@dataclass(frozen=True)
class Page:
    """One page before it stands in its frame."""

    title: str
    body: Part
    place: str = ""
    """key of PAGES that it belongs to"""
    refresh: int = 0
    """seconds after which it is read again; 0 for never"""
    status: int = 200


def static_file(name: str) -> bytes:
    """A file of STATIC."""
    return (Path(__file__).parent / "static" / name).read_bytes()


def framed(page: Page, run: str | None, signed_in: bool, more: Mapping[str, str] | None = None) -> str:
    """The whole document. run: the one that is served. signed_in: whether there is somebody to sign out. more: pages
    beside PAGES."""
    head = [
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width,initial-scale=1"),
        tag("title", f"{page.title} · recsys"),
        tag("link", rel="icon", href=ICON),
        tag("link", rel="stylesheet", href="/dashboard/static/dashboard.css"),
        tag("script", src="/dashboard/static/dashboard.js", defer=True) if page.refresh else None,
    ]
    links = [
        tag("li", tag("a", name, href=address(place) if place else "/dashboard",
                      aria_current="page" if place == page.place else None))
        for place, name in (PAGES | dict(more or {})).items()
    ]
    out = tag("form", tag("button", "Sign out"), method="post", action="/dashboard/sign-out") if signed_in else None
    pause = tag("button", "Pause", type="button", id="pause", aria_pressed="false") if page.refresh else None
    body = [
        tag("a", "Skip to the content", href="#content", class_="skip"),
        tag("header", tag("a", "recsys", href="/dashboard", class_="name"), tag("nav", tag("ul", links),
            aria_label="Pages"), out),
        tag("main", tag("div", tag("h1", page.title), pause, class_="title"),
            tag("div", page.body, id="live", data_refresh=page.refresh or None), id="content", tabindex="-1"),
        tag("footer", tag("p", "run ", tag("b", run or "none"), " is served")),
    ]
    return "<!doctype html>\n" + tag("html", tag("head", head), tag("body", body), lang="en")


def plain(title: str, *sentences: str, place: str = "", status: int = 200) -> Page:
    """A page of some sentences."""
    return Page(title, Markup("".join(escaped(tag("p", text)) for text in sentences)), place, status=status)
