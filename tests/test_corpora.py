"""Where a corpus is found, what its documents hold, and what is said where there is none."""

import base64
import itertools
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sdg import corpora
from sdg.corpora import CorpusConfig, bundled_languages, read_documents
from sdg.lock import run_lock
from tests.corpus_files import jsonl, read, refusal, texts

# Folders, globs


def test_folder_is_sorted_and_hidden_files_are_skipped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("b.jsonl", "a/2.jsonl", "a/1.jsonl", ".hidden.jsonl", ".git/x.jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(jsonl({"text": name, "id": 7}))
    (tmp_path / "README.md").write_text("about", encoding="utf-8")
    documents = read(tmp_path)
    assert [d.text for d in documents] == ["a/1.jsonl", "a/2.jsonl", "b.jsonl"]
    assert [d.source for d in documents] == ["a/1.jsonl#7", "a/2.jsonl#7", "b.jsonl#7"]
    assert [d.row for d in documents] == [0, 1, 2]
    assert "README.md" in caplog.text


def test_glob(tmp_path: Path) -> None:
    for name in ("part-1.jsonl", "part-0.txt", "other.jsonl"):
        (tmp_path / name).write_bytes(jsonl({"text": name}) if "json" in name else name.encode())
    assert texts(tmp_path / "part-*") == ["part-0.txt", "part-1.jsonl"]
    assert "*.csv: no corpus file there" in refusal(tmp_path / "*.csv")


def test_a_name_with_glob_signs_is_a_name_first(tmp_path: Path) -> None:
    (tmp_path / "a[1].txt").write_text("moja", encoding="utf-8")
    assert texts(tmp_path / "a[1].txt") == ["moja"]


def test_license_default(tmp_path: Path) -> None:
    (tmp_path / "c.jsonl").write_bytes(
        jsonl({"text": "a", "license": "MIT"}, {"text": "b"}, {"text": "c", "license": None})
    )
    documents = read(tmp_path / "c.jsonl", license_default="CC-BY-4.0")
    assert [d.license for d in documents] == ["MIT", "CC-BY-4.0", "CC-BY-4.0"]


def test_labels_of_a_corpus_are_bounded_data(tmp_path: Path) -> None:
    row = {"text": "x", "id": "../../etc/passwd\n" + "i" * 500, "lang": "l\0" * 300, "license": {}}
    (tmp_path / "c.jsonl").write_bytes(jsonl(row))
    (document,) = read(tmp_path / "c.jsonl")
    assert document.source.startswith("c.jsonl#../../etc/passwd iii")
    assert len(document.source) == 200
    assert document.lang == "l" * 200
    assert document.license == ""


def test_missing_path_names_near_ones(tmp_path: Path) -> None:
    for name in ("swahili.jsonl", "hausa.jsonl", ".swahili.jsonk"):
        (tmp_path / name).write_bytes(jsonl({"text": "a"}))
    assert "did you mean swahili.jsonl?" in refusal(tmp_path / "swahilli.jsonl")
    assert "did you mean swahili.jsonl?" in refusal(tmp_path / "swahili")
    assert "in that folder: hausa.jsonl, swahili.jsonl" in refusal(tmp_path / "zzz")
    assert f"nor a folder {tmp_path / 'no'}" in refusal(tmp_path / "no" / "x.jsonl")


def test_a_run_that_is_being_made_is_not_suggested(tmp_path: Path) -> None:
    wanted = tmp_path / "nope"
    with run_lock(tmp_path / "dd-nope"):
        assert "nothing like it is in that folder" in refusal(wanted)
        with run_lock(tmp_path / "nope-1"):
            pass
        assert refusal(wanted).endswith("no such file; did you mean nope-1?")
    assert "dd-nope" in refusal(tmp_path / "dd-nop")


def test_paths_of_no_known_store_are_refused() -> None:
    assert "cannot be reached from here" in refusal("ftpp://bucket/x.parquet")


@pytest.mark.parametrize("name", ["c.jsonl", "c.csv", "c.txt", "c.parquet", "c.jsonl.gz"])
def test_empty_file(name: str, tmp_path: Path) -> None:
    (tmp_path / name).touch()
    assert "an empty file" in refusal(tmp_path / name)


def test_empty_folder(tmp_path: Path) -> None:
    assert "no corpus file there; give one of .parquet, .jsonl" in refusal(tmp_path)
    (tmp_path / "notes.docx").write_bytes(b"PK\x03\x04")
    assert "(but notes.docx)" in refusal(tmp_path)


def test_one_empty_file_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(jsonl({"text": "a"}))
    (tmp_path / "b.jsonl").touch()
    assert "b.jsonl: an empty file" in refusal(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("name", ["c.jsonl", "c.parquet"])
def test_no_permission(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"PAR1xxxx")
    (tmp_path / name).chmod(0)
    assert "no permission to read it" in refusal(tmp_path / name)


def test_no_permission_as_the_system_says_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "c.jsonl").write_bytes(jsonl({"text": "a"}))

    def refuse(self: Path, mode: str) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", refuse)
    assert "c.jsonl: no permission to read it" in refusal(tmp_path / "c.jsonl")


@pytest.mark.parametrize("name", ["c.docx", "c", "c.parquet.gz", "c.gz", "jsonl"])
def test_unknown_kind(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"x")
    assert "not a known kind of file; give one of .parquet, .jsonl" in refusal(tmp_path / name)


# Bundled corpora


def test_bundled_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for code in ("sw", "sr"):
        (tmp_path / f"{code}.jsonl").write_bytes(jsonl({"id": "1", "text": code}))
    monkeypatch.setattr(corpora, "BUNDLED", tmp_path)
    assert bundled_languages() == ["sr", "sw"]
    assert [d.source for d in read("", run_lang="sw")] == ["sw.jsonl#1"]
    assert [d.text for d in read("", run_lang="sw-KE")] == ["sw"]
    message = refusal("", run_lang="ha")
    assert "Hausa (ha)" in message
    assert "only of sr, sw" in message
    assert "CORPUS=" in message
    assert "Serbian" in refusal("", run_lang="sr-Latn")  # the bundled one is in Cyrillic
    assert "no corpus of Chinese (Traditional)" in refusal("", run_lang="zh-Hant")


# Datasets of the hub


def test_dataset_id(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "c.jsonl").write_bytes(jsonl({"id": 4, "text": "a"}, {"id": 5, "text": None}))
    asked: list[Any] = []
    load = datasets.load_dataset

    def local(path: str, name: str | None, split: str, streaming: bool) -> Any:
        asked.append((path, name, split, streaming))
        return load("json", data_files=str(tmp_path / "c.jsonl"), split="train", streaming=True)

    monkeypatch.setattr(datasets, "load_dataset", local)
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", lambda *args, **kwargs: None)
    documents = read("owner/name", subset="sw", split="test")
    assert asked == [("owner/name", "sw", "test", True)]
    assert [(d.source, d.text, d.error) for d in documents] == [
        ("owner/name#4", "a", None),
        ("owner/name#5", "", "no_text"),
    ]


@pytest.mark.parametrize(
    "changed",
    [
        {"HF_HUB_OFFLINE": "1"},
        {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9"},  # nobody listens there
    ],
)
def test_hub_out_of_reach_fails_at_once(changed: dict[str, str], tmp_path: Path) -> None:
    code = (
        "import time, datasets, huggingface_hub\n"
        "from sdg.corpora import *\n"
        "started = time.monotonic()\n"  # how long imports take is the machine's matter
        "try: next(read_documents(CorpusConfig(path='owner/name'), ['sw']))\n"
        "except Exception as error: print(type(error).__name__, error)\n"
        "print(time.monotonic() - started)"
    )
    root = Path(corpora.__file__).parents[1]
    env = {**os.environ, **changed, "HF_HOME": str(tmp_path), "PYTHONPATH": str(root)}
    done = subprocess.run(  # the libraries read the environment when imported
        [sys.executable, "-c", code],
        env=env,
        capture_output=True,
        text=True,
        timeout=500,
        check=True,
    )
    line, seconds = done.stdout.splitlines()
    assert float(seconds) < 50
    assert line.startswith("UserError owner/name: no such file here, and as a dataset id")
    assert "corpus.split=train" in line


def test_a_mistyped_file_is_no_dataset_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    assert "no such file" in refusal("data/sw")  # its folder is there
    assert "no such file, nor a folder" in refusal("other/sw.jsonl")  # a file's name


# Streaming


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_documents_come_before_the_file_ends(kind: str, tmp_path: Path) -> None:
    """A pipe whose writer stops half-way: documents written so far are there to be read."""
    pipe = tmp_path / f"c.{kind}"
    os.mkfifo(pipe)
    go_on = threading.Event()
    row = "maneno " * 200

    def write() -> None:
        with pipe.open("w", encoding="utf-8") as file:
            if kind == "csv":
                file.write("text\n")
            for index in range(400):
                text = f"{index} {row}"
                file.write((json.dumps({"text": text}) if kind == "jsonl" else text) + "\n")
            file.flush()
            go_on.wait(30)

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    documents = read_documents(CorpusConfig(path=str(pipe)), ["sw"])
    early = list(itertools.islice(documents, 200))
    assert [d.row for d in early] == list(range(200))
    assert not go_on.is_set()
    go_on.set()
    assert len(list(documents)) == 200
    writer.join(30)


def test_a_large_row_group_is_not_held_in_memory(tmp_path: Path) -> None:
    """80 MB of text in one row group are read with far less."""
    row = base64.b64encode(os.urandom(1500)).decode()
    table = pa.table({"text": [f"{i:06d}{row}" for i in range(40_000)]})
    pq.write_table(table, tmp_path / "c.parquet", compression="none", use_dictionary=False)
    del table
    pool = pa.default_memory_pool()
    before, most = pool.bytes_allocated(), 0
    for index, _ in enumerate(
        read_documents(CorpusConfig(path=str(tmp_path / "c.parquet")), ["sw"])
    ):
        if index % 100 == 0:
            most = max(most, pool.bytes_allocated() - before)
    assert index == 39_999
    assert most < 16 * 2**20
