"""dedupe: pairs that say the same twice go; the first of each stays.

Exact: the canonical form (case, punctuation, width and spaces folded) is the same, by 128-bit hash.
Near: the shingle sets have a Jaccard similarity of `similarity` or more, checked exactly. Of pairs,
both sides have to be so; of documents, the pairs made from the later of two near copies go (several
pairs of one document are no duplicates of each other). Semantic, where it is asked for: a teacher's
vectors have a cosine of `cosine` or more, of queries or of documents.

What earlier rounds accepted, and what `against` names, comes first and stays. In a later round a
pair goes as well if its query alone was asked before: another call that asks what was asked already
is not what the round was made for.

All rows are compared with all in one worker. What of them is compared is found out before, shard
by shard and on all workers, by the sketch stage; of rows that are given (earlier rounds, `against`)
by that worker itself.

    <stage>/sketch/                    the sketches, until `prepare` is through
    <stage>/prepared/<shard>.parquet   each row's reason, and the id of the row it duplicates
"""

import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field
from scipy.sparse import coo_array, issparse, vstack
from scipy.sparse.csgraph import connected_components

from sdg.earlier_pairs import EarlierPairs
from sdg.near_duplicates import NearDuplicates, first_of_equals, keep_first, numbers_in
from sdg.near_vectors import near_vectors
from sdg.schema import Pair
from sdg.shingles import CHARACTERS, WORDS, odd_numbers
from sdg.stage import ACCEPTED, Context, Inputs, Resources, Result, Shard, Stage, split
from sdg.stages.sketch import (
    HASHES,
    SIDES,
    SKETCHES,
    Side,
    SketchStage,
    hashes_of,
    queries_of,
    texts_of,
)
from sdg.store import write_table
from sdg.teachers import AnyTeacher, LexicalTeacher

_ODD = odd_numbers(5000, 1)  # tells a pair's sides apart
BATCH = 1024  # texts that a teacher is given at once, at least
PLACES = ("", "_of_earlier_round", "_of_earlier_run")  # of the row that is duplicated
REASONS = [
    "",
    *(
        f"{how}_{side}{where}"
        for how in ("exact", "near", "semantic")
        for side in ("pair", "query", "document")
        for where in PLACES
    ),
]


