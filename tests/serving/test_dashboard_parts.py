"""Parts of the dashboard: escaping, quantiles, counts of the log, questions, secrets."""

from __future__ import annotations

from html.parser import HTMLParser
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from recsys_cli.serving.dashboard.access import EVERYBODY, Access, Caller
from recsys_cli.serving.dashboard.figures import Figures, Look, quantile
from recsys_cli.serving.dashboard.markup import address, escaped, facts, link, listed, search, section, table, tag
from recsys_cli.serving.dashboard.secrets import HIDDEN, hidden
from recsys_cli.serving.dashboard.tally import NO_SOURCE, Tally
from recsys_cli.serving.dashboard.words import prose, wilson
from recsys_cli.serving.event_log import EventLog
from recsys_cli.serving.events import Event, EventRules, Served
from recsys_cli.serving.lately import Answered, Lately
from recsys_cli.serving.metrics import SECONDS, Metrics
from recsys_cli.serving.served import served_table

NOW = 1_760_000_000_000_000
ACTIONS = ("click", "like", "hide")
RULES = EventRules(actions=ACTIONS, late_days=100_000)
HOSTILE = "<script>alert(1)</script>\"'&amp;<img src=x onerror=alert(2)>${1}"


class Read(HTMLParser):
    """Elements, attributes and text of a piece of HTML."""

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.tags, self.attributes, self.text = [], [], ""
        self.feed(text)
        self.close()

    def handle_starttag(self, name, attrs):
        self.tags.append(name)
        self.attributes += [value for _, value in attrs]

    def handle_data(self, data):
        self.text += data


PLAIN = st.text(st.characters(blacklist_categories=("Cs", "Cc")), max_size=30)


@given(PLAIN, PLAIN)
def test_any_text_comes_back_from_an_element_and_from_an_attribute_as_it_was(text, value):
    read = Read(tag("p", text, title=value))
    assert read.tags == ["p"] and read.text == text and read.attributes == [value]


@given(PLAIN)
def test_every_building_block_shows_text_and_makes_no_element_of_it(text):
    text += HOSTILE
    pieces = [
        section(text, text, note=text), facts({text: text}), listed([text]), link(text, text, q=text),
        table({"a": text}, [{"a": text}], text), table({"a": text}, [], text, text),
        search(text, address(text), "f", text, text, hidden=text), prose(text), escaped([text, (text,)]),
    ]
    for piece in pieces:
        read = Read(escaped(piece))
        assert not {"script", "img"} & set(read.tags)
        assert HOSTILE in read.text


@given(PLAIN.filter(bool), PLAIN)
def test_an_address_leads_back_to_its_parts(part, value):
    found = urlsplit(address("users", part, item=value))
    assert found.path.startswith("/dashboard/users/") and found.path.count("/") == 3 and not found.netloc
    assert unquote(found.path.split("/")[3]) == part
    assert parse_qs(found.query, keep_blank_values=True) == {"item": [value]}


def test_columns_of_numbers_stand_to_the_right_and_nothing_is_a_dash():
    written = table({"n": "n", "s": "s"}, [{"n": 1234, "s": "x"}, {"n": None, "s": None}], "c")
    assert '<td class="n">1,234</td>' in written and '<td class="n">–</td>' in written


def test_a_quantile_lies_on_a_line_within_its_bucket():
    counts = np.zeros(len(SECONDS) + 1)
    counts[SECONDS.index(0.01) :] = 10  # all between 7.5 and 10 ms
    assert quantile(counts, 0.5) == pytest.approx(0.00875)
    assert quantile(counts, 1.0) == pytest.approx(0.01)
    counts[-1] = 20  # as many beyond the last bound
    assert quantile(counts, 0.99) == SECONDS[-1]
    assert quantile(np.zeros(len(SECONDS) + 1), 0.5) is None


def test_windows_are_differences_of_what_the_server_counts_itself():
    metrics = Metrics()
    for _ in range(5):
        metrics.answered("GET /v1/recommend/{user_id}", 200, 0.004)
    before = Look.at(metrics, 100.0)
    for status, seconds in ((200, 0.004), (200, 0.018), (500, 0.3), (404, 0.004)):
        metrics.answered("GET /v1/recommend/{user_id}", status, seconds)
    metrics.answered("POST /v1/events", 200, 0.001)
    metrics.fallbacks.labels("unknown user").inc()
    metrics.hits.labels("yes").inc(3)
    window = Look.at(metrics, 110.0).since(before)
    assert window.seconds == 10 and window.count() == 5 and window.count("/v1/recommend/") == 4
    assert window.count(failed=True) == 1 and window.fallbacks == {"unknown user": 1}
    assert window.pool_lookups == {"yes": 3}
    row = window.routes()[0]
    assert (row["requests"], row["refused"], row["failed"]) == (4, 1, 1) and 0.003 <= row["p50"] <= 0.005
    told = metrics.text(None, [])
    families = {f.name: f for f in text_string_to_metric_families(told.decode())}
    total = sum(s.value for s in families["recsys_requests"].samples if s.name.endswith("_total"))
    assert total == Figures(metrics).last(60).count()


