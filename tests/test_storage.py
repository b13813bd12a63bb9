"""Object stores: what is written there appears whole, and a stage's folder is one like another."""

import itertools
import json
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sdg import lock
from sdg.corpora import CorpusConfig, read_documents
from sdg.errors import UserError
from sdg.lock import run_lock
from sdg.schema import Seed, to_table
from sdg.stage import split
from sdg.storage import (
    download,
    is_object,
    path_of,
    put,
    read_object,
    remove_folder,
    write_atomically,
)
from sdg.store import StageStore, write_json
from tests.object_store import bucket
from tests.rows import make_seed

pytest.importorskip("s3fs")
pytest.importorskip("moto")

ROOT = Path(__file__).parent.parent
TABLE = to_table([make_seed(f"Maneno ya hati namba {i}.") for i in range(5)], Seed)
REASONS = [None, "short", None, "long", "short"]
numbers = itertools.count()


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """The URL of a bucket of a real S3 server."""
    with bucket() as url:
        yield url


@pytest.fixture
def folder(
    s3: str, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A folder in the bucket that nothing is in, and none of it on this machine."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("scratch")))
    return path_of(f"{s3}/{next(numbers)}")


def finished(store: StageStore, *shards: str) -> None:
    with store.manifest() as add:
        for shard in shards:
            add(store.write(shard, 5, split(TABLE, REASONS, {"calls": 2}), 0.1))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


@pytest.fixture(params=["a disk", "an object store"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A folder of either kind that nothing is in."""
    on_disk = request.param == "a disk"
    folder: Path = tmp_path / "place" if on_disk else request.getfixturevalue("folder")
    assert is_object(folder) != on_disk
    return folder


def test_a_failed_write_leaves_what_was_there_and_no_crumbs(place: Path) -> None:
    path = place / "deep" / "file"

    def fail(temporary: Path) -> None:
        assert temporary != path
        temporary.write_text("half of i")
        raise OSError("disk full")

    for content in (None, "before"):
        if content:
            path.write_text(content)
        with pytest.raises(OSError, match="disk full"):
            write_atomically(path, fail)
        assert (path.read_text() if path.exists() else None) == content
        assert names(place) == (["file"] if content else [])


def test_a_shard_counts_once_the_manifest_names_it(folder: Path) -> None:
    store = StageStore(folder / "1-test")
    finished(store, "00000", "00001")
    store.write("00002", 5, split(TABLE, REASONS), 0.1)  # its worker is killed here
    again = StageStore(path_of(str(store.folder)))
    assert sorted(again.finished()) == ["00000", "00001"]
    finished(again, "00002")
    assert sorted(store.finished()) == ["00000", "00001", "00002"]
    assert again.finished()["00002"].dropped == {"short": 2, "long": 1}
    assert store.read("00002").equals(TABLE.take([0, 2]))
    assert store.read("00002", ["text"]).column_names == ["text"]
    store.kept_path("00001").unlink()
    assert sorted(again.finished()) == ["00000", "00002"]


def test_a_manifest_says_what_was_finished_when_a_stage_fails(folder: Path) -> None:
    store = StageStore(folder / "1-test")
    with pytest.raises(RuntimeError), store.manifest() as add:
        add(store.write("00000", 5, split(TABLE, REASONS), 0.1))
        raise RuntimeError("a worker died too often")
    assert list(store.finished()) == ["00000"]


def test_prepared_files_are_fetched_whole_and_once(folder: Path, tmp_path: Path) -> None:
    source = tmp_path / "prepared"
    (source / "raw").mkdir(parents=True)
    (source / "raw" / "a").write_bytes(b"\0" * 1000)
    (source / "b.json").write_text("{}")
    store = StageStore(folder / "1-test")
    for path in ("raw/a", "b.json"):
        put(source / path, store.folder / "prepared" / "one" / path)
    put(source / "b.json", store.folder / "prepared" / "killed" / "b.json")
    write_json(store.folder / "prepared.json", {"seconds": 1, "attempt": "one"})
    here = store.prepared_dir
    assert names(here) == ["a", "b.json"]
    (here / "raw" / "a").unlink()
    assert names(store.prepared_dir) == ["b.json"]  # not fetched again
    store.clear_prepared()
    assert names(store.folder / "prepared") == []


def test_an_objects_name_leads_out_of_no_folder(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("x")
    put(tmp_path / "x", folder / "in")
    folder.fs.pipe_file(f"{folder.path}/../../../out", b"x")  # type: ignore[attr-defined]
    download(folder, tmp_path / "a" / "b")
    assert names(tmp_path) == ["in", "x"]


def test_one_process_works_on_a_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "RENEW_S", 0.1)
    monkeypatch.setattr(lock, "LEFT_S", 120.0)  # in which a slow machine, too, renews once
    with (
        run_lock(folder),
        pytest.raises(UserError, match="another process is working"),
        run_lock(folder),
    ):
        pass
    assert not (folder / "lock").exists()
    monkeypatch.setattr(lock, "LEFT_S", 1.0)
    write_json(folder / "lock", {"id": "of one that was killed", "at": 0})
    with run_lock(folder):
        assert json.loads(read_object(folder / "lock"))["id"] != "of one that was killed"


def test_a_corpus_is_read_from_there(folder: Path, tmp_path: Path) -> None:
    source = ROOT / "sdg/corpus/sw.jsonl"
    rows = [json.loads(line) for line in source.read_text(encoding="utf-8").splitlines()]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "b.parquet")
    subprocess.run(["gzip", "-k", "-c", source], stdout=(tmp_path / "c.gz").open("wb"), check=True)
    put(source, folder / "a.jsonl")
    put(tmp_path / "b.parquet", folder / "more" / "b.parquet")
    put(tmp_path / "c.gz", folder / "more" / "c.jsonl.gz")
    put(source, folder / "more" / "notes.doc")
    texts = [row["text"] for row in rows]

    def read(path: str) -> list[tuple[str, str]]:
        config = CorpusConfig(path=f"{folder}{path}")
        return [(d.source.partition("#")[0], d.text) for d in read_documents(config, ["sw"])]

    assert read("/a.jsonl") == [("a.jsonl", text) for text in texts]
    files = ("a.jsonl", "more/b.parquet", "more/c.jsonl.gz")
    assert read("") == [(name, text) for name in files for text in texts]
    assert read("/*/*.parquet") == [("b.parquet", text) for text in texts]
    remove_folder(folder / "more")
    assert [name for name, _ in read("")] == ["a.jsonl"] * len(texts)
    with pytest.raises(UserError, match="nothing there"):
        read("/none")


@pytest.mark.parametrize("url", ["nonsense://a/b", "s3ff://x"])
def test_a_url_of_no_known_kind_is_refused(url: str) -> None:
    with pytest.raises(UserError, match="cannot be reached"):
        path_of(url)
