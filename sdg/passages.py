"""The passages that negatives are taken from, and which of them are known to be none.

    passages.arrow    texts and languages, read from the file wherever one is wanted
    places.npy        row -> place in that file; rows are in the order of their seeded hash
    rows.npy, groups.npy   tables of 64-bit keys, for `Passages.known`
    vectors/          of the teachers, by parts; each is made by the worker that first needs it

A text is known by the hash of its canonical form, so copies of it are one.
"""

import fcntl
import json
import shutil
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from sdg.characters import codes_of
from sdg.schema import Pair
from sdg.stage import Inputs
from sdg.store import write_json
from sdg.teachers import Encoder
from sdg.text import canonical, digest
from sdg.vectors import SparseVectors, Vectors, dense_vectors

BATCH = 1000  # texts written, or encoded, at once
CACHED = 20_000  # passages whose canonical form a worker remembers
SHINGLE = 4  # characters, of the canonical form
Fit = Callable[[Sequence[str], Sequence[str]], Sequence[bool]]
SCHEMA = pa.schema([("text", pa.string()), ("lang", pa.string())])


def key_of(*parts: object) -> int:
    """64 bits of the hash of the parts."""
    return int(digest(*parts)[:16], 16)


def text_key(canonical_text: str) -> int:
    return key_of("text", canonical_text)


# Of a shingle's hash: odd, and without a pattern.
_FACTORS = np.array([key_of("shingle", i) | 1 for i in range(SHINGLE)], dtype=np.uint64)


class KeyTable:
    """64-bit keys, ascending, each with one value or more."""

    def __init__(self, keys: np.ndarray, values: np.ndarray) -> None:
        self.keys = keys
        self.values = values

    @classmethod
    def of(cls, keys: Any, values: Any) -> "KeyTable":
        """Built from (key, value) pairs, each counted once."""
        pairs = np.array([keys, values], dtype=np.uint64).reshape(2, -1)
        pairs = np.unique(pairs, axis=1)
        return cls(pairs[0], pairs[1])

    def find(self, keys: Sequence[int]) -> np.ndarray:
        """Values of all the keys that are there."""
        wanted = np.array(keys, dtype=np.uint64)
        first, last = (np.searchsorted(self.keys, wanted, side) for side in ("left", "right"))
        spans = [self.values[a:b] for a, b in zip(first, last, strict=True) if a < b]
        return np.concatenate(spans) if spans else np.zeros(0, dtype=np.uint64)

    def save(self, path: Path) -> None:
        np.save(path, np.stack([self.keys, self.values]))

    @classmethod
    def load(cls, path: Path) -> "KeyTable":
        keys, values = np.load(path, mmap_mode="r")
        return cls(keys, values)


# Making them


class _Row(NamedTuple):
    """A passage as it comes, with the keys of what it is a translation of."""

    text: str
    lang: str
    keys: tuple[int, ...]


def write_passages(
    folder: Path,
    seeds: Inputs,
    pairs: Sequence[Inputs],
    size: int,
    seed: int,
    *,
    fit: Fit,
) -> None:
    """Draw at most `size` passages from the seeds and the pairs' documents, by seeded hash, and
    note what is known of them. Holds numbers, not texts.

    Args:
        pairs: what each round made; this round's last.
        fit: which passages of these texts and languages may be drawn: no filter has seen the seeds,
            nor all of a document of whose part a pair was made.
    """
    order, version = array("Q"), array("Q")
    for row in _rows(seeds, pairs[-1], fit):
        order.append(key_of("pool", seed, canonical(row.text)))
        version.append(key_of(row.text, row.lang))  # which of several copies stands for them
    drawn = np.unique(np.frombuffer(order, np.uint64))[:size]
    row_of = np.searchsorted(drawn, np.frombuffer(order, np.uint64))
    is_drawn = np.isin(np.frombuffer(order, np.uint64), drawn)
    first = np.lexsort((np.frombuffer(version, np.uint64), np.frombuffer(order, np.uint64)))
    is_first = np.zeros(len(order), dtype=bool)
    is_first[first[np.unique(row_of[first], return_index=True)[1]]] = True
    is_first &= is_drawn
    places = np.zeros(len(drawn), dtype=np.int64)
    keys, rows = array("Q"), array("Q")
    groups = _bitext_groups(pairs)
    with _Writer(folder / "passages.arrow") as writer:
        for i, row in enumerate(_rows(seeds, pairs[-1], fit)):
            if is_drawn[i]:
                own = text_key(canonical(row.text))
                found = [own, *row.keys, *groups.find([own]).tolist()]
                keys.extend(found)
                rows.extend([int(row_of[i])] * len(found))
            if is_first[i]:
                places[row_of[i]] = writer.add(row.text, row.lang)
    np.save(folder / "places.npy", places)
    KeyTable.of(keys, rows).save(folder / "rows.npy")
    groups.save(folder / "groups.npy")
    write_json(folder / "shared_queries.json", _shared_queries(pairs[-1]))


