"""The paths of the server in one table: what the application serves and what the OpenAPI document tells."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import msgspec

from recsys_cli.serving.config import Role
from recsys_cli.serving.structs import Problem

if TYPE_CHECKING:
    from recsys_cli.serving.keys import Gate
    from recsys_cli.serving.service import Service


@dataclass
class Call:
    """One request, as handlers get it."""

    service: Service
    params: dict[str, str]
    """parts of the path, decoded"""
    query: Mapping[str, list[str]]
    body: bytes
    headers: dict[str, str]
    gate: Gate | None = None

    def require(self, role: Role) -> None:
        """Raises Refused where the caller's key may not do what a role may."""
        if self.gate is not None:
            self.gate.require(self.headers, role)

    def text(self, name: str) -> str | None:
        """The last value of a query parameter."""
        values = self.query.get(name)
        return values[-1] if values else None

    def number(self, name: str, default: int | None = None) -> int | None:
        """A query parameter that is a whole number; raises msgspec.ValidationError where it is none."""
        value = self.text(name)
        return default if value is None else msgspec.convert(value, int, strict=False)

    def flag(self, name: str) -> bool:
        """A query parameter that is true or false."""
        value = self.text(name)
        return value is not None and (value == "" or msgspec.convert(value.lower(), bool, strict=False))

    def listed(self, name: str) -> list[str]:
        """A query parameter that may come several times, or as values between commas."""
        return [part for value in self.query.get(name, ()) for part in value.split(",") if part]


class Answer(Exception):
    """An answer with a status of its own. Raised or returned."""

    def __init__(self, content: Any, status: int = 200, media: str = "application/json"):
        super().__init__(status)
        self.content, self.status, self.media = content, status, media


Handler = Callable[[Call], Awaitable[Any]]


@dataclass(frozen=True)
class Path:
    """One path and method."""

    method: str
    path: str
    handler: Handler
    role: Role | None
    """what a key must be allowed; None where anybody may ask"""
    summary: str
    answers: Any
    takes: Any = None
    """type of the body"""
    query: dict[str, tuple[Any, str]] = field(default_factory=dict)
    """parameter → type, what it says"""
    optional: bool = False
    """whether the body may be left out"""
    bulk: bool = False
    """whether the body is NDJSON and may be long"""
    ready: bool = True
    """whether it waits until the server is ready"""
    limited: bool = True
    """whether requests count for the rate"""

    @cached_property
    def route(self) -> str:
        """What metrics call it."""
        return f"{self.method} {self.path}"


ASK = {
    "n": (int, "items wanted"), "surface": (str, "where they are shown"), "device": (str, "of the user"),
    "exclude": (list[str], "items that must not be shown"), "topics": (list[str], "only items with one of these"),
    "explain": (bool, "with predictions and reasons"),
}
N = {"n": (int, "items wanted")}


def openapi(paths: list[Path], version: str) -> dict:
    """The OpenAPI 3.1 document of some paths."""
    types = [t for p in paths for t in (p.takes, p.answers) if t is not None and t is not str]
    schemas, components = msgspec.json.schema_components(
        [*types, Problem], ref_template="#/components/schemas/{name}"
    )
    known = {id(t): schema for t, schema in zip([*types, Problem], schemas, strict=True)}
    problem = {"description": "refused", "content": {"application/json": {"schema": known[id(Problem)]}}}
    document: dict[str, Any] = {}
    for path in paths:
        content = (
            {"text/plain": {"schema": {"type": "string"}}} if path.answers is str
            else {"application/json": {"schema": known[id(path.answers)]}}
        )
        operation: dict[str, Any] = {
            "summary": path.summary,
            "operationId": f"{path.method.lower()}{re.sub(r'[^a-z_]+', '_', path.path)}",
            "parameters": [*_parts(path), *_query(path)],
            "responses": {"200": {"description": "done", "content": content}, "default": problem},
        }
        if path.role is not None:
            operation["security"] = [{"key": []}, {"bearer": []}, {}]
            operation["description"] = f"Role: {path.role}."
        if path.takes is not None:
            media = "application/x-ndjson" if path.bulk else "application/json"
            schema = {"type": "string"} if path.bulk else known[id(path.takes)]
            operation["requestBody"] = {"required": not path.optional, "content": {media: {"schema": schema}}}
        document.setdefault(path.path, {})[path.method.lower()] = operation
    schemes = {"key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
               "bearer": {"type": "http", "scheme": "bearer"}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "recsys", "version": version, "description": "Recommendations, and the events that follow."},
        "paths": document,
        "components": {"schemas": components, "securitySchemes": schemes},
    }


def _parts(path: Path) -> list[dict]:
    names = re.findall(r"{(\w+)}", path.path)
    return [
        {"name": n, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1, "maxLength": 200}}
        for n in names
    ]


def _query(path: Path) -> list[dict]:
    out = []
    for name, (kind, told) in path.query.items():
        schema = msgspec.json.schema(kind)
        entry = {"name": name, "in": "query", "required": False, "description": told, "schema": schema}
        if schema.get("type") == "array":
            entry |= {"style": "form", "explode": True}
        out.append(entry)
    return out