class DedupeStage(Stage):
    """Drops exact and near duplicates over the whole run."""

    name: ClassVar[str] = "dedupe"
    version: ClassVar[int] = 4
    takes = Pair
    gives = Pair

    exact: tuple[Literal["pair", "query"], ...] = ("pair",)  # what may not be there twice
    near: tuple[Literal["pair", "query", "document"], ...] = ("pair", "document")  # nor nearly so
    similarity: float = Field(0.8, ge=0.5, le=1)  # Jaccard, from which on two texts are near
    words: int = Field(WORDS, ge=1, le=64)  # in a shingle
    characters: int = Field(CHARACTERS, ge=1, le=64)  # in one of a script without spaces
    semantic: tuple[Literal["query", "document"], ...] = ()  # what may not mean the same twice
    cosine: float = Field(0.95, gt=0, le=1)  # of the teacher's vectors
    teacher: AnyTeacher = LexicalTeacher()  # of `semantic`
    against: tuple[str, ...] = ()  # folders of earlier runs, or pairs in files; see EarlierPairs

    def fingerprint(self) -> dict[str, Any]:
        """The settings, and what is in what `against` names."""
        found = [EarlierPairs(path).fingerprint() for path in self.against]
        return {**super().fingerprint(), **({"against_content": found} if found else {})}

    def prepare(self, inputs: Inputs, ctx: Context) -> None:
        """Compare all rows; write each shard's verdicts."""
        folder = ctx.dir / "compared"
        shutil.rmtree(folder, ignore_errors=True)  # a dead worker's
        rounds = [inputs.earlier[ACCEPTED]] if ACCEPTED in inputs.earlier else []
        runs = [EarlierPairs(path) for path in self.against]
        rows = _Rows(folder, rounds, runs, inputs, self.survey())
        for side in ("pair", "query"):
            if rounds or side in self.exact:
                rows.drop_equal(side, among_all=side in self.exact)
        if self.near:
            self._drop_near(rows, folder)
        for side in self.semantic:
            self._drop_semantic(rows, side, ctx.dir / f"teacher-{side}.npz")
        for name, verdicts in zip(inputs.shards, rows.verdicts(), strict=True):
            write_table(ctx.dir / f"{name}.parquet", verdicts)
        shutil.rmtree(folder)

    def survey(self) -> SketchStage:
        """The stage that sketches each shard, before."""
        queries: list[Side] = ["query"] if self._near_queries else []
        return SketchStage(
            threshold=self.similarity,
            words=self.words,
            characters=self.characters,
            sides=(*queries, *self._near_texts),
        )

    @property
    def _near_queries(self) -> bool:
        """Whether queries are compared, by themselves or as sides of pairs."""
        return "query" in self.near or "pair" in self.near

    @property
    def _near_pairs(self) -> bool:
        """Whether pairs are compared by both sides; where near queries go, such pairs go too."""
        return "pair" in self.near and "query" not in self.near

    @property
    def _near_texts(self) -> list[Side]:
        """The sides whose texts are compared, as one set: positives and documents are mostly the
        same."""
        positives: list[Side] = ["positive"] if self._near_pairs else []
        documents: list[Side] = ["document"] if "document" in self.near else []
        return [*positives, *documents]

    def resources(self) -> Resources | None:
        return self.teacher.resources() if self.semantic else None

    def run(self, shard: Shard, ctx: Context, state: Any) -> Result:
        verdicts = pq.read_table(ctx.dir / f"{shard.name}.parquet").slice(0, shard.table.num_rows)
        reasons, twins = verdicts["reason"].to_pylist(), verdicts["twin"].to_pylist()
        return split(shard.table, reasons, details=twins)

    def _drop_near(self, rows: "_Rows", folder: Path) -> None:
        """Rows that are nearly what an earlier one is."""
        sides = self._near_texts
        numbers_NS = rows.number_texts(sides)
        texts, queries = (
            NearDuplicates(folder / name, self.similarity) for name in ("texts", "queries")
        )
        for start, table in rows.sketches():
            numbers = numbers_NS[start : start + table.num_rows]
            living = np.flatnonzero(rows.codes[start : start + table.num_rows] == 0)
            if self._near_queries:
                queries.add(queries_of(table, living, queries.bands))
            # They are numbered as they first come.
            fresh = np.flatnonzero(numbers.ravel() >= texts.num)
            fresh = fresh[np.unique(numbers.ravel()[fresh], return_index=True)[1]]
            of_rows, of_sides = np.divmod(fresh, max(1, len(sides)))
            texts.add(texts_of(table, of_rows, [sides[side] for side in of_sides], texts.bands))
        near_texts = texts.pairs()
        living = rows.living()
        if self._near_pairs:
            positives = numbers_NS[living, 0]
            found = queries.pairs(_families(texts.num, near_texts)[positives])
            found = found[_are_near(positives[found], near_texts)]
            rows.drop_near("pair", living[found])
        elif "query" in self.near:
            rows.drop_near("query", living[queries.pairs()])
        if "document" in self.near:
            rows.drop_near_texts("near", "document", numbers_NS[:, -1], near_texts)

    def _drop_semantic(self, rows: "_Rows", side: str, path: Path) -> None:
        """Rows whose query, or document, means what an earlier one does."""
        numbers_N = rows.number_texts([side])[:, 0]
        self.teacher.fit(rows.distinct(side, numbers_N), path)
        encoder = self.teacher.open(path)
        try:
            found = [
                encoder.queries(batch, [""] * len(batch))
                if side == "query"
                else encoder.documents(batch)
                for batch in rows.distinct(side, numbers_N)
            ]
        finally:
            encoder.close()
        if found:
            vectors_ND = vstack(found, "csr") if issparse(found[0]) else np.concatenate(found)
            pairs = near_vectors(vectors_ND, self.cosine)
            rows.drop_near_texts("semantic", side, numbers_N, pairs)


