"""A search space from its file: checked against the settings, and turned into the settings of a trial."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from recsys_cli.config import Resolved, leaves, merge, put, read_yaml, validate
from recsys_cli.errors import ConfigError, UsageError, did_you_mean
from recsys_cli.settings import Settings
from recsys_cli.shipped import configurations
from recsys_cli.tuning.config import Parameter, SpaceConfig
from recsys_cli.yaml_reader import line_of

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import Trial

FIXED = ("paths", "windows", "evaluation", "world", "seed", "threads", "device", "serving", "live")
"""Sections that say what is measured, on what and by which machine, not what is recommended."""
TRUTH = ("pipeline.filters.seen",)
"""Settings by which lists may hold other items, and figures would be of different answers."""
PIPELINE = "pipeline"
"""The section that nothing is learned from: trials that differ in it alone share one training."""


@dataclass(frozen=True)
class Space:
    """A search space over the settings."""

    config: SpaceConfig
    base: dict[str, Any]
    """what trials are of: the configuration with the space's own settings over it, as a mapping"""
    written: dict[str, Any]
    """the same without what is only in trials"""

    @classmethod
    def read(cls, file: Path, given: Settings) -> Space:
        """Read and check a file; raises UsageError where there is none, and ConfigError with file, line and key of what
        is wrong, and the nearest known."""
        if not file.is_file():
            shipped = sorted(f"configs/tuning/{p.name}" for p in (configurations() / "tuning").glob("*.yaml"))
            hint = did_you_mean(str(file), shipped, f"there are {', '.join(shipped)}")
            raise UsageError(f"no file {file} with a search space", hint)
        config = validate(SpaceConfig, read_yaml(file), file)
        base = given.model_dump(mode="json")
        base = _laid_over(base, config.settings, file, "settings")
        written, base = base, _laid_over(base, config.only_in_trials, file, "only_in_trials")
        for key, parameter in config.search.items():
            where = ("search", key)
            if key.partition(".")[0] in FIXED:
                raise ConfigError(
                    f"{_place(file, where)}{key} cannot be searched: it says what is measured, not what is recommended",
                    f"the sections {', '.join(FIXED)} are the same for all trials",
                )
            if key in TRUTH:
                raise ConfigError(
                    f"{_place(file, where)}{key} cannot be searched: it changes what counts as found",
                    "set it, and search the rest",
                )
            _require_known(base, key, file, where)
            for value in parameter.extremes:
                _check(merge(base, _overlay(key, value)), key, value, file, where)
        return cls(config, validate(Settings, base).model_dump(mode="json"), written)

    def settings(self, values: dict[str, Any], *, written: bool = False) -> Settings:
        """The settings of a trial with these values, or those to be written; ConfigError where they do not go
        together."""
        tree = self.written if written else self.base
        for key, value in values.items():
            tree = merge(tree, _overlay(key, value))
        return validate(Settings, tree)

    @property
    def defaults(self) -> dict[str, Any]:
        """Searched setting → its value without the search, left out where the configuration has none."""
        known = _flat(self.base, self.config.search)
        return {key: known[key] for key in self.config.search if key in known}

    @property
    def learned(self) -> bool:
        """Whether any searched setting changes what is learned."""
        return any(key.partition(".")[0] != PIPELINE for key in self.config.search)

    @property
    def untouched_sources(self) -> tuple[str, ...]:
        """Sources that no searched setting names, which are fitted once for all trials."""
        names = {key.split(".")[1] for key in self.config.search if key.startswith("retrieval.")}
        return tuple(name for name in self.base["retrieval"] if name not in names)

    def digest(self, dataset: str, seed: int) -> str:
        """Of everything that makes trials comparable: what is searched, from what, on which data, by which figures."""
        kept = {"search", "objectives", "pruning", "users", "confirming_share", "sampler"}
        mine = self.config.model_dump(mode="json", include=kept)
        base = {k: v for k, v in self.base.items() if k not in ("paths", "threads", "serving", "live", "world")}
        text = orjson.dumps([mine, base, dataset, seed], option=orjson.OPT_SORT_KEYS)
        return hashlib.blake2b(text, digest_size=12).hexdigest()

    def distributions(self) -> dict[str, BaseDistribution]:
        """Optuna's form of the space."""
        return {key: distribution(parameter) for key, parameter in self.config.search.items()}

    def propose(self, trial: Trial) -> dict[str, Any]:
        """Setting → value of a trial, drawn or, for a trial that is taken up again, as it was."""
        return {key: self._drawn(trial, key, parameter) for key, parameter in self.config.search.items()}

    def _drawn(self, trial: Trial, key: str, parameter: Parameter) -> Any:
        if parameter.kind == "choice":
            return json.loads(trial.suggest_categorical(key, [_text(c) for c in parameter.choices]))
        low, high = parameter.extremes
        suggest = trial.suggest_int if parameter.kind == "int" else trial.suggest_float
        return suggest(key, low, high, log=parameter.log)

    def encoded(self, values: dict[str, Any]) -> dict[str, Any] | None:
        """Values as Optuna keeps them; None where one lies outside the space, or is not there."""
        out = {}
        for key, parameter in self.config.search.items():
            if key not in values:
                return None
            value = _text(values[key]) if parameter.kind == "choice" else values[key]
            if not isinstance(value, str | int | float) or isinstance(value, bool):
                return None
            if parameter.kind == "choice":
                if value not in [_text(c) for c in parameter.choices]:
                    return None
            elif isinstance(value, str) or not parameter.low <= value <= parameter.high:
                return None
            out[key] = value
        return out


