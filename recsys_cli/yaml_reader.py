"""The one reader of YAML: settings, mappings, experiments, benchmarks and `--set`, with bounds on what it takes in.

A file is checked before anything is made of it: its bytes as they are read, its depth, aliases and nodes as the parser
meets them, and what its aliases stand for once the nodes are known. Whatever it is, it is read or refused within a
second.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

from recsys_cli.errors import ConfigError

MAX_BYTES = 1_000_000
"""Largest file; the default configuration with all its comments has a tenth of that."""
MAX_DEPTH = 50
"""Most mappings and lists within one another, aliases followed."""
MAX_ALIASES = 1000
MAX_NODES = 20_000
"""Most keys, values, lists and mappings of a file, each alias counted as what it stands for."""
MAX_DIGITS = 100
"""Longest number, in characters."""
TAG = "tag:yaml.org,2002:"
CORE = {
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "int": (r"[-+]?(?:0|[1-9][0-9]*)|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    "float": (
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+0123456789.",
    ),
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
}
"""Kind of YAML 1.2's core schema → how it is written, and the characters that it begins with."""
KINDS = {"scalar": (*CORE, "str", "merge"), "sequence": ("seq",), "mapping": ("map",)}


def short(value: Any, most: int = 80) -> str:
    """A value as a message shows it: on one line and no longer than that."""
    text = repr(value[: most + 1] if isinstance(value, str) else value)
    return text if len(text) <= most else f"{text[:most]}…"


def read_yaml(path: str | Path) -> dict:
    """The mapping in a YAML file; raises ConfigError with the line where it is not one."""
    path = Path(path)
    content = _construct(_compose(_text(path), f"{path}"))
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"{path} must hold a mapping of keys to values, not a {type(content).__name__}")
    return content


def parse_yaml(text: str, where: str) -> Any:
    """The value of a text; where: how a message calls it. Raises ConfigError."""
    return _construct(_compose(text, where))


def line_of(path: Path | None, keys: tuple) -> int | None:
    """Line on which a key path stands in a YAML file, or that of its deepest known ancestor.

    None where there is no file, or one that cannot be read again, such as a pipe.
    """
    import yaml

    if path is None or not path.is_file():
        return None
    node, line = _compose(_text(path), f"{path}"), None
    for key in keys:
        if isinstance(node, yaml.MappingNode):
            for name, value in node.value:
                if name.value == str(key):
                    line, node = name.start_mark.line + 1, value
                    break
        elif isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
            node = node.value[key]
            line = node.start_mark.line + 1
        # a discriminator tag, or the index of a lone element written without its list, is no key of the file
    return line


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise ConfigError(f"{path} is larger than {MAX_BYTES:,} bytes", "a file of settings is never so large")
        return content.decode("utf-8")
    except FileNotFoundError:
        raise ConfigError(f"no configuration file {path}", "check the path given with --config") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{str(path)[:200]!r} cannot be read: {short(str(error), 200)}") from None


