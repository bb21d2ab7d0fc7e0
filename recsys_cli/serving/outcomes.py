"""Exposures and outcomes of an experiment, from the log of the server that served it.

Somebody is exposed by the first answer that a variant gave. From then on every impression and every action counts for
that variant, whichever answer it belongs to, if any. Columns are those that metrics are made of: `exposed`, `slates`,
`topics` and `authors` of answers; `impressions`, each action, `engagement`, `interactions`, `negative`, `dwell`,
`sessions`, `days_active`, `small_author`, `flagged` of what people did; `days`, one a day from the exposure to the end
of the log.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from recsys_cli.data.exposure import flagged, of_small_authors, small_authors
from recsys_cli.data.schema import POSITIVE_ACTIONS
from recsys_cli.errors import DataError
from recsys_cli.serving.event_log import read_log
from recsys_cli.serving.events import INTERLEAVED, arms_of
from recsys_cli.serving.fold_table import fold_of, table_of
from recsys_cli.serving.log_file import DATABASE

if TYPE_CHECKING:
    import polars as pl

    from recsys_cli.pipeline.bundle import Bundle

SESSION_MINUTES = 30
"""Minutes without an impression after which a session has ended, where events name no session."""


def is_event_log(path: str | Path) -> bool:
    """Whether a folder holds the log of a server."""
    return (Path(path) / DATABASE).is_file()


def exposures(log: str | Path, key: str) -> Iterator[tuple[str, str, int, list[str]]]:
    """(user, variant, µs, items) of every answer of an experiment's variants, in the order of the log."""
    answered = set()
    for entry in read_log(log):
        event = entry.event
        if event.type != "served" or not event.served.arm or (event.request_id, event.user_id) in answered:
            continue
        variant = arms_of(event.served.arm).get(key)
        if variant is not None:
            answered.add((event.request_id, event.user_id))
            yield event.user_id, variant, event.timestamp, event.served.items


def exposed_users(log: str | Path, key: str) -> dict[str, int]:
    """Variant → users who were exposed to it."""
    users: dict[str, set[str]] = {}
    for user, variant, _, _ in exposures(log, key):
        users.setdefault(variant, set()).add(user)
    return {variant: len(held) for variant, held in sorted(users.items())}


def credited(log: str | Path, key: str, variants: int) -> dict[str, list[float]]:
    """User → what turning to items of mixed lists credited each variant of an interleaved experiment, in their order.

    An impression with any positive action credits once, by the answer that showed it. Who was shown a mixed list and
    turned to nothing has zeros. Raises DataError where nobody was shown one.
    """
    held: dict[tuple[str, str], dict[str, list[float]]] = {}
    out: dict[str, list[float]] = {}
    for entry in read_log(log):
        served, event = entry.event.served, entry.event
        if event.type == "served" and served.credits and arms_of(served.arm).get(key) == INTERLEAVED:
            held[event.request_id, event.user_id] = dict(zip(served.items, served.credits, strict=True))
            out.setdefault(event.user_id, [0.0] * variants)
    if not out:
        raise DataError(
            f"{log}: nobody was shown a mixed list of {key} yet", "a server mixes lists once the experiment is started"
        )
    import polars as pl

    did = table_of(fold_of(log, POSITIVE_ACTIONS)).filter(pl.any_horizontal(*POSITIVE_ACTIONS))
    for request, user, item in did.select("request_id", "user_id", "item_id").iter_rows():
        for v, credit in enumerate(held.get((request, user), {}).get(item, ())):
            out[user][v] += credit
    return out


def outcomes_frame(
    log: str | Path, key: str, called: Mapping[str, str], attributes: Collection[str], bundle: Bundle
) -> pl.DataFrame:
    """The table that `experiments.outcomes` reads.

    key: the experiment. called: its variants, and what the table calls each. attributes: columns of users to add.
    bundle: of the run in use, for what items and users are.

    Raises DataError where nobody was exposed, or the folder holds no log.
    """
    import polars as pl

    shown = [row for row in exposures(log, key) if row[1] in called]
    if not shown:
        raise DataError(
            f"{log}: nobody was exposed to {key} yet", "a server exposes people once it answers by its variants"
        )
    answers = pl.DataFrame(
        {"user_id": [r[0] for r in shown], "variant": [called[r[1]] for r in shown], "timestamp": [r[2] for r in shown],
         "exposed": 1, "slates": 1} | _of_slates([r[3] for r in shown], bundle)
    )
    did = _behaviour(log, bundle)
    first = answers.sort("timestamp").group_by("user_id", maintain_order=True).first()
    variants = answers.select("user_id", "timestamp", "variant").sort("timestamp")
    did = did.join(first.select("user_id", first_variant="variant"), on="user_id", how="inner").sort("timestamp")
    did = did.join_asof(variants, on="timestamp", by="user_id", check_sortedness=False)
    did = did.with_columns(pl.col("variant").fill_null(pl.col("first_variant"))).drop("first_variant")
    end = max(did["timestamp"].max() or 0, answers["timestamp"].max())
    frame = pl.concat([answers, did, _days(first, end)], how="diagonal_relaxed")
    counted = [c for c in frame.columns if c not in ("user_id", "variant", "timestamp")]
    frame = frame.with_columns(pl.col(c).fill_null(0) for c in counted)
    return _with_attributes(frame, set(attributes), bundle)


