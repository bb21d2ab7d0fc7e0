"""The pages that the program writes about itself: its commands, its settings, and the keys of a mapping.

    python -m recsys_cli.cli.reference        # writes them into recsys_cli/docs/

A test compares the pages with what this gives, so that they never fall behind.
"""

from __future__ import annotations

import importlib
import inspect
import json
import re
import types
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import typer
from pydantic import BaseModel
from typer.models import ArgumentInfo, OptionInfo

from recsys_cli.cli import common
from recsys_cli.config import field_docs

GLOBAL_NAMES = frozenset(parameter.name for parameter in common.GLOBAL_OPTIONS)


def pages() -> dict[str, str]:
    """Page → Markdown, of every page that the program writes."""
    return {"commands": command_reference(), "settings": settings_reference(), "mapping": mapping_reference()}


# commands


def commands() -> Iterator[tuple[str, Callable]]:
    """(name as it is typed, function) of every command, in the order of `recsys --help`."""
    for module in common.COMMANDS:
        importlib.import_module(f"recsys_cli.cli.{module}")
    # they register as they are imported, and another command may have been imported before
    place = {f"recsys_cli.cli.{module}": number for number, module in enumerate(common.COMMANDS)}
    for info in sorted(common.app.registered_commands, key=lambda info: place[info.callback.__module__]):
        yield info.name, info.callback

    def first(group) -> int:
        return min(place[info.callback.__module__] for info in group.typer_instance.registered_commands)

    for group in sorted(common.app.registered_groups, key=first):
        for info in group.typer_instance.registered_commands:
            yield f"{group.name} {info.name}", info.callback


def command_reference() -> str:
    """Every command with its arguments and options, the options that all share, and the exit codes."""
    listed = list(commands())
    lines = [
        "# Commands",
        "",
        "Written by the program about itself (`make reference`); `recsys COMMAND --help` prints the same. "
        "Results go to standard output, messages and progress to standard error.",
        "",
        "| command | |",
        "|---|---|",
        *(f"| [`{name}`](#{_anchor(name)}) | {_cell(_summary(function))} |" for name, function in listed),
        "",
        "## Options of every command",
        "",
        "They stand after the command. Each can be given as an environment variable instead; the command line wins.",
        "",
        "| option | variable | |",
        "|---|---|---|",
        *(_row(parameter, variable=True) for parameter in common.GLOBAL_OPTIONS),
        "",
        "## Exit codes",
        "",
        "| code | |",
        "|---|---|",
        *(f"| {code} | {text} |" for code, text in _exit_codes()),
    ]
    for name, function in listed:
        lines += ["", *_command(name, function)]
    return "\n".join(lines) + "\n"


def _command(name: str, function: Callable) -> list[str]:
    own = [p for p in inspect.signature(function).parameters.values() if p.name not in GLOBAL_NAMES]
    own = [p for p in own if isinstance(_info(p), ArgumentInfo | OptionInfo)]
    arguments = [p for p in own if isinstance(_info(p), ArgumentInfo)]
    options = [p for p in own if isinstance(_info(p), OptionInfo)]
    usage = " ".join(["recsys", name, *map(_argument, arguments), *(["[OPTIONS]"] if options else [])])
    lines = [f"## {name}", "", f"`{usage}`", "", inspect.cleandoc(function.__doc__ or "")]
    if own:
        lines += ["", "| | |", "|---|---|", *(_row(p) for p in [*arguments, *options])]
    return lines


def _info(parameter: inspect.Parameter) -> Any:
    """Typer's description of a parameter: the last word of its annotation."""
    return typing.get_args(parameter.annotation)[-1] if typing.get_origin(parameter.annotation) else None


def _argument(parameter: inspect.Parameter) -> str:
    name = _info(parameter).metavar or parameter.name.upper()
    return name if parameter.default is inspect.Parameter.empty else f"[{name}]"


def _row(parameter: inspect.Parameter, *, variable: bool = False) -> str:
    info = _info(parameter)
    told = info.help or ""
    if isinstance(info, ArgumentInfo):
        name = f"`{_argument(parameter)}`"
    else:
        # the first name of an option in an annotation is where typer keeps its default
        named = [d for d in (info.default, *(info.param_decls or ())) if isinstance(d, str) and d.startswith("-")]
        declared = [part for d in named for part in d.split("/")]
        value, plain = _value(parameter, info), parameter.name.replace("_", "-")
        declared = declared or ([f"--{plain}"] if value else [f"--{plain}", f"--no-{plain}"])
        name = ", ".join(f"`{d}{' ' + value if value and d.startswith('--') else ''}`" for d in declared)
    given = parameter.default
    if given not in (None, False, inspect.Parameter.empty, Path()) and info.show_default and "[default" not in told:
        told += f"  [default: {given}]"
    if parameter.default is inspect.Parameter.empty and isinstance(info, OptionInfo):
        told += "  (required)"
    if variable:
        return f"| {name} | `{info.envvar}` | {_cell(told)} |"
    return f"| {name} | {_cell(told)} |"


