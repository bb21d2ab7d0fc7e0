"""N-grams are those of a plain reading of the text, whatever stands beside it in the batch."""

from collections import Counter
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from recsys_cli.safety.text import BLOCKS, LONGEST, MAX_CHARACTERS, SHORTEST, grams, join_fields, normalise

WORDS = st.text(st.sampled_from("ab'é_!?#🙂0 \t\n"), max_size=25)


def plain(text):
    """The same n-grams, letter by letter: (block, n-gram) → occurrences."""
    text = normalise(text)
    tokens, kind = [], None
    for c in text:
        now = None if c == " " else c.isalnum() or c in "'_"
        if now is None or now != kind:
            tokens.append("")
        if now is not None:
            tokens[-1] += c
        kind = now
    tokens = [t for t in tokens if t]
    out = Counter(("words", t) for t in tokens)
    # a pair is the run of text from one token to the end of the next, as it stands
    place, spans = 0, []
    for token in tokens:
        place = text.index(token, place)
        spans.append((place, place + len(token)))
        place += len(token)
    out.update(("words", text[a[0] : b[1]], 2) for a, b in pairwise(spans))
    padded = f" {text} "
    for n in range(SHORTEST, LONGEST + 1):
        for i in range(len(padded) - n + 1):
            gram = padded[i : i + n]
            if " " not in gram[1:-1] and gram != "  ":
                out[("characters", gram)] += 1
    return out


def taken(texts):
    out = [{} for _ in texts]
    for first, _, found in grams(texts):
        for row, key, count in zip(found.rows.tolist(), found.keys.tolist(), found.counts.tolist(), strict=True):
            out[first + row][key] = count
    return out


@given(st.lists(WORDS, max_size=6))
def test_counts_are_those_of_a_plain_reading(texts):
    for text, found in zip(texts, taken(texts), strict=True):
        expected = plain(text)
        for number, block in enumerate(BLOCKS):
            mine = sorted(c for key, c in found.items() if key & 1 == number)
            # a word and a pair can spell alike ("a!" is one pair, never one token), so counts are compared by block
            assert mine == sorted(c for gram, c in expected.items() if gram[0] == block)


@given(st.lists(WORDS, min_size=1, max_size=6))
def test_a_text_has_the_same_n_grams_alone_and_in_a_batch(texts):
    together = taken(texts)
    for text, found in zip(texts, together, strict=True):
        assert taken([text])[0] == found


def test_batches_are_cut_and_rows_still_count_from_their_start():
    texts = ["one two " * 6000] * 40 + ["three"]
    parts = list(grams(texts))
    assert len(parts) > 1 and parts[-1][1] == 41
    assert [first for first, _, _ in parts[1:]] == [end for _, end, _ in parts[:-1]]
    assert taken(texts)[40] == taken(["three"])[0]


def test_what_does_not_matter_is_folded():
    assert normalise("ＦＲＥＥ &amp; easy\n\tnow") == "free & easy now"
    assert normalise("i\u200bd\u00adiot") == "idiot"
    assert normalise("see https://a.b/c?d and @Somebody, call 0800-555") == "see http and @user, call 0000-000"


def test_a_text_of_a_megabyte_is_read_at_both_ends():
    text = "first " + "x" * 2_000_000 + " last"
    assert len(normalise(text)) <= MAX_CHARACTERS + 1
    assert normalise(text).startswith("first") and normalise(text).endswith("last")
    # one character that compatibility folding makes eighteen cannot make the work larger either
    assert len(normalise("\ufdfa" * 1_000_000)) <= 2 * MAX_CHARACTERS


def test_words_of_further_columns_are_marked():
    joined = join_fields(["text", "topic"], ["hello there", "art,jazz"])
    assert joined == "hello there topic__art topic__jazz"
    assert join_fields(["text", "topic"], [None, None]).strip() == ""


def test_lone_surrogates_and_odd_signs_do_not_break():
    assert len(taken(["\ud800 ok", "\x00\x01", ""])) == 3
    assert taken([""])[0] == {}
    assert not np.isnan(sum(sum(t.values()) for t in taken(["🙂🙂 👍"])))
