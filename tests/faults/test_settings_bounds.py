"""Every leaf of the settings against values that are no number, no size or no settings at all."""

import contextlib
import copy
import functools
import math

import numpy as np
import pytest

from recsys_cli.bounds import LARGEST, LONGEST, MAX_NUMBER, MAX_WHOLE, SMALLEST
from recsys_cli.config import Section, merge, resolve
from recsys_cli.data.vocabulary import Vocabulary
from recsys_cli.errors import ConfigError
from recsys_cli.evaluation.lists import within_catalogue
from recsys_cli.settings import Settings

NUMBERS = {
    "nan": math.nan, "inf": math.inf, "-inf": -math.inf, "huge": 1e300, "whole": 10**100, "digits": int("9" * 400),
    "text of nan": "nan", "text of inf": "inf", "text of a huge number": "1e300",
}
WRONG = {"a mapping": {"x_": 1}, "lists": [[["x"]]], "bytes": b"\xff", "an object": object()}


@functools.cache
def defaults():
    return Settings().model_dump(mode="json")


def leaves(tree, path=()):
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
        if isinstance(value, dict | list) and value:
            yield from leaves(value, (*path, key))
        else:
            yield (*path, key), value


def accepted(bad, at=lambda value: True):
    """Leaves that take a value, with the settings that come of it."""
    found, tree = [], copy.deepcopy(defaults())
    for path, value in leaves(defaults()):
        if not at(value):
            continue
        node = tree
        for key in path[:-1]:
            node = node[key]
        node[path[-1]] = bad
        with contextlib.suppress(ValueError):
            found.append((".".join(map(str, path)), Settings.model_validate(tree)))
        node[path[-1]] = value
    return found


def is_number(value):
    return isinstance(value, int | float) and not isinstance(value, bool)


def unsound(tree):
    return [p for p, v in leaves(tree) if is_number(v) and not abs(v) <= MAX_NUMBER]


def test_the_defaults_are_many_and_sound():
    assert len(list(leaves(defaults()))) > 800
    assert unsound(defaults()) == []


@pytest.mark.parametrize("name", NUMBERS)
def test_no_leaf_becomes_a_number_that_is_not_finite_or_out_of_bounds(name):
    assert [path for path, _ in accepted(NUMBERS[name], is_number)] == []
    assert [path for path, got in accepted(NUMBERS[name], lambda v: v is None) if unsound(got.model_dump())] == []


@pytest.mark.parametrize("truth", [True, False])
def test_no_number_is_true_or_false(truth):
    assert [path for path, _ in accepted(truth, is_number)] == []


@pytest.mark.parametrize("name", WRONG)
def test_no_number_is_of_another_type(name):
    assert [path for path, _ in accepted(WRONG[name], is_number)] == []


AS_MANY_AS_THERE_ARE = {
    "seed", "users", "requests", "sample", "max_rows", "max_impressions", "max_per_author", "exact_up_to", "fewest",
    "bot_events", "user_events_per_day", "measured_users", "remembered_requests", "min_followers", "min_friends",
    "min_positives", "min_steps", "min_rows_in_leaf", "min_valid_positives", "calibration_min_positives",
}
"""Whole numbers that only say how much of what is there is used, or from how much on something is done."""


def named(path):
    return next(part for part in reversed(path.split(".")) if not part.isdigit())


def whole(value):
    return isinstance(value, int) and not isinstance(value, bool)


def test_no_size_is_without_bound():
    takes = {named(path) for path, _ in accepted(10**9, whole)}
    assert takes <= AS_MANY_AS_THERE_ARE


def test_no_count_is_negative_and_none_but_a_few_is_nothing():
    assert {named(path) for path, _ in accepted(-1, whole)} == {"seed"}
    off = {named(path) for path, _ in accepted(0, whole)}
    assert not off & {"epochs", "batch_size", "members", "folds", "rounds", "k", "users", "slate_size", "hidden"}


def test_no_number_of_a_bounded_name_is_beyond_it():
    tree = defaults()
    bounded = {named(".".join(map(str, path))) for path, _ in leaves(tree)} & set(LARGEST)
    assert len(bounded) > 60
    for path, got in accepted(1e9, is_number):
        assert LARGEST.get(named(path), MAX_NUMBER) >= 1e9, path
        assert unsound(got.model_dump()) == []
    for path, _ in accepted(1e-7, lambda value: isinstance(value, float)):
        assert named(path) not in SMALLEST, path


