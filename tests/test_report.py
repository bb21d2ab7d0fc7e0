"""Charts put their marks where the numbers are, and a page stands alone."""

from __future__ import annotations

import itertools
import math
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_cli import axes, report


def drawing(chart: str) -> ET.Element:
    """The SVG of a chart, which must be well-formed."""
    return ET.fromstring(re.search(r"<svg.*</svg>", chart, re.S)[0])


@given(st.floats(-1e9, 1e9), st.floats(1e-9, 1e9))
def test_ticks_are_round_and_cover_the_range(low, width):
    high = low + width
    ticks = axes.nice_ticks(low, high)
    step = ticks[1] - ticks[0]
    assert ticks[0] <= low + 1e-6 * abs(step) and ticks[-1] >= high - 1e-6 * abs(step)
    assert 2 <= len(ticks) <= 9


@pytest.mark.parametrize(
    ("low", "high", "ticks"), [(0.003, 20, [0.001, 0.01, 0.1, 1, 10, 100]), (1, 1, [1, 10])]
)
def test_logarithmic_ticks_are_powers_of_ten(low, high, ticks):
    assert axes.log_ticks(low, high) == pytest.approx(ticks)


def test_bars_are_as_long_as_their_values():
    svg = drawing(report.bar_chart(["a", "b", "c", "d"], [1, 3, -2, float("nan")]))
    bars = svg.findall("rect")
    widths = [float(b.get("width")) for b in bars]
    assert len(bars) == 3  # what is unknown has no bar
    assert widths[1] / widths[0] == pytest.approx(3, rel=0.02) and widths[2] / widths[0] == pytest.approx(
        2, rel=0.02
    )
    assert float(bars[2].get("x")) + widths[2] == pytest.approx(float(bars[0].get("x")), abs=0.2)


def test_columns_are_as_tall_as_their_values():
    bars = drawing(report.column_chart(["x", "y"], [10, 5])).findall("rect")
    assert float(bars[0].get("height")) / float(bars[1].get("height")) == pytest.approx(2, rel=0.02)


def test_a_power_law_is_a_straight_line_on_logarithmic_axes():
    x = np.array([1, 10, 100, 1000])
    svg = drawing(report.line_chart({"p": (x, x**-2.0)}, log_x=True, log_y=True, points=["p"]))
    spots = [(float(c.get("cx")), float(c.get("cy"))) for c in svg.findall("circle")]
    slopes = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in itertools.pairwise(spots)]
    assert slopes == pytest.approx([slopes[0]] * 3, rel=1e-3)


def test_a_gap_in_the_data_is_a_gap_in_the_line():
    chart = report.line_chart({"a": ([0, 1, 2, 3, 4], [1, 2, None, 4, 5])})
    assert drawing(chart).find("path").get("d").count("M") == 2


def test_intervals_reach_from_low_to_high_about_the_value():
    chart = report.interval_chart(["m"], {"ours": ([2], [1], [4]), "theirs": ([3], [3], [3])}, zero_line=True)
    svg = drawing(chart)
    line = next(e for e in svg.findall("line") if e.get("stroke"))
    dot = svg.find("circle")
    x1, x2, at = float(line.get("x1")), float(line.get("x2")), float(dot.get("cx"))
    assert (at - x1) / (x2 - x1) == pytest.approx(1 / 3, abs=0.01)
    assert "ours" in chart and "theirs" in chart


@pytest.mark.parametrize("values", [[], [0], [0, 0], [5, 5], [float("nan")], [None], [-1, -1], [1e12, 1e-12]])
def test_every_chart_survives_odd_data(values):
    labels = [f"<{n}>" for n in range(len(values))]
    charts = [
        report.bar_chart(labels, values),
        report.column_chart(labels, values),
        report.line_chart({"a&b": (range(len(values)), values)}),
        report.line_chart({"a": (values, values)}, log_x=True, log_y=True),
        report.interval_chart(labels, {"x": (values, values, values)}),
        report.histogram(values, [*range(len(values)), 9]),
    ]
    known = any(v is not None and v == v for v in values)
    for chart in charts:
        # no empty frame stands where no number is known
        assert drawing(chart) is not None if known else chart == ""
    assert known or report.grid(*charts) == ""


def test_an_axis_ends_where_it_is_told():
    svg = drawing(report.line_chart({"a": ([10, 20], [1, 2])}, log_x=True, x_ticks=[10, 20]))
    texts = [t.text for t in svg.findall("text")]
    assert "20" in texts and "100" not in texts


def test_tables_align_numbers_and_escape_text():
    html = report.html_table([{"n": 1234.5, "s": "<b>"}, {"n": None, "s": "x"}], {"n": "count", "s": "name"})
    assert '<th class="n">count</th><th>name</th>' in html
    assert (
        '<td class="n">1,234</td><td>&lt;b&gt;</td>' in html
        or '<td class="n">1,235</td><td>&lt;b&gt;</td>' in html
    )
    assert '<td class="n">–</td>' in html
    assert report.html_table([], ["a"]).count("<tr>") == 1


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1234567, "1,234,567"),
        (0.123456, "0.1235"),
        (math.nan, "–"),
        (None, "–"),
        (True, "yes"),
        ("x", "x"),
        (1e-7, "1.00e-07"),
        ([1, 2], "1, 2"),
    ],
)
def test_numbers_are_written_for_readers(value, text):
    assert report.number(value) == text


def test_a_page_stands_alone_and_escapes_its_title():
    page = report.page("A <b>", [report.section("S", report.facts({"users": 3}), note="n & m")], "sub")
    assert "<title>A &lt;b&gt;</title>" in page and "n &amp; m" in page
    assert not re.search(r"(src|href)=|@import|url\(|<script", page)
    assert "prefers-color-scheme:dark" in page


@pytest.mark.parametrize("values", [[0.1 + 0.2, 0.3], [1e-300, 2e-300], [5e17, 5e17 + 64], [0.0, 0.0], [-1e-18, 1e-18]])
def test_values_that_differ_by_rounding_alone_are_drawn(values):
    ticks = axes.nice_ticks(min(values), max(values))
    assert 2 <= len(set(ticks)) <= 12 and ticks[0] <= min(values) and ticks[-1] >= max(values)
    assert "cannot be drawn" not in report.bar_chart(["a", "b"], values)
    assert "cannot be drawn" not in report.line_chart({"a": ([1, 2], values)})


def test_a_chart_that_cannot_be_drawn_says_so_and_stops_nothing():
    assert "cannot be drawn" in report.bar_chart(["a"], [1.0, 2.0], title="odd")
