"""Ids: the text that they were written as; integers only where nothing of it is lost."""

from __future__ import annotations

import polars as pl

from recsys_cli.data.importer.json_rows import EXACT
from recsys_cli.data.importer.values import Target, Value
from recsys_cli.errors import ConfigError

LONGEST_ID = 500
MISSING_WORDS = ["nan", "none", "null", "na", "n/a", "<na>", "nil", "undefined", "nat", "#n/a", ""]
"""Texts that say "unknown" where programs write them, in lower case without blanks."""
INTEGER = r"^(0|-?[1-9]\d*)$"
"""An integer as a program writes it; 007, +7 and 1_0 are texts."""


def says_missing(text: pl.Expr) -> pl.Expr:
    """Whether a text is one of the spellings of "unknown" that programs have."""
    return text.str.strip_chars().str.to_lowercase().is_in(MISSING_WORDS)


def convert_id(out: Value, t: Target, dtype: pl.DataType, label: str) -> None:
    """Fill `out` with an id as int64 or text; raises ConfigError where the column cannot hold ids."""
    if dtype.is_nested() or dtype in (pl.Binary, pl.Object):
        hint = "map a field of it" if isinstance(dtype, pl.Struct) else "write it as text, or `explode` the list"
        if dtype == pl.Binary:
            hint = "write the bytes as text (hexadecimal, UUID); only UTF-8 and 16-byte UUIDs are read"
        raise ConfigError(f"{label}: a column of type {dtype} holds no ids", hint)
    raw = out.value
    text = as_text(raw, dtype)
    if dtype.is_float():
        raw = raw.fill_nan(None)
        told = f"{label} is a float too large to be exact: write ids as integers or text"
        out.checks.append((raw.abs() > EXACT, told))
    if not t.integer:
        out.value = text
        out.checks.append((text.str.len_chars() > LONGEST_ID, f"{label} is longer than {LONGEST_ID} characters"))
        out.checks.append((text.str.contains("\0", literal=True), f"{label} holds a zero byte"))
        if dtype == pl.String:
            out.warnings.append((says_missing(text), f"{label} is a word for unknown, kept as an id (see `missing`)"))
            blanks = (text.str.strip_chars() != text) & ~says_missing(text)
            out.warnings.append((blanks, f"{label} has blanks around it, which are kept"))
        return
    plain = text.str.strip_chars() if dtype == pl.String else text
    out.value = plain.cast(pl.Int64, strict=False)
    if dtype == pl.String:
        out.value = pl.when(plain.str.contains(INTEGER)).then(out.value)
    if dtype.is_integer() and dtype != pl.UInt64:
        return
    bad = raw.is_not_null() & out.value.is_null()
    if t.guessed:
        out.no_integer = bad if dtype.is_integer() else bad & ~says_missing(text)
    out.checks.append((bad, f"{label} is not an integer"))


def as_text(raw: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """An id of any plain type as text: whole numbers without a point."""
    if dtype == pl.String:
        return raw
    if dtype.is_float():
        whole = (raw == raw.round()) & (raw.abs() <= EXACT)
        integer = raw.cast(pl.Int64, strict=False).cast(pl.String)
        return pl.when(whole).then(integer).otherwise(raw.fill_nan(None).cast(pl.String))
    if dtype.is_decimal():
        return raw.cast(pl.String).str.replace(r"\.0+$", "")
    return raw.cast(pl.String)
