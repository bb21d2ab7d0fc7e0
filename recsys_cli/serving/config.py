"""Settings of the server."""

from __future__ import annotations

import os
import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, PositiveInt, model_validator

from recsys_cli.config import Section, holds_secret
from recsys_cli.errors import ConfigError

_PLACEHOLDER = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")

Role = Literal["read", "write", "admin"]
Router = Literal["gorse", "metarank"]


def _placeholder(text: str) -> str:
    if not _PLACEHOLDER.fullmatch(text):
        raise holds_secret("write a secret as ${NAME}, the variable of the environment that holds it")
    return text


Secret = Annotated[str, AfterValidator(_placeholder)]
"""A secret: the configuration holds `${NAME}` alone, the value comes from the environment when it is used."""


def secret_of(placeholder: str) -> str:
    """The value that a `${NAME}` stands for; raises ConfigError where the environment lacks it."""
    name = _PLACEHOLDER.fullmatch(placeholder)[1]
    value = os.environ.get(name, "")
    if not value:
        raise ConfigError(f"the environment has no {name}, which the settings name", f"export {name}=… and start again")
    return value


def filled(text: str) -> str:
    """A text with the value of the environment in the place of every `${NAME}`; raises ConfigError where one lacks."""
    return _PLACEHOLDER.sub(lambda found: secret_of(found[0]), text)


class KafkaConfig(Section):
    """Events from and to Kafka (extra `kafka`)."""

    events: str | None = None
    """Topic that events are read from."""
    log: str | None = None
    """Topic that the log goes out to."""
    settings: dict[str, str] = {"bootstrap.servers": "localhost:9092"}
    """Settings of librdkafka, such as `sasl.password: ${KAFKA_PASSWORD}`."""


class RedisConfig(Section):
    """Memories of people in Redis, shared by several servers (extra `redis`)."""

    url: str
    """redis://:${REDIS_PASSWORD}@host:6379/0"""
    server: str = "server"
    """Name of this server, its own among those that share the memories."""
    events: str | None = None
    """Stream that events are read from."""
    log: str | None = None
    """Stream that the log goes out to."""


class KeyConfig(Section):
    """One key of the API."""

    name: str
    """Who it was given to; logs and metrics name this, never the key."""
    key: Secret
    """`${NAME}` of the variable that holds it."""
    roles: list[Role] = ["read"]
    """"read" asks for recommendations, "write" brings events, users and items, "admin" erases people and switches
    runs; each alone, so that a key for events can read nothing."""


class PoolConfig(Section):
    """Scored candidates a user, kept between requests. Slates are chosen from them on every request."""

    size: Annotated[int, Field(ge=10, le=10_000)] = 300
    """Best candidates kept a user."""
    seconds: Annotated[float, Field(gt=0, le=86_400)] = 300.0
    """Age at which a pool is built again; it goes on serving meanwhile."""
    stale_seconds: Annotated[float, Field(gt=0, le=864_000)] = 3_600.0
    """Age from which a pool serves no longer."""
    memory_mb: Annotated[int, Field(ge=1, le=1_000_000)] = 1_024
    """Memory of all pools together; the least recently used go first."""
    wait_ms: Annotated[float, Field(ge=0, le=60_000)] = 50.0
    """How long a request waits for the pool of somebody who has none, before it is answered from what is popular with
    everybody ("fallback": "pool_pending")."""
    build_seconds: Annotated[float, Field(gt=0, le=600)] = 1.0
    """How long mode realtime and `/v1/rank` wait for scores before they answer without."""
    batch_size: Annotated[int, Field(ge=1, le=1024)] = 8
    """Pools built together at most, for people who have none."""
    refresh_share: Annotated[float, Field(gt=0, le=1)] = 0.25
    """Share of a worker's time that goes to pools that are built again, because they are old or their owners acted;
    meanwhile the old ones serve."""
    queue: Annotated[int, Field(ge=1, le=1_000_000)] = 2_000
    """Pools that may wait to be built; requests beyond are answered as if the wait were over."""


