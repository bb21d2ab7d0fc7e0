"""What the live loop adds to a server: learning again when asked or at set times, and its pages of the dashboard."""

from __future__ import annotations

from recsys_cli.live.on_demand import Retrainer
from recsys_cli.live.pages import NAMES, Pages
from recsys_cli.serving.added import Added
from recsys_cli.settings import Settings


def added(settings: Settings) -> Added:
    """Paths, pages and work. Raises ConfigError where the schedule is none."""
    retrainer = Retrainer(settings)
    return Added(retrainer.paths(), Pages(settings, retrainer).pages(), [retrainer.follow], NAMES)
