"""The configuration that is served with, and what each key means."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from recsys_cli.config import field_docs
from recsys_cli.report import number
from recsys_cli.serving.dashboard.frame import Page
from recsys_cli.serving.dashboard.markup import Part, section, table, tag
from recsys_cli.serving.dashboard.secrets import hidden
from recsys_cli.serving.dashboard.visit import Visit
from recsys_cli.serving.dashboard.words import prose

NOTE = ("As this server was started. Values that may be secrets are not shown; `recsys config show` tells where each "
        "comes from.")
COLUMNS = {"key": "key", "value": "value", "default": "default", "kind": "takes", "told": "what it is"}


async def page(visit: Visit) -> Page:
    """Every setting with its value, its default where it differs, what it takes and what it means."""
    settings = visit.service.settings
    parts = await visit.desk.worked_out("settings", lambda: _sections(settings), 3_600.0)
    if parts is None:
        return Page("Configuration", "is being put together; look again in a moment", "configuration", 1)
    return Page("Configuration", [tag("p", prose(NOTE), class_="note"), parts], "configuration")


def _sections(settings: BaseModel) -> list[Part]:
    default, top, below = type(settings)(), [], []
    docs = field_docs(type(settings))
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        rows: list[dict[str, Part]] = []
        told = docs.get(name) or (type(value).__doc__ or "" if isinstance(value, BaseModel) else "")
        if not isinstance(value, BaseModel | dict):
            _row(top, name, value, getattr(default, name), type(settings), name, told)
            continue
        _rows(rows, name, value, getattr(default, name))
        about = tag("span", " ", prose(" ".join(told.split("\n\n")[0].split())), class_="note")
        below.append(tag("details", tag("summary", name, about), table(COLUMNS, rows, f"settings of {name}", "none")))
    return [section("General", table(COLUMNS, top, "general settings")), section("By section", below)]


def _rows(rows: list[dict[str, Part]], key: str, value: Any, default: Any) -> None:
    """Rows of a section and of the sections below it."""
    if isinstance(value, dict):
        for name, part in value.items():
            before = default.get(name) if isinstance(default, dict) else None
            if isinstance(part, BaseModel | dict) and part:
                _rows(rows, f"{key}.{name}", part, before)
            else:
                _row(rows, f"{key}.{name}", part, before, None, name, "")
        return
    docs = field_docs(type(value))
    for name in type(value).model_fields:
        part, before = getattr(value, name), getattr(default, name, None)
        if isinstance(part, BaseModel) or (isinstance(part, dict) and any(isinstance(v, BaseModel | dict)
                                                                         for v in part.values())):
            _rows(rows, f"{key}.{name}", part, before)
        else:
            _row(rows, f"{key}.{name}", part, before, type(value), name, docs.get(name, ""))


def _row(
    rows: list[dict[str, Part]], key: str, value: Any, default: Any, model: type[BaseModel] | None, name: str, told: str
) -> None:
    kind = "" if model is None else _kind(model.model_fields[name].annotation)
    rows.append({
        "key": tag("code", key), "value": _written(key, value), "kind": kind, "told": prose(" ".join(told.split())),
        "default": "" if value == default else _written(key, default),
    })


def _written(key: str, value: Any) -> Part:
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    elif isinstance(value, list | tuple):
        value = [part.model_dump(mode="json") if isinstance(part, BaseModel) else part for part in value]
    value = hidden(key, value)
    if isinstance(value, dict):
        return ", ".join(f"{name}: {number(part)}" for name, part in value.items()) or "{}"
    if isinstance(value, list):
        return ", ".join(str(part) for part in value) or "[]"
    return number(value)


def _kind(annotation: Any) -> str:
    """A type in the words of Python, without its modules."""
    import re

    text = str(annotation) if not isinstance(annotation, type) else annotation.__name__
    return re.sub(r"(?:\w+\.)+", "", text)[:80]
