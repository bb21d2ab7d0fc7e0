"""Reading the documents: fences, links and headings of a page."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from recsys_cli import docs

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(r"(<!-- run -->\n)?^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Fence:
    """A block of code of a page."""

    page: str
    language: str
    text: str
    run: bool
    """marked to be run by the tests"""

    @property
    def lines(self) -> list[str]:
        return [line for line in self.text.splitlines() if line.strip()]


def texts() -> dict[str, str]:
    """Name → Markdown of every page and of the README."""
    return {"README": (ROOT / "README.md").read_text()} | {name: docs.read(name) for name in docs.PAGES}


def fences(language: str) -> list[Fence]:
    return [
        Fence(page, found[2], found[3], bool(found[1]))
        for page, text in texts().items()
        for found in FENCE.finditer(text)
        if found[2] == language
    ]


def links(text: str) -> list[str]:
    """Targets of links and pictures, outside of code."""
    prose = re.sub(r"`[^`\n]*`", "", FENCE.sub("", text))
    return re.findall(r"\]\(([^)\s]+)\)", prose)


def anchors(text: str) -> set[str]:
    """Anchors of the headings, as Markdown's readers make them."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", h.lower()).strip().replace(" ", "-") for h in headings}


def recsys_calls(line: str) -> list[list[str]]:
    """Arguments of each call of recsys in a line of shell."""
    words = shlex.split(line, comments=True)
    calls, current = [], None
    for word in words:
        if word in ("|", "&&", ";", ">"):
            current = None
        elif current is not None:
            current.append(word)
        elif word == "recsys":
            calls.append(current := [])
    return calls
