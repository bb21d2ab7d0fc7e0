"""Business rules: conditions read, refused and compiled; what each does, and which prevails."""

import ast
import contextlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich_world import rich_bundle
from test_added_stages import engine_of, pipeline_of

from recsys_cli.config import validate
from recsys_cli.errors import ConfigError
from recsys_cli.features.context import Context
from recsys_cli.pipeline.query import Query
from recsys_cli.pipeline.rules.attributes import attributes_of
from recsys_cli.pipeline.rules.condition import Scope, compile_condition, holds
from recsys_cli.pipeline.rules.syntax import ConditionError, parse
from recsys_cli.settings import Settings


@pytest.fixture(scope="module")
def bundle():
    return rich_bundle()


USERS = np.array([0, 3, 7, -1], np.int32)
ITEMS = np.array([[0, 5, 9, 33], [9, 1, -1, -1], [200, 399, 17, 4], [5, 6, 7, -1]], np.int32)


def found(bundle, text, context=None):
    """bool[4, 4] where a condition holds."""
    node = compile_condition(text, attributes_of(bundle))
    context = Context(now=bundle.state.now) if context is None else context
    return holds(node, Scope(bundle.state, context, USERS, ITEMS))


def by_hand(bundle, decide):
    """The same, item by item."""
    out = np.zeros(ITEMS.shape, bool)
    for row, user in enumerate(USERS):
        for slot, item in enumerate(ITEMS[row]):
            out[row, slot] = item >= 0 and bool(decide(int(user), int(item)))
    return out


def name(names, code):
    return names[code] if code >= 0 else None


CONDITIONS = {
    "item.stock > 0": lambda c, s, u, i: c.item_numbers["stock"][i] > 0,
    "not item.stock > 0": lambda c, s, u, i: not c.item_numbers["stock"][i] > 0,
    "item.stock != 1": lambda c, s, u, i: np.isfinite(x := c.item_numbers["stock"][i]) and x != 1,
    "item.promotion": lambda c, s, u, i: c.item_numbers["promotion"][i] == 1,
    "item.promotion == false": lambda c, s, u, i: c.item_numbers["promotion"][i] == 0,
    "item.media_type == 'video'": lambda c, s, u, i: c.item_codes["media_type"][i] == 2,
    "item.language in ['de', 'fr']": lambda c, s, u, i: c.item_codes["language"][i] in (0, 2),
    "item.language not in ['de', 'fr']": lambda c, s, u, i: c.item_codes["language"][i] not in (0, 2),
    "item.language != 'de'": lambda c, s, u, i: c.item_codes["language"][i] in (1, 2),
    "'t2' in item.topics": lambda c, s, u, i: 2 in c.item_topics[i],
    "'spoiler' in user.muted_keywords": lambda c, s, u, i: u >= 0 and u % 3,
    "user.is_returning": lambda c, s, u, i: u >= 0,
    "user.country == 'de' or item.interactions > 20": lambda c, s, u, i: (
        (u >= 0 and u % 5 == 3) or s.interactions[i] > 20
    ),
    "10 < item.age_days <= 25": lambda c, s, u, i: 10 < (s.now - c.item_created[i]) / 86_400_000_000 <= 25,
    "(item.interactions + 1) / (item.impressions + 2) * 2 - 1 >= -0.5": lambda c, s, u, i: (
        (s.interactions[i] + 1) / (s.impressions[i] + 2) * 2 - 1 >= -0.5
    ),
    "item.sentiment / 0 > 0 or user.age > 40": lambda c, s, u, i: u >= 0 and c.user_numbers["age"][u] > 40,
    "item.author == '5' or item.id in ['9', '17']": lambda c, s, u, i: c.item_author[i] == 5 or i in (9, 17),
    "user.age - item.length < 0": lambda c, s, u, i: u >= 0 and c.user_numbers["age"][u] < c.item_numbers["length"][i],
}


@pytest.mark.parametrize("text", CONDITIONS)
def test_a_condition_holds_where_it_does_by_hand(text, bundle):
    decide = CONDITIONS[text]
    expected = by_hand(bundle, lambda u, i: decide(bundle.catalogue, bundle.state, u, i))
    assert found(bundle, text).tolist() == expected.tolist()