class ServingConfig(Section):
    """`recsys serve`."""

    host: str = "127.0.0.1"
    """Address to listen on. Without keys only this machine is served."""
    port: Annotated[int, Field(ge=0, le=65_535)] = 8080
    """0 takes a free one and prints it."""
    mode: Literal["realtime", "hybrid", "batch"] = "hybrid"
    """"hybrid" keeps pools; "realtime" scores on every request; "batch" takes the candidates from `slates`."""
    slates: str | None = None
    """Parquet file or folder that `recsys recommend --all` wrote, for mode batch."""
    workers: Annotated[int, Field(ge=1, le=256)] = 1
    """Processes that build pools."""
    pool: PoolConfig = PoolConfig()
    largest_slate: Annotated[int, Field(ge=1, le=10_000)] = 200
    """Items that a request may ask for."""
    served_seconds: Annotated[float, Field(ge=0, le=86_400)] = 600.0
    """What was served to somebody is not served again so soon; 0 forgets it at once."""
    served_items: Annotated[int, Field(ge=0, le=10_000)] = 100
    """Items of that memory a user."""
    refresh_seconds: Annotated[float, Field(gt=0, le=86_400)] | None = 60.0
    """How often counts, trends, histories and features are brought forward to the clock by a process beside the
    server; null leaves them as of the training."""
    session_boost: Annotated[float, Field(ge=0, le=100)] = 0.0
    """How far items rise that are like what somebody turned to in the session that goes on, from the very next answer
    on: so many standard deviations of the utilities of their pool; 0 leaves the order to the rankers."""
    new_item_every: Annotated[int, Field(ge=0, le=1_000)] = 10
    """Items that events told of since the training stand at every so-manieth place of a list, those first that fit it
    best; 0 leaves them to the next training."""
    keys: list[KeyConfig] = []
    """Keys of the API. With none, only clients of this machine are served."""
    allowed_hosts: list[str] = []
    """Names under which the server may be called, besides localhost and its own address; with keys, empty allows
    any."""
    allowed_origins: list[str] = []
    """Origins whose pages may call from a browser, such as https://example.org; others are refused."""
    requests_per_second: Annotated[float, Field(gt=0, le=1_000_000)] | None = None
    """Requests a second of one key, or of one address where there are no keys; null for no limit."""
    user_events_per_day: PositiveInt | None = 20_000
    """Events that one person may bring within a day over HTTP; what comes beyond is refused, and the person named among
    the alerts. null for any number."""
    max_body_kb: Annotated[int, Field(ge=1, le=1_048_576)] = 1_024
    """Largest body of a request."""
    max_bulk_mb: Annotated[int, Field(ge=1, le=4_096)] = 16
    """Largest body of the NDJSON of many users or items."""
    body_seconds: Annotated[float, Field(gt=0, le=3_600)] = 10.0
    """How long a client may take to send a body."""
    stop_seconds: Annotated[float, Field(ge=0, le=3_600)] = 10.0
    """How long running requests may take to end when the server stops."""
    warm_up: Annotated[int, Field(ge=0, le=1_000_000)] = 64
    """Users whose pools are built before the server says that it is ready: those who were active last."""
    warm_up_seconds: Annotated[float, Field(ge=0, le=3_600)] = 1.5
    """Seconds that this may take; what is missing then is built beside the answers."""
    compatibility: list[Router] = []
    """Paths of other servers that are answered as well: "gorse" (/api/…), "metarank" (/feedback, /rank/…)."""
    feedback_types: dict[str, str] = {"read": "impression", "star": "like"}
    """What those servers' clients call an event → its type here; types that do not stand here are taken as they are."""
    kafka: KafkaConfig | None = None
    """Events from and to Kafka."""
    redis: RedisConfig | None = None
    """Where several servers remember people together."""
    remembered_requests: PositiveInt = 100_000
    """Requests that `/next` can go on from; the oldest are forgotten first."""

    @model_validator(mode="after")
    def _sound(self) -> ServingConfig:
        if self.mode == "batch" and self.slates is None:
            raise ValueError("mode: batch needs slates, the file that `recsys recommend --all --output` wrote")
        if self.pool.stale_seconds < self.pool.seconds:
            raise ValueError("pool.stale_seconds is less than pool.seconds")
        names = [key.name for key in self.keys]
        if len(set(names)) < len(names):
            raise ValueError("keys: two have the same name")
        return self
