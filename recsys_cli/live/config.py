"""Settings of the live loop: gates of a retraining, alerts of the monitor, thresholds of the launch list."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from recsys_cli.config import Name, Section

Share = Annotated[float, Field(ge=0, le=1)]


class GatesConfig(Section):
    """What a new run must hold, beside the run in use, before `recsys retrain` puts it in its place."""

    rows_share: Share = 0.8
    """Impressions of the new data, at least this share of those that the run in use was trained on."""
    positive_factor: Annotated[float, Field(ge=1, le=100)] = 1.5
    """Share of impressions with a positive action, at most this many times higher or lower than then."""
    bots_share: Share = 0.1
    """Impressions of people who were shown more than `monitor.bot_events` items in one day, at most this share."""
    quality_loss: Share = 0.1
    """NDCG on the newest window, at most this share below that of the run in use; what is surely below (p < 1 %) never
    passes."""
    auc_loss: Share = 0.05
    """ROC-AUC of each action on the validation window, at most so much below what the run in use had on its own."""
    order_loss: Share = 0.4
    """Figure of the lists on the validation window, at most this share below what the run in use had on its own."""
    calibration_loss: Share = 0.02
    """Calibration error of each action, at most so much above that of the run in use."""
    coverage_loss: Share = 0.5
    """Share of the catalogue in the lists, at most this share below that of the run in use: lists that have collapsed
    into one are refused."""
    unsafe_gain: Share = 0.02
    """Share of the items in the lists that are unsafe, surely (95 %) at most so much above that of the run in use."""
    latency_factor: Annotated[float, Field(ge=1, le=1000)] = 2.0
    """Processor time of a slate, at most this many times that of the run in use; up to a millisecond more passes."""
    free_disk: Annotated[float, Field(ge=0, le=100)] = 3.0
    """Free space on the disk before training, at least this many times the size of the run in use."""
    users: PositiveInt | None = 2_000
    """Test users that both runs are measured on, drawn with the seed; null takes all."""


class ShadowConfig(Section):
    """Copies of the latest live requests, which the new run and the one in use answer beside the server."""

    requests: Annotated[int, Field(ge=0, le=100_000)] = 200
    """Latest answers in the log whose requests are copied; 0 leaves the gate out."""
    errors: Share = 0.0
    """Share of the copies that may fail, beside those at which the run in use fails too."""
    empty: Share = 0.01
    """Share of the answers that may be empty, more than of the run in use."""
    latency_factor: Annotated[float, Field(ge=1, le=1000)] = 2.0
    """95th percentile of the processor time of an answer, at most this many times that of the run in use; up to five
    milliseconds more pass."""
    overlap: Share = 0.01
    """Mean share of an answer that stands in the one of the run in use too, at least."""


class CanaryConfig(Section):
    """The new run serves a share of the people as an experiment, before it is promoted."""

    share: Annotated[float, Field(gt=0, le=0.5)] = 0.05
    """Share of the people whom the new run answers; four times as many are compared with them."""
    most_requests: PositiveInt = 2_000
    """Answers that it gives at most; the server stops there by itself."""
    minutes: Annotated[float, Field(gt=0, le=100_000)] = 120.0
    """How long it may take to come to these."""
    loss: Share = 0.1
    """Actions for each answer, at the end at most this share below those of the run in use; what is surely below is
    rolled back at once."""
    alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    """Chance that a run that is as good is rolled back as surely worse, over all looks and all three guardrails."""


class RetrainingConfig(Section):
    """Retrainings that a server starts: at set times, and when `POST /v1/retrain` asks for one."""

    schedule: str | None = None
    """"hourly", "daily" (at 03:00), or a cron expression such as "30 4 * * 1-5"; UTC. null starts none."""
    pause_minutes: Annotated[float, Field(ge=0, le=100_000)] = 10.0
    """A retraining that is asked for sooner after the one before is refused."""
    minutes: Annotated[float, Field(gt=0, le=100_000)] = 240.0
    """One that takes longer is ended; the next one goes on from there."""


class AlertRule(Section):
    """One alert of `recsys monitor report`."""

    name: Name
    """What the alert is called."""
    figure: str
    """A figure of a day, such as click_through_rate or psi.surface."""
    above: float | None = None
    """It is raised where the figure is above this."""
    below: float | None = None
    """Or below this."""
    days: Annotated[int, Field(ge=1, le=366)] = 1
    """For so many days one after the other."""
    clear_above: float | None = None
    """Once raised by `below`, it ends where the figure is above this  [that bound itself where it is null]."""
    clear_below: float | None = None
    """Once raised by `above`, it ends where the figure is below this, likewise."""
    clear_days: Annotated[int, Field(ge=1, le=366)] = 1
    """For so many days one after the other."""
    fewest: Annotated[int, Field(ge=0, le=2**31 - 1)] = 200
    """Days with fewer items shown say nothing, either way."""
    send: Annotated[tuple[Literal["log", "webhook", "exit"], ...], Field(min_length=1)] = ("log",)
    """"log" tells it, "webhook" posts it, "exit" makes the command end with exit code 1."""


class MonitorConfig(Section):
    """`recsys monitor`."""

    webhook: str | None = None
    """Address that alerts are posted to as JSON."""
    webhook_seconds: Annotated[float, Field(gt=0, le=300)] = 5.0
    """How long it may take to answer; the report does not depend on it."""
    bot_events: PositiveInt = 10_000
    """People with more items shown in one day than this are named and left out of its figures."""
    alerts: tuple[AlertRule, ...] = (
        AlertRule(name="clicks-fall", figure="click_through_rate_change", below=-0.3, days=1, clear_above=-0.15),
        AlertRule(name="drift", figure="psi.max", above=0.35, days=1, clear_below=0.2),
        AlertRule(name="fallback", figure="fallback_share", above=0.2, days=1, clear_below=0.1),
    )
    """Alerts."""


class CheckConfig(Section):
    """Thresholds of the launch list, `recsys check`."""

    coverage: Share = 0.1
    """Share of the catalogue in the lists of the test users, at least."""
    topic_diversity: Share = 0.5
    """Share of pairs of a slate with different topics, at least; judged where items have topics."""
    unsafe: Share = 0.1
    """Share of the items in the lists that are unsafe, at most."""
    calibration: Share = 0.05
    """Calibration error of every action with 50 positives, at most."""
    group_gap: Share = 0.5
    """NDCG of the worst-served group of users with 30 of them, at least this share of everybody's."""
    slate_ms: Annotated[float, Field(gt=0, le=60_000)] = 100.0
    """99th percentile of the processor time of a slate made alone, in milliseconds, at most."""
    requests_per_second: Annotated[float, Field(gt=0, le=1e6)] = 5.0
    """Traffic that is expected; ten times as much must be sustained by the cores that are here."""
    data_days: Annotated[float, Field(gt=0, le=36_500)] | None = None
    """Age of the newest impression, at most; null does not ask."""
    users: PositiveInt = 1_000
    """Test users measured, drawn with the seed."""


class LiveConfig(Section):
    """The live loop."""

    gates: GatesConfig = GatesConfig()
    shadow: ShadowConfig = ShadowConfig()
    canary: CanaryConfig | None = None
    """Null promotes without one; `recsys retrain --canary` takes the defaults."""
    retraining: RetrainingConfig = RetrainingConfig()
    monitor: MonitorConfig = MonitorConfig()
    check: CheckConfig = CheckConfig()