def test_the_request_has_its_hour_its_day_and_its_surface(bundle):
    saturday = 1_700_910_000_000_000  # 2023-11-25, 11:00 UTC
    context = Context(now=saturday, surface=np.array([0, 1, -1, 0], np.int16))
    filled = ITEMS >= 0
    assert (found(bundle, "request.hour == 11 and request.weekday == 6", context) == filled).all()
    assert not found(bundle, "request.hour > 11", context).any()
    expected = filled & np.array([[False], [True], [False], [False]])
    assert (found(bundle, "request.surface == 'search'", context) == expected).all()
    assert not found(bundle, "request.surface == 'search'", Context(now=saturday)).any()


def test_texts_of_users_and_items_are_compared_by_what_they_say(bundle):
    names = {**bundle.catalogue.names, "user.speaks": ["fr", "de"]}
    speaks = np.arange(bundle.catalogue.n_users) % 2
    catalogue = replace(bundle.catalogue, names=names, user_codes={"speaks": speaks.astype(np.int32)})
    other = replace(bundle, catalogue=catalogue, state=replace(bundle.state, catalogue=catalogue))
    language, words = ["fr", "de"], ["de", "en", "fr"]
    written = catalogue.item_codes["language"]
    expected = by_hand(other, lambda u, i: u >= 0 and language[u % 2] == name(words, written[i]))
    assert found(other, "item.language == user.speaks").tolist() == expected.tolist() and expected.any()


numbers = st.sampled_from(["item.stock", "item.interactions", "user.age", "2", "-1.5"])
leaves = st.builds("{} {} {}".format, numbers, st.sampled_from(["<", ">=", "==", "!="]), numbers).filter(
    lambda text: "." in text.replace("1.5", "")
) | st.sampled_from(["item.promotion", "user.is_new"])
trees = st.recursive(
    leaves, lambda inner: st.builds("({} {} {})".format, inner, st.sampled_from(["and", "or"]), inner)
    | st.builds("(not {})".format, inner), max_leaves=6,
)  # fmt: skip


@settings(deadline=None, max_examples=80)
@given(trees)
def test_any_condition_is_what_python_says_of_each_item(text):
    bundle = _BUNDLE
    catalogue, state = bundle.catalogue, bundle.state
    items = {
        "stock": catalogue.item_numbers["stock"], "interactions": state.interactions,
        "promotion": catalogue.item_numbers["promotion"],
    }

    class Row:
        def __init__(self, columns, at):
            for key, values in columns.items():
                setattr(self, key, Number(values[at] if at >= 0 else np.nan))

    class Number(float):
        """A number that is unequal to nothing where it is unknown, and true where it is above 0."""

        def __ne__(self, other):
            return float(self) == float(self) and float(other) == float(other) and float(self) != float(other)

        def __bool__(self):
            return float(self) > 0

    users = {"age": catalogue.user_numbers["age"], "is_new": (state.history.lengths == 0).astype(float)}
    code = compile(ast.parse(text, mode="eval"), "test", "eval")
    expected = by_hand(bundle, lambda u, i: eval(code, {"item": Row(items, i), "user": Row(users, u)}))
    assert found(bundle, text).tolist() == expected.tolist()


_BUNDLE = rich_bundle()


@pytest.mark.parametrize(("text", "told"), [
    ("item.age_days <", "does not read as a condition"),
    ("(item.age_days < 7", "'(' was never closed"),
    ("item.age_days = 7", "does not read as a condition"),
    ("", "does not read as a condition"),
    ("__import__('os').system('true')", "has no place in a condition"),
    ("item.__class__.__mro__", "is no attribute"),
    ("[x for x in item.topics]", "has no place in a condition"),
    ("item.topics[0] == 1", "has no place in a condition"),
    ("lambda: 1", "has no place in a condition"),
    ("item.age_days ** 9 ** 9 > 1", "has no place in a condition"),
    ("os.name == 'posix'", "is no attribute"),
    ("sport", "'sport' says nothing"),
    ("item.stock < " + "1 + " * 400 + "1", "characters"),
    ("not " * 240 + "item.stock > 0", "parts"),
    ("item.stock == None", "neither a number nor a text"),
    ("f'{item.stock}' == 'x'", "has no place in a condition"),
    ("x" * 2000, "characters"),
])  # fmt: skip
def test_what_does_not_end_or_goes_beyond_the_grammar_is_refused(text, told):
    with pytest.raises(ConditionError, match=None) as refused:
        parse(text)
    assert told in str(refused.value)


