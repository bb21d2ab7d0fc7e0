"""Slates, truths and tables of attributes from CSV, TSV, Parquet and TREC files, or from frames."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import polars as pl

from recsys_cli.errors import DataError, did_you_mean

NAMES = {
    "user": ("user_id", "user", "userid", "uid", "query_id", "query", "qid", "q_id"),
    "item": ("item_id", "item", "itemid", "iid", "doc_id", "docid", "docno"),
    "rank": ("rank", "position", "place"),
    "session": ("session_id", "session"),
    "score": ("score", "prediction", "utility"),
    "relevance": ("relevance", "rel", "label", "gain", "rating"),
}
"""What a column holds → the headings that it is known by, in any case."""
RUN = ("user", "Q0", "item", "rank", "score", "tag")
QRELS = ("user", "iteration", "item", "relevance")
HINT = "the columns are user_id, item_id and rank or score (slates) or relevance (truth)"


def read_slates(source: Any) -> pl.DataFrame:
    """Columns user, item and, where they are there, rank, score and session; a row an item of a list.

    source: a path of CSV, TSV, Parquet or a TREC run, or a polars or pandas frame. Of a TREC run the score counts
    alone, as for trec_eval. Raises DataError naming the file and what is missing.
    """
    frame, name, trec = _frame(source, RUN)
    wanted = ("score",) if trec else ("rank", "score")
    return _columns(frame, name, ("user", "item"), wanted, ("session",))


def read_truth(source: Any) -> pl.DataFrame:
    """Columns user, item and, where they are there, relevance and session; a row something that a user turned to.

    source: as of `read_slates`, or TREC qrels.
    """
    frame, name, _ = _frame(source, QRELS)
    return _columns(frame, name, ("user", "item"), ("relevance",), ("session",))


def read_attributes(source: Any, of: str) -> pl.DataFrame:
    """A table of attributes of users or items with its column of ids named `of` ("user" or "item")."""
    frame, name, _ = _frame(source, ())
    found = _named(frame, of)
    if found is None:
        raise DataError(f"{name}: no column of {of} ids among {_few(frame.columns)}", f"name it {of}_id")
    return frame.rename({found: of})


def _frame(source: Any, trec: tuple[str, ...]) -> tuple[pl.DataFrame, str, bool]:
    """The rows, what to call them in errors, and whether they come from a TREC file."""
    if isinstance(source, pl.LazyFrame):
        return source.collect(), "frame", False
    if isinstance(source, pl.DataFrame):
        return source, "frame", False
    if not isinstance(source, str | Path):
        if type(source).__module__.partition(".")[0] == "pandas":
            return pl.from_pandas(source), "frame", False
        raise DataError(f"slates and truths are files or frames, not {type(source).__name__}", HINT)
    path = Path(source)
    if not path.is_file():
        raise DataError(f"no file {path}", "check the path")
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            return pl.read_parquet(path), str(path), False
        first = _first_line(path)
        tabs = path.name.lower().removesuffix(".gz").endswith(".tsv")
        if trec and not tabs and "," not in first and len(first.split()) == len(trec):
            return _trec(path, trec), str(path), True
        # ids are text: 007 is another user than 7
        separator = "\t" if tabs or ("\t" in first and "," not in first) else ","
        return pl.read_csv(path, separator=separator, infer_schema=False), str(path), False
    except (pl.exceptions.PolarsError, OSError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{path}: cannot be read: {reason}", HINT) from None


def _first_line(path: Path) -> str:
    opened = gzip.open if path.suffix.lower() == ".gz" else open
    with opened(path, "rt", encoding="utf-8") as stream:
        return stream.readline().strip()


def _trec(path: Path, columns: tuple[str, ...]) -> pl.DataFrame:
    """The whitespace-separated columns of a TREC file."""
    lines = pl.read_csv(
        path, has_header=False, separator="\x01", quote_char=None, new_columns=["line"], infer_schema=False
    )
    parts = lines["line"].str.strip_chars().str.replace_all(r"\s+", "\t").str.split("\t")
    width = parts.list.len()
    wrong = ((width != len(columns)) & (width > 0)).arg_max()
    if wrong is not None and width[wrong] != len(columns):
        raise DataError(
            f"{path} line {wrong + 1}: {width[wrong]} fields, not the {len(columns)} of TREC ({' '.join(columns)})",
            "correct the line, or give CSV with a header",
        )
    return pl.DataFrame({name: parts.list.get(place) for place, name in enumerate(columns)})


def _columns(
    frame: pl.DataFrame, name: str, required: tuple[str, ...], optional: tuple[str, ...], labels: tuple[str, ...]
) -> pl.DataFrame:
    """The columns under the names of their roles; optional ones are numbers, labels are whatever they are."""
    found = {role: _named(frame, role) for role in (*required, *optional, *labels)}
    for role in required:
        if found[role] is None:
            near = did_you_mean(f"{role}_id", frame.columns, None)
            known = f"{name}: no column {role}_id among {_few(frame.columns)}"
            raise DataError(known, near or HINT)
    kept = frame.select(pl.col(column).alias(role) for role, column in found.items() if column is not None)
    numbers = [role for role in optional if role in kept.columns]
    for role in numbers:
        if kept.schema[role] == pl.String:
            cast = kept[role].str.strip_chars().replace("", None).cast(pl.Float64, strict=False)
            wrong = cast.is_null() & kept[role].is_not_null() & (kept[role].str.strip_chars() != "")
            if wrong.any():
                row = int(wrong.arg_max())
                raise DataError(
                    f"{name} row {row + 1}, column {found[role]}: {kept[role][row]!r} is no number", HINT
                )
            kept = kept.with_columns(cast.alias(role))
        elif not kept.schema[role].is_numeric():
            raise DataError(f"{name}, column {found[role]}: {kept.schema[role]} is no number", HINT)
    return kept


def _named(frame: pl.DataFrame, role: str) -> str | None:
    """The column that plays a role, by the first of its headings that is there."""
    lower = {column.strip().lower(): column for column in frame.columns}
    return next((lower[name] for name in NAMES[role] if name in lower), None)


def _few(columns: list[str]) -> str:
    more = f" and {len(columns) - 8} more" if len(columns) > 8 else ""
    return ", ".join(columns[:8]) + more
