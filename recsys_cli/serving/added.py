"""What a server is given beside what it has itself: paths of the API, pages of the dashboard, and work beside them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from recsys_cli.serving.routes import Path


@dataclass(frozen=True)
class Added:
    """Parts that come from above: `recsys serve` adds those of the live loop."""

    paths: Sequence[Path] = ()
    pages: Mapping[tuple[str | None, ...], tuple[Callable[..., Awaitable[Any]], str]] = field(default_factory=dict)
    """as `dashboard.app.pages`"""
    work: Sequence[Callable[[Any], Awaitable[None]]] = ()
    """is given the `Site`, begins once the server is ready, is cancelled when it stops"""
    names: Mapping[str, str] = field(default_factory=dict)
    """place below /dashboard → name in the navigation"""
