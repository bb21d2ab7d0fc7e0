"""Columns that a dataset brings: what they are read as, what they become, and what is refused."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from feature_worlds import make_world

from recsys_cli.data import encode
from recsys_cli.data.catalogue import Catalogue, Columns
from recsys_cli.data.encode import hashed_names, hashed_words
from recsys_cli.data.ragged import Ragged
from recsys_cli.engine import RecommendationEngine
from recsys_cli.errors import ConfigError, DataError, UsageError
from recsys_cli.features.build import build_table
from recsys_cli.features.config import FeatureConfig
from recsys_cli.features.context import Context
from recsys_cli.features.dataset_columns import codes_of_numbers
from recsys_cli.features.define import confined, create_spec
from recsys_cli.features.families.overlap import CommonValues
from recsys_cli.features.snapshot import Snapshot
from recsys_cli.features.spec import FeatureSpec
from recsys_cli.pipeline.guest import with_guest
from recsys_cli.testing.small_world import ITEMS, USERS

DAY = 86_400_000_000


def read(**columns) -> tuple[dict, dict, Columns]:
    return encode._attributes(pl.DataFrame(columns), "user", {})


def spec_of(catalogue: Catalogue, log=None, **settings) -> FeatureSpec:
    return create_spec(
        FeatureConfig(**settings), catalogue, positive=("click",), negative=(),
        context={} if log is None else log.context,
    )


def test_every_type_is_read_as_what_it_is(monkeypatch):
    monkeypatch.setattr(encode, "MAX_CATEGORIES", 1)
    codes, numbers, columns = read(
        flag=[True, None, False],
        price=pl.Series(["1.5", None, "2"]).cast(pl.Decimal(6, 2)),
        took=[dt.timedelta(seconds=90), None, dt.timedelta(0)],
        kind=["b", None, "b"],
        bio=["Jazz and jazz", None, "tea"],
        town=["x", "y", "z"],
        born=[dt.date(1970, 1, 3), None, dt.date(1969, 12, 31)],
        joined=pl.Series([dt.datetime(1970, 1, 2), None, None]).dt.replace_time_zone("Europe/Paris"),
        tags=[["b", "a", "b"], None, [None]],
        ids=[[7], [], [8]],
        look=[[1.0, 2.0], None, [0.0, 0.0]],
        fixed=pl.Series([[1, 2], [3, 4], [5, 6]], dtype=pl.Array(pl.Int8, 2)),
        odd=[[1.0], [1.0, 2.0], []],
        meta=[{"a": 1}] * 3,
    )
    assert set(codes) == {"kind"} and codes["kind"].tolist() == [0, -1, 0]
    np.testing.assert_array_equal(numbers["flag"], [1, np.nan, 0])
    np.testing.assert_array_equal(numbers["price"], [1.5, np.nan, 2])
    np.testing.assert_array_equal(numbers["took"], [90, np.nan, 0])
    assert columns.times["born"].tolist() == [2 * DAY, 0, -DAY]
    assert columns.times["joined"].tolist() == [DAY - DAY // 24, 0, 0]
    a, b = hashed_names(["a", "b"])
    assert [sorted(row) for row in map(columns.lists["tags"].__getitem__, range(3))] == [sorted([a, b]), [], []]
    assert columns.lists["ids"].values.tolist() == hashed_names(["7", "8"]).tolist()
    assert columns.words["bio"].lengths.tolist() == [2, 0, 1]
    assert columns.hashes["bio"][1] == -1 and len(set(columns.hashes["town"].tolist())) == 3
    np.testing.assert_array_equal(columns.vectors["look"], np.float32([[1, 2], [np.nan, np.nan], [0, 0]]))
    np.testing.assert_array_equal(columns.vectors["fixed"], np.float32([[1, 2], [3, 4], [5, 6]]))
    assert set(columns.refused) == {"odd", "meta"} and "lists of 0 to 2 numbers" in columns.refused["odd"]


@pytest.mark.parametrize("values", [[1.0, 2.0, float("inf")], [1.0, 2.0, 1e39], [[0.0], [1.0], [float("nan")]]])
def test_numbers_that_are_not_finite_are_named_with_column_count_and_row(values):
    with pytest.raises(DataError, match=r"users.parquet: column 'x' holds .* not finite in 1 rows, first in row 3"):
        read(x=values)


def test_a_catalogue_from_a_file_and_with_more_items_keeps_its_columns():
    catalogue = make_world(3)[1]
    again = Catalogue.from_arrays(*catalogue.to_arrays())
    for side in ("user_columns", "item_columns"):
        for kind in ("vectors", "times"):
            for name, values in getattr(getattr(catalogue, side), kind).items():
                np.testing.assert_array_equal(getattr(getattr(again, side), kind)[name], values)
    assert again.item_columns.lists["tags"].values.tolist() == catalogue.item_columns.lists["tags"].values.tolist()
    tags = Ragged(np.array([0, 1]), hashed_names(["a"]))
    more = catalogue.item_columns.append(Columns(lists={"tags": tags}, vectors={"look": np.ones((1, 9))}), 1)
    assert more.lists["tags"][ITEMS].tolist() == tags.values.tolist() and more.times["released"][ITEMS] == 0
    assert more.vectors["look"].shape == (ITEMS + 1, 3) and np.isnan(more.vectors["look"][ITEMS]).all()


def test_what_no_feature_reads_is_not_served_and_what_is_read_suffices():
    _, catalogue, log, edges = make_world(3)
    settings = {"user": {"hobbies": {"compared_with": ["tags"]}, "look": "nothing"}, "item": {"released": "nothing"}}
    spec = spec_of(catalogue, columns=settings)
    less = confined(spec, catalogue)
    assert set(less.user_columns.lists) == {"hobbies"} and set(less.item_columns.lists) == {"tags"}
    assert not less.user_columns.vectors and not less.user_columns.words and not less.item_columns.times
    assert set(less.item_columns.vectors) == {"look"} and set(less.user_columns.times) == {"born"}
    whole, part = (build_table(spec, c, log, None, edges, edges).values for c in (catalogue, less))
    np.testing.assert_array_equal(whole, part)


def test_a_guest_has_a_row_in_every_column_of_users():
    from recsys_cli.data.state import State

    _, catalogue, log, _ = make_world(3)
    guest = with_guest(State.build(catalogue, log, int(log.time[-1])), np.array([1, 2])).catalogue.user_columns
    assert guest.times["born"].shape == (USERS + 1,) and len(guest.lists["hobbies"]) == USERS + 1


def test_types_decide_unless_the_settings_do():
    _, catalogue, log, _ = make_world(5)
    names = set(spec_of(catalogue, log).names)
    assert {"user_plan", "user_born_age", "user_hobbies_length", "item_look_3", "look_match"} <= names
    assert "look_look_cosine" in names
    assert not any("bio" in n or n.startswith(("context_", "item_tags_1")) for n in names)
    told = {
        "user": {"look": "nothing", "born": "nothing", "bio": {"becomes": "text", "dims": 2}},
        "item": {"look": {"dims": 2}},
    }
    names = set(spec_of(catalogue, log, columns=told).names)
    assert {"user_bio_1", "user_bio_2", "item_look_2", "look_match"} <= names
    assert not names & {"user_look_1", "user_born_age", "item_look_3", "user_bio_3", "look_look_cosine"}
    names = set(spec_of(catalogue, log, user_attributes=("age",), columns={"user": {"plan": "category"}}).names)
    assert {"user_age", "user_plan"} <= names and not any("hobbies" in n or "user_look" in n for n in names)


def test_lists_are_compared_by_themselves_where_half_of_the_users_values_occur():
    catalogue = make_world(5)[1]

    def of(values: list[str]) -> set[str]:
        lists = {"hobbies": Ragged(np.arange(USERS + 1), np.resize(hashed_names(values), USERS))}
        items = {"tags": Ragged(np.arange(ITEMS + 1), np.resize(hashed_names(["a", "x"]), ITEMS))}
        changed = replace(catalogue, user_columns=Columns(lists=lists), item_columns=Columns(lists=items))
        return {n for n in spec_of(changed).names if n.startswith("hobbies_")}

    assert of(["a", "q"]) == {f"hobbies_{n}_{m}" for n in ("tags", "topics") for m in ("share", "jaccard")}
    assert of(["x", "q", "r"]) == set()
    assert of(["x"]) == {"hobbies_tags_share", "hobbies_tags_jaccard"}


def test_share_and_jaccard_by_hand():
    _, catalogue, _, _ = make_world(5)
    ada, bob = hashed_names(["jazz", "tea", "go"]), hashed_names([])
    users = Ragged(np.array([0, 3, 3, 3, 3, 3, 3]), np.sort(np.append(ada, bob)))
    item = np.sort(hashed_names(["jazz", "rust"]))
    items = Ragged(np.minimum(np.arange(ITEMS + 1), 1) * 2, item)
    changed = replace(catalogue, user_columns=Columns(lists={"h": users}), item_columns=Columns(lists={"t": items}))
    overlap = CommonValues.of(changed, "h|t")
    who, what = np.array([[0], [1], [-1]]), np.array([[0, 1, -1]])
    np.testing.assert_allclose(overlap.values(["share"], who, what)[0], [[1 / 2, 0, 0], [0, 0, 0], [0, 0, 0]])
    np.testing.assert_allclose(overlap.values(["jaccard"], who, what)[0][0], [1 / 4, 0, 0])
    np.testing.assert_allclose(overlap.values(["jaccard"], who[:1], what)[0], [[1 / 4, 0, 0]])


def test_words_of_users_meet_the_words_of_items():
    _, catalogue, _, _ = make_world(5)
    words = hashed_words(["go rust tea", "", "", "", "", ""])
    text = hashed_words(["Rust!", "#tea", *[""] * 7])
    text = Ragged(text.offsets, text.values % 2**15)
    changed = replace(catalogue, item_text=text, user_columns=Columns(words={"bio": words}))
    share = CommonValues.of(changed, "bio|text").values(["share"], np.array([[0]]), np.array([[0, 1]]))[0]
    np.testing.assert_allclose(share, [[1, 0]])  # a hashtag is a word of its own


def test_the_code_of_a_number_depends_on_itself_alone():
    values = np.float32([7, np.nan, -3, 0, 900])
    whole = codes_of_numbers(values)
    assert whole[[0, 1, 3, 4]].tolist() == [7, -1, 0, 900] and whole[2] > 0
    assert whole[2] == codes_of_numbers(np.float32([-3]))[0]


def test_free_text_becomes_a_category_by_hashing(monkeypatch):
    _, catalogue, log, _ = make_world(5)
    hashes = np.array([5, 5, -1, 9, 11, 12], np.int32)
    columns = replace(catalogue.user_columns, hashes={"bio": hashes})
    catalogue = replace(catalogue, user_columns=columns)
    spec = spec_of(catalogue, columns={"user": {"bio": "category"}}, max_categories=50)
    assert spec.categories["user_bio"] == 50
    values = build_table(spec, catalogue, log).values[:, spec.column["user_bio"]]
    by_user = {u: set(values[log.user == u]) for u in range(USERS)}
    assert by_user[0] == by_user[1] != by_user[3] and by_user[2] == {0} and values.max() < 50


@pytest.mark.parametrize(
    ("settings", "says", "hint"),
    [
        ({"user": {"hobies": "list"}}, "columns.user: users have no attribute 'hobies'", "'hobbies'"),
        ({"user": {"meta": "list"}}, "'meta' cannot become a feature: of type struct", "before the import"),
        ({"user": {"born": "category"}}, "user.born: it holds dates, which cannot become 'category'", "age or nothing"),
        ({"user": {"born": {"dims": 3}}}, "born.dims: this is for texts, lists and vectors", "leave it out"),
        ({"item": {"look": {"dims": 4}}}, "item.look.dims: 4, the column's vectors have 3 numbers", "no more"),
        ({"user": {"hobbies": {"compared_with": ["tag"]}}}, "no column 'tag' of items becomes a list", "'tags'"),
        ({"user": {"look": {"compared_with": ["face"]}}}, "vectors have 3 numbers, those of 'face' 2", "one space"),
        ({"item": {"tags": {"compared_with": ["topics"]}}}, "this is for columns of users", "user's column"),
        ({"user": {"half": "category"}}, "user.half: its numbers are not whole", "leave it a number"),
        ({"impression": {"netwrk": "category"}}, "impressions have no further column 'netwrk'", "'network'"),
        ({"impression": {"network": "number"}}, "it holds words of few values, which cannot", "category or nothing"),
        ({"impression": {"cell": {"dims": 3}}}, "dims and compared_with are for columns of users", "leave"),
    ],
)
def test_settings_that_do_not_fit_the_columns_are_refused(settings, says, hint):
    _, catalogue, log, _ = make_world(5)
    items = replace(catalogue.item_columns, vectors={**catalogue.item_columns.vectors, "face": np.ones((ITEMS, 2))})
    catalogue = replace(
        catalogue, user_columns=replace(catalogue.user_columns, refused={"meta": "of type struct"}), item_columns=items,
        user_numbers={**catalogue.user_numbers, "half": np.full(USERS, 0.5, np.float32)},
    )
    with pytest.raises(ConfigError) as refused:
        spec_of(catalogue, log, columns=settings)
    assert says in refused.value.message and hint in refused.value.hint


def test_actions_over_an_items_windows_must_be_those_of_the_dataset():
    _, catalogue, log, _ = make_world(5)
    names = spec_of(catalogue, log, item_window_actions=("click", "negative")).names
    assert {"item_click_1h", "item_negative_1d"} <= set(names) and "item_interactions_1h" not in names
    with pytest.raises(ConfigError) as refused:
        spec_of(catalogue, log, item_window_actions=("clik",))
    assert "no action 'clik'" in refused.value.message and "'click'" in refused.value.hint


def test_a_column_with_the_name_of_another_feature_gets_a_name_of_its_own():
    _, catalogue, log, _ = make_world(5)
    numbers = {"hobbies_length": np.arange(USERS, dtype=np.float32), "impressions": np.arange(USERS, dtype=np.float32)}
    spec = spec_of(replace(catalogue, user_numbers=numbers), log)
    assert len(set(spec.names)) == len(spec.names)
    assert {"user_impressions_attribute", "user_hobbies_length", "user_hobbies_length_attribute"} <= set(spec.names)


def test_a_request_tells_further_columns_by_name_and_stands_on_the_usual_without():
    spec, catalogue, log, edges = make_world(7, n=300)
    now = int(log.time[-1]) + 1
    snapshot = Snapshot.build(spec, catalogue, log, now, edges)
    bundle = SimpleNamespace(spec=spec, catalogue=catalogue)
    engine = SimpleNamespace(state=SimpleNamespace(now=now), bundle=bundle)

    def asked(**values) -> Context:
        return RecommendationEngine.context(engine, values, 2)

    def served(context: Context) -> dict:
        values = snapshot.features(np.array([0, 1]), np.array([[1], [2]]), context)[:, 0]
        return {n: values[:, spec.column[n]].tolist() for n in spec.names if n.startswith("context_")}

    told = served(asked(network="wifi", temperature="-7.5", cell=5))
    assert told["context_network"] == [2, 2] and told["context_temperature"] == [-7.5, -7.5]
    assert told["context_cell"] == [6, 6]
    usual = served(asked())
    known = log.context["temperature"][np.isfinite(log.context["temperature"])]
    assert usual["context_temperature"] == pytest.approx([known.mean()] * 2, rel=1e-5)
    assert usual["context_network"] == [1 + np.bincount(log.context["network"] + 1)[1:].argmax()] * 2
    assert usual["context_cell"][0] in (4, 6)
    for wrong, says in (("network=wfi", "is not in the data"), ("temperature=warm", "is not a number"),
                        ("humidity=3", "unknown context key")):
        with pytest.raises(UsageError, match=says):
            asked(**dict([wrong.split("=")]))
