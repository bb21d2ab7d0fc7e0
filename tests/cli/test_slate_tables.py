"""The tables of a slate fit the terminal, whatever the data, and say what is recommended."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from recsys_cli.answers.slate import Recommendation, Recommendations
from recsys_cli.cli.slate_tables import render_slate

NAMES = ["in_network", "als", "two_tower", "two_hop", "random_walk", "real_graph", "simclusters", "twhin", "lightgcn"]
ACTIONS = {"click": 0.5, "like": 0.25, "repost": 0.125, "reply": 0.1, "follow": 0.1, "add_to_cart": 0.1, "hide": 0.1}


def item(rank=1, item_id=7, author=8, text="", score=0.5, sources=("als",), safety=None, notices=(), reason="popular"):
    predictions = {**ACTIONS, "dwell_seconds": 3.0}
    alike = {name: 0.111 * (n + 1) for n, name in enumerate(NAMES)}
    return Recommendation(
        rank, item_id, author, text, score, list(sources), predictions, alike, safety or {}, list(notices), False,
        reason,
    )


def lines(items, *, explain=False, width=100):
    console = Console(width=width, force_terminal=False)
    stages = (("sources", 0, 1400), ("select", 20, 10))
    funnel = [{"stage": name, "in": before, "out": after, "ms": 1.0} for name, before, after in stages]
    answer = Recommendations(1, "r-0", "run", "2026-01-01T00:00:00Z", None, items, {"als": 1.0}, funnel)
    with console.capture() as captured:
        render_slate(console, answer, explain=explain)
    return captured.get().splitlines()


@pytest.mark.parametrize("width", [80, 100])
def test_every_prediction_and_similarity_is_shown_whole_when_explained(width):
    shown = lines([item(safety={"combined": 0.9})], explain=True, width=width)
    assert max(map(len, shown)) <= width
    heads = " ".join(line for line in shown if line.startswith("# ")).split()
    assert set(NAMES) | set(ACTIONS) | {"dwell_seconds", "combined"} <= set(heads)
    values = " ".join(line for line in shown if line.startswith("1 ")).split()
    assert all(f"{0.111 * (n + 1):.3f}".removeprefix("0") in values for n in range(len(NAMES)))


def test_without_explaining_the_title_stands_beside_the_reason_and_details_are_left_out():
    shown = lines([item(text="Casablanca", reason="similar to Vertigo")])
    row = next(line for line in shown if line.startswith("1 "))
    assert "Casablanca" in row and "similar to Vertigo" in row
    assert not any("two_hop" in line for line in shown) and any("1,400 sources → 10 select" in line for line in shown)


def test_an_item_without_a_text_is_named_by_its_id_and_data_without_authors_has_no_column_for_them():
    shown = lines([item(item_id="B00X", author=None)])
    head = next(line for line in shown if line.startswith("# ")).split()
    assert head == ["#", "item", "score", "sources", "reason"]
    assert lines([item(item_id="B00X", author=None)])[2].split()[:2] == ["1", "B00X"]


def test_a_narrow_terminal_drops_sources_and_author_before_it_cuts_titles_short():
    rows = [item(text="a title of some forty characters, or so", reason="because you follow somebody or other")]
    wide, narrow = (next(x for x in lines(rows, width=w) if x.startswith("# ")).split() for w in (100, 50))
    assert wide == ["#", "item", "title", "author", "score", "sources", "reason"]
    assert "sources" not in narrow and {"title", "score", "reason"} < set(narrow)


def test_small_scores_keep_three_digits():
    rows = [item(rank=1, score=0.0001234), item(rank=2, score=0.00001)]
    shown = lines(rows)
    assert "0.000123" in shown[2] and "0.000010" in shown[3]


characters = st.characters(codec="utf-8", exclude_categories=("Cs", "Cc", "Mn", "Me", "Cf", "Zl", "Zp"))
texts = st.text(characters, max_size=60)


@given(st.lists(st.tuples(texts, texts, texts, texts), min_size=1, max_size=4), st.sampled_from([60, 80, 100]))
def test_whatever_the_data_no_line_is_wider_than_the_terminal(rows, width):
    items = [item(n + 1, i, a, t, reason=r, sources=NAMES) for n, (i, a, t, r) in enumerate(rows)]
    table = lines(items, width=width)[1 : 2 + len(items)]
    assert max(map(cell_len, table)) <= width
    assert all(line.split()[0] == str(n + 1) for n, line in enumerate(table[1:]))


def test_a_notice_stands_before_the_reason_and_an_unknown_safety_is_a_dash():
    items = [item(1, safety={"nsfw": 0.6, "combined": 0.4}, notices=["nsfw > 0.5"]), item(2)]
    shown = lines(items, explain=True)
    assert any(line.startswith("1 ") and line.rstrip().endswith("(notice: nsfw > 0.5) popular") for line in shown)
    assert any(line.split() == ["1", ".600", ".400"] for line in shown)
    assert any(line.split() == ["2", "–", "–"] for line in shown)
