"""Token counts: a model's own tokenizer where it is at hand, else an estimate that says so."""

from pathlib import Path

import pytest

from sdg.tokens import estimate_tokens, token_counter
from tests.rows import bundled_seeds


def test_a_models_own_tokenizer_counts(tiny_llm: Path) -> None:
    from tokenizers import Tokenizer

    counter = token_counter(str(tiny_llm))
    assert "by the tokenizer of" in counter.how
    text = "mji mkuu wa Kenya ni Nairobi"
    own = Tokenizer.from_file(str(tiny_llm / "tokenizer.json"))
    assert counter.count(text) == len(own.encode(text, add_special_tokens=False).tokens)


@pytest.mark.parametrize("model", ["", "no/such-model", "an endpoint's: model?", "/dev"])
def test_without_one_the_count_is_an_estimate_and_says_so(model: str) -> None:
    counter = token_counter(model)
    assert counter.how.startswith("estimated by script")
    assert counter.count("abc") == estimate_tokens("abc")


def test_estimates_follow_the_scripts() -> None:
    assert estimate_tokens("") == 0
    assert estimate_tokens("a" * 36) == 10  # 3.6 characters a token
    assert estimate_tokens("漢" * 12) == 10  # 1.2
    assert estimate_tokens("ߒ" * 12) == 24  # N'Ko: bytes
    assert estimate_tokens("a" * 36 + "漢" * 12) == 20


@pytest.mark.parametrize("lang", ["am", "ar", "bn", "en", "fr", "ha", "hi", "ru", "sw", "th", "zh"])
def test_estimates_lie_between_words_and_bytes(lang: str) -> None:
    for seed in bundled_seeds(lang)[:5]:
        found = estimate_tokens(seed.text)
        assert len(seed.text) / 6 < found < len(seed.text.encode())
