"""decontaminate: pairs that evaluation sets hold go, so that a measured gain is one.

A pair goes if its query or positive is, canonical, a text of a set, or shares with one a run of
`words` words (`characters` in scripts without spaces; GPT-3's rule has 13 words, arXiv 2005.14165,
appendix C). With `parallel`, the sets' ids are the corpus's own: a pair made from a passage whose
id a set has goes in every language, and so does one whose passage's id a contaminated pair has.

    <stage>/prepared/exact, ngrams       hashes of the sets' texts, and whose they are
    <stage>/prepared/texts.parquet       set and id of each text
    <stage>/prepared/ids.json            corpus ids that are contaminated, with `parallel`
    <stage>/prepared/runs.json           `words` and `characters`, which the hashes are of
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from sdg.canonical import canonical_hashes
from sdg.evaluation_sets import EvaluationText, check_set, read_set
from sdg.hash_index import HashIndex, HashIndexWriter
from sdg.schema import Pair
from sdg.shingles import shingles
from sdg.stage import Context, Inputs, Result, Shard, Stage, split
from sdg.storage import read_table
from sdg.store import write_json
from sdg.text import weight

_BATCH = 1024  # texts at once
_TEXTS = pa.schema([("set", pa.string()), ("id", pa.string())])
TRANSLATION = "translation_in_evaluation"


@dataclass(frozen=True)
class Sets:
    """What the evaluation sets hold. Of texts it tells which evaluation text has each, by its place
    in `texts`, (N,) int64; -1 where none has."""

    exact: HashIndex
    ngrams: HashIndex
    texts: pa.Table  # set and id
    ids: dict[str, str]  # contaminated ids of the corpus -> where they are from
    runs: dict[str, int]  # words, and characters, that two texts may not share in a row

    @classmethod
    def load(cls, folder: Path) -> "Sets":
        """Read what `DecontaminateStage.prepare` wrote."""
        return cls(
            exact=HashIndex(folder / "exact"),
            ngrams=HashIndex(folder / "ngrams"),
            texts=pq.read_table(folder / "texts.parquet"),
            ids=json.loads((folder / "ids.json").read_text(encoding="utf-8")),
            runs=json.loads((folder / "runs.json").read_text(encoding="utf-8")),
        )

    def same(self, texts: Sequence[str]) -> np.ndarray:
        """The evaluation text that each text is."""
        return self.exact.owners(canonical_hashes(texts)[:, 0])

    def sharing(self, texts: Sequence[str]) -> np.ndarray:
        """The first evaluation text that each text shares a run of words with."""
        found = shingles(texts, **self.runs)
        hits = self.ngrams.owners(found.hashes)
        owners = np.full(len(texts), -1, np.int64)
        places = np.flatnonzero(hits >= 0)[::-1]  # so that a text's first one is set last
        owners[np.searchsorted(found.offsets, places, side="right") - 1] = hits[places]
        return owners

    def hold(self, texts: Sequence[str]) -> np.ndarray:
        """Whether they hold each text, or a run of its words, (N,) bool."""
        found: np.ndarray = (self.same(texts) >= 0) | (self.sharing(texts) >= 0)
        return found


class DecontaminateStage(Stage):
    """Drops what the named evaluation sets hold; there is no such stage where none is named."""

    name: ClassVar[str] = "decontaminate"
    version: ClassVar[int] = 3
    takes = Pair
    gives = Pair

    against: tuple[str, ...] = Field(min_length=1)  # evaluation sets; see sdg/evaluation_sets.py
    words: int = Field(13, ge=3, le=64)  # that a pair and a set may not share in a row
    characters: int = Field(25, ge=5, le=64)  # the same in scripts without spaces
    least: int = Field(12, ge=1)  # letters' worth of a set's text; a shorter one is chance
    parallel: bool = False  # ids of the sets are those of the corpus

    def fingerprint(self) -> dict[str, Any]:
        """The settings, and how much there is of each set."""
        return {**super().fingerprint(), "sets": [check_set(name) for name in self.against]}

    @property
    def prepares_once(self) -> bool:
        """The sets are the same in every round; the ids found in a round's pairs are not."""
        return not self.parallel

    def prepare(self, inputs: Inputs, ctx: Context) -> None:
        """Index the sets' texts; with `parallel`, find the ids that are contaminated."""
        exact, ngrams = HashIndexWriter(ctx.dir / "exact"), HashIndexWriter(ctx.dir / "ngrams")
        ids: dict[str, str] = {}
        number = 0
        with pq.ParquetWriter(ctx.dir / "texts.parquet", _TEXTS) as writer:
            for batch in self._read(ctx):
                owners = np.arange(number, number + len(batch))
                exact.add(canonical_hashes([text.text for text in batch])[:, 0], owners)
                found = shingles([text.text for text in batch], self.words, self.characters)
                ngrams.add(found.hashes, np.repeat(owners, np.diff(found.offsets)))
                rows = [{"set": text.set, "id": text.id} for text in batch]
                writer.write_table(pa.Table.from_pylist(rows, _TEXTS))
                if self.parallel:
                    ids.update((text.id, f"{text.set}#{text.id}") for text in batch)
                number += len(batch)
        exact.finish()
        ngrams.finish()
        write_json(ctx.dir / "ids.json", ids)
        write_json(ctx.dir / "runs.json", {"words": self.words, "characters": self.characters})
        if self.parallel:
            sets = self.open(ctx)
            for table in inputs.tables(["query", "positive", "provenance"]):
                for (reason, place), name in zip(
                    self._verdicts(table, sets), _corpus_ids(table), strict=True
                ):
                    if reason and name:
                        ids.setdefault(name, place or "")
            write_json(ctx.dir / "ids.json", ids)

    def _read(self, ctx: Context) -> Iterator[list[EvaluationText]]:
        named = (text for name in self.against for text in read_set(name, ctx.langs))
        texts = (found for found in named if weight(found.text) >= self.least)
        while batch := list(islice(texts, _BATCH)):
            yield batch

    def open(self, ctx: Context) -> Sets:
        return Sets.load(ctx.dir)

    def run(self, shard: Shard, ctx: Context, state: Sets) -> Result:
        verdicts = self._verdicts(shard.table, state)
        reasons, places = [why for why, _ in verdicts], [place for _, place in verdicts]
        return split(shard.table, reasons, details=places)

    def _verdicts(self, table: pa.Table, sets: Sets) -> list[tuple[str | None, str | None]]:
        """Why a pair goes, and which text of which set has it."""
        found: list[tuple[str | None, str | None]] = [(None, None)] * table.num_rows
        texts = {side: table[side].to_pylist() for side in ("query", "positive")}
        for how, look_up in (("exact", sets.same), ("ngram", sets.sharing)):
            for side, mine in texts.items():
                owners = look_up(mine)
                for row in np.flatnonzero(owners >= 0).tolist():
                    if found[row][0] is None:
                        owner = sets.texts.slice(int(owners[row]), 1).to_pylist()[0]
                        place = f"{owner['set']}#{owner['id']}"
                        found[row] = (f"{how}_{side}_in_evaluation", place)
        if sets.ids:
            for row, name in enumerate(_corpus_ids(table)):
                if found[row][0] is None and name in sets.ids:
                    found[row] = (TRANSLATION, sets.ids[name])
        return found


