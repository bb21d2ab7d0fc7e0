"""A search space: what of its file is refused and where, what trials get, and that no row of the test is kept."""

import numpy as np
import polars as pl
import pytest
import yaml

from recsys_cli.data.dataset import Dataset
from recsys_cli.data.windows.config import WindowsConfig
from recsys_cli.data.windows.split import make_split
from recsys_cli.errors import ConfigError
from recsys_cli.settings import Settings
from recsys_cli.shipped import configurations
from recsys_cli.tuning.development import make_development
from recsys_cli.tuning.space import Space, configuration_text, difference

SEARCH = """name: mine
settings: {ranking.relevance.rounds: 20}
search:
  retrieval.als.dim: {low: 16, high: 128, log: true}
  retrieval.ease.l2: {type: float, low: 20, high: 2000}
  pipeline.sourcing.merge: {choices: [quota, rrf]}
"""


def space_of(tmp_path, text: str) -> Space:
    file = tmp_path / "space.yaml"
    file.write_text(text)
    return Space.read(file, Settings())


def test_a_trial_gets_the_values_over_the_settings_of_the_space(tmp_path):
    space = space_of(tmp_path, SEARCH)
    settings = space.settings({"retrieval.als.dim": 32, "retrieval.ease.l2": 7.5, "pipeline.sourcing.merge": "rrf"})
    assert (settings.retrieval["als"].dim, settings.retrieval["ease"].l2) == (32, 7.5)
    assert settings.pipeline.sourcing.merge == "rrf" and settings.ranking.relevance.rounds == 20
    assert settings.retrieval["als"].l2 == Settings().retrieval["als"].l2
    assert space.learned and {"als", "ease"}.isdisjoint(space.untouched_sources)
    assert "markov" in space.untouched_sources


def test_the_default_is_the_configuration_and_lies_in_a_space_that_allows_it(tmp_path):
    space = space_of(tmp_path, SEARCH)
    assert space.defaults == {"retrieval.als.dim": 64, "retrieval.ease.l2": 200.0, "pipeline.sourcing.merge": "quota"}
    assert space.encoded(space.defaults) == space.defaults | {"pipeline.sourcing.merge": '"quota"'}
    outside = space_of(tmp_path, SEARCH.replace("low: 16", "low: 100"))
    assert outside.encoded(outside.defaults) is None


@pytest.mark.parametrize(
    ("given", "told", "hint"),
    [
        (SEARCH.replace("als.dim", "als.dimm"), "space.yaml line 4: unknown key 'retrieval.als.dimm'", "'dim'"),
        (SEARCH.replace("als.dim", "asl.dim"), "line 4: unknown setting 'retrieval.asl.dim'", "'als'"),
        (SEARCH.replace("retrieval.als.dim", "retreival.als.dim"), "there is no 'retreival'", "'retrieval'"),
        (SEARCH.replace("low: 16", "lwo: 16"), "unknown key", "'low'"),
        (SEARCH.replace("low: 16", "low: 0"), "low must lie above 0", ""),
        (SEARCH.replace("low: 16", "low: 256"), "must lie below high", ""),
        (SEARCH.replace("low: 20,", "low: -5,"), "line 5: retrieval.ease.l2", ""),
        (SEARCH.replace("[quota, rrf]", "[quota, rff]"), "line 6: pipeline.sourcing.merge: 'rff' is none of", "'rrf'"),
        (SEARCH.replace("[quota, rrf]", "[quota]"), "two values or more", ""),
        (SEARCH + "  windows.test_share: {low: 0.1, high: 0.3}\n", "cannot be searched", "windows"),
        (SEARCH + "  pipeline.filters.seen: {choices: [true, false]}\n", "what counts as found", ""),
        (SEARCH + "objectives: [{figure: ncdg@10}]\n", "is no figure", ""),
        (SEARCH + "objectives: [{figure: coverage@10}]\n", "must be a figure of users", ""),
        (SEARCH + "objectives: [{figure: ndcg@10}, {figure: novelty@10}]\npruning: {}\n", "one objective", ""),
        (SEARCH + "trails: 3\n", "unknown key 'trails'", "'trials'"),
    ],
)
def test_a_wrong_file_is_refused_with_its_place_and_the_nearest_name(tmp_path, given, told, hint):
    with pytest.raises(ConfigError) as refused:
        space_of(tmp_path, given)
    assert told in refused.value.message, refused.value.message
    assert hint in (refused.value.hint or "")


