"""Which model writes which call: shares, factors, and how little moves when the mix changes."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from pydantic import ValidationError
from scipy import stats

from sdg.models import ModelShare, SamplingOverride, choose
from sdg.prompting import Sampling

CALLS = [f"call {i}" for i in range(6000)]


def share(name: str, **settings: Any) -> ModelShare:
    return ModelShare(engine="vllm", model=name, **settings)


def drawn(models: Sequence[ModelShare], lang: str = "sw", task: str = "retrieval") -> list[str]:
    found = [choose(models, call, lang, task) for call in CALLS]
    return [model.model for model in found if model]


def test_calls_are_shared_out_by_weight() -> None:
    counts = Counter(drawn([share("a", share=1), share("b", share=2), share("c", share=3)]))
    observed = [counts[name] for name in "abc"]
    assert stats.chisquare(observed, [1000, 2000, 3000]).pvalue > 0.001


def test_languages_and_tasks_are_factors_on_the_share() -> None:
    model = share("a", share=3, languages={"sw": 2, "pt-BR": 5}, tasks={"sts": 0, "bitext": 0.5})
    assert model.weight("sw", "retrieval") == 6
    assert model.weight("sw", "bitext") == 3
    assert model.weight("ha", "retrieval") == 3
    assert model.weight("sw", "sts") == 0
    assert (model.weight("pt", "retrieval"), model.weight("pt-BR", "retrieval")) == (3, 15)


def test_a_language_given_by_another_of_its_codes_is_the_same() -> None:
    assert share("a", languages={"swa": 4}).weight("sw", "sts") == 4


def test_a_model_without_a_weight_writes_nothing() -> None:
    models = [share("a", tasks={"sts": 0}), share("b")]
    assert set(drawn(models, task="sts")) == {"b"}
    assert drawn([share("a", tasks={"sts": 0})], task="sts") == []


def test_the_order_of_the_models_changes_nothing() -> None:
    models = [share("a"), share("b", share=2), share("c")]
    assert drawn(models) == drawn(models[::-1])


def test_a_model_that_joins_or_leaves_moves_only_its_own_calls() -> None:
    two, three = [share("a"), share("b")], [share("a"), share("b"), share("c")]
    before, after = drawn(two), drawn(three)
    assert all(new in (old, "c") for old, new in zip(before, after, strict=True))
    assert 0 < sum(name == "c" for name in after) < len(CALLS) / 2


def test_a_model_may_change_the_sampling_of_the_prompts() -> None:
    prompts = Sampling(temperature=1.0, top_p=0.9, max_tokens=100)
    assert SamplingOverride().over(prompts) == prompts
    changed = SamplingOverride(temperature=0.0, max_tokens=400).over(prompts)
    assert changed == Sampling(temperature=0.0, top_p=0.9, max_tokens=400)


@pytest.mark.parametrize("value", [-1, float("inf"), float("nan")])
def test_a_weight_is_a_number_from_zero(value: float) -> None:
    with pytest.raises(ValidationError):
        share("a", share=value)
