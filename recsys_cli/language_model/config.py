"""Settings of the language model."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from recsys_cli.config import Section, holds_secret
from recsys_cli.serving.config import Secret


def _address(url: str) -> str:
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        sound = False
    if not sound or any(c.isspace() or not c.isprintable() for c in url):
        raise ValueError("write the address of an OpenAI-compatible endpoint, such as http://localhost:11434/v1")
    if parts.username is not None or parts.password is not None or parts.query:
        raise holds_secret("write no secret into the address; api_key takes ${NAME}, a variable of the environment")
    return url


class LanguageModelConfig(Section):
    """A language model that labels topics and words reasons where it is asked to. Without `url` nothing is ever
    sent."""

    url: Annotated[str, AfterValidator(_address)] | None = None
    """Address of an OpenAI-compatible endpoint up to /v1: of this machine or of any other."""
    model: str = ""
    """Name of the model there."""
    api_key: Secret | None = None
    """`${NAME}` of the variable of the environment that holds the key; null sends none."""
    timeout_seconds: Annotated[float, Field(gt=0, le=600)] = 20.0
    """Longest wait for one answer, from connecting to its last byte."""
    parallel: Annotated[int, Field(ge=1, le=64)] = 4
    """Questions that wait for an answer at once."""
    max_questions: Annotated[int, Field(ge=1, le=1_000_000)] = 2000
    """Questions of one command; what is left over is told."""
    max_seconds: Annotated[float, Field(gt=0, le=86_400)] = 600.0
    """Longest time that one command asks."""
    max_characters: Annotated[int, Field(ge=1, le=20_000)] = 1000
    """Characters of an item's text that are sent, from its beginning."""
    topics: tuple[str, ...] = ()
    """Topics that items may be labelled with; empty takes those that the dataset has."""
    topics_per_item: Annotated[int, Field(ge=1, le=10)] = 2
    """Topics that one item gets at most."""
    reasons: bool = False
    """Have `recommend --explain` word the reasons of its slates, and `explain` what a score is made of."""

    @model_validator(mode="after")
    def _named(self) -> LanguageModelConfig:
        if self.url is not None and not self.model.strip():
            raise ValueError("url needs model, the name of the language model there")
        if self.reasons and self.url is None:
            raise ValueError("reasons need url, the address of the language model")
        return self
