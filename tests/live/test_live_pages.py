"""The pages of learning and of drift, as they are put together."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from recsys_cli.errors import UsageError
from recsys_cli.live.decisions import Decisions
from recsys_cli.live.on_demand import Retrainer
from recsys_cli.live.pages import Pages, _drift
from recsys_cli.serving.dashboard.markup import escaped
from recsys_cli.settings import Settings

HOSTILE = "<script>x</script>"


def pages_of(tmp_path) -> Pages:
    paths = Settings().paths.model_copy(update={"data": str(tmp_path / "data"), "artifacts": str(tmp_path)})
    settings = Settings().model_copy(update={"paths": paths})
    return Pages(settings, Retrainer(settings))


def document(days: int) -> dict:
    daily = [{"day": f"2026-01-{n + 1:02}", "shown": 900.0, "click_through_rate": 0.1 + n / 100, "psi.max": 0.4,
              "psi.topic": 0.4, "psi.surface": 0.1, "js.topic": 0.2, "source.als": 0.5} for n in range(days)]
    alert = {"name": HOSTILE, "state": "raised", "day": "2026-01-01", "figure": "psi.max", "value": 0.4, "bound": 0.35}
    return {"daily": daily, "period": daily[-1], "alerts": [alert], "alerts_on": [HOSTILE], "from": "2026-01-01",
            "to": "2026-01-02", "bots": {"2026-01-01": [HOSTILE]}}


@pytest.mark.parametrize("days", [1, 3])
def test_drift_tells_of_features_the_furthest_first_and_of_alerts(days):
    told = escaped(_drift(document(days)))
    assert told.index("<td>topic") < told.index("<td>surface") if "<td>topic" in told else "topic" in told
    assert "Alerts that are on" in told and 'role="alert"' in told and "Left out as no people" in told
    assert HOSTILE not in told and "&lt;script&gt;" in told
    assert ("<svg" in told) == (days > 1)  # one day is no line


def test_learning_shows_what_was_decided_and_the_gates_of_the_latest(tmp_path):
    log = Decisions(tmp_path)
    log.append("started")
    log.append("refused", run="a", reason=HOSTILE,
               gates=[{"gate": "quality", "passed": False, "measured": HOSTILE, "wanted": "more", "mend": ""}])
    for roles, offered in ((("read",), False), (("read", "admin"), True)):
        visit = SimpleNamespace(caller=SimpleNamespace(roles=roles))
        told = escaped(asyncio.run(pages_of(tmp_path).learning(visit)).body)
        assert ("Learn again now" in told) is offered
        assert "does not hold" in told and "refused" in told and "started" not in told
        assert HOSTILE not in told and "&lt;script&gt;" in told


def test_why_there_is_no_report_is_told(tmp_path):
    with pytest.raises(UsageError, match="no dataset in"):
        pages_of(tmp_path)._report()
