"""The documents: one Markdown file a page, shown by `recsys docs` and built into a site by `make docs`.

Three pages are written by the program itself (`recsys_cli.cli.reference`): `commands`, `settings` and `mapping`.
"""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).resolve().parent

CHAPTERS: dict[str, tuple[str, ...]] = {
    "Start": ("index", "getting-started", "own-data", "concepts", "glossary"),
    "The parts": (
        "synthetic-world",
        "data",
        "sources",
        "semantic",
        "features",
        "ranking",
        "safety",
        "slate",
        "slate-stages",
        "exploration",
        "serving",
        "live",
        "evaluation",
        "tuning",
        "distributed",
        "experiments",
        "off-policy",
        "simulation",
    ),
    "Extend": ("add-a-source", "add-a-feature", "add-a-stage", "add-a-ranker", "examples"),
    "Reference": ("configuration", "settings", "commands", "mapping", "runs", "benchmarks", "peers", "architecture"),
    "The project": ("contributing", "changelog", "security"),
}
"""Chapter → names of its pages, in reading order."""

PAGES: tuple[str, ...] = tuple(name for names in CHAPTERS.values() for name in names)


def path_of(name: str) -> Path:
    """File of a page."""
    return FOLDER / f"{name}.md"


def read(name: str) -> str:
    """Markdown of a page."""
    return path_of(name).read_text(encoding="utf-8")


def title(name: str) -> str:
    """First heading of a page."""
    return read(name).split("\n", 1)[0].removeprefix("# ").strip()
