"""What a page is given, and where it may send on to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from recsys_cli.serving.dashboard.access import Caller
from recsys_cli.serving.dashboard.desk import Desk

if TYPE_CHECKING:
    from recsys_cli.serving.service import Service


@dataclass
class Visit:
    """One request for a page, as pages get it."""

    desk: Desk
    caller: Caller
    params: list[str]
    """parts of the path that the page leaves open"""
    query: dict[str, str]
    form: dict[str, str] = field(default_factory=dict)

    @property
    def service(self) -> Service:
        """What is served now."""
        return self.desk.service


@dataclass(frozen=True)
class Redirect:
    """Go on to another page. Returned."""

    place: str
    cookie: str | None = None