@given(st.text(max_size=60))
def test_no_text_whatever_runs_or_breaks_the_reader(text):
    with contextlib.suppress(ConditionError):
        assert not any(isinstance(node, ast.Call | ast.Lambda | ast.Subscript) for node in ast.walk(parse(text)))


@pytest.mark.parametrize(("text", "told", "hint"), [
    ("item.age_dys < 7", "items have no attribute 'age_dys'", "did you mean item.age_days?"),
    ("user.cuontry == 'de'", "users have no attribute 'cuontry'", "did you mean user.country?"),
    ("item.stock", "is a number, neither true nor false", "compare it"),
    ("item.stock + 1", "is a number, neither true nor false", "compare it"),
    ("item.media_type", "is a text, neither true nor false", "compare it"),
    ("1 < 2", "is always the same", "compare it"),
    ("true", "is always the same", "compare it"),
    ("item.media_type == 'vidoe'", "nothing is 'vidoe' in this data", "did you mean 'video'?"),
    ("item.media_type < 'video'", "compares a text with a text by <", "texts can be"),
    ("item.media_type == 3", "compares a text with a number by ==", "texts can be"),
    ("item.stock in item.topics", "a number in a list says nothing", "write"),
    ("item.media_type + 1 > 2", "'item.media_type' is a text, no number", None),
    ("item.stock and user.is_new", "'item.stock' is a number, neither true nor false", "compare it"),
    ("item.author == user.id", "compares ids with each other", "compare an id"),
])  # fmt: skip
def test_what_says_nothing_of_this_data_is_refused_with_what_would(text, told, hint, bundle):
    with pytest.raises(ConfigError) as refused:
        pipeline_of({}, bundle, {"mine": {"if": text, "then": "filter"}})
    assert refused.value.message.startswith("pipeline.rules.mine.if: ") and told in refused.value.message
    assert (refused.value.hint or "").startswith(hint or "")


@pytest.mark.parametrize(("rule", "told"), [
    ({"if": "item.stock <", "then": "filter"}, "pipeline.rules.a.if: 'item.stock <' does not read"),
    ({"if": "item.stock < 1", "then": "boost"}, "boost needs `by`"),
    ({"if": "item.stock < 1", "then": "pin"}, "pin needs `position`"),
    ({"if": "item.stock < 1", "then": "bury", "by": 2}, "`by` belongs to `then: boost`"),
    ({"if": "item.stock < 1", "then": "hide"}, "none of"),
    ({"then": "bury"}, "pipeline.rules.a.if"),
    ({"if": "item.stock < 1", "then": "boost", "factor": 2}, "unknown key 'pipeline.rules.a.factor'"),
])  # fmt: skip
def test_a_rule_that_is_not_whole_is_refused_by_its_key(rule, told):
    with pytest.raises(ConfigError) as refused:
        validate(Settings, {"pipeline": {"rules": {"a": rule}}})
    assert told in refused.value.message


def test_rules_come_back_from_a_manifest_as_they_were_written():
    rules = {"a": {"if": "item.stock < 1", "then": "boost", "by": 2}}
    config = validate(Settings, {"pipeline": {"rules": rules}})
    assert validate(Settings, config.model_dump(mode="json")) == config


def slate(bundle, rules, user=1, n=10, **asked):
    answer = engine_of({}, bundle, rules).recommend(user, n, **asked)
    return [int(item.item_id) for item in answer.items], answer


def test_what_is_filtered_never_returns(bundle):
    video = bundle.catalogue.item_codes["media_type"] == 2
    rules = {"films": {"if": "item.media_type == 'video'", "then": "filter"}}
    found = engine_of({}, bundle, rules).slates(np.arange(40, dtype=np.int32), 20).items
    assert not video[found[found >= 0]].any() and (found >= 0).sum() > 700
    assert "rules_filter" in [row["stage"] for row in slate(bundle, rules)[1].funnel]


def test_a_filter_that_leaves_nothing_gives_an_empty_slate(bundle):
    items, answer = slate(bundle, {"all": {"if": "item.age_days > 0", "then": "filter"}})
    assert items == [] and answer.fallback == "too few candidates"


