"""What does not fit into a budget of memory is refused before the work, with what would fit."""

import re
from functools import partial

import pytest

from recsys_cli.data.dataset import Dataset
from recsys_cli.data.read_log import bytes_of_log
from recsys_cli.errors import ConfigError
from recsys_cli.settings import Settings
from recsys_cli.training.memory import GIB, MemoryBudget
from recsys_cli.training.needs import _fewer, require_log, table_bytes
from recsys_cli.world.config import WorldConfig
from recsys_cli.world.generate import generate

WORLD = WorldConfig(users=300, items=900, impressions_per_user=40, truth=False)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    generate(WORLD, 3, folder / "world")
    return folder / "world"


def budget(free_gib: float) -> MemoryBudget:
    found = MemoryBudget(1000)
    found.gib, found.room = found.used / GIB + free_gib, int(free_gib * GIB)
    return found


def test_what_does_not_fit_is_refused_with_the_setting_that_would():
    asked = []

    def fits(room: int) -> str:
        asked.append(room)
        return "set retrieval.als.dim to 32"

    needs = {"source als": 3 * GIB, "the training table": GIB}
    with pytest.raises(ConfigError, match=r"source als needs about 3\.00 GiB") as refused:
        budget(2).check(needs, {"source als": fits})
    assert asked == [2 * GIB] and refused.value.hint.endswith("or more, or set retrieval.als.dim to 32")
    assert budget(3).check(needs, {"source als": fits}) is None


def test_a_log_that_does_not_fit_is_refused_before_it_is_read(data):
    dataset = Dataset.open(data)
    table = dataset.manifest.tables["impressions"]
    table.rows = 100_000_000
    settings = Settings(memory_gib=4)
    with pytest.raises(ConfigError, match="the log needs about") as refused:
        require_log(settings, dataset)
    users = int(re.search(r"recsys data sample --users (\d+)", refused.value.hint)[1])
    table.rows = 100_000_000 * users // WORLD.users
    assert require_log(settings, dataset) is None
    assert "log" not in vars(dataset)


def test_the_log_takes_the_memory_that_the_manifest_foretells(data):
    dataset = Dataset.open(data)
    log = dataset.log
    columns = [*vars(log).values(), *log.actions.values(), *log.context.values()]
    held = sum(column.nbytes for column in columns if hasattr(column, "nbytes")) + len(log.positive) + len(log.negative)
    assert bytes_of_log(dataset.manifest) == held + 12 * len(log)


def test_fewer_rows_take_less():
    least = [table_bytes(200, 1000, 50_000, rows) for rows in (0, 10_000, 1_000_000, 10_000_000)]
    assert least == sorted(least) and least[1] >= 4 * 200 * 11_000


def test_more_rows_than_fit_are_refused_with_how_many_would():
    table = partial(table_bytes, 200, 1000, 50_000)
    told = _fewer(table, 5_000_000, 2 * GIB)
    rows = int(re.fullmatch(r"set ranking\.heavy\.max_rows to (\d+)", told)[1])
    assert table(rows) <= 2 * GIB < table(rows + 2000)
    assert _fewer(table, 5_000_000, 2**20) is None
