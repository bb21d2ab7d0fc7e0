"""Set times of retrainings, and retrainings that a server is asked for."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys

import pytest

from recsys_cli.config import validate
from recsys_cli.errors import ConfigError
from recsys_cli.live.decisions import Decisions, alone, holder
from recsys_cli.live.on_demand import Retrainer
from recsys_cli.live.schedule import checked, following
from recsys_cli.serving.keys import Refused
from recsys_cli.settings import Settings


def moment(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("schedule", "after", "wanted"),
    [
        ("daily", "2026-01-31 02:59", "2026-01-31 03:00"), ("daily", "2026-01-31 03:00", "2026-02-01 03:00"),
        ("Hourly", "2026-01-31 23:30", "2026-02-01 00:00"), ("30 4 * * 1-5", "2026-01-30 12:00", "2026-02-02 04:30"),
    ],
)
def test_set_times_in_utc(schedule, after, wanted):
    assert following(checked(schedule), moment(after)) == moment(wanted)


@pytest.mark.parametrize("schedule", ["", "weekly", "* * * *", "61 * * * *", "0 3 * * * *", "0 3 * * mo"])
def test_what_is_no_schedule_is_refused(schedule):
    with pytest.raises(ConfigError, match="is no schedule"):
        checked(schedule)


def retrainer_of(tmp_path, **more) -> Retrainer:
    tree = Settings().model_dump(mode="json")
    tree["live"]["retraining"] |= more
    paths = {"data": str(tmp_path / "data"), "artifacts": str(tmp_path / "artifacts")}
    return Retrainer(validate(Settings, tree | {"paths": paths}))


def test_one_retraining_runs_at_a_time_and_not_too_soon_after_another(tmp_path):
    retrainer = retrainer_of(tmp_path)
    assert holder(retrainer.artifacts) is None and retrainer.told().state == "idle"
    code = "import sys; from recsys_cli.live.decisions import holder; print(holder(sys.argv[1]))"
    with alone(retrainer.artifacts):
        call = [sys.executable, "-c", code, str(retrainer.artifacts)]
        other = subprocess.run(call, capture_output=True, text=True, check=True)
        assert other.stdout.strip() == str(os.getpid())
        assert (retrainer.told().state, retrainer.told().process) == ("running", str(os.getpid()))
        with pytest.raises(Refused) as refused:
            retrainer.begin()
        assert refused.value.status == 409
    Decisions(retrainer.artifacts).append("promoted", run="a", gates=[])
    with pytest.raises(Refused) as refused:
        retrainer.begin()
    assert refused.value.status == 429 and 1 <= int(refused.value.headers["retry-after"]) <= 601
    assert retrainer.told().last["outcome"] == "promoted" and "gates" not in retrainer.told().last


def test_what_cannot_be_learned_from_ends_in_the_decision_log_and_what_was_started_ends_with_the_server(tmp_path):
    retrainer = retrainer_of(tmp_path, pause_minutes=0)
    retrainer.begin()
    assert os.getpriority(os.PRIO_PROCESS, retrainer.process.pid) == 19
    with pytest.raises(Refused):
        retrainer.begin()
    assert retrainer.process.wait(60) != 0
    last = Decisions(retrainer.artifacts).read()[-1]
    assert last["outcome"] == "failed" and str(tmp_path / "data") in last["reason"]
    assert "no dataset in" in (retrainer.decisions.folder / "last.log").read_text()
    retrainer.begin()
    retrainer.close()
    assert retrainer.process.returncode != 0
