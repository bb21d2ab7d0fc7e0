"""What an action is worth: the weights of the utility, a published preset, and multipliers of each user."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recsys_cli.errors import ConfigError, DataError, did_you_mean
from recsys_cli.pipeline.config import UtilityConfig

if TYPE_CHECKING:
    from recsys_cli.data.catalogue import Catalogue
    from recsys_cli.data.log import Log
    from recsys_cli.pipeline.bundle import Bundle

TWITTER = {
    "like": 0.5,  # fav
    "repost": 1.0,  # retweet
    "reply": 13.5,
    "profile_click": 12.0,  # good_profile_click: and likes or replies there
    "long_view": 0.005,  # video_playback50: watches at least half of a video
    "hide": 74.0,  # negative_feedback_v2: asks for less of it, blocks or mutes the author
    "mute": 74.0,
    "block": 74.0,
    "report": 369.0,
}
"""Weights that Twitter published for its heavy ranker (twitter/the-algorithm-ml, projects/home/recap, April 2023),
by the nearest action here; those of negative actions are subtracted.

Without one here: reply_engaged_by_author (75), good_click (11: opens the conversation and likes or replies) and
good_click_v2 (10: stays there for two minutes). Click, follow, share, purchase and dwell have no weight of their own
there."""


COMMONEST = 0.5
"""Proposed weight of the commonest positive action."""
RAREST = 5.0
"""Proposed weight of a positive action at most, however rare it is."""
NEGATIVE = 2.0
"""A negative action is proposed to weigh so many times as much as a positive one that is as rare."""


def proposed_weights(log: Log) -> dict[str, float]:
    """Action → weight by its rarity in the log, for actions that the settings do not name.

    0.5 · (1 + ln(n / count)), n being the count of the commonest positive action: what people do rarely says more of
    them, by its logarithm, as an inverse document frequency does of words. Positive actions weigh 0.5 to 5, negative
    ones twice as much by the same rule. Actions that never occur have none.
    """
    counts = {action: int(column.sum()) for action, column in log.actions.items()}
    most = max((n for action, n in counts.items() if action not in log.negative_actions), default=0)
    out = {}
    for action, count in counts.items():
        if count and most:
            weight = min(max(COMMONEST * (1 + math.log(most / count)), COMMONEST), RAREST)
            out[action] = round(weight * (NEGATIVE if action in log.negative_actions else 1), 3)
    return out


def weights_of(config: UtilityConfig, proposed: Mapping[str, float] | None = None) -> dict[str, float]:
    """Action (and "dwell") → weight, those of negative actions to be subtracted.

    proposed: weights of actions that the settings do not name (`proposed_weights`); a published preset has its own
    silence about them.
    """
    if config.preset == "twitter":
        return TWITTER
    return {**(proposed or {}), **config.weights, "dwell": config.dwell}


def weights_in_use(config: UtilityConfig, log: Log) -> dict[str, dict[str, float]]:
    """The weights that act on a log's actions and dwell, and which of them were proposed, for the manifest."""
    proposed = proposed_weights(log)
    weights = weights_of(config, proposed)
    mine = [*log.actions, *(["dwell"] if log.dwell is not None else [])]
    unnamed = {a: w for a, w in proposed.items() if a not in config.weights}
    return {
        "weights": {a: weights[a] for a in mine if a in weights},
        "proposed": {} if config.preset == "twitter" else unnamed,
    }


@dataclass(frozen=True)
class Multipliers:
    """What each user's weights are multiplied by."""

    columns: dict[str, np.ndarray]
    """action (or "dwell") → float32[n_users + 1], the last for everybody who is not in the data"""
    notes: tuple[str, ...] = ()

    def of(self, users: np.ndarray, action: str) -> np.ndarray | None:
        """float32[B] for user positions int32[B] (-1 for somebody unknown); None where nobody has any."""
        column = self.columns.get(action)
        return None if column is None else column[np.where(users < 0, len(column) - 1, users)]


