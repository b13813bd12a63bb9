"""Evaluation of a real small model on folders, against the formulas on its vectors."""

import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr
from sentence_transformers import SentenceTransformer

from embedtrain import evaluate as evaluating
from embedtrain.evaluate import compare, evaluate, find_tasks
from embedtrain.local_tasks import language_of, local_task
from sdg.errors import UserError
from tests.evaluation_sets import beir, documents, write_lines


@pytest.fixture(scope="module")
def encoder(minilm: Path) -> SentenceTransformer:
    return SentenceTransformer(str(minilm))


def test_retrieval_is_the_formulas(
    minilm: Path, encoder: SentenceTransformer, tmp_path: Path
) -> None:
    (found,) = evaluate(minilm, [local_task(beir(tmp_path / "titles-sw", "sw"))], print)
    rows = documents("sw")
    queries_BD = encoder.encode([row["title"] for row in rows], normalize_embeddings=True)
    documents_BD = encoder.encode([row["text"] for row in rows], normalize_embeddings=True)
    scores_BB = queries_BD @ documents_BD.T
    ranks = [int((row > row[i]).sum()) + 1 for i, row in enumerate(scores_BB)]
    gains = [1 / math.log2(1 + rank) if rank <= 10 else 0.0 for rank in ranks]
    assert found.score == pytest.approx(np.mean(gains), abs=1e-4)
    assert [found.by_query[f"q{i}"] for i in range(20)] == pytest.approx(gains, abs=1e-4)
    assert found.metrics["recall_at_10"] == pytest.approx(np.mean([r <= 10 for r in ranks]))
    assert found.metrics["mrr_at_10"] == pytest.approx(
        np.mean([1 / r if r <= 10 else 0 for r in ranks]), abs=1e-4
    )
    assert (found.languages, found.metric) == (["swa"], "ndcg_at_10")
    assert found.by_language == {"swa": found.score}


def test_sts_is_spearmans_correlation(
    minilm: Path, encoder: SentenceTransformer, tmp_path: Path
) -> None:
    texts = [row["text"] for row in documents("en")]
    rows = [
        {"sentence1": texts[i], "sentence2": texts[(i * 3) % 20][:120], "score": i % 6}
        for i in range(20)
    ]
    write_lines(tmp_path / "sts-en" / "sts.jsonl", rows)
    (found,) = evaluate(minilm, [local_task(tmp_path / "sts-en")], print)
    a_BD = encoder.encode([row["sentence1"] for row in rows], normalize_embeddings=True)
    b_BD = encoder.encode([row["sentence2"] for row in rows], normalize_embeddings=True)
    wanted = spearmanr((a_BD * b_BD).sum(axis=1), [row["score"] for row in rows]).statistic
    assert found.score == pytest.approx(wanted, abs=1e-4)


def test_bitext_and_classification_of_what_is_easy(minilm: Path, tmp_path: Path) -> None:
    rows = documents("en")
    pairs = [{"sentence1": row["text"], "sentence2": row["text"].upper()} for row in rows]
    write_lines(tmp_path / "upper-en" / "bitext.jsonl", pairs)
    labelled = [{"text": f"{'good' if i % 2 else 'bad'} news", "label": i % 2} for i in range(16)]
    for split in ("train", "test"):
        write_lines(tmp_path / "mood-en" / f"{split}.jsonl", labelled)
    found = evaluate(minilm, find_tasks([tmp_path / "upper-en", tmp_path / "mood-en"], []), print)
    assert [(m.type, m.score) for m in found] == [("BitextMining", 1.0), ("Classification", 1.0)]


