"""Evaluation of a real small model on folders, against the formulas on its vectors."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from scipy.stats import spearmanr
from sentence_transformers import SentenceTransformer

from embedtrain import evaluate as evaluating
from embedtrain.evaluate import compare, evaluate, find_tasks, main
from embedtrain.local_tasks import language_of, local_task
from sdg.corpora import BUNDLED
from sdg.errors import UserError
from tests.minilm_gain import minilm_path


def documents(lang: str) -> list[dict[str, str]]:
    lines = (BUNDLED / f"{lang}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines][:20]


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def beir(folder: Path, lang: str) -> Path:
    found = documents(lang)
    write_lines(
        folder / "corpus.jsonl",
        [{"_id": f"d{i}", "title": "", "text": d["text"]} for i, d in enumerate(found)],
    )
    write_lines(
        folder / "queries.jsonl",
        [{"_id": f"q{i}", "text": d["title"]} for i, d in enumerate(found)],
    )
    (folder / "qrels").mkdir()
    lines = ["query-id\tcorpus-id\tscore", *(f"q{i}\td{i}\t1" for i in range(len(found)))]
    (folder / "qrels" / "test.tsv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def minilm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "minilm"
    shutil.copytree(minilm_path(), folder)
    return folder


@pytest.fixture(scope="module")
def encoder(minilm: Path) -> SentenceTransformer:
    return SentenceTransformer(str(minilm))


def test_retrieval_is_the_formulas(
    minilm: Path, encoder: SentenceTransformer, tmp_path: Path
) -> None:
    (found,) = evaluate(minilm, [local_task(beir(tmp_path / "titles-sw", "sw"))], Console())
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


def test_sts_is_spearmans_correlation(
    minilm: Path, encoder: SentenceTransformer, tmp_path: Path
) -> None:
    texts = [row["text"] for row in documents("en")]
    rows = [
        {"sentence1": texts[i], "sentence2": texts[(i * 3) % 20][:120], "score": i % 6}
        for i in range(20)
    ]
    write_lines(tmp_path / "sts-en" / "sts.jsonl", rows)
    (found,) = evaluate(minilm, [local_task(tmp_path / "sts-en")], Console())
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
    found = evaluate(
        minilm, find_tasks([tmp_path / "upper-en", tmp_path / "mood-en"], []), Console()
    )
    assert [(m.type, m.score) for m in found] == [("BitextMining", 1.0), ("Classification", 1.0)]


def test_two_models_are_compared_on_the_same_queries(
    minilm: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "shorter"
    shutil.copytree(minilm, other)
    settings = json.loads((other / "sentence_bert_config.json").read_text())
    (other / "sentence_bert_config.json").write_text(json.dumps({**settings, "max_seq_length": 4}))
    sets = [beir(tmp_path / f"titles-{lang}", lang) for lang in ("en", "sw")]
    arguments = [
        str(other),
        str(minilm),
        "--data",
        *map(str, sets),
        "--out",
        str(tmp_path / "r.json"),
    ]
    assert main(arguments) == 0
    found = json.loads((tmp_path / "r.json").read_text())
    first, second = (found["results"][name] for name in ("shorter", "minilm"))
    assert found["borda"] == {"shorter": 0.0, "minilm": 2.0}
    differences = [
        task_b["by_query"][q] - task_a["by_query"][q]
        for task_a, task_b in zip(first, second, strict=True)
        for q in task_a["by_query"]
    ]
    overall = found["bootstrap"]["all queries"]
    assert overall["difference"] == pytest.approx(np.mean(differences))
    assert overall["low"] < overall["difference"] < overall["high"]
    shown = capsys.readouterr().out
    assert "mean over tasks" in shown
    assert "Borda votes" in shown
    assert "all queries: nDCG@10 of the second minus the first" in shown


def test_a_finished_hub_task_is_not_measured_again(
    minilm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = local_task(beir(tmp_path / "kept-sw", "sw"))
    (first,) = evaluate(minilm, [task], Console())
    shutil.move(tmp_path / "kept-sw", tmp_path / "gone")  # now it is not a folder that can change
    monkeypatch.setattr(evaluating, "_measure", lambda *_: pytest.fail("measured again"))
    assert evaluate(minilm, [task], Console()) == [first]


def test_another_model_under_the_same_name_is_measured_anew(minilm: Path, tmp_path: Path) -> None:
    before = evaluating.model_fingerprint(minilm)
    other = tmp_path / "minilm"
    shutil.copytree(minilm, other)
    assert evaluating.model_fingerprint(other) == before
    weights = other / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert evaluating.model_fingerprint(other) != before


def test_compare_takes_means_by_type() -> None:
    def measured(task: str, kind: str, score: float) -> evaluating.Measured:
        return evaluating.Measured(task, kind, ["swa"], "m", score, {}, {})

    found = [measured("a", "STS", 0.2), measured("b", "STS", 0.4), measured("c", "Retrieval", 0.9)]
    summary = compare({"model": found})
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
        evaluate(tmp_path, [local_task(folder)], Console())


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


def test_the_multilingual_benchmark_is_known() -> None:
    tasks = find_tasks([], ["MTEB(Multilingual, v2)"])
    assert len(tasks) > 100
