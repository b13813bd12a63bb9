"""All curation but mining, at several sizes: `make bench BENCH=curate [DATA=<folder> ARGS=]`.

Pairs are cut out of real texts (a query of a few words, half of them as if a model had written
them; a passage of 600 characters to each; one pair in twelve a copy of another) and go through
filter, dedupe, decontaminate (against 200 of the queries) and mix, as a run has them: on a Ray
cluster of two processors, shard by shard from disk to disk; each shard in one language, as a corpus
of a file a language gives them (`--mixed`: every shard in all, which is dearer). No language model
and no teacher takes part. For each size: pairs/s from the first stage's start to the last one's
end, the workers' own start included, and the most memory that the driver and they held together.
`--sizes 100000,1000000` for more; of fewer than 1,000 pairs a language, some languages have none.
The last line is the speed at the largest size over the 3,000 pairs/s that are wanted.

DATA is a folder with Parquet files of a column `text`, one a language; without it the bundled corpus.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from sdg.cluster import Cluster
from sdg.runner import Runner, placed
from sdg.schema import Pair, Seed, to_table
from sdg.stage import Context, Inputs, Result, Shard, Stage, split
from sdg.stages import DecontaminateStage, DedupeStage, FilterStage, MixStage
from sdg.stages.mine import MineStage
from sdg.store import Done, StageStore
from sdg.text import digest
from tests.bench.dedupe import read_texts
from tests.bench.memory import Memory
from tests.rows import make_pair, make_provenance, make_seed

SHARD_ROWS, WANTED, NUM_EVALUATED = 1_000, 3_000.0, 200
LENGTH = 600  # characters of a passage


@dataclass(frozen=True)
class Made:
    """What pairs are made of, and how."""

    texts: dict[str, list[str]]
    a_passage: int  # pairs of each
    of_lang: int  # passages in one language before the next

    def pairs(self, first: int, num: int) -> list[Pair]:
        """Pairs number `first` on, the languages by turns."""
        return [_pair(self, number) for number in range(first, first + num)]


def _pair(made: Made, number: int) -> Pair:
    """Passages are put together from three places, so that they are as many as are asked for."""
    made_as = number - 11 if number % 12 == 11 else number
    texts, of_passage = made.texts, made_as // made.a_passage
    langs, draw = sorted(texts), random.Random(of_passage)
    lang = langs[of_passage // made.of_lang % len(langs)]
    parts = []
    for _ in range(3):
        text = draw.choice(texts[lang])
        start = draw.randrange(max(1, len(text) - LENGTH // 3))
        parts.append(text[start : start + LENGTH // 3].strip())
    passage = " ".join(parts)
    draw = random.Random(made_as)
    start = draw.randrange(max(1, len(passage) - 60))
    query = passage[start : start + 20 + draw.randrange(40)].strip()
    if written := made_as % 2 == 0:  # in other words than the passage's
        query = query[len(query) // 2 :] + " " + query[: len(query) // 2]
    if number != made_as:
        passage = passage[9:]  # as another extractor has it
    return make_pair(
        query,
        passage,
        id=digest("bench", number),
        query_lang=lang,
        positive_lang=lang,
        provenance=make_provenance(
            seed_id=digest("bench", passage),
            strategy="written" if written else "random_crop",
            engine="openai" if written else "extractive",
        ),
    )


def write_pairs(folder: Path, made: Made, num: int) -> Inputs:
    """Shards of pairs, and of some seeds for the verifier of languages, as stages before gave
    them."""
    pairs, seeds = StageStore(folder / "pairs"), StageStore(folder / "seeds")
    names = [f"{i:05d}" for i in range(-(-num // SHARD_ROWS))]
    for place, name in enumerate(names):
        size = min(SHARD_ROWS, num - place * SHARD_ROWS)
        table = to_table(made.pairs(place * SHARD_ROWS, size), Pair)
        pairs.write(name, size, split(table, [None] * size), 0.0)
    for place, (lang, mine) in enumerate(sorted(made.texts.items())):
        rows = [make_seed(text, lang=lang) for text in mine[:300]]
        table = to_table(rows, Seed)
        seeds.write(f"{place:05d}", len(rows), split(table, [None] * len(rows)), 0.0)
    seed = Inputs(tuple(f"{i:05d}" for i in range(len(made.texts))), seeds.read)
    return Inputs(tuple(names), pairs.read, earlier={"seed": seed}, num_rows=num)


def write_evaluation_set(folder: Path, pairs: Sequence[Pair]) -> None:
    """A set that asks the queries of these pairs."""
    folder.mkdir(parents=True)
    rows = [{"_id": f"q{i}", "text": pair.query} for i, pair in enumerate(pairs)]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (folder / "queries.jsonl").write_text(text, encoding="utf-8")


class AsExamples(Stage):
    """What mining would give, without its search: mix takes examples."""

    name: ClassVar[str] = "as_examples"
    takes = MineStage.takes
    gives = MineStage.gives

    def run(self, shard: Shard, ctx: Context, state: Any) -> Result:
        table = shard.table
        num = table.num_rows
        scores = pa.array([[0.5]] * num, pa.list_(pa.float32()))
        none = pa.array([[]] * num, pa.list_(pa.float32()))
        columns = {name: table[name] for name in ("id", "task", "instruction", "query")}
        columns["query_lang"] = table["query_lang"]
        columns["positives"] = pa.array([[text] for text in table["positive"].to_pylist()])
        columns |= {"positive_lang": table["positive_lang"], "positive_scores": scores}
        columns |= {"negatives": table["negatives"], "negative_scores": none}
        columns |= {"provenance": table["provenance"], "positive_grades": none}
        columns |= {"negative_grades": none, "unverified": table["unverified"]}
        kept = to_table([], self.gives).schema
        return Result(pa.table(columns).cast(kept), split(table, [None] * num).dropped, num)


class Clock:
    """A display that shows nothing, and notes when each stage ended, and the most memory it took,
    with what was run for it before."""

    def __init__(self) -> None:
        self.ends: dict[str, float] = {}
        self.peaks: dict[str, float] = {}
        self.memory = Memory(named="ray::")

    def stage_started(self, stage: str, num_shards: int | None, before: Sequence[Done]) -> None: ...
    def shard_done(self, stage: str, done: Done) -> None: ...
    def stage_finished(self, stage: str) -> None:
        self.ends[stage] = time.monotonic()
        self.peaks[stage] = self.memory.together
        self.memory.together = 0.0


def measure(made: Made, num: int) -> float:
    """One size, on a cluster of its own, so that none finds what another left; returns pairs/s."""
    cluster = Cluster(2)
    try:
        return _measure(cluster, made, num)
    finally:
        cluster.close()


def _measure(cluster: Cluster, made: Made, num: int) -> float:
    langs = sorted(made.texts)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        inputs = write_pairs(folder, made, num)
        picked = range(0, 100 * min(NUM_EVALUATED, num // 100), 100)
        evaluated = [made.pairs(number, 1)[0] for number in picked]
        write_evaluation_set(folder / "set", evaluated)
        stages = [
            FilterStage(),
            DedupeStage(),
            DecontaminateStage(against=(str(folder / "set"),)),
            AsExamples(),
            MixStage(quotas={f"{lang}/retrieval": num // len(langs) // 2 for lang in langs}),
        ]
        clock = Clock()
        runner = Runner(folder / "run", langs, 0, clock)
        clock.memory.start()
        started = time.monotonic()
        done = runner.run(placed(stages), inputs, cluster)
        seconds = time.monotonic() - started
        clock.memory.stop()
        walls = dict(zip(clock.ends, np.diff([started, *clock.ends.values()]), strict=True))
        rows = {name: finished.report for name, finished in done.items()}
        parts = [
            f"{name} {rows[name].num_in:,} → {rows[name].num_out:,} in {walls[name]:.1f} s "
            f"({rows[name].seconds:.1f} s of work), {clock.peaks[name]:,.0f} MB"
            if name in rows
            else f"{name} in {walls[name]:.1f} s, {clock.peaks[name]:,.0f} MB"
            for name in walls
        ]
        peak = max(clock.peaks.values())
        print(f"{num:>9,} pairs: {num / seconds:,.0f} pairs/s, {peak:,.0f} MB")
        print("  " + "; ".join(parts))
        sys.stdout.flush()
        return num / seconds


def main() -> None:
    parser = argparse.ArgumentParser(prog="curate", description=__doc__)
    parser.add_argument("--data", default="", help="folder of Parquet files with a column text")
    parser.add_argument("--sizes", default="40000,120000", help="numbers of pairs")
    parser.add_argument(
        "--a-passage", type=int, default=1, help="pairs of each passage: 1 is dearest, runs have 4"
    )
    parser.add_argument("--mixed", action="store_true", help="all languages in every shard")
    args = parser.parse_args()
    texts = read_texts(args.data)
    texts = {lang: mine for lang, mine in texts.items() if len(mine) >= 20}
    print(f"{len(texts)} languages")
    made = Made(texts, args.a_passage, 1 if args.mixed else max(1, SHARD_ROWS // args.a_passage))
    speeds = [measure(made, int(size)) for size in args.sizes.split(",")]
    print(f"speed at the largest size over that at the smallest: {speeds[-1] / speeds[0]:.2f}")
    print(f"ratio={speeds[-1] / WANTED:.2f}")


if __name__ == "__main__":
    main()
