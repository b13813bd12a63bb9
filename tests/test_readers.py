"""Files of every kind are read whole; bad rows are named, bad files refused."""

import base64
import csv
import gzip
import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.corpus_files import jsonl, read, refusal, texts

TEXTS = ["Mto wa kwanza una maji.", "Mlima, wa pili;\tni mrefu.", 'Alisema "karibu" kwa wageni.']


def rows_of(column: str = "text") -> list[dict[str, str]]:
    return [{column: text} for text in TEXTS]


def as_csv(delimiter: str) -> bytes:
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter=delimiter)
    writer.writerow(["id", "text"])
    writer.writerows([[f"d{i}", text] for i, text in enumerate(TEXTS)])
    return buffer.getvalue().encode()


def zstd(data: bytes) -> bytes:
    return pa.compress(data, codec="zstd", asbytes=True)


PLAIN: dict[str, bytes] = {
    ".jsonl": jsonl(*rows_of()),
    ".ndjson": jsonl(*rows_of()),
    ".json": jsonl(*rows_of()),
    ".csv": as_csv(","),
    ".tsv": as_csv("\t"),
    ".txt": "\n".join(TEXTS).encode(),
}
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "": lambda data: data,
    ".gz": gzip.compress,
    ".zst": zstd,
    ".GZ": gzip.compress,
}


# Kinds of files


@pytest.mark.parametrize("packed", PACKERS)
@pytest.mark.parametrize("kind", PLAIN)
def test_text_kinds(kind: str, packed: str, tmp_path: Path) -> None:
    path = tmp_path / f"corpus{kind}{packed}"
    path.write_bytes(PACKERS[packed](PLAIN[kind]))
    documents = read(path)
    assert [d.text for d in documents] == TEXTS
    assert [d.row for d in documents] == [0, 1, 2]
    assert [d.error for d in documents] == [None] * 3
    named = kind in (".csv", ".tsv")
    assert [d.source for d in documents] == [
        f"{path.name}#d{i}" if named else path.name for i in range(3)
    ]


@pytest.mark.parametrize(
    "kind",
    [
        pa.string(),
        pa.large_string(),
        pa.string_view(),
        pa.binary(),
        pa.dictionary(pa.int32(), pa.string()),
    ],
    ids=str,
)
def test_parquet_strings(kind: pa.DataType, tmp_path: Path) -> None:
    column = pa.array(TEXTS * 200).cast(kind)
    ids = pa.array(range(600))
    pq.write_table(pa.table({"id": ids, "text": column}), tmp_path / "c.parquet", row_group_size=70)
    documents = read(tmp_path / "c.parquet")
    assert [d.text for d in documents] == TEXTS * 200
    assert [d.source for d in documents] == [f"c.parquet#{i}" for i in range(600)]


def test_parquet_reads_only_what_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = pa.table({"text": TEXTS, "embedding": [[0.5] * 8] * 3, "title": ["a", "b", "c"]})
    pq.write_table(table, tmp_path / "c.parquet")
    asked: list[list[str]] = []
    iter_batches = pq.ParquetFile.iter_batches

    def spy(self: pq.ParquetFile, size: int, columns: list[str]) -> Any:
        asked.append(columns)
        return iter_batches(self, size, columns=columns)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", spy)
    assert [d.title for d in read(tmp_path / "c.parquet")] == ["a", "b", "c"]
    assert asked == [["text", "title"]]


def test_quoted_newlines_long_fields_and_bom(tmp_path: Path) -> None:
    long = "neno " * 60_000  # past the csv module's usual 131,072 characters
    body = f'\ufeff"text","n"\r\n"line one\r\nline two, ""quoted""",1\r\n\r\n"{long}",2\r\n'
    (tmp_path / "c.csv").write_bytes(body.encode())
    assert texts(tmp_path / "c.csv") == ['line one\r\nline two, "quoted"', long]