def distribution(parameter: Parameter) -> BaseDistribution:
    """Optuna's form of one parameter."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if parameter.kind == "choice":
        return CategoricalDistribution([_text(c) for c in parameter.choices])
    low, high = parameter.extremes
    return (IntDistribution if parameter.kind == "int" else FloatDistribution)(low, high, log=parameter.log)


def difference(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """What of a configuration differs from another, as the smallest mapping to lay over it."""
    out = {}
    for key, value in after.items():
        was = before.get(key)
        if isinstance(value, dict) and isinstance(was, dict) and value.get("kind") == was.get("kind"):
            if below := difference(was, value):
                out[key] = below
        elif key not in before or value != was:
            out[key] = value
    return out


def configuration_text(settings: Settings, remarks: list[str]) -> str:
    """YAML of a configuration: what differs from the defaults, below remarks."""
    import yaml

    changed = difference(Settings().model_dump(mode="json"), settings.model_dump(mode="json"))
    body = yaml.safe_dump(changed, sort_keys=False, default_flow_style=False, width=100) if changed else "{}\n"
    now = dt.datetime.now(dt.UTC).isoformat(timespec="minutes")
    head = "".join(f"# {line}\n" for line in [*remarks, f"written {now}"])
    return head + body


def resolved_with(resolved: Resolved, changed: dict[str, Any]) -> Settings:
    """A configuration with some settings laid over it."""
    return validate(Settings, merge(resolved.config.model_dump(mode="json"), changed))


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _laid_over(base: dict[str, Any], changed: dict[str, Any], file: Path, section: str) -> dict[str, Any]:
    """A configuration with dotted settings of a section of the file over it, each checked."""
    for key, value in changed.items():
        tree = _overlay(key, value)
        for leaf in leaves(tree):
            _require_known(base, leaf, file, (section, key))
        base = merge(base, tree)
        _check(base, key, value, file, (section, key))
    return base


def _flat(tree: dict[str, Any], keys: Any) -> dict[str, Any]:
    out = {}
    for key in keys:
        node: Any = tree
        for part in key.split("."):
            if not isinstance(node, dict) or part not in node:
                break
            node = node[part]
        else:
            out[key] = node
    return out


def _overlay(key: str, value: Any) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    put(tree, key.split("."), value)
    return tree


def _place(file: Path, keys: tuple[str, ...]) -> str:
    line = line_of(file, keys)
    return f"{file}{f' line {line}' if line else ''}: "


def _require_known(tree: dict[str, Any], key: str, file: Path, where: tuple[str, ...]) -> None:
    """Raises ConfigError where a part of a dotted key names nothing; the last part is left to the settings' models."""
    node: Any = tree
    parts = key.split(".")
    for depth, part in enumerate(parts[:-1]):
        if not isinstance(node, dict) or part not in node:
            known = list(node) if isinstance(node, dict) else []
            above = ".".join(parts[:depth])
            hint = did_you_mean(part, known, f"known below {above or 'the root'}: {', '.join(known) or 'nothing'}")
            raise ConfigError(f"{_place(file, where)}unknown setting {key!r}: there is no {part!r}", hint)
        node = node[part]


def _check(tree: dict[str, Any], key: str, value: Any, file: Path, where: tuple[str, ...]) -> None:
    try:
        validate(Settings, tree)
    except ConfigError as error:
        told = error.message if key in error.message else f"{key}: {error.message}"
        raise ConfigError(f"{_place(file, where)}{told}", error.hint) from None
