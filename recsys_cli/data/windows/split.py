"""How the log of a dataset is split into the windows."""

from __future__ import annotations

import datetime as dt
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from recsys_cli.data.schema import PARTS, SECOND
from recsys_cli.data.windows import row_windows
from recsys_cli.data.windows.checks import check_windows, refuse_empty
from recsys_cli.data.windows.config import IN_TIME, OF_USER, Kind, WindowsConfig
from recsys_cli.data.windows.notes import counts_text, first_line, spans_text, strangers
from recsys_cli.data.windows.row_windows import RANKER, TEST, VALIDATION, Shares
from recsys_cli.data.windows.windows import Split, Windows
from recsys_cli.errors import ArtifactError, ConfigError, DataError

if TYPE_CHECKING:
    from recsys_cli.data.dataset import Dataset
    from recsys_cli.data.log import Log

def make_split(config: WindowsConfig, dataset: Dataset, *, seed: int, final: bool = False) -> Split:
    """Split the log of a dataset into the windows; the same for the same seed.

    With `final` nothing is held out for measuring: the test window is empty. Of rolling cuts it is the one that
    is set (see `rolling_splits`). Raises DataError where a window would be empty, or where overlapping pairs are
    refused, and ConfigError where the kind of split does not fit the data or dates are out of order.
    """
    if not len(dataset.log):
        raise DataError(
            f"{dataset.path}: no impressions, there is nothing to learn from", "generate or import a dataset"
        )
    kind, why = _kind(config, dataset)
    if kind == "rolling":
        if final:
            return _in_time(config, dataset, final=True)
        return rolling_splits(config, dataset, seed=seed)[(config.cut or config.cuts) - 1]
    if kind == "given" and (final or _follow_in_time(dataset)):
        if dataset.manifest.has_time:
            return _in_time(config, dataset, final=final, kind="given", why=why)
        kind = kind if not final else _within_user(dataset)
    if kind == "time":
        return _in_time(config, dataset, final=final, why=why)
    return _arranged(config, dataset, kind, why, seed, final)


def rolling_splits(config: WindowsConfig, dataset: Dataset, *, seed: int = 0) -> list[Split]:
    """Several cuts in time, oldest first: the test share is `cuts` windows, and each is measured from all before it.

    The log of each ends with its test window. Raises ConfigError for data without time.
    """
    if not dataset.manifest.has_time:
        raise ConfigError(f"windows.split is rolling, and {dataset.path} has no time", "use last or user_random")
    time, out = dataset.log.time, []
    edges = 1 - config.test_share * np.arange(config.cuts, -1, -1) / config.cuts
    ends = [_moment_at(time, share) for share in edges[:-1]] + [int(time[-1]) + 1]
    left = 1 - config.test_share
    for cut in range(config.cuts):
        log = dataset.log.window(end=ends[cut + 1])
        before = log.time[: np.searchsorted(log.time, ends[cut])]
        if not len(before):
            raise DataError(f"{dataset.path}: nothing lies before cut {cut + 1}", "set windows.cuts lower")
        windows = Windows(
            start=int(time[0]),
            history_end=_moment_at(before, (config.history_share or IN_TIME) / left),
            validation_start=_moment_at(before, 1 - config.validation_share / left),
            test_start=ends[cut],
            end=ends[cut + 1],
            kind="rolling",
            made_by=config,
            seed=seed,
            cut=cut,
        )
        check_windows(windows, log, dataset)
        message = f"windows: rolling, cut {cut + 1} of {config.cuts}: {spans_text(windows, log)}"
        out.append(Split("rolling", log, windows, messages=(message, *strangers(log, windows))))
    return out


def split_again(windows: Windows, dataset: Dataset) -> Split:
    """The split that a run was trained with, from its manifest; raises ArtifactError where it comes out otherwise."""
    if windows.made_by is None:
        windows = windows.model_copy(update={"places": not dataset.manifest.has_time})
        return Split(windows.kind, dataset.log, windows)
    if windows.kind == "rolling":
        split = rolling_splits(windows.made_by, dataset, seed=windows.seed)[windows.cut]
    else:
        split = make_split(windows.made_by, dataset, seed=windows.seed, final=windows.final)
    if split.windows != windows:
        raise ArtifactError(
            "the split that the run was trained with cannot be made again from this data", "train again"
        )
    return split