def _value(parameter: inspect.Parameter, info: OptionInfo) -> str:
    """What stands after an option: nothing for a switch."""
    kind = typing.get_args(parameter.annotation)[0]
    kinds = [k for k in (typing.get_args(kind) or (kind,)) if k is not types.NoneType]
    if kinds == [bool]:
        return ""
    names = {int: "INTEGER", float: "NUMBER", str: "TEXT", Path: "PATH"}
    return info.metavar or next((names[k] for k in kinds if k in names), "TEXT")


def _exit_codes() -> list[tuple[int, str]]:
    text = inspect.cleandoc(importlib.import_module("recsys_cli.errors").__doc__ or "")
    found = re.findall(r"(\d+) ([a-z ]+?)(?= ·|$|\n)", text.split("\n\n", 1)[1])
    return [(int(code), meaning) for code, meaning in found]


# settings


def settings_reference() -> str:
    """Every key of the YAML file with its type, its default and the sentence under the field."""
    from recsys_cli.settings import Settings

    lines = [
        "# Settings",
        "",
        "Written by the program from the fields themselves (`make reference`). `configs/default.yaml` holds all of "
        "it as one YAML file, `recsys config template` prints that file, `recsys config schema` gives editors "
        "completion. How settings are given is told on the page [configuration](configuration.md).",
    ]
    return "\n".join([*lines, *_section("", Settings, set())]) + "\n"


def _section(path: str, model: type[BaseModel], described: set, whose: str = "") -> list[str]:
    """A model's own keys as a table, then a section for each model below it."""
    described.add(model)
    lines = ["", f"## {path}{whose}" if path else "## The file", "", *_about(model), "", *_table(model, path)]
    for name, field in model.model_fields.items():
        key = f"{path}.{name}".lstrip(".")
        inner = [m for m in _models(field.annotation) if m not in described]
        if len(inner) > 1:
            lines += _kinds(key, inner, described)
        elif inner:
            lines += _section(key, inner[0], described)
    return lines


def _kinds(path: str, models: list[type[BaseModel]], described: set) -> list[str]:
    """A key that takes one of several kinds: what they share once, then what is each one's own."""
    described.update(models)
    entry = " (one entry)" if path == "retrieval" else ""
    lines = ["", f"## {path}{entry}: kinds", "", "`kind:` says which of these an entry is."]
    ancestors = dict.fromkeys(c for m in models for c in reversed(m.__mro__[1:]) if _shared(c, models))
    for ancestor in ancestors:
        whose = [m for m in models if issubclass(m, ancestor)]
        told = "every kind" if len(whose) == len(models) else ", ".join(f"`{_kind(m)}`" for m in whose)
        own = [n for n in ancestor.model_fields if n in ancestor.__annotations__ and n != "kind"]
        if own:
            lines += ["", f"### {path} of {_plain(told)}", "", *_about(ancestor), "", *_table(ancestor, "", own)]
    for model in models:
        base = next((c for c in model.__mro__[1:] if c in ancestors), None)
        own = [n for n in model.model_fields if n != "kind" and _differs(model, base, n)]
        lines += ["", f"### {path} {_kind(model)}", "", *_about(model)]
        lines += ["", *_table(model, "", own)] if own else []
    below: dict[tuple[str, type[BaseModel]], list[str]] = {}
    for model in models:
        for name, field in model.model_fields.items():
            for inner in _models(field.annotation):
                below.setdefault((name, inner), []).append(_kind(model))
    for (name, inner), kinds in below.items():
        if inner not in described:
            whose = "" if len(kinds) == len(models) else f" of {', '.join(kinds)}"
            lines += _section(f"{path}.{name}", inner, described, whose)
    return lines


def _shared(cls: type, models: list[type[BaseModel]]) -> bool:
    """Whether a class gives settings to several of the kinds."""
    return (
        issubclass(cls, BaseModel)
        and cls is not BaseModel
        and bool(cls.model_fields)
        and sum(issubclass(m, cls) for m in models) > 1
    )


def _kind(model: type[BaseModel]) -> str:
    field = model.model_fields.get("kind")
    return str(field.default) if field is not None else model.__name__


def _differs(model: type[BaseModel], base: type[BaseModel] | None, name: str) -> bool:
    """Whether a key is a kind's own, or has another default than what it shares with others."""
    if base is None or name not in base.model_fields:
        return True
    given, usual = (c.model_fields[name].get_default(call_default_factory=True) for c in (model, base))
    return given != usual


