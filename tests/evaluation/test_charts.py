"""Reports in a real browser: every chart is drawn without a network, in light, dark and print, at three widths."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recsys_cli import charts, report
from recsys_cli.evaluation.slates.evaluate import evaluate
from recsys_cli.evaluation.slates.page import slates_page

LINES = [{"series": s, "x": k, "y": v * k, "low": v * k - 0.1, "high": v * k + 0.1} for s, v in (("a", 1), ("b", 2))
         for k in (5, 10, 20)]  # fmt: skip


@pytest.fixture(scope="module")
def browser(chromium):
    """Without a network."""
    chromium.execute_cdp_cmd("Network.enable", {})
    offline = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
    chromium.execute_cdp_cmd("Network.emulateNetworkConditions", offline)
    return chromium


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    rng = np.random.default_rng(0)
    slates = {
        name: pl.DataFrame(
            {"user_id": np.repeat(np.arange(80), 20),
             "item_id": np.concatenate([rng.permutation(100)[:20] for _ in range(80)])}
        )
        for name in ("ours", "theirs </script><b>")
    }  # fmt: skip
    truth = pl.DataFrame({"user_id": np.repeat(np.arange(80), 5), "item_id": rng.integers(0, 100, 400)})
    users = pl.DataFrame({"user_id": np.arange(80), "age": rng.integers(10, 90, 80)})
    path = tmp_path_factory.mktemp("report") / "report.html"
    document = evaluate(slates, truth, k=[5, 10, 20], users=users, segments=["age"]).document
    path.write_text(slates_page(document), "utf-8")
    return path


def opened(browser, page: Path, width: int, scheme: str = "light", media: str = "screen"):
    from selenium.webdriver.support.ui import WebDriverWait

    feature = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": feature})
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(page.as_uri())
    undrawn = "return [...document.querySelectorAll('.chart')].filter(e => !e.querySelector('svg path')).length"
    WebDriverWait(browser, 20).until(lambda b: b.execute_script(undrawn) == 0)


def colour(browser, selector: str, name: str) -> str:
    return browser.execute_script(
        f"return getComputedStyle(document.querySelector({selector!r})).getPropertyValue({name!r})"
    )


@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (800, "dark"), (390, "light")])
def test_every_chart_is_drawn_without_a_network_and_nothing_scrolls_the_page(browser, page, width, scheme):
    opened(browser, page, width, scheme)
    assert browser.execute_script("return document.querySelectorAll('.chart svg').length") > 10
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    beyond = "return [...document.querySelectorAll('{}')].filter(e => e.{} > {}).length"
    assert browser.execute_script(beyond.format(".chart svg", "getBoundingClientRect().width", width)) == 0
    if width == 1200:
        assert browser.execute_script(beyond.format(".scroll", "scrollWidth", "e.clientWidth + 1")) == 0
    assert not [line for line in browser.get_log("browser") if line["level"] == "SEVERE"]
    assert len(browser.get_screenshot_as_png()) > 10_000


def test_charts_follow_the_colours_of_the_page(browser, page):
    mark = ".chart svg g.mark-symbol path"
    opened(browser, page, 1200, "light")
    light = colour(browser, mark, "fill"), colour(browser, "body", "background-color")
    opened(browser, page, 1200, "dark")
    dark = colour(browser, mark, "fill"), colour(browser, "body", "background-color")
    assert light[0] != dark[0] and light[1] != dark[1]
    opened(browser, page, 1200, "dark", "print")
    assert colour(browser, "body", "background-color") == light[1]
    assert colour(browser, mark, "fill") == light[0]


def test_a_value_is_told_on_hover(browser, page):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    opened(browser, page, 1200)
    point = browser.find_element(By.CSS_SELECTOR, ".chart svg g.mark-symbol path")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", point)
    ActionChains(browser).move_to_element(point).perform()
    tip = "const t = document.querySelector('#vg-tooltip-element.visible'); return t ? t.textContent : ''"
    told = WebDriverWait(browser, 10).until(lambda b: b.execute_script(tip))
    assert "value" in told and "from" in told


def test_the_file_is_small_holds_no_address_to_load_from_and_names_cannot_break_out(page):
    text = page.read_text("utf-8")
    assert len(text.encode()) < 2_000_000
    assert not re.search(r'(src|href)="?http', text)
    assert "theirs </script>" not in text and "script><b>" not in text
    assert "theirs &lt;/script&gt;" in text


def test_a_chart_without_figures_is_not_drawn_and_an_unknown_figure_is_left_out():
    nan = float("nan")
    assert charts.interval_chart([{"name": "a", "value": nan}], title="t") == ""
    assert charts.line_chart([], title="t", x_label="k") == "" and charts.bar_chart(["a"], [None], title="t") == ""
    assert charts.scatter_chart([{"name": "a", "x": nan, "y": 1}], title="t", x_label="x", y_label="y") == ""
    half = charts.bar_chart(["known", "unknown"], [1, nan], title="t")
    assert '"known"' in half and "unknown" not in half


def test_a_line_ends_where_the_data_end():
    assert '"domain":[5.0,20.0]' in charts.line_chart(LINES, title="t", x_label="k", log_x=True)


def test_names_at_the_ends_of_lines_never_stand_on_one_another():
    rows = [{"series": s, "x": 1, "y": y, "high": None} for s, y in (("a", 1.0), ("b", 1.001), ("c", 0.99))]
    places = sorted(r["y"] for r in charts._ends(rows, ["a", "b", "c"]))
    assert min(np.diff(places)) > 0.05


def test_a_page_without_the_library_says_so_and_keeps_its_tables(monkeypatch, tmp_path):
    monkeypatch.setattr(charts, "_library", lambda: (_ for _ in ()).throw(ImportError("no")))
    charts.scripts.cache_clear()
    try:
        assert "every figure is in the tables" in charts.scripts()
    finally:
        charts.scripts.cache_clear()
    assert "<table" in report.html_table([{"a": 1}])
