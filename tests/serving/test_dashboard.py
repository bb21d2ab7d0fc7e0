"""The dashboard of a running server, in a real browser, over a world whose ids and texts are hostile."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import time
from urllib.parse import quote

import numpy as np
import polars as pl
import pytest
from server_process import CONFIG, Server, copy_of

from tests.conftest import TINY_ACTIONS, tiny_tables

SCRIPT = "<script>window.owned=1</script>"
QUOTES = "\"'><img src=x onerror=window.owned=2>"
USERS = [SCRIPT, QUOTES, "a/b?c=d&e#f", "%2e%2e%2f", "{{7*7}}${7*7}"]
"""Ids in the place of the first users; an item's are the same with an i before them."""
TEXTS = [f"{SCRIPT} #x", f"</title>{QUOTES}", "javascript:alert(1)", "<!--", "\u202eright to left"]
PAGES = ("", "requests", "users", "items", "sources", "experiments", "runs", "alerts", "configuration")
KEYS = {"READ_KEY": "r" * 32, "ADMIN_KEY": "a" * 32}


def hostile_tables() -> dict[str, pl.DataFrame]:
    """`tiny_tables` with hostile ids of users and items, and hostile texts."""
    tables = tiny_tables()
    user_ids = {1000 + n: name for n, name in enumerate(USERS)}
    item_ids = {f"i{n}": f"i{name}" for n, name in enumerate(USERS)}
    out = {}
    for name, table in tables.items():
        people = [c for c in ("user_id", "author_id", "follower_id", "followee_id") if c in table.columns]
        table = table.with_columns(pl.col(c).cast(pl.String).replace({str(k): v for k, v in user_ids.items()})
                                   for c in people)
        if "item_id" in table.columns:
            table = table.with_columns(pl.col("item_id").replace(item_ids))
        if "text" in table.columns:
            texts = table["text"].to_list()
            table = table.with_columns(pl.Series("text", [*TEXTS, *texts[len(TEXTS) :]]))
        out[name] = table
    return out


@pytest.fixture(scope="module")
def hostile_folder(tmp_path_factory):
    """Settings, hostile data and two runs upon them."""
    from recsys_cli.artifacts.runs import RunStore
    from recsys_cli.config import resolve
    from recsys_cli.data.writer import write_dataset
    from recsys_cli.settings import Settings
    from recsys_cli.training import train

    folder = tmp_path_factory.mktemp("hostile")
    write_dataset(folder / "data", "<b>hostile", hostile_tables(), TINY_ACTIONS, authors_are_users=True)
    (folder / "recsys.yaml").write_text(CONFIG)
    settings = resolve(Settings, file=folder / "recsys.yaml").config
    paths = {"data": str(folder / "data"), "artifacts": str(folder / "artifacts")}
    settings = settings.model_copy(update={"paths": settings.paths.model_copy(update=paths)})
    train(settings)
    store = RunStore(folder / "artifacts")
    first = store.current()
    second = folder / "artifacts" / "runs" / "20990101-000000"
    shutil.copytree(folder / "artifacts" / "runs" / first, second)
    manifest = json.loads((second / "manifest.json").read_bytes())
    manifest |= {"id": second.name, "seed": 7}
    manifest["settings"]["seed"] = 7
    (second / "manifest.json").write_text(json.dumps(manifest))
    return folder


@pytest.fixture(scope="module")
def site(hostile_folder, tmp_path_factory):
    """A server of them, at which people looked and acted, and an experiment that was started."""
    from recsys_cli.experiments.live import create_experiment, record

    folder = copy_of(hostile_folder, tmp_path_factory.mktemp("site") / "place")
    artifacts = folder / "artifacts"
    create_experiment({"name": "bolder", "description": SCRIPT, "days": 7,
                       "metrics": [{"name": "sales", "numerator": "sold"}]}, artifacts)
    rng = np.random.default_rng(0)
    for n in range(200):
        record("bolder", f"{SCRIPT}{n}", exposed=True, artifacts=artifacts)
        record("bolder", f"{SCRIPT}{n}", sold=float(rng.integers(0, 3)), artifacts=artifacts)
    running = Server.start(folder)
    use(running)
    yield running
    assert running.stop() == 0, running.errors


def use(server: Server) -> None:
    """Everybody hostile asks, sees everything and likes the first item; strangers ask too."""
    for user in [*USERS, "1010", "1011", f"new {SCRIPT}"]:
        slate = server.post(f"/v1/recommend/{quote(user, safe='')}", {"n": 6}).json
        common = {"user_id": user, "request_id": slate["request_id"]}
        events = [common | {"type": "impression", "item_id": i["item_id"]} for i in slate["items"]]
        events.append(common | {"type": "like", "item_id": slate["items"][0]["item_id"]})
        assert server.post("/v1/events", events).status == 200
    assert server.post("/v1/events", {"type": SCRIPT, "user_id": QUOTES}).status == 422
    assert server.ask("PUT", "/v1/items/inew", {"text": f"{SCRIPT} new", "author_id": USERS[0]}).status == 200


