"""The window that an evaluation measures: its truth, and how reports speak of it."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

from recsys_cli.errors import DataError
from recsys_cli.evaluation.truth import Truth, find_truth

if TYPE_CHECKING:
    from recsys_cli.data.dataset import Dataset
    from recsys_cli.data.state import State
    from recsys_cli.data.windows.windows import Split
    from recsys_cli.engine import RecommendationEngine
    from recsys_cli.evaluation.config import EvaluationConfig

WHOSE = {
    "last": "each user's last rows",
    "user_random": "rows drawn from each user's",
    "given": "the published test part",
    "users": "what follows the first rows of held-out people",
}
"""Kind of split → what its test rows are, where they are no span of time."""


def test_window(split: Split) -> dict[str, Any]:
    """The part "window" of a report: the kind of split, its rows, and from when to when where there is time."""
    w = split.windows
    span = {"start": None, "end": None} if split.places else {"start": iso(w.test_start), "end": iso(w.end)}
    return {"kind": split.kind, **span, "rows": len(split.log.window(w.test_start, w.end))}


def window_text(window: dict[str, Any]) -> str:
    """The window in words: from when to when, or of data in an order of its own whose rows it holds."""
    if window["start"] is not None:
        return f"{window['start'][:16]} to {window['end'][:16]} UTC"
    whose = WHOSE.get(window["kind"], "the last places of the order")
    return f"{whose} ({window['rows']:,})"


def truth_of_test(
    engine: RecommendationEngine, dataset: Dataset, split: Split, state: State, config: EvaluationConfig
) -> Truth:
    """What was to be found in the test window; raises DataError, with what became of it, where nothing is.

    What the seen filter of the pipeline would never let into a list is not to be found.
    """
    w = split.windows
    never_again = not engine.repeats and config.truths == "reachable"
    truth = find_truth(
        split.log, state, w.test_start, w.end, config.truths, never_again=never_again, repeats=engine.repeats
    )
    if len(truth.users):
        return truth
    s = truth.summary
    if not s["interactions"]:
        raise DataError(
            f"{dataset.path}: the test window holds no interaction ({window_text(test_window(split))})",
            "make the window longer (`windows.test_share`), or check the actions of the import mapping",
        )
    raise DataError(
        f"{dataset.path}: nothing is to be found in the test window: of {s['interactions']:,} pairs of user and item "
        f"{s['repeated']:,} were known before, {s['seen_before']:,} shown before, {s['not_yet_published']:,} published "
        "only later",
        _what_helps(s, config, seen=engine.pipeline.filters.seen),
    )


def _what_helps(summary: dict, config: EvaluationConfig, *, seen: bool) -> str:
    """What to change where nothing is to be found: only what would bring something."""
    ways = ["make the window longer (`windows.test_share`)"]
    if config.truths == "reachable" and (summary["not_yet_published"] or (summary["seen_before"] and seen)):
        ways.append("set evaluation.truths to all, which counts what was left out here")
    if seen and summary["seen_before"]:
        ways.append("set pipeline.filters.seen to false, so that lists may repeat what was shown")
    if summary["repeated"] == summary["interactions"]:
        ways = ["people turned to nothing that they did not know: bring more items, or a longer log"]
    return ", or ".join(ways)


def remarks(truth: Truth, state: State) -> list[str]:
    """What a reader must know before the figures."""
    known = int((state.history.lengths[truth.users] > 0).sum())
    if known == 0:
        return [
            "no test user has a history before the test window: the figures are of what somebody unknown is shown, and "
            "say nothing of what is made from a history"
        ]
    if 2 * known < len(truth.users):
        return [
            f"most test users, {len(truth.users) - known:,} of {len(truth.users):,}, have no history before the test "
            "window: read known and new users apart, below"
        ]
    return []


def iso(moment: int) -> str:
    """A moment in µs as ISO 8601, UTC."""
    return dt.datetime.fromtimestamp(moment / 1e6, dt.UTC).isoformat(timespec="seconds")
