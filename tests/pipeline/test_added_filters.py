"""Filters of `pipeline.stages`: each leaves out what it names, for whom it is meant, and nothing else."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich_world import DAY, lists, rich_bundle

from recsys_cli.data.ragged import Ragged
from recsys_cli.data.vocabulary import Vocabulary
from recsys_cli.features.context import Context
from recsys_cli.pipeline.added import KINDS
from recsys_cli.pipeline.candidates import Candidates
from recsys_cli.pipeline.filtering.holdout import drawn
from recsys_cli.pipeline.filtering.near_duplicates import alike, repeated
from recsys_cli.pipeline.query import Query

ITEMS = np.arange(400, dtype=np.int32)


@pytest.fixture(scope="module")
def bundle():
    return rich_bundle()


def kept(kind, bundle, whom, items=None, salt=0, **settings):
    """For each user the set of items that stay."""
    stage = KINDS[kind](KINDS[kind].config_type(**settings))
    stage.name = kind
    assert stage.prepare(bundle) is None
    items = np.tile(ITEMS if items is None else np.asarray(items, np.int32), (len(whom), 1))
    query = Query(np.array(whom, np.int32), 10, bundle, bundle.state, None, Context(now=bundle.state.now), 3, salt)
    out = stage(query, Candidates(items, np.ones(items.shape, np.uint32), {"utility": items.astype(np.float32)}))
    return [set(row[row >= 0].tolist()) for row in out.items]


def where(mask):
    return set(np.flatnonzero(mask).tolist())


def test_languages_that_are_not_read_go_and_unknown_ones_stay(bundle):
    language = bundle.catalogue.item_codes["language"]  # user 5 said nothing, 2 reads de, 3 de and en
    found = kept("language", bundle, [2, 3, 5, -1])
    everything = set(ITEMS.tolist())
    assert found == [where((language < 0) | (language == 0)), where(language < 2), everything, everything]


def test_one_language_of_a_category_serves_as_well(bundle):
    names = {**bundle.catalogue.names, "user.language": ["en", "sv"]}
    codes = {"language": np.arange(120, dtype=np.int32) % 3 - 1}
    catalogue = replace(bundle.catalogue, user_codes=codes, names=names)
    other = replace(bundle, catalogue=catalogue, state=replace(bundle.state, catalogue=catalogue))
    language = bundle.catalogue.item_codes["language"]
    found = kept("language", other, [0, 1, 2], column="language")
    assert found == [set(ITEMS.tolist()), where((language < 0) | (language == 1)), where(language < 0)]


def with_texts(bundle, texts, muted):
    """Items of these texts, users who muted these words."""
    words = lists([text.split() for text in texts])
    buckets = Ragged(words.offsets, words.values % np.int32(2**15)).sorted_rows()
    columns = replace(bundle.catalogue.user_columns, lists={"muted_keywords": lists(muted)})
    catalogue = replace(bundle.catalogue, item_text=buckets, user_columns=columns)
    return replace(bundle, catalogue=catalogue, state=replace(bundle.state, catalogue=catalogue))


def test_muted_words_hide_whole_words_for_those_who_muted_them(bundle):
    texts = ["the match was good", "rematch tonight", "good night", "#match day"] + [""] * 396
    muted = [["match"], [], ["night", "#match"]] + [[]] * 117
    other = with_texts(bundle, texts, muted)
    found = kept("muted_keywords", other, [0, 1, 2, -1], items=[0, 1, 2, 3, 4])
    assert found == [{1, 2, 3, 4}, {0, 1, 2, 3, 4}, {0, 1, 4}, {0, 1, 2, 3, 4}]
    assert kept("muted_keywords", other, [1, -1], items=[0, 1, 2, 3], words=["Good"]) == [{1, 3}, {1, 3}]


def test_what_is_sold_out_or_past_its_end_goes_and_the_unknown_stays(bundle):
    stock, end = bundle.catalogue.item_numbers["stock"], bundle.catalogue.item_columns.times["expires_at"]
    assert kept("unavailable", bundle, [1]) == [where(~(stock <= 0) & (end > bundle.state.now))]
    assert kept("unavailable", bundle, [1], columns=["stock"], until=[]) == [where(~(stock <= 0))]
    assert np.isnan(stock).any() and (end == bundle.state.now + DAY).any()


def test_only_subscribers_and_authors_see_what_is_for_subscribers(bundle):
    closed = bundle.catalogue.item_numbers["subscribers_only"] > 0
    author = bundle.catalogue.item_author  # user u has subscribed to author u + 1, and writes as author u
    found = kept("subscription", bundle, [4, -1])
    assert found == [where(~closed | (author == 5) | (author == 4)), where(~closed)]


def test_what_somebody_wants_less_of_passes_in_its_share_and_changes_with_the_request(bundle):
    less = np.array([0 in bundle.catalogue.item_topics[i] for i in ITEMS])
    first, again, later = (kept("see_less", bundle, [1], salt=salt)[0] for salt in (0, 0, 1))
    assert where(~less) <= first and first == again != later
    rate = np.mean([len(kept("see_less", bundle, [1], salt=s)[0] & where(less)) for s in range(60)]) / less.sum()
    assert abs(rate - 0.2) < 4 * np.sqrt(0.16 / (60 * less.sum()))
    author = bundle.catalogue.item_author
    assert kept("see_less", bundle, [10], passing=0) == [where(author != 3)]  # user 10 named author 3


def test_the_held_out_are_the_same_share_for_the_same_users_in_every_run():
    ids = Vocabulary(np.arange(50_000))
    share = drawn(ids, 0.1, "a")
    assert abs(share.mean() - 0.1) < 5 * np.sqrt(0.09 / 50_000)
    assert (drawn(Vocabulary(np.arange(50_000)[::-1].copy()), 0.1, "a")[::-1] == share).all()
    other = drawn(ids, 0.1, "b")
    assert abs((share & other).mean() - 0.01) < 0.003 and not (share & ~drawn(ids, 0.2, "a")).any()
    texts = Vocabulary(np.array([f"item {n}" for n in range(20_000)]))
    assert abs(drawn(texts, 0.3, "a").mean() - 0.3) < 5 * np.sqrt(0.21 / 20_000)


def test_items_are_withheld_from_their_share_of_the_users_alone(bundle):
    everything = set(ITEMS.tolist())
    found = kept("holdout", bundle, list(range(120)), share=0.2, users=0.5)
    withheld = where(drawn(bundle.item_ids, 0.2, "holdout"))
    assert {frozenset(row) for row in found} == {frozenset(everything), frozenset(everything - withheld)}
    assert 35 < sum(row != everything for row in found) < 85
    assert kept("holdout", bundle, [-1], share=0.2) == [everything]
    assert kept("holdout", bundle, [-1], share=0.2, users=1) == [everything - withheld]
    author = drawn(bundle.author_ids, 0.2, "holdout")[bundle.catalogue.item_author]
    assert kept("holdout", bundle, [3], share=0.2, users=1, of="authors") == [where(~author)]


def test_of_a_conversation_the_first_replies_stay(bundle):
    conversation = bundle.catalogue.item_numbers["conversation_id"].astype(int)
    order = np.random.default_rng(2).permutation(400).astype(np.int32)
    for most in (1, 2):
        seen, expected = {}, set()
        for item in order.tolist():
            seen[conversation[item]] = seen.get(conversation[item], 0) + 1
            if seen[conversation[item]] <= most:
                expected.add(item)
        assert kept("conversation", bundle, [1], items=order, at_most=most) == [expected]


# --- near duplicates --------------------------------------------------------------------------------------


def pairs(words, similarity, least_words=4):
    rows = Ragged.group(
        np.repeat(np.arange(len(words)), [len(w) for w in words]), np.array([x for w in words for x in w], np.int32),
        len(words),
    ).sorted_rows()
    found = alike(rows, np.arange(len(words)), least_words, similarity)
    return set(map(tuple, found.T.tolist()))


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32))
def test_pairs_are_found_whose_words_are_alike_by_jaccard(seed):
    """MinHash is held to the exact share, apart from pairs so near the threshold that 128 hashes cannot tell."""
    rng = np.random.default_rng(seed)
    base = [rng.choice(30_000, 20, replace=False) for _ in range(6)]
    texts = [np.r_[row[: 20 - changed], rng.choice(30_000, changed, replace=False)] for row in base
             for changed in (0, 1, 9)]  # fmt: skip
    sets = [set(t.tolist()) for t in texts]
    found = pairs(texts, 0.8)
    for a in range(len(sets)):
        for b in range(a + 1, len(sets)):
            share = len(sets[a] & sets[b]) / len(sets[a] | sets[b])
            if abs(share - 0.8) > 0.1 and not 0.9 <= share < 0.95:
                assert ((a, b) in found) == (share >= 0.8), share


def test_short_texts_are_not_compared_and_all_pairs_are_at_a_low_threshold():
    same = [[1, 2, 3], [1, 2, 3], [5, 6, 7, 8], [5, 6, 7, 8]]
    assert pairs(same, 0.8) == {(2, 3)} and pairs(same, 0.8, least_words=3) == {(0, 1), (2, 3)}
    half = [list(range(40)), [*range(26), *range(100, 114)], list(range(200, 240))]
    assert pairs(half, 0.2) == {(0, 1)} and pairs([[1, 2, 3, 4]], 0.8) == set()


def test_a_copy_of_a_copy_that_is_gone_may_stay():
    same = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], bool)  # the second is like both others, these are not alike
    assert repeated(same).tolist() == [False, True, False]


def test_of_the_same_picture_or_text_the_first_stays(bundle):
    media = bundle.catalogue.item_numbers["media_hash"].astype(int)
    order = np.arange(399, -1, -1)
    found = kept("near_duplicates", with_texts(bundle, [""] * 400, [[]] * 120), [1], items=order)[0]
    assert found == {max(np.flatnonzero(media == m)) for m in set(media.tolist())}
    texts = ["one two three four five", "five four three two one", "one two", "one two"] + [""] * 396
    numbers = {k: v for k, v in bundle.catalogue.item_numbers.items() if k != "media_hash"}
    other = with_texts(bundle, texts, [[]] * 120)
    catalogue = replace(other.catalogue, item_numbers=numbers)
    other = replace(other, catalogue=catalogue, state=replace(other.state, catalogue=catalogue))
    assert kept("near_duplicates", other, [1], items=[1, 0, 3, 2]) == [{1, 3, 2}]
