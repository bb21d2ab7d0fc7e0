"""Segments: settled impressions as Parquet, that heal from the log."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from law_world import END, HOUR, RULES, some_events

from recsys_cli.serving.erasure import mark
from recsys_cli.serving.event_log import EventLog
from recsys_cli.serving.events import Event
from recsys_cli.serving.fold_table import fold_of
from recsys_cli.serving.segments import Segments, table_of

ACTIONS = tuple(RULES.actions)


@pytest.fixture
def folder(tmp_path):
    with EventLog.open(tmp_path / "log", RULES, now=lambda: END + 7 * HOUR) as log:
        log.append(some_events(np.random.default_rng(0), 600))
    return tmp_path / "log"


def test_segments_hold_the_settled_rows_and_grow_by_whole_segments(folder):
    fold, segments = fold_of(folder, ACTIONS), Segments(folder, size=50)
    done = segments.seal(fold)
    assert done.new == fold.settled_rows // 50 > 2
    held = pl.concat(pl.read_parquet(p) for p in segments.paths())
    assert held.equals(table_of(fold, 0, done.new * 50))
    assert held.schema["timestamp"] == pl.Datetime("us", "UTC") and held.schema["click"] == pl.Boolean
    assert segments.seal(fold).new == 0
    before = [p.read_bytes() for p in segments.paths()]
    with EventLog.open(folder, RULES, now=lambda: END + 20 * HOUR) as log:
        log.append([Event("like", "100", "1000", timestamp=END + 19 * HOUR)])
    again = segments.seal(fold_of(folder, ACTIONS))
    assert again.new == len(fold) // 50 - done.new and again.rebuilt == 0
    assert [p.read_bytes() for p in segments.paths()][: done.new] == before


@pytest.mark.parametrize("harm", ["cut", "flip", "gone", "index"])
def test_a_damaged_segment_is_told_and_made_again(folder, harm):
    fold, segments = fold_of(folder, ACTIONS), Segments(folder, size=50)
    segments.seal(fold)
    paths = segments.paths()
    before = [p.read_bytes() for p in paths]
    if harm == "cut":
        paths[1].write_bytes(before[1][:100])
    elif harm == "flip":
        paths[1].write_bytes(before[1][:-30] + b"\0" + before[1][-29:])
    elif harm == "gone":
        paths[1].unlink()
    else:
        (segments.folder / "segments.json").write_text("{")
    if harm != "index":
        assert segments.damaged() == [paths[1].name]
    done = segments.seal(fold_of(folder, ACTIONS))
    assert done.rebuilt == (harm != "index")
    assert [p.read_bytes() for p in segments.paths()] == before


def test_who_is_erased_is_taken_out_of_the_segments(folder):
    segments = Segments(folder, size=50)
    segments.seal(fold_of(folder, ACTIONS))
    held = pl.concat(pl.read_parquet(p) for p in segments.paths())
    assert held.filter(user_id="105").height > 0
    live = fold_of(folder, ACTIONS)
    with EventLog.open(folder, RULES, now=lambda: END + 7 * HOUR) as log:
        log.erase("105")
        live.take(log.read(live.offset))  # a fold that was there goes on and keeps the places of its rows
    assert live.erased == [mark("105")]
    done = segments.seal(live)
    assert done.rewritten > 0 and done.rebuilt == 0
    after = pl.concat(pl.read_parquet(p) for p in segments.paths())
    left = held.filter(pl.col("user_id") != "105")
    assert after.head(left.height).equals(left) and not after.filter(user_id="105").height


def test_a_log_that_is_folded_anew_after_an_erasure_makes_segments_of_its_own(folder):
    segments = Segments(folder, size=50)
    live = fold_of(folder, ACTIONS)
    with EventLog.open(folder, RULES, now=lambda: END + 7 * HOUR) as log:
        log.erase("105")
        live.take(log.read(live.offset))
    segments.seal(live)
    held = pl.concat(pl.read_parquet(p) for p in segments.paths())
    anew = fold_of(folder, ACTIONS)
    segments.seal(anew)
    after = pl.concat(pl.read_parquet(p) for p in segments.paths())
    assert after.equals(table_of(anew, 0, after.height))
    assert after.head(100).equals(held.head(100))
