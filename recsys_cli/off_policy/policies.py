"""The judged policy as a table of probabilities over the cells of a log."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recsys_cli.errors import DataError
from recsys_cli.experiments.log_file import numbers, read_log
from recsys_cli.off_policy.config import FilePolicy, LogColumns, LogPolicy, RunPolicy
from recsys_cli.off_policy.log_rows import LogTable, coded, load_log, positions_of
from recsys_cli.off_policy_estimates.rows import PolicyTable

if TYPE_CHECKING:
    import polars as pl

    from recsys_cli.pipeline.config import PipelineConfig

SUMS = 1e-3
"""By how much the probabilities of a cell may miss 1."""
KEYS = "position"


@dataclass(frozen=True)
class Choices:
    """Probabilities by item and whatever columns they differ by; `keys` names these."""

    frame: pl.DataFrame
    """columns `keys`, item, probability; ids and keys are texts"""
    keys: tuple[str, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cells:
    """What the policy looks at in each row."""

    of_row: np.ndarray
    """int32[n]"""
    frame: pl.DataFrame
    """a row a cell: position, and the policy's keys, as texts"""
    position: np.ndarray
    """int16[cells]"""


def cells_of(table: LogTable, keys: tuple[str, ...]) -> Cells:
    """Cells by position and `keys` (columns of the table)."""
    import polars as pl

    place, names = positions_of(table)
    keys = tuple(k for k in keys if k != KEYS)
    code, columns = place.astype(np.int64), {}
    for key in keys:
        own, values = coded(table.frame[key])
        code, columns[key] = code * len(values) + own, (values, len(values))
    distinct, of_row = np.unique(code, return_inverse=True) if keys else (np.arange(len(names)), place)
    out, rest = {}, distinct
    for key in reversed(keys):
        values, n = columns[key]
        rest, at = np.divmod(rest, n)
        out[key] = values.gather(at)
    frame = pl.DataFrame({KEYS: pl.Series(names).gather(rest), **{k: out[k] for k in keys}})
    return Cells(of_row.astype(np.int32), frame, rest.astype(np.int16))


def uniform(table: LogTable) -> Choices:
    """Evenly among what the log shows at a position."""
    import polars as pl

    seen = _with_position(table).select(KEYS, "item").unique()
    return Choices(seen.with_columns((1 / pl.len().over(KEYS)).alias("probability")), (KEYS,))


def of_file(config: FilePolicy, columns: LogColumns, table: LogTable) -> Choices:
    """From a table of probabilities."""
    import polars as pl

    possible = {KEYS: columns.position, "user": columns.user, "request": columns.request}
    possible |= {c: c for c in columns.contexts}
    possible = {k: n for k, n in possible.items() if n is not None and table.has(k)}
    frame = read_log(config.path, {columns.item, config.probability, *possible.values()})
    for name in (columns.item, config.probability):
        if name not in frame.columns:
            raise DataError(f"{config.path} has no column {name!r}", f"its columns: {', '.join(frame.columns[:12])}")
    p = numbers(frame, config.probability, str(config.path))
    if ((p < 0) | (p > 1 + 1e-9)).any():
        row = int(((p < 0) | (p > 1 + 1e-9)).argmax())
        raise DataError(f"{config.path} row {row + 1}: {config.probability} is {p[row]:g}", "it lies between 0 and 1")
    keys = tuple(k for k, n in possible.items() if n in frame.columns)
    parts = [pl.col(possible[k]).cast(pl.String).alias(k) for k in keys]
    choices = frame.select(*parts, pl.col(columns.item).cast(pl.String).alias("item")).with_columns(
        pl.Series("probability", p)
    )
    if choices.select(*keys, "item").is_duplicated().any():
        row = int(choices.select(*keys, "item").is_duplicated().arg_max())
        alike = " and ".join(keys) or "table"
        raise DataError(f"{config.path} row {row + 1}: the same item twice for the same {alike}")
    return Choices(choices, keys)


