"""The vLLM teacher, on a tiny random Llama, against transformers."""

from pathlib import Path

import numpy as np
import pytest

from sdg.errors import UserError
from sdg.teachers import PoolingTeacher
from sdg.teachers.base import Encoder

pytest.importorskip("vllm", reason="vLLM is not installed")

TEXTS = ["Mji wa Nairobi", "ወንዝ", "a" * 300]
ASK = ["Find passages", "Find titles", "Find passages"]
LENGTH = 128  # tokens, which are bytes


@pytest.fixture(scope="module")
def teacher(tiny_llm: Path) -> PoolingTeacher:
    return PoolingTeacher(
        model=str(tiny_llm),
        query_prompt="{instruction}: ",
        max_length=LENGTH,
        dtype="float32",
        cpu_kv_cache_gb=0.25,
    )


@pytest.fixture(scope="module")
def encoder(teacher: PoolingTeacher) -> Encoder:
    return teacher.open(Path())


def by_transformers(folder: Path, texts: list[str]) -> np.ndarray:
    """The last token's last hidden state, which vLLM takes of a causal model; cut at the end."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder)
    rows = []
    for text in texts:
        tokens = tokenizer(text, truncation=True, max_length=LENGTH, return_tensors="pt")
        with torch.no_grad():
            state = model(**tokens).last_hidden_state[0, -1].double()
        rows.append((state / state.norm()).numpy())
    return np.stack(rows)


def test_vectors_are_those_of_transformers(tiny_llm: Path, encoder: Encoder) -> None:
    found = encoder.documents(TEXTS)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, by_transformers(tiny_llm, TEXTS), atol=1e-4)
    asked = [f"{ask}: {text}" for ask, text in zip(ASK, TEXTS, strict=True)]
    found = encoder.queries(TEXTS, ASK)
    np.testing.assert_allclose(found, by_transformers(tiny_llm, asked), atol=1e-4)
    assert encoder.documents([]).shape[0] == 0
    encoder.close()


def test_own_prompts_are_read_from_the_model(tmp_path: Path) -> None:
    teacher = PoolingTeacher(model=str(tmp_path))
    assert teacher.own_prompts() == {}
    config = tmp_path / "config_sentence_transformers.json"
    config.write_text('{"prompts": {"query": "q: ", "document": ""}}', encoding="utf-8")
    assert teacher.own_prompts() == {"query": "q: ", "document": ""}


def test_what_vllm_cannot_pool_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "nothing"}', encoding="utf-8")
    with pytest.raises(UserError, match="vLLM cannot use .* as a pooling model: "):
        PoolingTeacher(model=str(tmp_path)).open(Path())
