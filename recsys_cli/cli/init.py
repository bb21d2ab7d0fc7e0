"""`recsys init`: a project folder for people with data of their own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from recsys_cli.cli.common import Invocation, app, command

SETTINGS = """\
# Settings of this project: only what differs from the defaults. `recsys config template` prints every setting
# with a sentence each, `recsys config show` what is in force and where it came from. Commands read this file by
# themselves when they are run in this folder.

paths:
  data: data/mine          # dataset folder, written by `recsys import-data`
  artifacts: artifacts     # runs, reports and logs

# pipeline:
#   slate_size: 20         # items a list
"""

MAPPING = """\
# How your files become a dataset: `recsys import-data mapping.yaml --from raw`. Left of each colon stands our name,
# right of it the column of your file. Rows that cannot be read go to data/mine/rejects.parquet with the reason.
# Every key there is stands explained in the template: recsys import-data configs/import/template.yaml --from raw
# --preview reads it, and `recsys docs own-data` tells the same in words.

name: mine
unknown_users: add         # people of the log who are not in users.csv
unknown_items: add         # items of the log that are not in items.csv

impressions:               # what people saw or did: the one table that must be there
  files: interactions.csv
  columns:
    user_id: user_id
    item_id: item_id
    timestamp: {column: timestamp, unit: s}    # s, ms, us or ns since 1970; of written times {format: iso}
  actions:
    click: {value: true}   # every row is a click; with a column of 0 and 1: `click: clicked`

users:
  files: users.csv
  optional: true           # passed over where there is no such file
  columns: {user_id: user_id}
  attributes: all          # every other column becomes a feature

items:
  files: items.csv
  optional: true
  columns:
    item_id: item_id
    author_id: {column: author_id, optional: true}
    created_at: {column: created_at, format: iso, optional: true}
    text: {column: text, optional: true}
    topics: {column: topics, separator: "|", optional: true}
  attributes: all
"""

MAKEFILE = """\
# make            everything: import, train, measure
# make import     raw/ -> data/mine
# make train      data/mine -> artifacts/
# make evaluate   measure the run in use
RECSYS ?= recsys
RAW ?= raw

.PHONY: all import train evaluate
all: import train evaluate

import:
	$(RECSYS) import-data mapping.yaml --from $(RAW)

train:
	$(RECSYS) train

evaluate:
	$(RECSYS) evaluate
"""

IGNORED = """\
/raw/
/data/
/artifacts/
"""

FILES = {"recsys.yaml": SETTINGS, "mapping.yaml": MAPPING, "Makefile": MAKEFILE, ".gitignore": IGNORED}
"""Name → content of what is written."""


def _holds(path: Path, text: str) -> bool:
    """Whether a file is what would be written: one that an interrupted call wrote is in nobody's way."""
    try:
        return path.read_bytes() == text.encode()
    except OSError:
        return False


@command(app, "init")
def init(
    call: Invocation,
    folder: Annotated[Path, typer.Argument(help="Project folder; made where it is not there")] = Path(),
    force: Annotated[bool, typer.Option("--force", help="Replace files of these names")] = False,
) -> None:
    """Write a project folder for your own data: recsys.yaml, mapping.yaml, Makefile, .gitignore.

    Nothing of other content that is there is replaced without --force.
    """
    from recsys_cli.errors import UsageError
    from recsys_cli.files import write_bytes

    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is not a folder", "name another one")
    missing = [name for name, text in FILES.items() if not _holds(folder / name, text)]
    if not force and (there := [name for name in missing if os.path.lexists(folder / name)]):
        raise UsageError(f"{folder} has {', '.join(there)} already", "nothing was written; --force replaces them")
    folder.mkdir(parents=True, exist_ok=True)
    for name in missing:
        write_bytes(folder / name, FILES[name].encode())
    rows = [{"file": str(folder / name)} for name in FILES]

    def render(console) -> None:
        for row in rows:
            console.print(f"wrote {row['file']}", highlight=False, markup=False)
        console.print(
            "\nPut your tables into raw/ (interactions.csv; users.csv and items.csv where you have them), look at\n"
            "mapping.yaml, then run `make`. `recsys docs own-data` explains each step.",
            highlight=False,
            markup=False,
        )

    call.emit(rows, render)