@pytest.fixture(scope="module")
def browser(chromium):
    return chromium


def show(browser, url: str, width: int = 1200, scheme: str = "light") -> None:
    feature = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": feature})
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(url)


def sound(browser, width: int, refused: int = 0) -> None:
    """Nothing of the data ran or became an element, the page has its landmarks and fits the window.

    refused: answers of a status from 400 on that the browser notes.
    """
    assert browser.execute_script("return window.owned") is None
    assert browser.execute_script("return document.querySelectorAll('script:not([src]),img,iframe').length") == 0
    for landmark in ("header", "nav[aria-label]", "main", "footer", "h1", "head > title"):
        assert browser.execute_script("return document.querySelectorAll(arguments[0]).length", landmark) == 1
    assert browser.execute_script("return document.documentElement.lang") == "en"
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    unnamed = "return [...document.querySelectorAll('input:not([type=hidden])')].filter(e => !e.labels.length).length"
    assert browser.execute_script(unnamed) == 0
    ids = browser.execute_script("return [...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids))
    assert len([line for line in browser.get_log("browser") if line["level"] == "SEVERE"]) == refused


def text(browser) -> str:
    return browser.execute_script("return document.querySelector('main').innerText")


def says(browser, told: str) -> bool:
    """Whether the page says something, once it is there."""
    from selenium.common.exceptions import TimeoutException, WebDriverException
    from selenium.webdriver.support.ui import WebDriverWait

    try:
        return WebDriverWait(browser, 20, ignored_exceptions=[WebDriverException]).until(lambda b: told in text(b))
    except TimeoutException:
        raise AssertionError(text(browser)) from None


def here(browser, place: str, until: float = 20.0) -> None:
    """Show a page again until what it works out is there."""
    end = time.monotonic() + until
    while True:
        browser.get(place)
        if "look again in a moment" not in text(browser) or time.monotonic() > end:
            return
        time.sleep(0.3)


@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (390, "dark")])
def test_every_page_stands_and_what_the_data_hold_is_text(browser, site, width, scheme):
    for page in PAGES:
        show(browser, f"{site.url}/dashboard/{page}".rstrip("/"), width, scheme)
        sound(browser, width)
        assert browser.execute_script("return document.querySelectorAll('nav [aria-current=page]').length") == 1
    dark = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert dark == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 24, 31)"}[scheme]


@pytest.mark.parametrize("user", range(len(USERS)))
def test_a_hostile_user_has_a_page_with_list_reasons_why_not_and_the_next_click(browser, site, user):
    item = f"i{USERS[user]}"
    place = f"{site.url}/dashboard/users/{quote(USERS[user], safe='')}?item={quote(item)}&click={quote(item)}"
    show(browser, place, 390 if user % 2 else 1200)
    here(browser, place)
    sound(browser, 390 if user % 2 else 1200)
    told = text(browser)
    assert f"User {USERS[user]}" in told and item in told
    for part in ("History", "List", "Try the next click", "Why not this item?", "Funnel", "kept back by"):
        assert part in told
    assert "what the rankers see of both" in told.lower() and "candidates behind each stage" in told.lower()


@pytest.mark.parametrize("item", range(len(USERS)))
def test_a_hostile_item_has_a_page(browser, site, item):
    show(browser, f"{site.url}/dashboard/items/{quote('i' + USERS[item], safe='')}")
    sound(browser, 1200)
    told = text(browser)
    assert f"Item i{USERS[item]}" in told and "How it does" in told and TEXTS[item].split()[0] in told


def test_a_request_leads_to_its_funnel_and_to_what_came_of_it(browser, site):
    from selenium.webdriver.common.by import By

    show(browser, f"{site.url}/dashboard/requests")
    row = next(r for r in browser.find_elements(By.CSS_SELECTOR, "tbody tr") if SCRIPT in r.text)
    link = row.find_element(By.CSS_SELECTOR, "a").get_attribute("href")
    here(browser, link)
    sound(browser, 1200)
    told = text(browser)
    assert SCRIPT in told and "like" in told and "Candidates behind each stage" in told
    bars = browser.find_elements(By.CSS_SELECTOR, "main svg rect")
    assert len(bars) > 5


