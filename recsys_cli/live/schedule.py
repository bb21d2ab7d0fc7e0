"""Moments at which a server has it learned again."""

from __future__ import annotations

import datetime as dt

from recsys_cli.errors import ConfigError, UsageError

WORDS = {"hourly": "0 * * * *", "daily": "0 3 * * *"}


def checked(schedule: str) -> str:
    """A schedule as a cron expression of five fields. Raises ConfigError where it is none."""
    try:
        from croniter import croniter
    except ModuleNotFoundError:
        raise UsageError("schedules need croniter, which is not installed", "run `pip install 'recsys-cli[serve]'`"
                         ) from None
    expression = WORDS.get(schedule.strip().lower(), schedule.strip())
    if len(expression.split()) != 5 or not croniter.is_valid(expression):
        raise ConfigError(
            f"live.retraining.schedule: {schedule!r} is no schedule",
            "hourly, daily, or minute, hour, day of the month, month and weekday, such as '30 4 * * 1-5'",
        )
    return expression


def following(expression: str, after: dt.datetime) -> dt.datetime:
    """The next moment of a cron expression behind another, in UTC."""
    from croniter import croniter

    return croniter(expression, after.astimezone(dt.UTC)).get_next(dt.datetime)