@pytest.mark.parametrize(("name", "bad", "words"), [
    ("retrieval.als.dim", 10**6, ["dim", "1000000", "65,536"]),
    ("retrieval.sasrec.epochs", 10**7, ["epochs", "100,000"]),
    ("ranking.heavy.batch_size", 10**9, ["batch_size", "16,777,216"]),
    ("ranking.heavy.hidden", [10**6], ["hidden", "65,536"]),
    ("ranking.heavy.hidden", [8] * (LONGEST + 1), ["hidden", "1,001", "1,000 at most"]),
    ("ranking.heavy.learning_rate", 1e6, ["learning_rate", "10"]),
    ("retrieval.two_tower.temperature", 1e-300, ["temperature", "1e-06"]),
    ("ranking.heavy.weight_decay", "1e9", ["weight_decay", "1,000"]),
])
def test_the_refusal_of_nonsense_names_the_bound(name, bad, words):
    from recsys_cli.config import put

    layer = {}
    put(layer, name.split("."), bad)
    with pytest.raises(ConfigError) as caught:
        resolve(Settings, layers=[("flag", layer)])
    for word in ["--set", name, *words]:
        assert word in caught.value.message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("seed: true\n", ["line 1", "seed", "integer", "true"]),
        ("threads: 100000000\n", ["line 1", "threads", "1024"]),
        ("pipeline: {utility: {weights: {like: .nan}}}\n", ["pipeline.utility.weights.like", "finite"]),
        ("pipeline: {utility: {dwell: .inf}}\n", ["pipeline.utility.dwell", "finite"]),
        ("pipeline: {utility: {weights: {like: 1e999}}}\n", ["finite"]),
        ("world: {days: 1e9}\n", ["world.days", "3650"]),
        ("evaluation: {k: [5, true]}\n", ["evaluation.k.1", "integer"]),
        ("pipeline: {slate_size: 1000000000}\n", ["pipeline.slate_size", "100000"]),
    ],
)
def test_the_refusal_names_the_place_and_the_bound(tmp_path, text, words):
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        resolve(Settings, file=tmp_path / "c.yaml")
    for word in words:
        assert word in caught.value.message
    assert caught.value.exit_code == 3


def test_shares_of_nothing_are_refused():
    none = dict.fromkeys(defaults()["pipeline"]["sourcing"]["shares"], 0)
    with pytest.raises(ValueError, match="sum to zero"):
        Settings.model_validate(merge(defaults(), {"pipeline": {"sourcing": {"shares": none}}}))
    some = merge(defaults(), {"pipeline": {"sourcing": {"shares": none | {"als": 1}}}})
    assert Settings.model_validate(some).pipeline.sourcing.shares["als"] == 1


def test_sections_of_others_are_sound_too():
    class Mine(Section):
        number: float = 1.0
        whole: int | None = None
        flag: bool | None = None
        named: dict[str, tuple[float, ...]] = {}
        text: int | str = 1

    assert Mine(number=MAX_NUMBER, whole=-MAX_WHOLE, flag=True, named={"a": (1, 2)}, text="x").flag is True
    for bad in (
        {"number": True}, {"number": math.nan}, {"number": 2 * MAX_NUMBER}, {"whole": MAX_WHOLE + 1}, {"whole": False},
        {"named": {"a": [1, True]}}, {"named": {"a": [math.inf]}}, {"named": {"a": [1e13]}},
    ):
        with pytest.raises(ValueError):
            Mine(**bad)


def test_lists_to_measure_are_no_longer_than_the_catalogue():
    assert within_catalogue([10, 10**9, 5, 10], 20_000) == (5, 10, 20_000)
    assert within_catalogue((5, 1500), 30) == (5, 1500)
    assert within_catalogue([2000, 10**9], 30) == (1500,)


@pytest.mark.parametrize("text", ["1 ", " 1", "+1", "1_0", "١", "01", "1\n", "1.0", "-0"])
def test_an_id_is_found_only_as_it_is_written(text):
    known = Vocabulary(np.array([0, 1, 10]), np.arange(3))
    assert known.position(text) == -1
    assert known.position("1") == 1 and known.position("10") == 2