class _Writer:
    """Writes passages into an Arrow file, a batch at a time."""

    def __init__(self, path: Path) -> None:
        self._file = pa.OSFile(str(path), "wb")
        self._writer = pa.ipc.new_file(self._file, SCHEMA)
        self._batch: list[dict[str, str]] = []
        self._num = 0

    def add(self, text: str, lang: str) -> int:
        """Its place in the file."""
        self._batch.append({"text": text, "lang": lang})
        if len(self._batch) == BATCH:
            self._flush()
        self._num += 1
        return self._num - 1

    def _flush(self) -> None:
        self._writer.write(pa.RecordBatch.from_pylist(self._batch, SCHEMA))
        self._batch = []

    def __enter__(self) -> "_Writer":
        return self

    def __exit__(self, *error: object) -> None:
        self._flush()
        self._writer.close()
        self._file.close()


def _rows(seeds: Inputs, pairs: Inputs, fit: Fit) -> Iterator[_Row]:
    for table in seeds.tables(["text", "lang", "source"]):
        are_fit = fit(table["text"].to_pylist(), table["lang"].to_pylist())
        for row in table.filter(pa.array(are_fit, pa.bool_())).to_pylist():
            yield _Row(row["text"], row["lang"], _parallel_keys(row["source"]))
    for table in pairs.tables(["document", "positive_lang", "task", "provenance"]):
        are_fit = fit(table["document"].to_pylist(), table["positive_lang"].to_pylist())
        for row in table.filter(pa.array(are_fit, pa.bool_())).to_pylist():
            keys = _pair_keys(
                row["task"], row["provenance"]["source"], row["provenance"]["seed_id"]
            )
            yield _Row(row["document"], row["positive_lang"], keys)


def _parallel_keys(source: str) -> tuple[int, ...]:
    """Key of the id that a row's corpus gives it: rows of one id in two languages are parallel."""
    _, sign, row_id = source.partition("#")
    return (key_of("parallel", row_id),) if sign else ()


def _pair_keys(task: str, source: str, seed_id: str) -> tuple[int, ...]:
    """Whatever is made of one pair by translating it says the same, in any language."""
    made = (key_of("translated", seed_id),) if task == "translate" else ()
    return (*_parallel_keys(source), *made)


def _bitext_groups(rounds: Sequence[Inputs]) -> KeyTable:
    """Texts that bitext pairs say are translations, of each other or of a third: their key -> that
    of their group."""
    left, right = array("Q"), array("Q")
    for pairs in rounds:
        for table in pairs.tables(["task", "query", "positive"]):
            for row in table.filter(pc.equal(table["task"], "bitext")).to_pylist():
                left.append(text_key(canonical(row["query"])))
                right.append(text_key(canonical(row["positive"])))
    ends = np.array([left, right], dtype=np.uint64).reshape(2, -1)
    texts, places = np.unique(ends, return_inverse=True)
    places = places.reshape(2, -1)
    links = sparse.coo_matrix((np.ones(len(left)), (places[0], places[1])), shape=2 * (len(texts),))
    _, groups = connected_components(links, directed=False)
    first = texts[np.unique(groups, return_index=True)[1]]  # a group's lowest key stands for it
    names = np.array([key_of("bitext", int(key)) for key in first], dtype=np.uint64)
    return KeyTable.of(texts, names[groups] if len(texts) else texts)


def _shared_queries(pairs: Inputs) -> dict[str, list[str]]:
    """Queries that several passages answer: digest of the query -> those passages, canonical."""
    times: Counter[str] = Counter()
    for table in pairs.tables(["query"]):
        times.update(digest(canonical(query)) for query in table["query"].to_pylist())
    shared: dict[str, set[str]] = {key: set() for key, count in times.items() if count > 1}
    if shared:
        for table in pairs.tables(["query", "document"]):
            for row in table.to_pylist():
                key = digest(canonical(row["query"]))
                if key in shared:
                    shared[key].add(canonical(row["document"]))
    return {key: sorted(documents) for key, documents in sorted(shared.items())}


# Using them