def test_the_digest_follows_what_makes_trials_comparable_alone(tmp_path):
    first = space_of(tmp_path, SEARCH).digest("data", 1)
    assert space_of(tmp_path, SEARCH + "trials: 99\n").digest("data", 1) == first
    assert space_of(tmp_path, SEARCH.replace("high: 128", "high: 127")).digest("data", 1) != first
    assert space_of(tmp_path, SEARCH.replace("rounds: 20", "rounds: 21")).digest("data", 1) != first
    assert space_of(tmp_path, SEARCH).digest("other", 1) != first


def test_a_written_configuration_is_read_as_the_same_settings():
    changed = Settings.model_validate(
        {"ranking": {"heavy": {"kind": "lightgbm"}}, "pipeline": {"sourcing": {"merge": "rrf"}},
         "retrieval": Settings().model_dump(mode="json")["retrieval"] | {"mine": {"kind": "ease", "l2": 3}}}
    )
    text = configuration_text(changed, ["Why."])
    assert text.startswith("# Why.\n")
    tree = yaml.safe_load(text)
    assert tree == difference(Settings().model_dump(mode="json"), changed.model_dump(mode="json"))
    from recsys_cli.config import merge

    assert Settings.model_validate(merge(Settings().model_dump(mode="json"), tree)) == changed
    assert yaml.safe_load(configuration_text(Settings(), [])) == {}


@pytest.mark.parametrize("kind", ["time", "last", "user_random"])
def test_no_row_of_the_test_window_is_in_the_data_of_a_study_and_its_last_window_is_the_validation(
    tiny_dataset, tmp_path, kind
):
    dataset = Dataset.open(tiny_dataset)
    settings = Settings(windows=WindowsConfig(split=kind), seed=3)
    split = make_split(settings.windows, dataset, seed=3)
    development = make_development(settings, dataset, tmp_path, (0.5,))
    copied = Dataset.open(development.of(1.0))
    key = ["user_id", "item_id", "timestamp"]
    order = np.arange(len(dataset.log)) if split.order is None else split.order
    log = split.log
    before, test = log.time < split.windows.test_start, log.time >= split.windows.test_start

    def rows(of):
        return sorted(zip(dataset.log.user[order[of]], dataset.log.item[order[of]], dataset.log.time[order[of]],
                          strict=True))  # fmt: skip

    assert test.any()
    assert sorted(zip(copied.log.user, copied.log.item, copied.log.time, strict=True)) == rows(before)
    again = make_split(development.windows, copied, seed=3)
    measured = again.log.time >= again.windows.test_start
    if kind == "time":  # exactly the validation window of the settings
        assert again.windows.test_start == split.windows.validation_start
    else:
        validation = before & (log.time >= split.windows.validation_start)
        assert measured.sum() == pytest.approx(validation.sum(), rel=0.1)
    # half of the people, with all of their rows
    half = Dataset.open(development.of(0.5)).table("impressions").select(key)
    people = half["user_id"].unique()
    whole = copied.table("impressions").select(key)
    assert 0.3 < len(people) / whole["user_id"].n_unique() < 0.7
    assert half.sort(key).equals(whole.filter(pl.col("user_id").is_in(people.implode())).sort(key))


def test_the_shipped_search_spaces_are_well_formed_and_hold_the_default():
    files = sorted((configurations() / "tuning").glob("*.yaml"))
    assert {"lists", "sources"} <= {file.stem for file in files}
    for file in files:
        space = Space.read(file, Settings())
        assert space.config.name == file.stem and space.encoded(space.defaults) is not None
        # what makes trials cheap is not written
        assert space.settings({}, written=True) == Settings()