def test_figures_of_the_overview_are_those_of_the_log_and_of_the_metrics(browser, site):
    show(browser, f"{site.url}/dashboard")
    told = text(browser)
    assert re.search(r"p50\n[\d.,]+ ms", told)
    shown, liked = 8 * 6, 8
    assert f"{100 * liked / shown:.3g} %" in told  # everybody saw six items and liked one
    reply = site.get("/metrics").body.decode()
    asked = re.search(r'recsys_requests_total\{route="POST /v1/recommend/\{user_id\}",status="200"\} (\d+)', reply)
    assert int(asked[1]) == 8


def test_an_experiment_has_its_verdict_and_looking_decides_nothing(browser, site):
    from recsys_cli.experiments.live import read_started
    from recsys_cli.experiments.registry import ExperimentRegistry
    from recsys_cli.experiments.run import analyse_log
    from recsys_cli.experiments.verdict import headline

    folder = site.folder / "artifacts" / "experiments" / "bolder" / "1"
    before = (folder / "decisions.jsonl").read_bytes()
    here(browser, f"{site.url}/dashboard/experiments/bolder")
    sound(browser, 1200)
    told = text(browser)
    assert SCRIPT in told and "Verdict" in told and "metrics against the control" in told and "sales" in told
    started = ExperimentRegistry(site.folder / "artifacts").open("bolder")
    document = analyse_log(started.config, read_started(started, started.recorded), "")
    assert headline(document["decision"]) in told and document["verdict"] in told
    assert (folder / "decisions.jsonl").read_bytes() == before


def test_alerts_name_the_events_that_were_refused(browser, site):
    show(browser, f"{site.url}/dashboard/alerts")
    sound(browser, 1200)
    assert "is unknown" in text(browser) and "<script>" in text(browser)


