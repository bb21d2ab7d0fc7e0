"""Data with nothing to tell apart: all positive, one item, the same topics everywhere. Each is told of."""

from __future__ import annotations

import re

import numpy as np
import pytest
from place import Place

MAPPING = """name: odd
impressions:
  files: log.csv
  columns: {user_id: u, item_id: i, timestamp: {column: t, unit: s}}
  actions: {click: c}
"""
ITEMS = """items:
  files: items.csv
  columns: {item_id: i, topics: {column: tags, separator: "|"}}
"""
FAST = ["--set", "ranking.heavy.epochs=1", "--set", "ranking.heavy.min_steps=0"]


def bring(tmp_path, users: int, items: int, rows: int, clicks: float, topics: bool = False) -> Place:
    """A place with a dataset drawn at random."""
    rng = np.random.default_rng(0)
    lines = []
    for k in range(rows):
        user, item, click = rng.integers(users), int(items * rng.random() ** 2), int(rng.random() < clicks)
        lines.append(f"u{user},i{item},{1_700_000_000 + 600 * k},{click}\n")
    (tmp_path / "log.csv").write_text("u,i,t,c\n" + "".join(lines))
    (tmp_path / "items.csv").write_text("i,tags\n" + "".join(f"i{n},a|b\n" for n in range(items)))
    (tmp_path / "map.yaml").write_text(MAPPING + (ITEMS if topics else ""))
    (tmp_path / "tiny.yaml").write_text("paths: {data: data, artifacts: artifacts}\n")
    place = Place(tmp_path)
    place.ok("import-data", "map.yaml", "-q")
    return place


@pytest.mark.slow
def test_positives_alone_and_the_same_topics_are_measured_without_empty_charts(tmp_path):
    place = bring(tmp_path, 60, 40, 2000, 1.0, topics=True)
    assert place.recsys("train", *FAST).returncode == 0
    told = place.ok("evaluate", "-k", "10", "-k", "20", "--full")
    assert "no action has" not in told
    place.ok("evaluate", "-k", "10", "-k", "20", "--output", "report.html", "-q")
    page = (tmp_path / "report.html").read_text()
    assert ">cannot be drawn" not in page and "Charts cannot be drawn" not in page  # the page's script has the words
    for figure in re.findall(r"<figure>.*?</figure>", page, re.S):
        drawn = re.search(r"<rect|<circle|<path d=\"M", figure) or '"values":[{' in figure
        assert drawn and '"values":[]' not in figure, figure[:200]
    lengths = page[page.index("By length of list") :]
    lengths = lengths[: lengths.index("</section>")]
    assert ">100</text>" not in lengths and '"x":100' not in lengths and '"k":100' not in lengths
    assert "i" in place.ok("recommend", "--user", "u1", "-n", "3")


@pytest.mark.slow
def test_one_item_alone_is_refused_with_what_would_help(tmp_path):
    place = bring(tmp_path, 12, 1, 500, 0.4)
    assert place.recsys("train", *FAST).returncode == 0
    done = place.recsys("evaluate")
    assert done.returncode == 4 and "bring more items" in done.stderr
    assert place.recsys("recommend", "--user", "u1").returncode == 0