@pytest.mark.parametrize("delimiter", [",", ";", "|", "\t"])
def test_csv_delimiters(delimiter: str, tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_bytes(as_csv(delimiter))
    assert texts(tmp_path / "c.csv") == TEXTS


def test_csv_of_one_column(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text("text\nMoja\nMbili\n", encoding="utf-8")
    assert texts(tmp_path / "c.csv") == ["Moja", "Mbili"]


def test_text_paragraphs(tmp_path: Path) -> None:
    body = "\ufeff\n\nfirst line\nsecond line\n \t\n\nanother one\r\nof two lines\r\n\r\n"
    (tmp_path / "c.txt").write_bytes(body.encode())
    assert texts(tmp_path / "c.txt") == ["first line\nsecond line", "another one\nof two lines"]


def test_text_lines(tmp_path: Path) -> None:
    (tmp_path / "c.txt").write_bytes(b"\none\ntwo\rthree\r\nfour\n\n")
    assert texts(tmp_path / "c.txt") == ["one", "two", "three", "four"]


def test_line_separators_inside_json_strings_are_no_line_ends(tmp_path: Path) -> None:
    text = "kwanza\u2028pili\u0085tatu"
    (tmp_path / "c.jsonl").write_bytes(jsonl({"text": text}, {"text": "nne"}))
    assert texts(tmp_path / "c.jsonl") == [text, "nne"]


# Columns


@pytest.mark.parametrize(
    "name",
    ["text", "Content", "BODY", "passage", "document", "context", "article", "paragraph", " Text "],
)
def test_usual_text_columns(name: str, tmp_path: Path) -> None:
    (tmp_path / "c.jsonl").write_bytes(jsonl(*rows_of(name)))
    assert texts(tmp_path / "c.jsonl") == TEXTS


def test_all_columns(tmp_path: Path) -> None:
    row = {"DocID": 12, "Headline": "Kichwa", "Text": "Maandishi", "LANG": "sw", "licence": "CC0"}
    (tmp_path / "c.jsonl").write_bytes(jsonl({**row, "title_en": "Head", "url": "https://x.org"}))
    (document,) = read(tmp_path / "c.jsonl")
    assert document.model_dump(exclude={"digest"}) == {
        **{"row": 0, "source": "c.jsonl#12", "text": "Maandishi", "title": "Kichwa"},
        **{"lang": "sw", "license": "CC0", "error": None},
    }


def test_english_title_is_no_title(tmp_path: Path) -> None:
    table = pa.table({"url": ["u1"], "title_en": ["In English"], "text": ["Kwa Kiswahili"]})
    pq.write_table(table, tmp_path / "c.parquet")
    (document,) = read(tmp_path / "c.parquet")
    assert (document.title, document.source) == ("", "c.parquet#u1")


def test_named_columns_win(tmp_path: Path) -> None:
    (tmp_path / "c.jsonl").write_bytes(
        jsonl(
            {"text": "no", "passage_sw": "yes", "key": "k", "name": "T", "lugha": "sw", "lic": "L"}
        )
    )
    named = {"text": "passage_sw", "id": "key", "title": "name", "lang": "lugha", "license": "lic"}
    (document,) = read(tmp_path / "c.jsonl", **named)
    assert (document.text, document.source, document.title) == ("yes", "c.jsonl#k", "T")
    assert (document.lang, document.license) == ("sw", "L")


def test_a_list_column_is_passed_over_for_one_of_strings(tmp_path: Path) -> None:
    pq.write_table(
        pa.table({"text": [["a", "b"]], "content": ["Maandishi"]}), tmp_path / "c.parquet"
    )
    (tmp_path / "c.jsonl").write_bytes(jsonl({"text": ["a"], "content": "Maandishi"}))
    assert texts(tmp_path / "c.parquet") == texts(tmp_path / "c.jsonl") == ["Maandishi"]


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_missing_columns(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"c.{kind}"
    table = pa.table({"tweet": ["a"], "bad\nname": ["b"]})
    if kind == "parquet":
        pq.write_table(table, path)
    elif kind == "jsonl":
        path.write_bytes(jsonl(*table.to_pylist()))
    else:
        path.write_text('tweet,"bad\nname"\na,b\n', encoding="utf-8")
    message = refusal(path)
    assert "no text column among tweet, bad name" in message
    assert "--set corpus.text=<column>" in message
    assert "no column 'tekst' (corpus.text); its columns: tweet" in refusal(path, text="tekst")
    assert "no column 'x' (corpus.title)" in refusal(path, text="tweet", title="x")


def test_a_named_column_that_holds_no_text(tmp_path: Path) -> None:
    pq.write_table(pa.table({"sentences": [["a"]], "text": ["b"]}), tmp_path / "c.parquet")
    message = refusal(tmp_path / "c.parquet", text="sentences")
    assert "'sentences' holds list<" in message
    assert "sentences, text" in message


# Bad rows


def test_bad_json_lines(tmp_path: Path) -> None:
    lines = [
        *(b'{"text": "nzuri"}', b'{"text": "cut', b"[1, 2]", b'"text"', b'{"text": null}', b"{}"),
        *(b'{"text": 3}', b'{"text": "\xff\xfe"}', b"", b'{"text": "nusu \\ud83d mwisho"}', b"NaN"),
        b'{"text": ' + b"[" * 100_000,
    ]
    (tmp_path / "c.jsonl").write_bytes(b"\n".join(lines))
    documents = read(tmp_path / "c.jsonl")
    assert [d.error for d in documents] == [
        *(None, "invalid_json", "not_a_json_object", "not_a_json_object", "no_text", "no_text"),
        *("text_not_a_string", "invalid_utf8", None, "not_a_json_object", "invalid_json"),
    ]
    assert documents[8].text == "nusu  mwisho"  # a half surrogate pair has no UTF-8
    assert documents[1].text.strip() == '{"text": "cut'
    assert [d.row for d in documents] == list(range(11))
    assert [bool(d.digest) for d in documents] == [d.error is None for d in documents]


def test_bad_csv_rows(tmp_path: Path) -> None:
    body = b'id,text,n\n1,nzuri,x\n2,short\n3,too,long,row\n4,\xff,x\n5,"a"b,x\n6,sawa,x\n'
    (tmp_path / "c.csv").write_bytes(body)
    documents = read(tmp_path / "c.csv")
    assert [d.error for d in documents] == [
        *(None, "too_few_fields", "too_many_fields", "invalid_utf8", "invalid_csv", None),
    ]
    assert documents[-1].text == "sawa"


def test_bad_bytes_in_text_and_parquet(tmp_path: Path) -> None:
    (tmp_path / "c.txt").write_bytes("sawa\nmbaya\xff\nsawa".encode("latin-1"))
    assert [d.error for d in read(tmp_path / "c.txt")] == [None, "invalid_utf8", None]
    values = pa.array([b"sawa", b"mbaya\xff", None], pa.binary())
    strings = pa.Array.from_buffers(pa.string(), 3, values.buffers())  # as careless writers do
    pq.write_table(pa.table({"text": strings}), tmp_path / "c.parquet")
    errors = [d.error for d in read(tmp_path / "c.parquet")]
    assert errors == [None, "invalid_utf8", "no_text"]


# Bad corpora


def many(number: int = 3000) -> list[dict[str, str]]:
    """Rows that hardly compress, so that a cut falls among them."""
    return [
        {"text": base64.b64encode(hashlib.sha512(bytes([i % 256, i // 256])).digest()).decode()}
        for i in range(number)
    ]


@pytest.mark.parametrize("share", [0.0005, 0.3, 0.9, 0.99999])
@pytest.mark.parametrize("packed", [".gz", ".zst"])
@pytest.mark.parametrize("kind", [".jsonl", ".csv", ".txt"])
def test_cut_packed_file(kind: str, packed: str, share: float, tmp_path: Path) -> None:
    lines = [row["text"] for row in many()]
    plain = jsonl(*many()) if kind == ".jsonl" else "\n".join(["text", *lines]).encode()
    data = PACKERS[packed](plain)
    path = tmp_path / f"c{kind}{packed}"
    path.write_bytes(data[: int(len(data) * share)])
    message = refusal(path)
    assert str(path) in message
    assert "cut or corrupt after line" in message


@pytest.mark.parametrize("packed", [".gz", ".zst"])
def test_packed_by_name_only(packed: str, tmp_path: Path) -> None:
    (tmp_path / f"c.jsonl{packed}").write_bytes(jsonl(*rows_of()))
    assert "cut or corrupt after line 0" in refusal(tmp_path / f"c.jsonl{packed}")


@pytest.mark.parametrize("packed", [".gz", ".zst"])
def test_packed_in_several_members(packed: str, tmp_path: Path) -> None:
    pack = PACKERS[packed]
    data = pack(jsonl({"text": "a"})) + pack(jsonl({"text": "b"}))
    (tmp_path / f"c.jsonl{packed}").write_bytes(data)
    assert texts(tmp_path / f"c.jsonl{packed}") == ["a", "b"]


@pytest.mark.parametrize("share", [0.01, 0.5, 0.999])
def test_cut_parquet(share: float, tmp_path: Path) -> None:
    path = tmp_path / "c.parquet"
    pq.write_table(pa.Table.from_pylist(many()), path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    message = refusal(path)
    assert f"{path}: no whole Parquet file (after row 0" in message


def test_corrupt_parquet_page(tmp_path: Path) -> None:
    path = tmp_path / "c.parquet"
    pq.write_table(
        pa.Table.from_pylist(many()),
        path,
        row_group_size=1000,
        compression="none",
        use_dictionary=False,
        write_page_checksum=True,
    )
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1  # one bit, in the second group's text
    path.write_bytes(data)
    message = refusal(path)
    assert "no whole Parquet file (after row 768" in message  # three batches of 256 before it


@pytest.mark.parametrize(
    ("name", "head", "said"),
    [
        ("c.txt", "maji".encode("utf-16"), "UTF-16"),
        ("c.csv", b"\xfe\xff\x00t", "UTF-16"),
        ("c.jsonl", "text".encode("utf-16-le"), "binary file"),
        ("c.txt", b"\x7fELF\x00\x01", "binary file"),
        ("c.jsonl", b"PAR1....", "a Parquet file; name it .parquet"),
        ("c.jsonl", gzip.compress(b"{}", mtime=0), "a gzip file; name it .gz"),
        ("c.txt", b"%PDF-1.7 ...", "a PDF"),
        ("c.csv", b"PK\x03\x04....", "zip"),
        ("c.jsonl", zstd(b"{}"), "a zstd file"),
        ("c.parquet", b'{"text": "a"}', "no whole Parquet file"),
    ],
)
def test_binary_files(name: str, head: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(head)
    message = refusal(tmp_path / name)
    assert said in message
    assert str(tmp_path / name) in message


@pytest.mark.parametrize("body", ['[{"text": "a"}]', '\ufeff \n[\n{"text": "a"}\n]\n'])
def test_json_array(body: str, tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text(body, encoding="utf-8")
    message = refusal(tmp_path / "c.json")
    assert "one JSON array" in message
    assert "jq -c '.[]'" in message


@pytest.mark.parametrize("indent", [None, 2])
def test_one_json_object(indent: int | None, tmp_path: Path) -> None:
    squad = {"data": [{"paragraphs": [{"context": "a"}]}], "version": "1.1"}
    (tmp_path / "c.json").write_text(json.dumps(squad, indent=indent), encoding="utf-8")
    assert "is one JSON object, wanted JSON Lines" in refusal(tmp_path / "c.json")


def test_one_document_with_a_list_is_a_corpus(tmp_path: Path) -> None:
    (tmp_path / "c.jsonl").write_bytes(jsonl({"text": "a", "links": [{"to": "b"}]}))
    assert texts(tmp_path / "c.jsonl") == ["a"]


def test_prose_named_jsonl(tmp_path: Path) -> None:
    (tmp_path / "c.jsonl").write_text("maneno tu\n" * 200, encoding="utf-8")
    assert "its first 100 lines are no JSON objects" in refusal(tmp_path / "c.jsonl")


def test_a_quote_that_never_closes(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text('text,n\na,1\n"b,2\nc,3\n', encoding="utf-8")
    assert "the row from line 3 never ends" in refusal(tmp_path / "c.csv")


def test_a_line_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sdg.readers._LONGEST", 1000)
    (tmp_path / "c.txt").write_text("a\n" + "b" * 1000, encoding="utf-8")
    assert "line 2 is longer than 1,000 characters" in refusal(tmp_path / "c.txt")
