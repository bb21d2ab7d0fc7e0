"""A guess as a mapping file with comments, and what is to be told of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from recsys_cli.data.importer.guess.plan import Guess, PartGuess

MARK = "# Guessed by `recsys import-data --guess`"
WIDTH = 110


def mapping_text(guess: Guess, name: str, target: str) -> str:
    """The mapping as commented YAML.

    name: of the file that it goes to, target: the dataset folder, for the command in its head.
    """
    lines = [f"{MARK} from {', '.join(_files(guess))}.", "# Every key is explained in configs/import/template.yaml."]
    lines += ["#", f"#     recsys import-data {name} --from {guess.folder} --to {target}", ""]
    asked = [d for d in guess.doubts if d.asks]
    told = [d for d in guess.doubts if not d.asks]
    if asked:
        lines += ["# NOT SURE, please look:", *(line for d in asked for line in _wrapped(f"#   ? {d.text}"))]
    if told:
        lines += ["# Taken so:", *(line for d in told for line in _wrapped(f"#   - {d.text}"))]
    if asked or told:
        lines.append("")
    lines.append(f"name: {_inline(guess.name)}")
    for key, value in guess.keys.items():
        lines.append(_with(f"{key}: {_inline(value)}", guess.comments.get(key)))
    for table, parts in guess.tables.items():
        lines += ["", f"{table}:"]
        for part in parts:
            lines += _part(part, many=len(parts) > 1)
    return "\n".join(lines) + "\n"


def _files(guess: Guess) -> list[str]:
    found: list[str] = []
    for part in (p for parts in guess.tables.values() for p in parts):
        files = part.keys.get("files") or f"table {part.keys['table']}"
        found += files if isinstance(files, list) else [files]
    return found


def _part(part: PartGuess, many: bool) -> list[str]:
    indent = "    " if many else "  "
    lines = []
    for key, value in part.keys.items():
        if key in ("columns", "actions"):
            lines.append(f"{indent}{key}:")
            for name, spec in value.items():
                lines.append(_with(f"{indent}  {_inline(name)}: {_inline(spec)}", part.comments.get(name)))
        else:
            lines.append(_with(f"{indent}{key}: {_inline(value)}", part.comments.get(key)))
    if many:
        lines[0] = "  - " + lines[0].lstrip()
    return lines


def _inline(value: Any) -> str:
    """A value on one line, as YAML of both versions reads it."""
    text = yaml.dump(value, Dumper=_Dumper, default_flow_style=True, width=10**6, allow_unicode=True, sort_keys=False)
    return text.strip().removesuffix("...").strip()


class _Dumper(yaml.SafeDumper):
    """Texts without quotes only where they can be nothing else."""


def _text(dumper: yaml.Dumper, value: str) -> yaml.Node:
    plain = _PLAIN.fullmatch(value) and value.lower() not in _RESERVED
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=None if plain else '"')


_PLAIN = re.compile(r"[A-Za-z_][\w.\-]*", re.ASCII)
_RESERVED = ("yes", "no", "on", "off", "true", "false", "null", "y", "n", "none")
_Dumper.add_representer(str, _text)


def _with(line: str, comment: str | None) -> str:
    return line if not comment else f"{line}   # {comment}"


def _wrapped(text: str) -> list[str]:
    import textwrap

    return textwrap.wrap(text, WIDTH, subsequent_indent="#     ", break_long_words=False) or [text]


def free_name(path: Path, content: Callable[[Path], str]) -> Path:
    """`path`, or `NAME-2`, `NAME-3`, … where another file is there already: what somebody has edited is kept.

    content: what would be written to a place.
    """
    n, found = 1, path
    while found.exists() and found.read_text(encoding="utf-8", errors="replace") != content(found):
        n += 1
        found = path.with_name(f"{path.stem}-{n}{path.suffix}")
    return found