def test_a_finished_hub_task_is_not_measured_again(
    minilm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = local_task(beir(tmp_path / "kept-sw", "sw"))
    (first,) = evaluate(minilm, [task], print)
    shutil.move(tmp_path / "kept-sw", tmp_path / "gone")  # now it is not a folder that can change
    monkeypatch.setattr(evaluating, "_measure", lambda *_: pytest.fail("measured again"))
    assert evaluate(minilm, [task], print) == [first]


def test_another_model_under_the_same_name_is_measured_anew(minilm: Path, tmp_path: Path) -> None:
    before = evaluating.model_fingerprint(minilm)
    other = tmp_path / "minilm"
    shutil.copytree(minilm, other)
    assert evaluating.model_fingerprint(other) == before
    (other / "pytorch_model.bin").write_bytes(b"a")
    with_pickle = evaluating.model_fingerprint(other)
    assert with_pickle != before
    (other / "pytorch_model.bin").write_bytes(b"b")
    assert evaluating.model_fingerprint(other) not in (before, with_pickle)
    (other / "pytorch_model.bin").unlink()
    weights = other / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert evaluating.model_fingerprint(other) != before


def test_compare_takes_means_by_type() -> None:
    def measured(task: str, kind: str, score: float) -> evaluating.Measured:
        return evaluating.Measured(task, kind, ["swa"], "m", score, {}, {})

    found = [measured("a", "STS", 0.2), measured("b", "STS", 0.4), measured("c", "Retrieval", 0.9)]
    found[0] = replace(found[0], by_language={"swa": 0.1, "hau": 0.3})
    found[1] = replace(found[1], by_language={"swa": 0.4})
    summary = compare({"model": found})
    assert summary["mean_language"]["model"] == pytest.approx({"hau": 0.3, "swa": 0.25})
    assert summary["mean_task"]["model"] == pytest.approx(0.5)
    assert summary["mean_type"]["model"] == pytest.approx({"Retrieval": 0.9, "STS": 0.3})


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("news-sw", "sw"),
        ("xquad.en", "en"),
        ("afri_hau", "hau"),
        ("plain", "und"),
        ("a-xqx", "und"),
    ],
)
def test_the_language_is_in_the_folders_name(name: str, code: str) -> None:
    assert language_of(Path(name)) == code


def test_what_cannot_be_measured_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        find_tasks([tmp_path / "none"], [])
    with pytest.raises(UserError, match="no evaluation set"):
        find_tasks([tmp_path], [])
    with pytest.raises(UserError, match="no task or benchmark 'NoSuchTask'"):
        find_tasks([], ["NoSuchTask"])
    with pytest.raises(UserError, match="nothing to measure on"):
        find_tasks([], [])
    folder = beir(tmp_path / "one-sw", "sw")
    with pytest.raises(UserError, match="two tasks are called one_sw"):
        find_tasks([folder, folder], [])
    with pytest.raises(UserError, match="no model folder"):
        evaluate(tmp_path, [local_task(folder)], print)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("corpus.jsonl", '{"_id": "d0"}\n', r"corpus.jsonl:1: no key 'text'"),
        ("corpus.jsonl", "\n", r"corpus.jsonl: has no rows"),
        ("queries.jsonl", '{"_id": "q0", "text": "a"}\n{', r"queries.jsonl:2: not JSON"),
        ("qrels/test.tsv", "q0\td0\tyes\n", r"test.tsv:1: wanted query-id, corpus-id and score"),
        ("qrels/test.tsv", "x\td0\t1\n", r"judges none of the queries"),
    ],
)
def test_a_broken_set_is_named(
    tmp_path: Path, minilm: Path, file: str, content: str, message: str
) -> None:
    folder = beir(tmp_path / "bad-sw", "sw")
    (folder / file).write_text(content)
    with pytest.raises(UserError, match=message):
        local_task(folder).load_data()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{"sentence1": "a", "sentence2": "b", "score": "high"}', "'score' is not a number"),
        ('{"sentence1": "a", "sentence2": "b", "score": NaN}', "'score' is not a number"),
        ('{"sentence1": "a", "sentence2": 7, "score": 1}', "'sentence2' is not a text"),
    ],
)
def test_a_value_of_another_kind_is_named(tmp_path: Path, row: str, message: str) -> None:
    good = '{"sentence1": "a", "sentence2": "b", "score": 1}'
    (tmp_path / "sts.jsonl").write_text(f"{good}\n{row}\n")
    with pytest.raises(UserError, match=f"sts.jsonl:2: {message}"):
        local_task(tmp_path).load_data()


def test_a_model_that_cannot_be_loaded_is_named(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text('{"model_type": "none such"}')
    with pytest.raises(UserError, match="/model: sentence-transformers cannot load it") as error:
        evaluate(tmp_path / "model", [local_task(beir(tmp_path / "t-sw", "sw"))], print)
    assert str(error.value).startswith(str(tmp_path))


def test_a_folder_of_no_language_is_not_taken_for_english(tmp_path: Path) -> None:
    assert local_task(beir(tmp_path / "plain", "sw")).metadata.languages == ["und"]


def test_the_multilingual_benchmark_is_known() -> None:
    tasks = find_tasks([], ["MTEB(Multilingual, v2)"])
    assert len(tasks) > 100
