"""Light rankers on the tables of these tests."""

from recsys_cli.ranking.light import LightRanker, fit_linear
from recsys_cli.ranking.light_config import LightRankerConfig

NAMES = ("number_4", "number_0", "number_1")


def fitted_light(table, names=NAMES, start: LightRanker | None = None) -> LightRanker:
    """Of whether a row has a click or a like."""
    x = table.values[:, [table.names.index(name) for name in names]]
    return fit_linear(LightRankerConfig(), names, x, table.labels["click"] | table.labels["like"], start=start)
