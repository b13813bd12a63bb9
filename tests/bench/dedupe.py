"""Near-duplicates beside rensa and datasketch: `make bench BENCH=dedupe [DATA=<folder> ARGS=]`.

Paragraphs of some 75 words are put together from real text, and copies of some of them planted with
a few words changed; the true pairs (Jaccard of word 3-grams >= 0.8) come from an exact join of the
words' numbers. Each contender runs by itself, from texts to pairs, and its processor's seconds
count (all are single-threaded), so that what else the machine does matters little. Then real texts in
scripts without spaces: none may be lost that is like no other. `--short 1000000` measures the whole
stage on so many pairs of short texts instead.

DATA is a folder with Parquet files of a column `text`, one a language; without it the bundled corpus.
"""

import argparse
import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import regex
from scipy import sparse

from sdg.corpora import BUNDLED
from sdg.near_duplicates import NearDuplicates, keep_first
from sdg.schema import Pair, to_table
from sdg.sketches import DOCS, Sketcher
from sdg.stage import Context, Inputs, Shard
from sdg.stages import DedupeStage
from sdg.text import normalize
from tests.rows import make_pair
from tests.shingle_sets import jaccard, shingle_set

T = TypeVar("T")
THRESHOLD, WORDS = 0.8, 3
SPACELESS = {"zh": "Chinese", "th": "Thai", "my": "Burmese", "km": "Khmer", "ja": "Japanese"}


# Texts


def read_texts(data: str) -> dict[str, list[str]]:
    """Texts by language."""
    found: dict[str, list[str]] = {}
    for path in sorted(Path(data).rglob("*.parquet")) if data else []:
        if "text" in pq.read_schema(path).names:
            found[path.stem] = pq.read_table(path, columns=["text"])["text"].to_pylist()
    for path in sorted(BUNDLED.glob("*.jsonl")):
        lines = path.read_text(encoding="utf-8").splitlines()
        found.setdefault(path.stem, [json.loads(line)["text"] for line in lines])
    return {lang: list(dict.fromkeys(map(normalize, texts))) for lang, texts in found.items()}


def vocabulary(texts: dict[str, list[str]]) -> tuple[list[str], list[np.ndarray]]:
    """All words, and each language's text as numbers of them; scripts with spaces only."""
    numbers: dict[str, int] = {}
    streams = []
    for lang, mine in texts.items():
        if lang not in {*SPACELESS, "lo"}:
            words = regex.findall(r"[\p{L}\p{N}\p{M}]+", " ".join(mine).casefold())
            streams.append(np.array([numbers.setdefault(w, len(numbers)) for w in words]))
    return list(numbers), streams


