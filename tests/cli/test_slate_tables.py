"""The tables of a slate on a terminal of a hundred columns, however many sources measure likeness."""

import pytest
from rich.console import Console

from recsys_cli.cli.slate_tables import render_slate
from recsys_cli.pipeline.explain import Recommendation, Recommendations

NAMES = ["in_network", "als", "two_tower", "two_hop", "random_walk", "real_graph", "simclusters", "twhin", "lightgcn"]


@pytest.mark.parametrize(("count", "tables"), [(3, 1), (9, 2)])
def test_every_similarity_is_shown_whole(count, tables):
    predictions = {"click": 0.5, "like": 0.25, "repost": 0.125, "reply": 0.1, "follow": 0.1, "share": 0.1, "hide": 0.1}
    alike = {name: 0.111 * (n + 1) for n, name in enumerate(NAMES[:count])}
    item = Recommendation(
        1,
        7,
        8,
        "",
        0.5,
        NAMES[:count],
        {**predictions, "dwell_seconds": 3.0},
        alike,
        {"combined": 0.9},
        [],
        False,
        "popular",
    )
    console = Console(width=100, record=True, file=None, quiet=False, force_terminal=False)
    with console.capture() as captured:
        render_slate(
            console, Recommendations(1, "r-0", "run", "2026-01-01T00:00:00Z", None, [item], {}, []), explain=False
        )
    lines = captured.get().splitlines()
    assert max(map(len, lines)) <= 100
    heads = [line.split() for line in lines if line.startswith("#")]
    assert len(heads) == tables + 1
    shown = [word for head in heads for word in head if word.startswith("~")]
    assert len(shown) == count and "…" not in "".join(line for line in lines if line.startswith(("#", "1 ")))
    values = " ".join(line for line in lines if line.startswith("1 ")).split()
    assert all(f"{v:.3f}".removeprefix("0") in values for v in alike.values())


def test_a_notice_stands_before_the_reason_and_an_unknown_safety_is_a_dash():
    def item(rank, safety, notices):
        return Recommendation(rank, rank, 8, "", 0.5, ["als"], {"click": 0.5}, {}, safety, notices, False, "popular")

    items = [item(1, {"nsfw": 0.6, "combined": 0.4}, ["nsfw > 0.5"]), item(2, {}, [])]
    console = Console(width=100, force_terminal=False)
    with console.capture() as captured:
        render_slate(console, Recommendations(1, "r", "run", "2026-01-01", None, items, {}, []), explain=True)
    lines = captured.get().splitlines()
    assert any(line.startswith("1 ") and line.rstrip().endswith("(notice: nsfw > 0.5) popular") for line in lines)
    assert any(line.split() == ["1", ".500", ".400"] for line in lines)
    assert any(line.split() == ["2", ".500", "–"] for line in lines)