def test_the_overview_reads_itself_again_and_can_be_paused_by_keyboard(browser, site):
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.ui import WebDriverWait

    show(browser, f"{site.url}/dashboard/requests")
    fresh = "return document.querySelector('tbody tr').innerText"
    first = browser.execute_script(fresh)
    site.post("/v1/recommend/1020", {"n": 3})
    WebDriverWait(browser, 20).until(lambda b: b.execute_script(fresh) != first)
    body = browser.switch_to.active_element
    body.send_keys(Keys.TAB)
    assert browser.switch_to.active_element.text == "Skip to the content"
    browser.switch_to.active_element.send_keys(Keys.ENTER)
    assert browser.execute_script("return document.activeElement.id") == "content"
    browser.switch_to.active_element.send_keys(Keys.TAB)
    assert browser.switch_to.active_element.text == "Pause"
    browser.switch_to.active_element.send_keys(Keys.ENTER)
    assert browser.switch_to.active_element.get_attribute("aria-pressed") == "true"
    assert browser.execute_script("return getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_what_is_not_there_is_told_and_nothing_of_it_runs(browser, site):
    for place, status in (
        (f"items/{quote(SCRIPT, safe='')}", 404), (f"requests/{quote(QUOTES, safe='')}", 404),
        (f"experiments/{quote(SCRIPT, safe='')}", 404), (quote(SCRIPT, safe=""), 404),
        (f"users/1010?click={quote(QUOTES)}", 404), (f"runs/compare?a={quote(SCRIPT)}&b=1", 422),
        (f"runs/confirm?action={quote(SCRIPT)}", 422), (f"users/{'x' * 201}", 422), ("users/%ff", 400),
        (f"users/{quote('a' + chr(10) + 'b', safe='')}", 422),
    ):
        reply = site.get(f"/dashboard/{place}")
        assert reply.status == status, place
        assert b"<script>window" not in reply.body and b"<img" not in reply.body
        show(browser, f"{site.url}/dashboard/{place}")
        sound(browser, 1200, refused=1)


def test_pages_allow_no_script_of_their_own_and_no_frame(site):
    headers = {name.lower(): value for name, value in site.get("/dashboard").headers.items()}
    policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == "'self'"
    assert headers["x-content-type-options"] == "nosniff" and headers["cache-control"] == "no-store"
    for name, kind in (("dashboard.css", "text/css"), ("dashboard.js", "text/javascript")):
        reply = site.get(f"/dashboard/static/{name}")
        assert reply.status == 200 and reply.headers["content-type"].startswith(kind)
    assert site.get("/dashboard/static/..%2f..%2fapp.py").status == 404
    assert site.get("/dashboard", headers={"host": "evil.example"}).status == 421
    for page in PAGES:
        body = site.get(f"/dashboard/{page}").body.decode()
        assert not re.search(r"<script(?! src=\"/dashboard/static/dashboard\.js\" defer>)|\son\w+=\"|style=\"", body)


def test_runs_are_compared_promoted_and_rolled_back_asked_twice(browser, hostile_folder, tmp_path):
    from selenium.webdriver.common.by import By

    server = Server.start(copy_of(hostile_folder, tmp_path / "place"))
    try:
        first = server.get("/v1/runs").json["runs"][0]["id"]
        form = f"action=promote&run=20990101-000000&word={'x' * 43}".encode()
        kind = {"content-type": "application/x-www-form-urlencoded"}
        assert server.post("/dashboard/runs/confirm", form, headers=kind).status == 409  # nobody asked
        foreign = kind | {"origin": "https://evil.example"}
        assert server.post("/dashboard/runs/confirm", form, headers=foreign).status == 403
        show(browser, f"{server.url}/dashboard/runs")
        browser.find_element(By.LINK_TEXT, "compare").click()
        assert says(browser, "settings.seed") and says(browser, "How good the lists are")
        sound(browser, 1200)
        browser.find_element(By.LINK_TEXT, "Serve 20990101-000000").click()
        assert says(browser, f"in the place of {first}")
        assert server.get("/v1/runs").json["runs"][1].get("served", False) is False  # asked once is not asked twice
        browser.find_element(By.CSS_SELECTOR, "button.first").click()
        assert says(browser, "Run 20990101-000000 is served now.")
        assert [r.get("served", False) for r in server.get("/v1/runs").json["runs"]] == [False, True]
        browser.back()
        assert says(browser, f"in the place of {first}")
        browser.find_element(By.CSS_SELECTOR, "button.first").click()
        assert says(browser, "This was not asked for")  # a question counts once
        show(browser, f"{server.url}/dashboard/runs")
        browser.find_element(By.LINK_TEXT, "Go back to the run before").click()
        assert says(browser, "will be served again")
        browser.find_element(By.CSS_SELECTOR, "button.first").click()
        assert says(browser, f"Run {first} is served now.")
        assert [r.get("served", False) for r in server.get("/v1/runs").json["runs"]] == [True, False]
    finally:
        server.stop()


def test_with_keys_a_person_signs_in_and_only_admins_switch_runs(browser, hostile_folder, tmp_path):
    from selenium.webdriver.common.by import By

    folder = copy_of(hostile_folder, tmp_path / "place")
    config = (folder / "recsys.yaml").read_text()
    keys = ("serving: {keys: [{name: reader, key: '${READ_KEY}', roles: [read]}, "
            "{name: boss, key: '${ADMIN_KEY}', roles: [read, admin]}], warm_up: 1}")
    (folder / "recsys.yaml").write_text(config[: config.index("serving:")] + keys)
    server = Server.start(folder, env=KEYS)
    try:
        reply = server.get("/dashboard/users")
        assert reply.status == 401 and b"Sign in" in reply.body and b"<nav" in reply.body
        assert server.get("/dashboard", headers={"x-api-key": KEYS["READ_KEY"]}).status == 200
        show(browser, f"{server.url}/dashboard/runs")
        for key, told in (("wrong", "none of the keys"), (KEYS["READ_KEY"], "Switching runs takes a key")):
            browser.find_element(By.ID, "key").send_keys(key)
            browser.find_element(By.CSS_SELECTOR, "button.first").click()
            assert says(browser, told)
        assert "promote" not in text(browser)
        cookie = browser.get_cookie("recsys_dashboard")
        assert cookie["httpOnly"] and cookie["sameSite"] == "Strict" and KEYS["READ_KEY"] not in cookie["value"]
        held = {"cookie": f"recsys_dashboard={cookie['value']}"}
        place = "/dashboard/runs/confirm?action=promote&run=20990101-000000"
        assert server.get(place, headers=held).status == 403
        assert server.get("/v1/popular", headers=held).status == 401  # the cookie opens the pages alone
        browser.find_element(By.XPATH, "//button[text()='Sign out']").click()
        assert says(browser, "Sign in")
        assert server.get("/dashboard", headers=held).status == 401
        browser.find_element(By.ID, "key").send_keys(KEYS["ADMIN_KEY"])
        browser.find_element(By.CSS_SELECTOR, "button.first").click()
        assert says(browser, "Paths")
        browser.get(f"{server.url}/dashboard/runs")
        assert says(browser, "promote")
        browser.get(f"{server.url}/dashboard/configuration")
        here(browser, f"{server.url}/dashboard/configuration")
        source = browser.page_source
        assert "${READ_KEY}" in source and not [key for key in KEYS.values() if key in source]
        connection = http.client.HTTPConnection(server.url.removeprefix("http://"))
        form = f"key={KEYS['READ_KEY']}&next=//evil.example"
        connection.request("POST", "/dashboard/sign-in", form)
        assert connection.getresponse().headers["location"] == "/dashboard"
        connection.close()
    finally:
        server.stop()
