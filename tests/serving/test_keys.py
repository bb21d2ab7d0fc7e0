"""Who may ask what."""

import pytest
from pydantic import ValidationError

from recsys_cli.errors import ConfigError
from recsys_cli.serving.config import KeyConfig, ServingConfig, secret_of
from recsys_cli.serving.keys import Gate, Keys, Rates, Refused, host_name, is_loopback

KEY = {"reader": "r" * 20, "writer": "w" * 20}


@pytest.fixture
def keyed(monkeypatch) -> ServingConfig:
    monkeypatch.setenv("READER", KEY["reader"])
    monkeypatch.setenv("WRITER", KEY["writer"])
    return ServingConfig(host="0.0.0.0", keys=[
        {"name": "reader", "key": "${READER}"}, {"name": "writer", "key": "${WRITER}", "roles": ["write", "admin"]},
    ])


def refusal(gate, headers, client="127.0.0.1", role="read") -> int:
    with pytest.raises(Refused) as refused:
        gate.admit(headers, client, role)
    return refused.value.status


def test_a_secret_in_the_settings_is_refused_and_its_name_is_taken(monkeypatch):
    with pytest.raises(ValidationError, match=r"\$\{NAME\}"):
        KeyConfig(name="a", key="verysecretverysecret")
    monkeypatch.setenv("A_KEY", "value")
    assert secret_of("${A_KEY}") == "value"
    monkeypatch.delenv("A_KEY")
    with pytest.raises(ConfigError, match="A_KEY"):
        secret_of("${A_KEY}")


def test_a_short_key_and_an_open_address_without_keys_are_refused(monkeypatch):
    monkeypatch.setenv("A_KEY", "short")
    with pytest.raises(ConfigError, match="5 characters"):
        Keys([KeyConfig(name="a", key="${A_KEY}")])
    with pytest.raises(ConfigError, match="open to other machines"):
        Gate.of(ServingConfig(host="0.0.0.0"))


def test_each_key_may_what_its_roles_say_and_is_named(keyed):
    gate = Gate.of(keyed)
    assert gate.admit({"x-api-key": KEY["reader"]}, "10.0.0.7", "read") == "reader"
    assert gate.admit({"authorization": f"Bearer {KEY['writer']}"}, "10.0.0.7", "admin") == "writer"
    assert refusal(gate, {"x-api-key": KEY["reader"]}, role="write") == 403
    assert refusal(gate, {"x-api-key": KEY["writer"]}, role="read") == 403
    assert refusal(gate, {"x-api-key": "x" * 20}) == 401
    assert refusal(gate, {}) == 401
    assert gate.admit({}, "10.0.0.7", None) == "10.0.0.7"


def test_every_key_is_compared_whichever_is_right(keyed, monkeypatch):
    import hmac

    compared = []
    real = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: compared.append(len(a) == len(b)) or real(a, b))
    assert Gate.of(keyed).keys.find(KEY["reader"])[0] == "reader"
    assert compared == [True, True]


def test_without_keys_only_this_machine_is_served():
    gate = Gate.of(ServingConfig())
    assert gate.admit({"host": "127.0.0.1:8080"}, "127.0.0.1", "admin")
    assert refusal(gate, {"host": "127.0.0.1"}, client="10.0.0.7") == 403


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "localhost.evil"])
def test_a_page_that_calls_the_server_by_another_name_is_refused(host):
    """DNS rebinding: a name of somebody else's that leads here."""
    assert refusal(Gate.of(ServingConfig()), {"host": host}) == 421


def test_pages_of_other_origins_are_refused_but_those_allowed_and_the_servers_own():
    gate = Gate.of(ServingConfig(allowed_origins=["https://shop.example"]))
    here = {"host": "localhost:8080"}
    assert gate.admit(here | {"origin": "https://shop.example"}, "127.0.0.1", "read")
    assert gate.admit(here | {"origin": "http://localhost:8080"}, "127.0.0.1", "read")
    for origin in ("http://localhost:3000", "https://evil.example", "null", "http://localhost:8080.evil"):
        assert refusal(gate, here | {"origin": origin}) == 403


def test_a_caller_has_a_seconds_worth_at_once_and_gets_it_back():
    now = [0.0]
    rates = Rates(5, lambda: now[0])
    assert [rates.take("a") for _ in range(5)] == [0.0] * 5
    assert rates.take("a") == pytest.approx(0.2)
    assert rates.take("b") == 0.0
    now[0] = 0.2
    assert rates.take("a") == 0.0 and rates.take("a") > 0
    now[0] = 100.0
    assert sum(rates.take("a") == 0.0 for _ in range(20)) == 5
    assert Rates(None).take("a") == 0.0


@pytest.mark.parametrize(
    ("header", "name"),
    [("localhost:80", "localhost"), ("[::1]:80", "[::1]"), ("http://A.example:3", "a.example"), ("", "")],
)
def test_names_of_hosts(header, name):
    assert host_name(header) == name


def test_addresses_of_this_machine():
    assert all(map(is_loopback, ("127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "10.0.0.1", "example.org", "")))


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(ValidationError, match="slates"):
        ServingConfig(mode="batch")
    with pytest.raises(ValidationError, match="stale_seconds"):
        ServingConfig(pool={"seconds": 100, "stale_seconds": 10})
    with pytest.raises(ValidationError, match="same name"):
        ServingConfig(keys=[{"name": "a", "key": "${A}"}, {"name": "a", "key": "${B}"}])
