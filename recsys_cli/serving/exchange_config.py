"""Settings of what a server exchanges with Kafka and Redis."""

from __future__ import annotations

import os
import re
from typing import Annotated

from pydantic import Field, model_validator

from recsys_cli.config import Section
from recsys_cli.errors import ConfigError

_PLACEHOLDER = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


class ExchangeConfig(Section):
    """Where events come from beside the API, where they go, and where memories of people are shared.

    Secrets are written as `${NAME}` and come from the environment when they are used.
    """

    kafka: dict[str, str | int | float | bool] = {}
    """Settings of librdkafka, `bootstrap.servers` among them."""
    kafka_in: str | None = None
    """Topic whose messages are events."""
    kafka_out: str | None = None
    """Topic that gets every event of the log."""
    redis: str | None = None
    """Address of Redis, such as redis://:${REDIS_PASSWORD}@localhost:6379."""
    stream_in: str | None = None
    """Redis stream whose entries are events."""
    stream_out: str | None = None
    """Redis stream that gets every event of the log."""
    shared_memories: bool = False
    """Share memories of people through Redis with other servers."""
    server: Annotated[str, Field(min_length=1, max_length=100)] = "recsys"
    """Name of this server among those that share."""
    pause_seconds: Annotated[float, Field(gt=0, le=3_600)] = 1.0
    """How long a broker that does not answer is left alone, and how often the log is looked at for what goes out."""

    @model_validator(mode="after")
    def _sound(self) -> ExchangeConfig:
        if (self.kafka_in or self.kafka_out) and "bootstrap.servers" not in self.kafka:
            raise ValueError("kafka needs bootstrap.servers where a topic is named")
        if (self.stream_in or self.stream_out or self.shared_memories) and self.redis is None:
            raise ValueError("streams and shared memories need redis, its address")
        for first, second in (("kafka_in", "kafka_out"), ("stream_in", "stream_out")):
            if getattr(self, first) is not None and getattr(self, first) == getattr(self, second):
                raise ValueError(f"{first} and {second} are the same: what goes out would come in again")
        return self


def filled(text: str) -> str:
    """A text with the variables of the environment in the place of `${NAME}`; raises ConfigError for one that is not
    there."""

    def value(found: re.Match) -> str:
        name = found[1]
        if name not in os.environ:
            raise ConfigError(f"the environment has no {name}, which the settings name", f"export {name}=…")
        return os.environ[name]

    return _PLACEHOLDER.sub(value, text)