def test_boosts_multiply_and_lift(bundle):
    plain, _ = slate(bundle, {})
    promoted = bundle.catalogue.item_numbers["promotion"] == 1
    two = {"a": {"if": "item.promotion", "then": "boost", "by": 3}, "b": {"if": "item.stock == 5", "then": "boost",
           "by": 2}}  # fmt: skip
    items, answer = slate(bundle, two)
    assert promoted[items].sum() > promoted[plain].sum()
    score = {item.item_id: item.score for item in slate(bundle, {}, n=30)[1].items}
    for item in answer.items:
        factor = (3 if promoted[item.item_id] else 1) * (2 if bundle.catalogue.item_numbers["stock"][item.item_id] == 5
                                                         else 1)  # fmt: skip
        if item.item_id in score and score[item.item_id] > 0:
            assert item.score == pytest.approx(score[item.item_id] * factor, rel=1e-4)


def test_what_is_buried_stands_behind_and_what_is_promoted_in_front(bundle):
    video = bundle.catalogue.item_codes["media_type"] == 2
    _, answer = slate(bundle, {"others": {"if": "item.media_type != 'video'", "then": "bury"}}, n=60)
    others = [not video[item.item_id] for item in answer.items]
    assert others == sorted(others) and any(others) and not all(others)
    rules = {"films": {"if": "item.media_type == 'video'", "then": "promote", "at_most": 2}}
    items, answer = slate(bundle, rules)
    plain, _ = slate(bundle, {})
    assert (video[items[:2]].all() and not video[items[2]]) or video[plain[0]]
    assert [i.score for i in answer.items] == sorted((i.score for i in answer.items), reverse=True)


def test_a_pin_stands_at_its_position_the_best_of_those_it_holds_for(bundle):
    plain, _ = slate(bundle, {}, n=40)
    wanted = plain[30]
    rules = {"p": {"if": f"item.id == '{wanted}'", "then": "pin", "position": 3}}
    items, _ = slate(bundle, rules)
    assert items[2] == wanted
    both = rules | {"q": {"if": f"item.id == '{plain[20]}'", "then": "pin", "position": 3}}
    items, _ = slate(bundle, both)
    assert items[2:4] == [wanted, plain[20]]


def test_a_rule_for_some_users_leaves_the_others_alone(bundle):
    rules = {"p": {"if": "item.media_type == 'video' and user.country == 'de'", "then": "filter"}}
    video = bundle.catalogue.item_codes["media_type"] == 2
    assert not video[slate(bundle, rules, user=3)[0]].any()
    assert slate(bundle, rules, user=1)[0] == slate(bundle, {}, user=1)[0]


def test_of_rules_that_contradict_each_other_the_stronger_prevails_and_it_is_told(bundle):
    rules = {
        "here": {"if": "item.media_type == 'video'", "then": "pin", "position": 1},
        "gone": {"if": "item.language == 'de'", "then": "filter"},
        "last": {"if": "item.stock == 5", "then": "bury"},
    }
    found = engine_of({}, bundle, rules)
    catalogue = bundle.catalogue
    video, german = catalogue.item_codes["media_type"] == 2, catalogue.item_codes["language"] == 0
    told = f"rules gone (filter) and here (pin) both hold for {(video & german).sum()} items: they are left out"
    assert told in found.notes
    assert any("here (pin) and last (bury)" in note and "take their position" in note for note in found.notes)
    first = int(found.recommend(1).items[0].item_id)
    assert video[first] and not german[first]
    both = [i for i in np.flatnonzero(catalogue.item_numbers["stock"] == 5) if not german[i]]
    assert both and isinstance(found.stages.stages, tuple)


def test_conditions_of_items_alone_are_worked_out_once_for_a_moment(bundle):
    node = compile_condition("item.age_days < 25 and user.is_returning", attributes_of(bundle))
    query = Query(USERS, 3, bundle, bundle.state, None, Context(now=bundle.state.now), 0)
    scope = Scope(query.state, query.context, query.users, ITEMS)
    before = holds(node, scope)
    bundle.catalogue.item_created[ITEMS[0]] += 0  # the same moment, the same answer
    assert (holds(node, scope) == before).all()
    later = replace(bundle.state, now=bundle.state.now + 40 * 86_400_000_000)
    assert not holds(node, Scope(later, query.context, USERS, ITEMS)).any() and before.any()
