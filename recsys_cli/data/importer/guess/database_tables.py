"""Tables of a database as the guess looks at them: the first rows of each, like those of a file."""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl

from recsys_cli.data.importer.databases import first_rows
from recsys_cli.data.importer.guess.look import SAMPLE_ROWS, Doubt, Looked
from recsys_cli.errors import DataError, UsageError
from recsys_cli.files import scratch_folder

ADDRESS = re.compile(r"[A-Za-z][\w+.-]*://.*|\$\{\w+\}", re.DOTALL)
"""An address, or the environment variable that holds it."""
SQLITE = b"SQLite format 3\x00"
"""How every SQLite file begins."""


def as_address(given: str) -> tuple[str, Path] | None:
    """(the address of a database, the folder that its file counts from); None for files and folders.

    A file of SQLite is its own address. Raises UsageError where an address holds a password, which would be written
    into the mapping.
    """
    if not ADDRESS.fullmatch(given):
        path = Path(given)
        if not path.is_file():
            return None
        with path.open("rb") as stream:
            return (f"sqlite:///{path.name}", path.resolve().parent) if stream.read(len(SQLITE)) == SQLITE else None
    password = re.match(r"[^/]*://[^/@]*?:([^@]*)@", given)
    if password and not re.fullmatch(r"\$\{\w+\}", password[1]):
        raise UsageError(
            "the address holds a password, which would be written into the mapping",
            "put it into an environment variable and write '${NAME}' in its place, in single quotes",
        )
    return given, Path.cwd()


def look_at_tables(address: str, folder: Path) -> tuple[list[Looked], list[Doubt]]:
    """Every table and view of a database's usual schema, and which of them hold no rows.

    folder: what the path of a SQLite file counts from. Raises DataError where the database holds no rows at all.
    """
    with scratch_folder() as place:
        tables = first_rows(address, folder, Path(place), SAMPLE_ROWS)
        found = [
            Looked(Path(name), {"from": address, "table": name}, _read(files), True)
            for name, files in tables.items()
            if files
        ]
    doubts = [Doubt(f"{name} holds no rows and is left out") for name, files in tables.items() if not files]
    if not found:
        raise DataError("no table of the database holds rows", "name a database that has some, or files")
    return found, doubts


def _read(files: list[Path]) -> pl.DataFrame:
    return pl.concat([pl.read_parquet(file) for file in files], how="diagonal_relaxed").head(SAMPLE_ROWS)