def _of_slates(slates: list[list[str]], bundle: Bundle) -> dict[str, list[int]]:
    """Distinct topics and authors of each answer."""
    catalogue = bundle.catalogue
    out: dict[str, list[int]] = {"topics": [], "authors": []}
    for items in slates:
        held = bundle.item_ids.positions(items) if items else []
        held = [at for at in held if 0 <= at < catalogue.n_items]
        out["topics"].append(len({int(t) for at in held for t in catalogue.item_topics[at]}))
        out["authors"].append(len({a for at in held if (a := int(catalogue.item_author[at])) >= 0}))
    return out


def _behaviour(log: str | Path, bundle: Bundle) -> pl.DataFrame:
    """A row an impression: what people did, whoever answered."""
    import polars as pl

    positive, negative = bundle.spec.positive, bundle.spec.negative
    rows = table_of(fold_of(log, (*positive, *negative))).filter(pl.col("user_id").is_not_null())
    rows = rows.sort("user_id", "timestamp").with_columns(pl.col("timestamp").dt.timestamp("us"))
    one_user = pl.col("user_id") == pl.col("user_id").shift()
    gap = pl.col("timestamp") - pl.col("timestamp").shift() <= SESSION_MINUTES * 60_000_000
    same = pl.when(pl.col("session_id").is_null()).then(gap).otherwise(
        pl.col("session_id") == pl.col("session_id").shift()
    )
    day = pl.col("timestamp") // 86_400_000_000
    rows = rows.with_columns(**_exposed(rows["item_id"], bundle))

    def some(actions: tuple[str, ...]) -> pl.Expr:
        return pl.any_horizontal(pl.lit(False), *(pl.col(a) for a in actions)).cast(pl.Int64)

    return rows.select(
        "user_id", "timestamp", impressions=1,
        **{action: pl.col(action).cast(pl.Int64) for action in (*positive, *negative)},
        engagement=pl.sum_horizontal(pl.lit(0), *(pl.col(a).cast(pl.Int64) for a in positive)),
        interactions=some(positive), negative=some(negative), small_author=pl.col("small_author"),
        **({"flagged": pl.col("flagged")} if "flagged" in rows.columns else {}),
        dwell=pl.col("dwell_seconds").cast(pl.Float64),
        sessions=(~(one_user & same).fill_null(False)).cast(pl.Int64),
        days_active=(~(one_user & (day == day.shift())).fill_null(False)).cast(pl.Int64),
    )


def _exposed(items: pl.Series, bundle: Bundle) -> dict[str, pl.Series]:
    """0 or 1 an impression: of an author whom few follow, and flagged by a classifier; items that the run does not know
    are neither."""
    import numpy as np
    import polars as pl

    catalogue = bundle.catalogue
    at = bundle.item_ids.positions(items.to_list()) if len(items) else np.zeros(0, np.int64)
    known = (at >= 0) & (at < catalogue.n_items)
    places = np.where(known, at, 0)
    small = of_small_authors(places, catalogue, small_authors(bundle.state.author_followers))
    columns = {"small_author": small, "flagged": flagged(places, catalogue)}
    return {name: pl.Series(name, (v & known).astype(np.int64)) for name, v in columns.items() if v is not None}


def _days(first: pl.DataFrame, end: int) -> pl.DataFrame:
    """One row a user and day from the exposure to the end of the log."""
    import polars as pl

    a_day = 86_400_000_000
    days = first.select("user_id", "variant", "timestamp").with_columns(
        day=pl.int_ranges(pl.col("timestamp") // a_day, end // a_day + 1)
    ).explode("day")
    return days.select(
        "user_id", "variant", timestamp=pl.max_horizontal(pl.col("timestamp"), pl.col("day") * a_day), days=1
    )


def _with_attributes(frame: pl.DataFrame, columns: set[str], bundle: Bundle) -> pl.DataFrame:
    """The table with what the run knows of its users in some columns."""
    import numpy as np
    import polars as pl

    known = sorted(columns & set(bundle.catalogue.user_codes))
    at = bundle.user_ids.positions(frame["user_id"].to_list()) if known else []
    for name in known:
        codes, names = bundle.catalogue.user_codes[name], [*bundle.catalogue.names[f"user.{name}"], None]
        held = np.where(at >= 0, codes[np.maximum(at, 0)], -1)
        frame = frame.with_columns(pl.Series(name, [names[code] for code in held.tolist()], dtype=pl.String))
    return frame


def read_event_log(
    log: str | Path, key: str, called: Mapping[str, str], attributes: Collection[str] = ()
) -> pl.DataFrame:
    """`outcomes_frame` of a log that lies in the artifacts of the run in use.

    Raises ArtifactError where there is no run, and DataError as `outcomes_frame`.
    """
    from recsys_cli.artifacts.runs import RunStore
    from recsys_cli.pipeline.bundle import read_bundle

    bundle = read_bundle(RunStore(Path(log).resolve().parent).open().bundle)
    return outcomes_frame(log, key, called, attributes, bundle)