# --- which kind -------------------------------------------------------------------------------------------


def _kind(config: WindowsConfig, dataset: Dataset) -> tuple[Kind, str]:
    """The kind of split, and why where it was chosen here."""
    manifest = dataset.manifest
    given = "test" in (manifest.splits or {})
    kind = config.split
    if kind == "auto" and config.dated:
        kind = "given" if given and _follow_in_time(dataset) else "time"
    if kind in ("time", "rolling") and not manifest.has_time:
        what = "a date is set" if config.dated else f"windows.split is {kind}"
        raise ConfigError(f"{what}, and {dataset.path} has no time", "use last or user_random, or leave it to auto")
    if kind == "given" and not given:
        raise ConfigError(
            f"windows.split is given, and {dataset.path} was not published in train and test parts",
            "name them with `split:` in the import mapping, or use another kind of split",
        )
    if kind == "given" and config.dated and not _follow_in_time(dataset):
        raise ConfigError(
            "windows: a date is set, and the given parts do not follow one another in time", "leave out the dates"
        )
    if kind != "auto":
        return kind, ""
    if config.test_rows or config.validation_rows:
        return "last", ""
    if given:
        return "given", "the data comes in train and test parts"
    if manifest.has_time:
        return "time", ""
    if manifest.has_order:
        return "last", "rows have an order but no time"
    return "user_random", "rows have neither time nor an order"


def _within_user(dataset: Dataset) -> Kind:
    return "last" if dataset.manifest.has_order else "user_random"


def _follow_in_time(dataset: Dataset) -> bool:
    """Whether the given parts are one after the other in time."""
    splits = dataset.manifest.splits or {}
    spans = [splits[name] for name in PARTS if name in splits]
    after = all(one[1] <= other[0] for one, other in pairwise(spans))
    return dataset.manifest.has_time and after


# --- in time ----------------------------------------------------------------------------------------------


def _in_time(
    config: WindowsConfig, dataset: Dataset, *, final: bool, kind: Kind = "time", why: str = ""
) -> Split:
    """Cuts in time by share, by date or between given parts; the log stays as it is."""
    log = dataset.log
    time, end = log.time, int(log.time[-1]) + 1
    splits = (dataset.manifest.splits or {}) if kind == "given" else {}
    test = end if final else _moment(config.test_start) or splits.get("test", (None,))[0]
    fixed = test is not None
    test = _moment_at(time, 1 - config.test_share) if test is None else test
    left = int((time < test).sum()) / len(time)
    scale = left if fixed else 1.0
    validation = None if final else _moment(config.validation_start) or splits.get("valid", (None,))[0]
    if validation is None:
        validation = _moment_at(time, left - config.validation_share * scale)
    history = _moment(config.history_end) or _moment_at(time, (config.history_share or IN_TIME) * scale)
    windows = Windows(
        start=int(time[0]), history_end=history, validation_start=validation, test_start=test, end=end, kind=kind,
        final=final,
    )
    check_windows(windows, log, dataset)
    overlap = _overlap(config, dataset, log, log.time >= test) if kind == "given" and not final else ()
    message = first_line(kind, why, spans_text(windows, log))
    return Split(kind, log, windows, messages=(message, *overlap, *strangers(log, windows)))


def _moment(value: dt.datetime | None) -> int | None:
    if value is None:
        return None
    value = value if value.tzinfo else value.replace(tzinfo=dt.UTC)
    return int(value.timestamp() * 1_000_000)


def _moment_at(time: np.ndarray, share: float) -> int:
    """The moment before which a share of the rows lies."""
    return int(time[min(int(share * len(time)), len(time) - 1)])


# --- in an order of their own -----------------------------------------------------------------------------