def of_log(config: LogPolicy, columns: LogColumns) -> Choices:
    """As shares of the rows that the policy wrote elsewhere."""
    import polars as pl

    other = load_log(config.path, columns, judged=False)
    keys = (KEYS, *columns.contexts)
    counts = _with_position(other).group_by(*keys, "item").len()
    share = (pl.col("len") / pl.col("len").sum().over(keys)).alias("probability")
    return Choices(counts.with_columns(share).drop("len"), keys)


def of_run(config: RunPolicy, table: LogTable, artifacts: Path, base: PipelineConfig) -> Choices:
    """What a run shows each user of the log in each position: shares of `draws` slates."""
    import polars as pl

    from recsys_cli.config import merge, validate
    from recsys_cli.engine import RecommendationEngine
    from recsys_cli.pipeline.config import PipelineConfig

    if not table.has("user"):
        raise DataError(f"{table.where} has no user, and a run looks at the user", "name the column in log.user")
    pipeline = validate(PipelineConfig, merge(base.model_dump(mode="json"), config.pipeline))
    engine = RecommendationEngine.load(artifacts, config.run, pipeline, measured=config.measured)
    ids = table.frame["user"].unique().sort()
    known = engine.bundle.user_ids.positions(ids.to_list())
    if not (known >= 0).any():
        raise DataError(f"run {engine.manifest.id} knows none of the {len(ids):,} users of {table.where}",
                        "check log.user, or use a run of the dataset that the log belongs to")
    _, names = positions_of(table)
    parts = []
    for draw in range(config.draws):
        batch = engine.slates(known, len(names), request=draw)
        row, slot = np.nonzero(batch.items >= 0)
        parts.append(pl.DataFrame({
            "user": ids.gather(row),
            KEYS: pl.Series(names).gather(slot),
            "item": pl.Series(list(map(str, engine.bundle.item_ids.external(batch.items[row, slot]))), dtype=pl.String),
        }))
    frame = pl.concat(parts).group_by("user", KEYS, "item").len()
    frame = frame.with_columns((pl.col("len") / pl.col("len").sum().over("user", KEYS)).alias("probability"))
    notes = []
    if (known < 0).any():
        notes.append(f"{int((known < 0).sum()):,} of {len(ids):,} users are unknown to the run: they get its fallback")
    if not config.measured:
        notes.append("the run may have learned from the log's own rows: measured: true serves the half that has not")
    return Choices(frame.drop("len"), ("user", KEYS), tuple(notes))


def _with_position(table: LogTable) -> pl.DataFrame:
    import polars as pl

    return table.frame if table.has(KEYS) else table.frame.with_columns(pl.lit("0").alias(KEYS))


def table_of(choices: Choices, cells: Cells, items: pl.Series, where: str) -> PolicyTable:
    """The choices in every cell, as numbers. items: names of the actions. Raises DataError where a cell has no choices,
    or their probabilities do not sum to 1."""
    import polars as pl

    numbered = cells.frame.with_row_index("cell")
    known = choices.frame.with_columns(pl.Series("action", coded(choices.frame["item"], items)[0]))
    keys = list(choices.keys)
    if keys:
        joined = numbered.join(known, on=keys, how="inner").select("cell", "action", "probability")
    else:
        joined = numbered.join(known, how="cross").select("cell", "action", "probability")
    joined = joined.filter(pl.col("probability") > 0).sort("cell", "action")
    table = PolicyTable(
        joined["cell"].cast(pl.Int32).to_numpy(), joined["action"].to_numpy(), joined["probability"].to_numpy(),
        cells.position, len(items),
    )
    total = table.total()
    bad = np.abs(total - 1) > SUMS
    if bad.any():
        cell = int(bad.argmax())
        named = cells.frame.row(cell, named=True).items()
        told = ", ".join(f"{k} {v}" for k, v in named if k in keys or not keys)
        raise DataError(
            f"{where}: probabilities for {told} sum to {total[cell]:.4g} ({int(bad.sum()):,} such)",
            "they must sum to 1 wherever the log has rows",
        )
    return table