def paragraphs(streams: list[np.ndarray], num: int, length: int) -> list[np.ndarray]:
    """Word numbers of `num` texts: runs of a language's words, and of every six texts about one is
    an earlier one with up to a sixth of its words changed."""
    rng = np.random.default_rng(0)
    made: list[np.ndarray] = []
    for _ in range(num):
        stream = streams[rng.integers(len(streams))]
        if made and rng.random() < 0.17:
            text = made[rng.integers(len(made))].copy()
            places = rng.integers(len(text), size=rng.integers(0, max(2, length // 12)))
            text[places] = stream[rng.integers(len(stream), size=len(places))]
        else:
            size = max(3, round(length * rng.uniform(0.8, 1.2)))
            starts = rng.integers(len(stream), size=size)
            runs = [
                stream[s : s + n] for s, n in zip(starts, rng.integers(1, 9, size), strict=True)
            ]
            text = np.concatenate(runs)[:size]
        made.append(text)
    return made


def exact_join(texts: list[np.ndarray], num_words: int) -> set[tuple[int, int]]:
    """All pairs at the threshold, from a sparse product, a block of rows at a time."""
    grams = [np.unique((t[:-2] * num_words + t[1:-1]) * num_words + t[2:]) for t in texts]
    ends = np.concatenate([[0], np.cumsum([len(g) for g in grams])])
    columns = np.unique(np.concatenate(grams), return_inverse=True)[1]
    sets = sparse.csr_matrix((np.ones(len(columns), np.int16), columns, ends))
    sizes, found = np.diff(ends), set[tuple[int, int]]()
    for start in range(0, len(texts), 1000):
        common = (sets[start : start + 1000] @ sets.T).tocoo()
        left, right = common.row + start, common.col
        near = common.data >= THRESHOLD * (sizes[left] + sizes[right] - common.data)
        keep = near & (left < right)
        found.update(zip(left[keep].tolist(), right[keep].tolist(), strict=True))
    return found


# Contenders: texts -> pairs


def ours(texts: list[str]) -> list[tuple[int, int]]:
    with tempfile.TemporaryDirectory() as folder:
        finder, sketcher = NearDuplicates(Path(folder), THRESHOLD), Sketcher(THRESHOLD)
        for start in range(0, len(texts), DOCS):
            finder.add(sketcher.sketch(texts[start : start + DOCS]))
        return [(a, b) for a, b in finder.pairs().tolist()]


def rensa_loop(texts: list[str]) -> list[tuple[int, int]]:
    import rensa

    index = rensa.RMinHashLSH(threshold=THRESHOLD, num_perm=128, num_bands=16)
    made: list[Any] = []
    found: list[tuple[int, int]] = []
    for number, text in enumerate(texts):
        words = text.split()
        minhash = rensa.RMinHash(num_perm=128, seed=42)
        minhash.update([" ".join(words[i : i + WORDS]) for i in range(len(words) - WORDS + 1)])
        near = [k for k in index.query(minhash) if made[k].jaccard(minhash) >= THRESHOLD]
        found += [(k, number) for k in near]
        index.insert(number, minhash)
        made.append(minhash)
    return found


def datasketch_loop(texts: list[str]) -> list[tuple[int, int]]:
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(threshold=THRESHOLD, num_perm=128)
    made: list[Any] = []
    found: list[tuple[int, int]] = []
    for number, text in enumerate(texts):
        words = text.split()
        minhash = MinHash(num_perm=128, seed=42)
        grams = {" ".join(words[i : i + WORDS]) for i in range(len(words) - WORDS + 1)}
        minhash.update_batch([gram.encode() for gram in grams])
        near = [k for k in index.query(minhash) if made[k].jaccard(minhash) >= THRESHOLD]
        found += [(k, number) for k in near]
        index.insert(number, minhash)
        made.append(minhash)
    return found


CONTENDERS = {"ours": ours, "rensa": rensa_loop, "datasketch": datasketch_loop}


def measured(function: Callable[[Path], T], path: Path) -> tuple[T, float, float]:
    """What a function gives in a process of its own, its processor seconds, its peak GB."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_measure, (function, path))


def _measure(function: Callable[[Path], T], path: Path) -> tuple[T, float, float]:
    started = time.process_time()
    result = function(path)
    seconds = time.process_time() - started
    # Not getrusage: its peak is inherited from the process that this one was forked from.
    status = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    return result, seconds, int(status["VmHWM"].split()[0]) / 2**20


class Contender:
    """A contender, to be sent to its process; reading the texts is not counted, nor waiting."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, path: Path) -> tuple[list[tuple[int, int]], float]:
        texts = path.read_text(encoding="utf-8").split("\n")
        CONTENDERS[self.name](texts[:200])  # imports and tables
        started = time.process_time()
        return CONTENDERS[self.name](texts), time.process_time() - started


def compare(texts: dict[str, list[str]], num: int, length: int, repeats: int) -> float:
    """Print how fast and how right each is; the ratio of rensa's seconds to ours."""
    words, streams = vocabulary(texts)
    numbers = paragraphs(streams, num, length)
    started = time.perf_counter()
    truth = exact_join(numbers, len(words))
    took = time.perf_counter() - started
    print(f"{num:,} paragraphs of {length} words; {len(truth):,} pairs; exact join {took:.1f} s")
    best: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "texts.txt"
        path.write_text("\n".join(" ".join(words[n] for n in t) for t in numbers), encoding="utf-8")
        del numbers
        print(f"{'':12}{'docs/s':>10}{'recall':>9}{'precision':>11}{'peak GB':>9}")
        for name in CONTENDERS:
            for _ in range(repeats if name != "datasketch" else 1):
                (found, seconds), _, peak = measured(Contender(name), path)
                best[name] = min(best.get(name, seconds), seconds)
            hits = len(truth.intersection(found))
            print(
                f"{name:12}{num / best[name]:10,.0f}{hits / max(1, len(truth)):9.3f}"
                f"{hits / max(1, len(found)):11.3f}{peak:9.2f}",
                flush=True,
            )
    print(f"ours against datasketch: {best['datasketch'] / best['ours']:.1f}")
    return best["rensa"] / best["ours"]


# Scripts without spaces


def without_spaces(texts: dict[str, list[str]]) -> None:
    """Real texts, and a copy of each that differs in one character: what goes, and what should."""
    for lang, name in SPACELESS.items():
        mine = texts.get(lang, [])
        if not mine:
            continue
        copies = [text[: len(text) // 2] + "。" + text[len(text) // 2 + 1 :] for text in mine]
        every = [*mine, *copies]
        near_to = keep_first(len(every), np.array(sorted(ours(every), key=lambda p: p[::-1])))
        sets = [shingle_set(text) for text in every]
        lost = wrong = 0
        for text, twin in enumerate(near_to.tolist()):
            if twin >= 0:
                lost += text < len(mine)
                wrong += jaccard(sets[text], sets[twin]) < THRESHOLD
        wanted = [n for n, a in enumerate(mine) if jaccard(sets[n], sets[len(mine) + n]) >= 0.8]
        found = sum(near_to[len(mine) + n] >= 0 for n in wanted)
        print(
            f"{name}: of {len(mine)} texts {lost} are near copies of others, {wrong} were dropped "
            f"wrongly; of {len(wanted)} planted copies {found} were found"
        )


# The whole stage on short texts


def write_pairs(folder: Path, streams: list[np.ndarray], words: list[str], num: int) -> list[str]:
    """Shards of pairs of short texts, a sixth of them near copies, some the same."""
    sample = make_pair("q", "p")
    names: list[str] = []
    for start in range(0, num, 10_000):
        size = min(10_000, num - start)
        texts = [" ".join(words[n] for n in t) for t in short_texts(streams, 2 * size, start)]
        pairs = to_table([sample], Pair).take(pa.array(np.zeros(size, int)))
        columns = {
            "id": [f"{start + i:032x}" for i in range(size)],
            "query": texts[:size],
            "positive": texts[size:],
            "document": texts[size:],
        }
        for name, values in columns.items():
            pairs = pairs.set_column(pairs.schema.get_field_index(name), name, pa.array(values))
        names.append(f"{len(names):05d}")
        pq.write_table(pairs, folder / f"{names[-1]}.parquet")
    return names


def short_texts(streams: list[np.ndarray], num: int, seed: int) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(seed)
    made: list[np.ndarray] = []
    for _ in range(num):
        if made and rng.random() < 0.17:
            text = made[rng.integers(len(made))].copy()
            text[-1] = text[rng.integers(len(text))]
        else:
            stream = streams[rng.integers(len(streams))]
            parts = rng.integers(len(stream), size=3)
            text = np.concatenate([stream[p : p + rng.integers(2, 9)] for p in parts])
        made.append(text)
        yield text


class RunStage:
    """The stage over shards in a folder, as a worker runs it."""

    def __call__(self, folder: Path) -> dict[str, int]:
        names = tuple(sorted(path.stem for path in folder.glob("*.parquet")))
        out = folder / "out"
        out.mkdir()

        def read(name: str, columns: list[str] | None) -> pa.Table:
            return pq.read_table(folder / f"{name}.parquet", columns=columns)

        stage, ctx = DedupeStage(), Context(("sw",), 0, out)
        stage.prepare(Inputs(names, read), ctx)
        reasons: dict[str, int] = {}
        for name in names:
            result = stage.run(Shard(name, read(name, None)), ctx, None)
            for reason in result.dropped["reason"].to_pylist():
                reasons[reason] = reasons.get(reason, 0) + 1
        return reasons


def measure_stage(texts: dict[str, list[str]], num: int) -> float:
    """Print the stage's speed and memory at a tenth of the pairs and at all; seconds of a tenth,
    times ten, to those of all."""
    words, streams = vocabulary(texts)
    seconds = []
    for size in (num // 10, num):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_pairs(folder, streams, words, size)
            reasons, took, peak = measured(RunStage(), folder)
        seconds.append(took)
        print(f"{size:,} pairs: {took:.1f} s, {size / took:,.0f} pairs/s, peak {peak:.2f} GB")
        print(f"  dropped: {reasons}", flush=True)
    return 10 * seconds[0] / seconds[1]


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench BENCH=dedupe", description=__doc__)
    parser.add_argument("--data", default="", help="folder of real texts (DATA=)")
    parser.add_argument("--num", type=int, default=80_000, help="paragraphs")
    parser.add_argument("--length", type=int, default=75, help="words in one")
    parser.add_argument("--repeats", type=int, default=3, help="of which the fastest counts")
    parser.add_argument(
        "--short", type=int, help="measure the stage on so many short pairs instead"
    )
    args = parser.parse_args()
    texts = read_texts(args.data)
    print(f"{len(texts)} languages, {sum(map(len, texts.values())):,} texts")
    if args.short:
        print(f"ratio={measure_stage(texts, args.short):.2f}")
        return
    ratio = compare(texts, args.num, args.length, args.repeats)
    without_spaces(texts)
    print(f"ratio={ratio:.2f}")


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    main()