def _arranged(
    config: WindowsConfig, dataset: Dataset, kind: Kind, why: str, seed: int, final: bool
) -> Split:
    log, rng = dataset.log, np.random.default_rng(seed)
    test_share = 0.0 if final else config.test_share
    test_rows = 0 if final and config.test_rows else config.test_rows
    history = config.history_share or OF_USER
    shares = Shares(history, config.validation_share, test_share, config.validation_rows, test_rows)
    held_out, notes = None, ()
    random = kind == "user_random" or (kind in ("given", "users") and _within_user(dataset) == "user_random")
    place = row_windows.places_at_random(log.user, rng) if random else row_windows.places_in_order(log.user)
    fraction = rng if random else None
    if kind == "users":
        window, held = row_windows.by_people(log.user, place, shares, config.known_share, rng)
        held_out = np.zeros(dataset.catalogue.n_users, bool)
        held_out[: len(held)] = held
    elif kind == "given":
        window = _given(dataset, log, shares, random, rng)
        notes = _overlap(config, dataset, log, window == TEST)
    else:
        window = row_windows.by_user(log.user, place, shares, fraction)
    refuse_empty(window, dataset, final)
    arranged = row_windows.arrange(log, window, after_everything(dataset))
    start, history, ranker, validation, end = arranged.bounds
    windows = Windows(
        start=start, history_end=history, validation_start=ranker, test_start=validation, end=end, kind=kind,
        made_by=config.model_copy(update={"split": kind}), seed=seed, final=final,
        places=True,
    )
    counts = np.bincount(window, minlength=TEST + 1)
    drawn = seed if random or kind == "users" else None
    message = first_line(kind, why, f"{_HOW[kind]} ({counts_text(counts)})", drawn)
    notes += strangers(arranged.log, windows)
    if kind == "last" and not dataset.manifest.has_order:
        notes += ("the data does not say that the order of its rows means anything: last is the last of the file",)
    return Split(kind, arranged.log, windows, held_out, (message, *notes), arranged.order)


_HOW = {
    "last": "each user's last rows measure",
    "user_random": "a share of each user's rows measures",
    "given": "the test part measures",
    "users": "held-out people measure, by what follows their first rows",
}


def _given(
    dataset: Dataset, log: Log, shares: Shares, random: bool, rng: np.random.Generator
) -> np.ndarray:
    """int8[n] windows of rows in published parts; train is cut into what the published parts leave open."""
    part = log.part
    if part is None:  # a dataset of before parts were kept by row: they follow one another
        part = np.full(len(log), -1, np.int8)
        for name, (start, end) in (dataset.manifest.splits or {}).items():
            part[(log.time >= start) & (log.time < end)] = PARTS.index(name)
    out = np.select([part == PARTS.index("test"), part == PARTS.index("valid")], [TEST, VALIDATION], RANKER)
    train = np.flatnonzero(out == RANKER)
    published = (out == VALIDATION).any()
    shares = shares._replace(test=0.0, test_rows=None, **({"validation": 0.0} if published else {}))
    user = log.user[train]
    place = row_windows.places_at_random(user, rng) if random else row_windows.places_in_order(user)
    out[train] = row_windows.by_user(user, place, shares, rng if random else None)
    return out.astype(np.int8)


def _overlap(config: WindowsConfig, dataset: Dataset, log: Log, test: np.ndarray) -> tuple[str, ...]:
    """A note on pairs of user and item that stand before the test part and in it; raises DataError as set."""
    pairs = log.user.astype(np.int64) * max(dataset.catalogue.n_items, 1) + log.item
    found = np.unique(pairs[test])
    twice = found[np.isin(found, pairs[~test])]
    if not len(twice):
        return ()
    user, item = divmod(int(twice[0]), max(dataset.catalogue.n_items, 1))
    example = f"user {_id(dataset.user_ids, user)}, item {_id(dataset.item_ids, item)}"
    text = f"{len(twice):,} of {len(found):,} pairs of the test part stand in train too ({example})"
    if config.overlap == "refuse":
        raise DataError(
            f"{dataset.path}: {text}", "mend the parts and import them again, or set windows.overlap to keep"
        )
    return (f"{text}: kept",)


def _id(vocabulary, position: int) -> object:
    return vocabulary.external(np.array([position]))[0]


def after_everything(dataset: Dataset) -> int:
    """A moment (µs) by which every item, user and edge is there, so that an order of rows hides none of them."""
    catalogue = dataset.catalogue
    edges = [e["time"] for table in ("follows", "blocks") if (e := dataset.edges(table)) is not None]
    times = [dataset.log.time, catalogue.item_created, catalogue.user_created, *edges]
    latest = max(int(t.max()) for t in times if len(t))
    return (latest // SECOND + 1) * SECOND