def _compose(text: str, where: str):
    """The checked node of a text, None where it is empty; raises ConfigError with the line."""
    import yaml

    loader = _loader()
    try:
        _check_events(yaml.parse(text, Loader=loader), where)
        node = yaml.compose(text, Loader=loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "not YAML"
        raise ConfigError(f"{where}{place}: {problem}") from None
    except UnicodeError:
        raise ConfigError(f"{where}: holds characters that are no text", "write it in UTF-8") from None
    if node is not None:
        _check_nodes(node, where, {})
    return node


def _construct(node) -> Any:
    """What a checked node stands for."""
    if node is None:
        return None
    loader = _loader()("")
    try:
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _check_events(events, where: str) -> None:
    """Refuses what is too deep or too large while it is read, before anything is kept of it."""
    import yaml

    depth = aliases = nodes = 0
    for event in events:
        nodes += isinstance(event, yaml.NodeEvent)
        aliases += isinstance(event, yaml.AliasEvent)
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH or nodes > MAX_NODES or aliases > MAX_ALIASES:
            raise _too_much(f"{where} line {event.start_mark.line + 1}", depth, aliases)


def _too_much(place: str, depth: int, aliases: int = 0) -> ConfigError:
    if depth > MAX_DEPTH:
        return ConfigError(f"{place}: more than {MAX_DEPTH} mappings and lists within one another")
    if aliases > MAX_ALIASES:
        return ConfigError(f"{place}: more than {MAX_ALIASES:,} aliases", "write what they stand for")
    return ConfigError(f"{place}: more than {MAX_NODES:,} keys and values", "aliases count as what they stand for")


def _check_nodes(node, where: str, known: dict[int, tuple[int, int] | None]) -> tuple[int, int]:
    """(depth, nodes) of a node, aliases followed; refuses what the core schema has not, with its line.

    known: the same of nodes met before, None of those that are still open, by identity.
    """
    import yaml

    place = f"{where} line {node.start_mark.line + 1}"
    if id(node) in known:
        if known[id(node)] is None:
            raise ConfigError(f"{place}: an alias stands within what it names", "write out what is meant")
        return known[id(node)]
    known[id(node)] = None
    kind = node.tag.removeprefix(TAG)
    if kind not in KINDS[node.id]:
        raise ConfigError(f"{place}: tag {short(node.tag)} is not known here", "leave it away")
    depth, nodes, children = 0, 1, ()
    if isinstance(node, yaml.ScalarNode):
        _check_scalar(node, kind, place)
    elif isinstance(node, yaml.SequenceNode):
        depth, children = 1, node.value
    else:
        _check_keys(node, where)
        depth, children = 1, [part for pair in node.value for part in pair]
    for child in children:
        below = _check_nodes(child, where, known)
        depth, nodes = max(depth, below[0] + 1), nodes + below[1]
        if depth > MAX_DEPTH or nodes > MAX_NODES:
            raise _too_much(place, depth)
    known[id(node)] = depth, nodes
    return depth, nodes


def _check_scalar(node, kind: str, place: str) -> None:
    if kind in CORE and not re.fullmatch(CORE[kind][0], node.value):
        raise ConfigError(f"{place}: {short(node.value)} is no {kind}", "leave the tag away")
    if kind in ("int", "float") and len(node.value) > MAX_DIGITS:
        raise ConfigError(f"{place}: a number of {len(node.value):,} characters", f"at most {MAX_DIGITS} are read")


def _check_keys(node, where: str) -> None:
    import yaml

    seen = set()
    for key, value in node.value:
        place = f"{where} line {key.start_mark.line + 1}"
        if not isinstance(key, yaml.ScalarNode):
            raise ConfigError(f"{place}: a {key.id} cannot be a key", "a text or a number can")
        if key.value in seen:
            raise ConfigError(f"{place}: key {short(key.value)} stands twice", "keep one of the two")
        seen.add(key.value)
        if key.tag == f"{TAG}merge":
            parts = value.value if isinstance(value, yaml.SequenceNode) else [value]
            if not all(isinstance(part, yaml.MappingNode) for part in parts):
                raise ConfigError(f"{place}: << takes a mapping or a list of mappings")


@functools.cache
def _loader():
    """A loader of YAML 1.2's core schema: `yes`, `on`, `010`, `12:30` and `2020-01-01` are what they look like, texts.

    YAML 1.1, which PyYAML reads, makes true, true, 8, 750 and a date of them. In C where PyYAML was built with it.
    """
    import yaml

    base = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    loader = type("CoreLoader", (base,), {"yaml_implicit_resolvers": {}})
    for kind, (pattern, starts) in CORE.items():
        loader.add_implicit_resolver(f"{TAG}{kind}", re.compile(f"^(?:{pattern})$"), list(starts))
    loader.add_implicit_resolver(f"{TAG}merge", re.compile("^<<$"), ["<"])
    octal = base.yaml_constructors[f"{TAG}int"]

    def integer(self, node):
        return int(node.value[2:], 8) if node.value.startswith("0o") else octal(self, node)

    loader.add_constructor(f"{TAG}int", integer)
    return loader
