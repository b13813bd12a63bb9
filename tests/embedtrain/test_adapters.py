"""Public layouts become Examples, row by row as the layout means it."""

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embedtrain.adapters import STS_INSTRUCTION, Layout, SourceConfig, adapt, find_files
from sdg.errors import UserError
from sdg.schema import Example, rows_of


def lines(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def adapted(path: Path, layout: Layout, negatives: int = 4, **settings: Any) -> list[Example]:
    config = SourceConfig(path=path, layout=layout, **{"lang": "en", **settings})
    tables = adapt(config, find_files(path), negatives)
    return [row for table in tables for row in rows_of(table, Example)]


def texts(row: Example) -> tuple[str, list[str], list[str]]:
    return row.query, row.positives, row.negatives


def test_triplets_in_every_spelling_are_one(tmp_path: Path) -> None:
    wanted = ("who?", ["she"], ["he", "they"])
    spelled = [
        {"query": "who?", "pos": ["she"], "neg": ["he", "they"]},
        {"anchor": "who?", "positive": "she", "negative_1": "he", "negative_2": "they"},
        {"question": "who?", "positives": ["she"], "negatives": ["he", "they"]},
        {
            "query": "who?",
            "positive_passages": [{"docid": "1", "title": "", "text": "she"}],
            "negative_passages": [{"docid": "2", "text": "he"}, {"docid": "3", "text": "they"}],
        },
    ]
    for number, row in enumerate(spelled):
        (found,) = adapted(lines(tmp_path / f"{number}.jsonl", row), "triplets")
        assert texts(found) == wanted
        assert (found.task, found.query_lang, found.positive_scores) == ("retrieval", "en", [])
    pq.write_table(pa.Table.from_pylist(spelled[:1]), tmp_path / "t.parquet")
    assert texts(adapted(tmp_path / "t.parquet", "triplets")[0]) == wanted


def test_a_passages_title_stands_before_its_text(tmp_path: Path) -> None:
    row = {"query": "who?", "positive_passages": [{"title": "People", "text": "she"}]}
    (found,) = adapted(lines(tmp_path / "a.jsonl", row), "triplets", license="CC-BY-4.0")
    assert found.positives == ["People\nshe"]
    assert (found.provenance.license, found.provenance.source) == ("CC-BY-4.0", "a.jsonl")


def test_tsv_of_three_columns_is_ms_marcos(tmp_path: Path) -> None:
    path = tmp_path / "triples.tsv"
    path.write_text('what is "a"\tit is a\tit is b\nsecond\tyes\tno\n', encoding="utf-8")
    assert [texts(row) for row in adapted(path, "triplets")] == [
        ('what is "a"', ["it is a"], ["it is b"]),
        ("second", ["yes"], ["no"]),
    ]
    path.write_text("query\tpositive\tnegative\nq\tp\tn\n", encoding="utf-8")
    assert [texts(row) for row in adapted(path, "triplets")] == [("q", ["p"], ["n"])]
    path.write_text("q\tp\tn\nq\tp\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"triples.tsv:2: 2 fields, wanted 3"):
        adapted(path, "triplets")


@pytest.mark.parametrize("labels", [(0, 1, 2), ("entailment", "neutral", "contradiction")])
def test_nli_takes_entailment_against_contradiction(tmp_path: Path, labels: Any) -> None:
    entails, neutral, contradicts = labels
    rows = [
        ("A man sleeps.", "Someone sleeps.", entails),
        ("A dog runs.", "An animal moves.", entails),
        ("A man sleeps.", "He dreams.", neutral),
        ("A man sleeps.", "He is awake.", contradicts),
        ("A man sleeps.", "A person rests.", entails),
    ]
    keys = ("premise", "hypothesis", "label")
    path = lines(tmp_path / "nli.jsonl", *(dict(zip(keys, row, strict=True)) for row in rows))
    assert [texts(row) for row in adapted(path, "nli")] == [
        ("A man sleeps.", ["Someone sleeps.", "A person rests."], ["He is awake."])
    ]


def test_squads_questions_find_their_paragraph(tmp_path: Path) -> None:
    def paragraph(context: str, question: str, answer: str) -> dict[str, Any]:
        answers = [{"text": answer, "answer_start": 0}] if answer else []
        return {"context": context, "qas": [{"question": question, "answers": answers}]}

    article = [
        paragraph("Rome is old.", "What is old?", "Rome"),
        paragraph("Paris is big.", "What is big?", "Paris"),
        paragraph("Rome is hot.", "What has no answer?", ""),
    ]
    path = tmp_path / "squad.json"
    path.write_text(json.dumps({"data": [{"title": "Cities", "paragraphs": article}]}))
    assert [texts(row) for row in adapted(path, "squad")] == [
        ("What is old?", ["Rome is old."], ["Paris is big."]),  # the third has the answer, too
        ("What is big?", ["Paris is big."], ["Rome is hot.", "Rome is old."]),
    ]
    assert len(adapted(path, "squad", negatives=1)[1].negatives) == 1
    path.write_text("{}")
    with pytest.raises(UserError, match="squad.json: not in SQuAD's layout"):
        adapted(path, "squad")


def test_classification_finds_the_label_among_the_others(tmp_path: Path) -> None:
    path = tmp_path / "topics.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(
            [["text", "label"], ["goal, late", "sport"], ["rain", "weather"], ["vote", "politics"]]
        )
    found = adapted(path, "classification", instruction="Name the topic")
    assert [(row.query, row.positives) for row in found] == [
        ("goal, late", ["sport"]),
        ("rain", ["weather"]),
        ("vote", ["politics"]),
    ]
    labels = {"sport", "weather", "politics"}
    assert all({*row.positives, *row.negatives} == labels for row in found)
    assert {row.instruction for row in found} == {"Name the topic"}
    with pytest.raises(UserError, match="only the label a"):
        adapted(lines(tmp_path / "one.jsonl", {"text": "x", "label": "a"}), "classification")


def test_sts_is_graded_on_its_scale(tmp_path: Path) -> None:
    rows = [{"sentence1": "a", "sentence2": "b", "score": s} for s in (0, 4, "2.5")]
    found = adapted(lines(tmp_path / "sts.jsonl", *rows), "sts")
    assert [row.positive_grades[0] for row in found] == pytest.approx([0.0, 0.8, 0.5])
    assert {(row.task, row.instruction) for row in found} == {("sts", STS_INSTRUCTION)}
    with pytest.raises(UserError, match=r"score 4 is outside 0 … 1"):
        adapted(tmp_path / "sts.jsonl", "sts", max_score=1)


@pytest.mark.parametrize(
    ("content", "layout", "message"),
    [
        ('{"query": "q"}\n', "triplets", r"a.jsonl:1: has none of the keys positive_passages"),
        ('{"query": "q", "pos": 3}\n', "triplets", r"a.jsonl:1: wanted a text, found '3'"),
        ('\n{"query"\n', "triplets", r"a.jsonl:2: not JSON"),
        ("[1]\n", "triplets", r"a.jsonl:1: not a JSON object"),
        ('{"premise": "a", "hypothesis": "b", "label": 7}\n', "nli", r"label '7' is none of"),
        ('{"sentence1": "a", "sentence2": "b", "score": "x"}\n', "sts", r"score 'x' is no number"),
    ],
)
def test_what_is_not_of_the_layout_is_named(
    tmp_path: Path, content: str, layout: Layout, message: str
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(content)
    with pytest.raises(UserError, match=message):
        adapted(path, layout)


def test_files_that_are_none_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no .jsonl, .json, .csv, .tsv, .parquet file there"):
        find_files(tmp_path)
    (tmp_path / "a.jsonl").write_bytes(b'{"query": "\xff"}')
    with pytest.raises(UserError, match="a.jsonl: not UTF-8"):
        adapted(tmp_path, "triplets")