def multipliers(config: UtilityConfig, bundle: Bundle) -> Multipliers | None:
    """What `segments` and `personal` say, multiplied where both speak of a user; None where neither says anything.

    Raises ConfigError for an attribute, value or action that is not there, DataError for a file that is not one of
    multipliers.
    """
    if not config.segments and config.personal is None:
        return None
    catalogue = bundle.catalogue
    columns: dict[str, np.ndarray] = {}
    notes: tuple[str, ...] = ()
    heads = bundle.heavy.tasks if bundle.heavy is not None else ()
    known = {*weights_of(config, bundle.proposed_weights), *config.weights, "dwell", *heads}

    def column(action: str) -> np.ndarray:
        return columns.setdefault(action, np.ones(catalogue.n_users + 1, np.float32))

    for segment in config.segments:
        where = f"pipeline.utility.segments: {segment.attribute}"
        for value, actions in segment.multiply.items():
            rows = users_with(catalogue, segment.attribute, value, "pipeline.utility.segments")
            for action, factor in actions.items():
                if action not in known:
                    raise ConfigError(f"{where}: no action {action!r}", _hint(action, known))
                column(action)[:-1][rows] *= np.float32(factor)
    if config.personal is not None:
        users, given, unknown = _read(Path(config.personal), bundle, known)
        for action, factors in given.items():
            column(action)[users] *= factors
        if unknown:
            notes = (f"{unknown:,} of {len(users) + unknown:,} users of {config.personal} are not in the run",)
    return Multipliers(columns, notes)


def users_with(catalogue: Catalogue, attribute: str, value: str, key: str) -> np.ndarray:
    """bool[n_users]: whose attribute has the value; ConfigError of the setting `key` where there is no such thing."""
    where = f"{key}: {attribute}"
    if attribute in catalogue.user_codes:
        names = catalogue.names.get(f"user.{attribute}", [])
        if str(value) not in names:
            raise ConfigError(f"{where} never is {value!r}", _hint(value, names))
        return catalogue.user_codes[attribute] == names.index(str(value))
    if attribute in catalogue.user_numbers:
        try:
            return catalogue.user_numbers[attribute] == np.float32(value)
        except ValueError:
            raise ConfigError(f"{where} is a number, {value!r} is none") from None
    known = [*catalogue.user_codes, *catalogue.user_numbers]
    raise ConfigError(f"{key}: users have no {attribute!r}", _hint(attribute, known))


def _hint(word: object, known: Iterable[str]) -> str | None:
    return did_you_mean(str(word), known, f"known: {', '.join(sorted(map(str, known))[:12]) or 'none'}")


def _read(path: Path, bundle: Bundle, known: set[str]) -> tuple[np.ndarray, dict[str, np.ndarray], int]:
    """Positions of the users of a file, action → their multipliers, and how many users the run does not know."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            header, *lines = list(csv.reader(file))
    except (OSError, UnicodeDecodeError, csv.Error, ValueError) as error:
        raise DataError(
            f"{path} cannot be read: {error}", "pipeline.utility.personal names a CSV file with a header"
        ) from None
    if "user_id" not in header:
        raise DataError(f"{path} has no column user_id", f"it has {', '.join(header)}")
    actions = [name for name in header if name != "user_id"]
    for name in actions:
        if name not in known:
            raise DataError(f"{path}: column {name!r} is no action", _hint(name, known))
    values = np.ones((len(lines), len(header)), np.float32)
    for at, line in enumerate(lines):
        if len(line) != len(header):
            raise DataError(f"{path} line {at + 2}: {len(line)} cells, the header has {len(header)}")
        for place, (name, cell) in enumerate(zip(header, line, strict=True)):
            if name != "user_id" and cell.strip():
                values[at, place] = _factor(cell, f"{path} line {at + 2}, column {name}")
    mine = header.index("user_id")
    users = bundle.user_ids.positions([line[mine] for line in lines])
    held = users >= 0
    given = {name: values[held, header.index(name)] for name in actions}
    seen, count = np.unique(users[held], return_counts=True)
    if (count > 1).any():
        name = bundle.user_ids.external(seen[count > 1][:1])[0]
        raise DataError(f"{path}: user {name} stands there more than once", "give each user one line")
    return users[held], given, int((~held).sum())


def _factor(cell: str, where: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = float("nan")
    if not np.isfinite(value) or value < 0:
        raise DataError(f"{where}: {cell!r} is no multiplier", "give a number of at least 0, or leave the cell empty")
    return value
