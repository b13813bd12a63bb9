"""Passes: every text once, none too large, about as many as must be; texts cut, and counted."""

from hypothesis import given
from hypothesis import strategies as st
from tokenizers.processors import TemplateProcessing

from embedtrain.feed import num_passes, split, tokenized
from tests.tiny_model import SPECIAL, build_tokenizer

SIZES = st.lists(st.integers(1, 50), min_size=1, max_size=40)


@given(SIZES, st.integers(1, 10))
def test_parts_hold_every_place_once(sizes: list[int], count: int) -> None:
    parts = split(sizes, count)
    assert len(parts) == count
    assert sorted(place for part in parts for place in part) == list(range(len(sizes)))
    if count <= len(sizes):
        assert all(parts)
        # The best known bound of longest-first: 4/3 of the optimum, which is at least these two.
        best = max(max(sizes), -(-sum(sizes) // count))
        assert max(sum(sizes[i] for i in part) for part in parts) <= 4 / 3 * best + max(sizes)


@given(SIZES, st.integers(50, 200))
def test_passes_keep_to_the_limit_and_are_few(sizes: list[int], most: int) -> None:
    count = num_passes(sizes, most)
    assert all(sum(sizes[i] for i in part) <= most for part in split(sizes, count))
    assert count <= 2 * -(-sum(sizes) // most) + 1  # half-full passes would be merged


def test_a_text_that_is_too_large_has_a_pass_of_its_own() -> None:
    assert num_passes([300, 10, 10], 100) == 3
    assert split([300, 10, 10], 2) == [[0], [1, 2]]


def test_only_texts_with_more_tokens_than_are_kept_count_as_cut() -> None:
    tokenizer = build_tokenizer(chat_template=None)  # a token a byte
    end = SPECIAL["eos_token"]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"$A {end}", special_tokens=[(end, tokenizer.eos_token_id)]
    )
    ids, num_cut = tokenized(["a" * 5, "a" * 7, "a" * 8, "a" * 30], tokenizer, 8)
    assert [len(one) for one in ids] == [6, 8, 8, 8]
    assert num_cut == 2
    assert {one[-1] for one in ids} == {tokenizer.eos_token_id}  # the end stays, text goes
    assert tokenized([], tokenizer, 8) == ([], 0)