class Passages:
    """What `write_passages` wrote, open for reading."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with pa.memory_map(str(folder / "passages.arrow")) as file:
            self._table = pa.ipc.open_file(file).read_all()
        self._places = np.load(folder / "places.npy", mmap_mode="r")
        self._rows = KeyTable.load(folder / "rows.npy")
        self._groups = KeyTable.load(folder / "groups.npy")
        shared = json.loads((folder / "shared_queries.json").read_text(encoding="utf-8"))
        self._shared = {query: frozenset(texts) for query, texts in shared.items()}
        self.canonical = lru_cache(maxsize=CACHED)(lambda row: canonical(self.text(row)))
        self.shingles = lru_cache(maxsize=CACHED)(lambda row: shingles(self.canonical(row)))

    def __len__(self) -> int:
        return len(self._places)

    def batches(self) -> Iterator[list[str]]:
        """All texts, some at a time."""
        for start in range(0, len(self), BATCH):
            yield [self.text(row) for row in range(start, min(start + BATCH, len(self)))]

    def text(self, row: int) -> str:
        return str(self._table["text"][int(self._places[row])])

    def lang(self, row: int) -> str:
        return str(self._table["lang"][int(self._places[row])])

    def own_texts(self, pair: Pair) -> frozenset[str]:
        """What answers a pair's query, as far as the run knows; canonical."""
        others = self._shared.get(digest(canonical(pair.query)), frozenset())
        return others | {canonical(pair.document), canonical(pair.positive)}

    def known(self, pair: Pair) -> np.ndarray:
        """Rows that the run knows to be no negatives of a pair: what answers its query, its query
        itself, negatives that it has already, and translations of these (but for the last)."""
        own = [text_key(text) for text in (*self.own_texts(pair), canonical(pair.query))]
        there = [text_key(canonical(text)) for text in pair.negatives]
        source = pair.provenance
        parallel = _parallel_keys(source.source)
        of_row = self._rows.find(parallel)
        keys = [*own, *there, *self._groups.find(own)]
        keys += set(_pair_keys(pair.task, source.source, source.seed_id)) - set(parallel)
        # Of the passages that one row of a corpus gave, those in the same language are its others.
        other = [row for row in of_row.tolist() if self.lang(row) != pair.positive_lang]
        return np.unique([*self._rows.find(keys).tolist(), *other]).astype(np.int64)

    def vectors(self, encoders: Sequence[Encoder], first: int, stop: int) -> list[Vectors]:
        """Every teacher's vectors of the passages `first` to `stop`, made if they are not there."""
        found = []
        for teacher, encoder in enumerate(encoders):
            folder = self.folder / "vectors" / f"{teacher}-{first}-{stop}"
            with _lock(self.folder / "vectors.lock"):
                if not folder.exists():
                    self._encode(encoder, first, stop, folder)
            found.append(_load(folder))
        return found

    def indexes(
        self, part: Sequence[Vectors], first: int, build: Callable[[Vectors, Path], None]
    ) -> list[Path]:
        """Files with an index of each teacher's vectors of the part that begins at `first`, made if
        they are not there."""
        paths = []
        for teacher, vectors in enumerate(part):
            stop = first + vectors.num_rows
            path = self.folder / "vectors" / f"{teacher}-{first}-{stop}" / "index"
            with _lock(self.folder / "vectors.lock"):
                if not path.exists():
                    fresh = path.with_suffix(".tmp")
                    build(vectors, fresh)
                    fresh.rename(path)
            paths.append(path)
        return paths

    def _encode(self, encoder: Encoder, first: int, stop: int, folder: Path) -> None:
        fresh = folder.with_name(f".{folder.name}")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        sparse_parts = []
        dense = None
        for start in range(first, stop, BATCH):
            texts = [self.text(row) for row in range(start, min(start + BATCH, stop))]
            vectors = encoder.documents(texts)
            if sparse.issparse(vectors):
                sparse_parts.append(vectors)
                continue
            if dense is None:
                shape = (stop - first, vectors.shape[1])
                dense = np.lib.format.open_memmap(
                    fresh / "dense.npy", mode="w+", dtype=np.float32, shape=shape
                )
            dense[start - first : start - first + len(texts)] = vectors
        if dense is not None:
            dense.flush()
        if sparse_parts:
            by_feature = sparse.vstack(sparse_parts).T.tocsr()
            np.save(fresh / "shape.npy", by_feature.shape)
            for name in ("data", "indices", "indptr"):
                np.save(fresh / f"{name}.npy", getattr(by_feature, name))
        fresh.rename(folder)


def _load(folder: Path) -> Vectors:
    if (folder / "dense.npy").exists():
        return dense_vectors(np.load(folder / "dense.npy", mmap_mode="r"))
    data, indices, indptr = (
        np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("data", "indices", "indptr")
    )
    shape = tuple(np.load(folder / "shape.npy").tolist())
    return SparseVectors(sparse.csr_matrix((data, indices, indptr), shape=shape, copy=False))


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """One process at a time; the kernel frees it when that one dies."""
    with path.open("w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def shingles(text: str) -> np.ndarray:
    """Runs of `SHINGLE` characters of a canonical text, a shorter one whole, as hashes (S,) uint64,
    ascending. Characters in all scripts, unlike in `sdg.shingles`: a passage near to the positive
    is no negative, whichever of its words' endings differ, and here losing a candidate costs
    nothing."""
    codes = codes_of(text + "\0" * (SHINGLE - len(text))).astype(np.uint64)
    size = len(codes) - SHINGLE + 1
    hashes = codes[:size] * _FACTORS[0]
    for i in range(1, SHINGLE):
        hashes += codes[i : i + size] * _FACTORS[i]
    hashes.sort()
    return hashes[np.append(True, hashes[1:] != hashes[:-1])]


def overlap(left: np.ndarray, right: np.ndarray) -> float:
    """How much of the smaller set is in the larger, in [0, 1]: 1 where a text holds the other."""
    smaller, larger = sorted((left, right), key=len)
    places = np.searchsorted(larger, smaller)
    there = larger.take(places, mode="clip") == smaller
    return int(np.count_nonzero(there)) / max(1, len(smaller))