def _plain(text: str) -> str:
    return text.replace("`", "")


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in typing.get_args(annotation) for model in _models(part)]


def _about(model: type[BaseModel]) -> list[str]:
    own = model.__dict__.get("__doc__")
    return [" ".join(inspect.cleandoc(own).split("\n\n")[0].split())] if own else []


def _table(model: type[BaseModel], path: str, names: list[str] | None = None) -> list[str]:
    """A row for each key of a model, or for those named."""
    told = field_docs(model)
    lines = ["| key | takes | default | |", "|---|---|---|---|"]
    for name in model.model_fields if names is None else names:
        field = model.model_fields[name]
        shown = field.alias or name
        key = f"{path}.{shown}" if path else shown
        models = _models(field.annotation)
        text = told.get(name) or (" ".join(_about(models[0])) if len(models) == 1 else "")
        takes = _cell(_type(field.annotation) + _bounds(field))
        lines.append(f"| `{key}` | {takes} | {_default(field)} | {_cell(text)} |")
    return lines


def _type(annotation: Any) -> str:
    """An annotation in words: `number above 0`, `a list of text`, `a, b or c`."""
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _type(parts[0])
    if origin is typing.Literal:
        return ", ".join(f"`{p}`" for p in parts)
    if origin in (typing.Union, types.UnionType):
        words = [_type(p) for p in parts if p is not types.NoneType]
        words += ["`null`"] if types.NoneType in parts else []
        return " or ".join(dict.fromkeys(words))
    if origin in (list, tuple):
        return f"list of {_type(parts[0])}" if parts else "list"
    if origin is dict:
        return f"mapping of {_type(parts[0])} to {_type(parts[1])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "section"
    names = {int: "integer", float: "number", str: "text", bool: "true or false", Any: "anything"}
    return names.get(annotation) or {"datetime": "moment", "date": "day"}.get(
        getattr(annotation, "__name__", ""), getattr(annotation, "__name__", str(annotation))
    )


def _bounds(field: Any) -> str:
    """The range of a number in words: ` above 0, at most 1`."""
    words = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}
    found = [
        f"{word} {getattr(limit, name):g}"
        for limit in field.metadata
        for name, word in words.items()
        if getattr(limit, name, None) is not None
    ]
    return " " + ", ".join(found) if found else ""


def _default(field: Any) -> str:
    value = field.get_default(call_default_factory=True)
    if field.is_required():
        return "required"
    if _models(field.annotation) and value is not None and not isinstance(value, bool | int | float | str):
        return "below" if isinstance(value, BaseModel) else f"`{_short(value)}`"
    return f"`{_short(value)}`"


def _short(value: Any) -> str:
    """A default as YAML's flow style writes it; a long one by its length."""
    def plain(v: Any) -> Any:
        if isinstance(v, BaseModel):
            return v.model_dump(mode="json")
        if isinstance(v, dict):
            return {k: plain(x) for k, x in v.items()}
        return [plain(x) for x in v] if isinstance(v, list | tuple | set | frozenset) else v

    text = json.dumps(plain(value), default=str, ensure_ascii=False)
    if len(text) > 80:
        return f"{len(value)} entries, see configs/default.yaml"
    return text.strip('"') if isinstance(value, str) and value else text


# the mapping


def mapping_reference() -> str:
    """The template of a mapping, which explains each of its keys."""
    from recsys_cli.shipped import configurations

    template = (configurations() / "import" / "template.yaml").read_text(encoding="utf-8")
    text = "\n".join(line.rstrip() for line in template.splitlines())
    return (
        "# Every key of a mapping\n\n"
        "A mapping tells `recsys import-data` how your files become a dataset; [your own data](own-data.md) explains "
        "the idea. This is `configs/import/template.yaml` (written here by `make reference`): it reads an invented "
        "source and shows every key.\n\n"
        f"```yaml\n{text}\n```\n"
    )


def _summary(function: Callable) -> str:
    return inspect.cleandoc(function.__doc__ or "").split("\n\n")[0].replace("\n", " ")


def _cell(text: str) -> str:
    return " ".join(str(text).split()).replace("|", "\\|").replace("  [", " [")


def _anchor(heading: str) -> str:
    return re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-")


def write() -> list[Path]:
    """Write the pages into the documents."""
    from recsys_cli.docs import path_of
    from recsys_cli.files import write_bytes

    for name, text in pages().items():
        write_bytes(path_of(name), text.encode())
    return [path_of(name) for name in pages()]


if __name__ == "__main__":
    for written in write():
        typer.echo(f"wrote {written}")