def _corpus_ids(table: pa.Table) -> list[str]:
    """The corpus's own id of the passage that each pair is made from, "" where it has none."""
    return [row["source"].partition("#")[2] for row in table["provenance"].to_pylist()]


def contamination(run_dir: Path, num_samples: int = 5) -> dict[str, Any] | None:
    """The report of a run: hits by set and language, with samples; None if no set was named."""
    folders = sorted(run_dir.glob("stages/*-decontaminate*"))
    if not folders:
        return None
    sets: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    samples: dict[str, list[dict[str, str]]] = defaultdict(list)
    for path in (path for folder in folders for path in sorted(folder.glob("dropped/*.parquet"))):
        columns = ["id", "query", "query_lang", "positive", "reason", "detail"]
        for row in read_table(path, columns).to_pylist():
            name = row["detail"].rpartition("#")[0]
            sets[name][row["query_lang"]][row["reason"]] += 1
            if len(samples[name]) < num_samples:
                shown = {key: row[key][:300] for key in ("id", "query", "positive", "reason")}
                samples[name].append({**shown, "found_in": row["detail"]})
    return {
        "hits": sum(sum(c.total() for c in langs.values()) for langs in sets.values()),
        "sets": {
            name: {
                "by_language": {lang: dict(c) for lang, c in sorted(langs.items())},
                "samples": samples[name],
            }
            for name, langs in sorted(sets.items())
        },
    }