def events_of(rng: np.random.Generator, requests: int) -> list[Event]:
    """Answers of several sources, and what people did with some of their items, in any order."""
    out = []
    for r in range(requests):
        user, request = f"u{rng.integers(9)}", f"r{r}"
        items = [f"i{i}" for i in rng.choice(30, 5, replace=False)]
        sources = [str(rng.choice(["als", "trending", "als+trending", ""])) for _ in items]
        served = Served(items, "run", str(rng.choice(["", "bold"])), sources=sources)
        mine = [Event("served", user, timestamp=NOW + r, request_id=request, served=served)]
        for item in items:
            for kind, chance in (("impression", 0.6), ("click", 0.4), ("like", 0.2), ("hide", 0.1)):
                mine += [Event(kind, user, item, NOW + r + 10, request_id=request)] * int(rng.random() < chance)
        out += [mine[i] for i in rng.permutation(len(mine))]
    return out


def test_counts_are_those_of_the_table_of_what_was_served(tmp_path):
    events = events_of(np.random.default_rng(3), 120)
    with EventLog.open(tmp_path / "log", RULES, now=lambda: NOW + 10**9) as log:
        assert not log.append(events).rejected
        tally = Tally(("click", "like"))
        while entries := log.read(tally.offset, 37):
            tally.take(entries)
            tally.take(entries)  # what is known already counts no more
    rows = served_table(tmp_path / "log", ACTIONS).to_dicts()
    for source, counts in tally.sources.items():
        mine = [r for r in rows if source in (r["source"] or NO_SOURCE).split("+")]
        assert counts.served == len(mine)
        assert counts.shown == sum(r["shown"] for r in mine)
        assert counts.engaged == sum(r["click"] or r["like"] for r in mine)
        assert counts.negative == sum(r["hide"] for r in mine)
    assert tally.total.served == len(rows) == 600 and tally.unattributed == 0
    assert tally.arms["bold"].served == sum(r["arm"] == "bold" for r in rows)
    assert sum(c.shown for _, c in tally.by_minute()) == sum(r["shown"] for r in rows)
    item, held = tally.best_items(1)[0]
    assert held.counts.shown == sum(r["shown"] for r in rows if r["item_id"] == item)
    assert set(held.users) <= {(r["user_id"], r["request_id"]) for r in rows if r["item_id"] == item}
    newest = tally.latest(1)[0]
    assert newest.request_id == "r119" and tally.answer("r119") is newest


def test_whoever_is_erased_is_named_no_more(tmp_path):
    with EventLog.open(tmp_path / "log", RULES, now=lambda: NOW + 10**9) as log:
        log.append(events_of(np.random.default_rng(4), 60))
        tally = Tally(("click",))
        tally.take(log.read(0, 10_000))
        assert tally.latest(99, "u3")
        log.erase("u3")
        tally.take(log.read(tally.offset, 10_000))
    assert not tally.latest(99, "u3")
    assert not [user for held in tally.items.values() for user, _ in held.users if user == "u3"]


def test_the_latest_answers_are_kept_and_a_person_can_be_dropped():
    lately = Lately(most=3)
    for n in range(5):
        lately.add(Answered(f"r{n}", f"u{n % 2}", 0.0, 0.001, None, 300, 0, 10))
    assert [a.request_id for a in lately.latest(9)] == ["r4", "r3", "r2"]
    lately.forget("u0")
    assert [a.request_id for a in lately.latest(9)] == ["r3"] and lately.get("r4") is None


def test_a_share_has_the_score_interval():
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(10, 100) == pytest.approx((0.0552, 0.1744), abs=1e-4)  # Newcombe (1998), table I
    assert wilson(0, 20)[0] == 0.0


class Clock:
    """A clock that stands still until it is moved."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_question_confirms_one_action_of_one_caller_once_and_not_for_long():
    clock = Clock()
    access = Access(gate=None, clock=clock)
    ada = Caller("ada", frozenset(("admin",)))
    word = access.ask(ada, "promote", "run-1")
    assert not access.confirmed(ada, "another word", "promote", "run-1")
    assert access.confirmed(ada, word, "promote", "run-1")
    assert not access.confirmed(ada, word, "promote", "run-1")
    assert not access.confirmed(EVERYBODY, access.ask(ada, "promote", "run-1"), "promote", "run-1")
    assert not access.confirmed(ada, access.ask(ada, "promote", "run-1"), "promote", "run-2")
    word = access.ask(ada, "rollback", "")
    clock.now = 301
    assert not access.confirmed(ada, word, "rollback", "")


@pytest.mark.parametrize(
    ("key", "value", "shown"),
    [
        ("serving.kafka.settings", {"sasl.password": "hunter2", "bootstrap.servers": "a:1"},
         {"sasl.password": HIDDEN, "bootstrap.servers": "a:1"}),
        ("serving.keys", [{"name": "shop", "key": "${SHOP_KEY}", "roles": ["read"]}],
         [{"name": "shop", "key": "${SHOP_KEY}", "roles": ["read"]}]),
        ("serving.keys", [{"key": "0123456789abcdef"}], [{"key": HIDDEN}]),
        ("serving.redis.url", "redis://:hunter2@host:6379/0", f"redis://{HIDDEN}@host:6379/0"),
        ("serving.redis.url", "redis://host:6379/0", "redis://host:6379/0"),
        ("seed", 42, 42), ("a.api_key", None, None), ("a.token_limit", 3, 3),
    ],
)
def test_secrets_are_hidden_and_their_names_are_not(key, value, shown):
    assert hidden(key, value) == shown