class _Rows:
    """All rows by number, those that are given (and stay) before the stage's input, and what is
    found out about each."""

    def __init__(
        self,
        folder: Path,
        rounds: Sequence[Inputs],
        runs: Sequence[EarlierPairs],
        inputs: Inputs,
        survey: SketchStage,
    ) -> None:
        """Number the rows.

        Args:
            folder: for what is found out; hashes lie in files there, mapped into memory.
            rounds, runs: earlier ones, whose rows stay.
            survey: sketches rows that `inputs` has no sketches of.
        """
        folder.mkdir(parents=True)
        self._folder = folder
        self._sources: Sequence[Inputs | EarlierPairs] = (*rounds, *runs, inputs)
        self._sketched = [
            inputs.earlier[SketchStage.name]
            if source is inputs and SketchStage.name in inputs.earlier
            else survey.over(source.tables(list(SIDES)), folder / f"sketches-{number}")
            for number, source in enumerate(self._sources)
        ]
        self._sizes = [[self._hash(t) for t in part.tables(HASHES)] for part in self._sketched]
        self._num_of_rounds = sum(map(sum, self._sizes[: len(rounds)]))
        self.num_given = sum(map(sum, self._sizes[:-1]))
        self.codes = np.zeros(sum(map(sum, self._sizes)), np.uint8)  # of REASONS; 0: it stays
        # The row that a dropped one duplicates.
        self._twins = np.full(len(self.codes), -1, np.int32)

    def _hash(self, table: pa.Table) -> int:
        """Append the hashes of sketched rows to the files; returns how many rows there are."""
        query, positive, document = (hashes_of(table, side) for side in SIDES)
        texts = np.stack([positive, document], axis=1)
        for name, hashes in (("query", query), ("pair", query * _ODD + positive), ("texts", texts)):
            with (self._folder / f"{name}.hashes").open("ab") as file:
                hashes.tofile(file)
        return table.num_rows

    def living(self) -> np.ndarray:
        """Numbers of the rows that nothing is known against."""
        return np.flatnonzero(self.codes == 0)

    def tables(self, columns: list[str]) -> Iterator[tuple[int, pa.Table]]:
        """Every shard's table, with the number of its first row."""
        return _numbered(table for source in self._sources for table in source.tables(columns))

    def sketches(self) -> Iterator[tuple[int, pa.Table]]:
        """Every shard's sketches, with the number of its first row."""
        return _numbered(table for part in self._sketched for table in part.tables(SKETCHES))

    def drop_equal(self, side: str, *, among_all: bool) -> None:
        """Rows whose query, or pair, is there before, or (not `among_all`) in earlier rounds."""
        living = self.living()
        first = living[first_of_equals(numbers_in(self._folder / f"{side}.hashes", 2), living)]
        twice = first != living if among_all else first < self._num_of_rounds
        self._drop("exact", side, living[twice], first[twice])

    def drop_near(self, side: str, pairs: np.ndarray) -> None:
        """Rows that an earlier one is near to, which stays itself."""
        twins = keep_first(len(self.codes), pairs, self.num_given)
        rows = np.flatnonzero(twins >= 0)
        self._drop("near", side, rows, twins[rows])

    def drop_near_texts(self, how: str, side: str, numbers: np.ndarray, pairs: np.ndarray) -> None:
        """All rows with a text that is near to one that stays, by the texts' numbers (N,)."""
        living = self.living()
        none = len(self.codes)
        firsts = np.full(max(numbers.max(initial=-1), pairs.max(initial=-1)) + 1, none)
        np.minimum.at(firsts, numbers[living], living)
        pairs = np.sort(firsts[pairs], axis=1)
        pairs = pairs[pairs[:, 1] < none]
        pairs = pairs[np.argsort(pairs[:, 1], kind="stable")]
        twins = keep_first(none, pairs, self.num_given)[firsts[numbers[living]]]
        self._drop(how, side, living[twins >= 0], twins[twins >= 0])

    def number_texts(self, sides: Sequence[str]) -> np.ndarray:
        """Which text each row has on each side (N, S) int32, numbered as they first come; -1 in
        rows that go already. Queries are numbered by themselves."""
        living = self.living()
        numbers_NS = np.full((len(self.codes), len(sides)), -1, np.int32)
        if sides:
            of_texts = sides[0] != "query"
            name = "texts" if of_texts else "query"
            hashes = numbers_in(self._folder / f"{name}.hashes", 2)
            offsets = [SIDES.index(side) - 1 if of_texts else 0 for side in sides]
            places = ((living * (1 + of_texts))[:, None] + offsets).ravel()
            first = first_of_equals(hashes, places)
            is_first = first == np.arange(len(first), dtype=first.dtype)
            number = np.cumsum(is_first, dtype=first.dtype) - 1
            numbers_NS[living] = number[first].reshape(-1, len(sides))
        return numbers_NS

    def distinct(self, side: str, numbers: np.ndarray) -> Iterator[list[str]]:
        """The texts that the numbers (N,) are of, in their order, some at a time."""
        batch: list[str] = []
        num_texts = 0
        for start, table in self.tables([side]):
            for text, number in zip(
                table[side].to_pylist(), numbers[start : start + table.num_rows], strict=True
            ):
                if number == num_texts:
                    batch.append(text)
                    num_texts += 1
            if len(batch) >= BATCH:
                yield batch
                batch = []
        if batch:
            yield batch

    def verdicts(self) -> Iterator[pa.Table]:
        """For each shard of the input a table of `reason` and `twin`, null where a row stays."""
        wanted = np.unique(self._twins[self._twins >= 0])
        found = [pa.array([], pa.large_string())]  # of a large run more than 2 GiB
        for start, table in self.tables(["id"]):
            low, high = np.searchsorted(wanted, [start, start + table.num_rows])
            mine = table["id"].take(pa.array(wanted[low:high] - start))
            found += mine.cast(pa.large_string()).chunks
        ids = pa.concat_arrays(found)
        names = pa.array([reason or None for reason in REASONS], pa.string())
        end = self.num_given
        for size in self._sizes[-1]:
            start, end = end, end + size
            twins = self._twins[start:end]
            places = pa.array(np.searchsorted(wanted, twins), mask=twins < 0)
            reasons = names.take(pa.array(self.codes[start:end]))
            yield pa.table({"reason": reasons, "twin": ids.take(places).cast(pa.string())})

    def _drop(self, how: str, side: str, rows: np.ndarray, twins: np.ndarray) -> None:
        own = rows >= self.num_given
        rows, twins = rows[own], twins[own]
        place = np.where(twins < self._num_of_rounds, 1, np.where(twins < self.num_given, 2, 0))
        self.codes[rows] = REASONS.index(f"{how}_{side}") + place
        self._twins[rows] = twins


def _numbered(tables: Iterable[pa.Table]) -> Iterator[tuple[int, pa.Table]]:
    """Tables with the number of each one's first row."""
    start = 0
    for table in tables:
        yield start, table
        start += table.num_rows


def _families(num: int, pairs: np.ndarray) -> np.ndarray:
    """A number for each of `num` texts, the same for those that pairs join, however far."""
    edges = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(num, num))
    families: np.ndarray = connected_components(edges, directed=False)[1]
    return families


def _are_near(texts: np.ndarray, near: np.ndarray) -> np.ndarray:
    """Whether two texts (P, 2) are one, or among the pairs `near`, whose first is the lower."""
    low, high = texts.min(axis=1), texts.max(axis=1)
    num = np.int64(max(high.max(initial=0), near.max(initial=0)) + 1)  # squared, not in 32 bits
    are: np.ndarray = (low == high) | np.isin(low * num + high, near[:, 0] * num + near[:, 1])
    return are
