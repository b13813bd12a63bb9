"""Teachers that are neural models, against the libraries' own vectors; nothing of them is a mock."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from sdg.errors import UserError
from sdg.schema import Example, Pair, Seed
from sdg.stages import MineStage
from sdg.teachers import PoolingTeacher, SentenceTransformersTeacher
from tests.rows import bundled_seeds, kept_rows, make_pair, run_stage, sharded

TEXTS = ["Nairobi is a city.", "Lakes of Africa", "", "A river " * 300]
ASK = ["Find passages", "Find titles", "Find passages", "Find passages"]


@pytest.fixture(scope="module")
def prompted(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MiniLM with prompts of its own."""
    folder = tmp_path_factory.mktemp("prompted") / "model"
    shutil.copytree(minilm, folder)
    path = folder / "config_sentence_transformers.json"
    config = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    config["prompts"] = {"query": "query: ", "document": "passage: "}
    path.write_text(json.dumps(config), encoding="utf-8")
    return folder


def by_transformers(folder: Path, texts: list[str], max_length: int = 256) -> np.ndarray:
    """Mean pooling over the last hidden states, with transformers alone."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder)
    rows = []
    for text in texts:
        tokens = tokenizer(text, truncation=True, max_length=max_length, return_tensors="pt")
        with torch.no_grad():
            states = model(**tokens).last_hidden_state[0].double().mean(dim=0)
        rows.append((states / states.norm()).numpy())
    return np.stack(rows)


def test_the_models_own_prompts_are_applied(prompted: Path) -> None:
    encoder = SentenceTransformersTeacher(model=str(prompted)).open(Path())
    queries, documents = encoder.queries(TEXTS, ASK), encoder.documents(TEXTS)
    for found, prompt in ((queries, "query: "), (documents, "passage: ")):
        assert found.dtype == np.float32
        expected = by_transformers(prompted, [prompt + text for text in TEXTS])
        np.testing.assert_allclose(found, expected, atol=1e-5)
    assert encoder.queries([], []).shape == encoder.documents([]).shape == (0, 384)


def test_the_profiles_prompts_go_before_them_with_the_instruction(prompted: Path) -> None:
    teacher = SentenceTransformersTeacher(
        model=str(prompted),
        query_prompt="Instruct: {instruction}\nQuery: ",
        document_prompt="",
        max_length=32,
    )
    encoder = teacher.open(Path())
    texts = [f"Instruct: {ask}\nQuery: {text}" for ask, text in zip(ASK, TEXTS, strict=True)]
    expected = by_transformers(prompted, texts, 32)
    np.testing.assert_allclose(encoder.queries(TEXTS, ASK), expected, atol=1e-5)
    expected = by_transformers(prompted, TEXTS, 32)
    np.testing.assert_allclose(encoder.documents(TEXTS), expected, atol=1e-5)


@pytest.mark.parametrize("teacher", [SentenceTransformersTeacher, PoolingTeacher])
def test_a_model_that_is_not_there_is_one_line(teacher: type, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder; give a hub id"):
        teacher(model="/nowhere/model").check()
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match=r"stages\.mine\.teachers: "):
        SentenceTransformersTeacher(model=str(tmp_path)).open(Path())


def test_two_teachers_give_the_same_whatever_their_order(minilm: Path) -> None:
    seeds = bundled_seeds("en")[:30]
    pairs = [
        make_pair(seed.title, seed.text, query_lang="en", positive_lang="en") for seed in seeds[:12]
    ]
    neural = {"name": "sentence_transformers", "model": str(minilm), "max_length": 64}
    lexical = {"name": "lexical"}
    found = {}
    for key, teachers in {
        "lexical": [lexical],
        "neural": [neural],
        "both": [lexical, neural],
        "turned": [neural, lexical],
    }.items():
        stage = MineStage.model_validate({"teachers": teachers, "part_rows": 11})
        results = run_stage(stage, sharded(pairs, Pair, 5), earlier={"seed": sharded(seeds, Seed)})
        found[key] = {e.id: e for e in kept_rows(results, Example)}
    assert found["both"] == found["turned"]
    assert len(found["both"]) == 12
    mixed = 0
    for key, example in found["both"].items():
        one, other = found["lexical"][key], found["neural"][key]
        # Both teachers' nearest come first, but for those that the other's rule rules out.
        mixed += bool(set(example.negatives[:4]) & set(one.negatives[:3])) and bool(
            set(example.negatives[:4]) & set(other.negatives[:3])
        )
        mean = (one.positive_scores[0] + other.positive_scores[0]) / 2
        assert example.positive_scores[0] == pytest.approx(mean, abs=1e-5)
    assert mixed >= 9


def test_an_approximate_search_of_all_cells_mines_the_same(minilm: Path) -> None:
    seeds = bundled_seeds("en")[:40]
    pairs = [
        make_pair(seed.title, seed.text, query_lang="en", positive_lang="en") for seed in seeds[:20]
    ]
    found = []
    for approximate in (None, {"probes": 99, "checked": 1}):
        teacher = {"name": "sentence_transformers", "model": str(minilm), "max_length": 64}
        stage = MineStage.model_validate(
            {"teachers": [teacher], "part_rows": 23, "approximate": approximate}
        )
        results = run_stage(stage, sharded(pairs, Pair), earlier={"seed": sharded(seeds, Seed)})
        found.append(kept_rows(results, Example))
    assert found[0] == found[1]
    counters = [result.counters for result in results.values()]
    assert all(c["approximate:found"] == c["approximate:there"] > 0 for c in counters)
    with pytest.raises(ValueError, match="approximate: the lexical teacher is searched exactly"):
        MineStage.model_validate({"approximate": {}})
