"""Rows to test with, and a way to run one stage on them without Ray."""

import json
import tempfile
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from scipy import sparse
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer
from sklearn.preprocessing import normalize as unit_rows

from sdg.corpora import BUNDLED
from sdg.filters import FILTERS
from sdg.schema import (
    Call,
    Example,
    Message,
    Pair,
    Provenance,
    Row,
    Seed,
    arrow_schema,
    rows_of,
    to_table,
)
from sdg.stage import DETAIL, REASON, Context, Inputs, Result, Shard, Stage
from sdg.text import digest, normalize, sentences

NO_FILTERS = json.dumps(dict.fromkeys(FILTERS, False))  # as a setting of the filter stage

TEXT = (
    "Nairobi ni mji mkuu wa Kenya. Mji huo uko kusini mwa nchi, karibu na mto wenye maji baridi. "
    "Watu wengi hufanya kazi katika viwanda, benki na masoko ya mji."
)


def make_seed(text: str = TEXT, title: str = "", lang: str = "sw", **changes: Any) -> Seed:
    values = {
        "id": digest("seed", text, title),
        "text": text,
        "title": title,
        "lang": lang,
        "source": "corpus.jsonl#1",
        "license": "CC0-1.0",
    }
    return Seed(**{**values, **changes})


def make_call(seed: Seed | None = None, ordinal: int = 0, **changes: Any) -> Call:
    seed = seed or make_seed()
    values = {
        "id": digest("call", seed.id, ordinal),
        "seed": seed,
        "ordinal": ordinal,
        "task": "retrieval",
        "lang": seed.lang,
        "positive_lang": seed.lang,
        "controls": '{"length": "short"}',
        "prompt": "retrieval/short_query",
        "prompt_sha": "0123456789ab",
        "instruction": "Given a query, retrieve passages",
        "strategies": [],
        "messages": [Message(role="user", content=f"Write a query for: {seed.text}")],
        "sampling": "{}",
        "engine": "openai",
        "model": "some-model",
        "revision": "r1",
    }
    return Call(**{**values, **changes})


def make_provenance(**changes: Any) -> Provenance:
    values = {
        "seed_id": "s",
        "source": "corpus.jsonl#1",
        "license": "CC0-1.0",
        "engine": "openai",
        "model": "some-model",
        "revision": "r1",
        "prompt": "retrieval/short_query",
        "prompt_sha": "0123456789ab",
        "strategy": "written",
        "controls": "{}",
        "seed": 0,
    }
    return Provenance(**{**values, **changes})


def make_pair(query: str, positive: str = TEXT, **changes: Any) -> Pair:
    values = {
        "id": digest("pair", query, positive, changes.get("document", positive)),
        "task": "retrieval",
        "instruction": "Given a query, retrieve passages",
        "query": query,
        "query_lang": "sw",
        "positive": positive,
        "positive_lang": "sw",
        "document": positive,
        "negatives": [],
        "provenance": make_provenance(),
    }
    return Pair(**{**values, **changes})


def make_example(number: int = 0, **changes: Any) -> Example:
    values = {
        "id": digest("example", number),
        "task": "retrieval",
        "instruction": "Given a query, retrieve passages",
        "query": f"swali {number}",
        "query_lang": "sw",
        "positives": [TEXT],
        "positive_lang": "sw",
        "positive_scores": [0.5],
        "negatives": ["Mlima Kenya ni mrefu."],
        "negative_scores": [0.25],
        "provenance": make_provenance(),
    }
    return Example(**{**values, **changes})


def bundled_seeds(lang: str) -> list[Seed]:
    """The bundled corpus of a language, a seed a document."""
    lines = (BUNDLED / f"{lang}.jsonl").read_text(encoding="utf-8").splitlines()
    documents = [json.loads(line) for line in lines]
    return [make_seed(normalize(d["text"]), normalize(d["title"]), lang) for d in documents]


def made_up(text: str) -> str:
    """A text in a language that nobody knows: its vowels are each other's."""
    return text.translate(str.maketrans("aeiouAEIOU", "ieouaIEOUA"))


def some_said_again(text: str, lang: str) -> str:
    """A text with sentences of a good half of it once more at its end."""
    again: list[str] = []
    for part in sentences(text, lang):
        if len(" ".join(again)) < 0.5 * len(text):
            again.append(part)
    return " ".join([text, *again])


def sharded(rows: Sequence[Row], model: type[Row], *sizes: int) -> dict[str, pa.Table]:
    """Rows as shards of the given sizes, and what is left in one more."""
    shards: dict[str, pa.Table] = {}
    start = 0
    for size in [*sizes, max(0, len(rows) - sum(sizes))]:
        shards[f"{len(shards):05d}"] = to_table(rows[start : start + size], model)
        start += size
    return shards


def run_stage(
    stage: Stage,
    shards: Mapping[str, pa.Table],
    lang: str = "sw",
    seed: int = 0,
    earlier: Mapping[str, Mapping[str, pa.Table] | Inputs] | None = None,
) -> dict[str, Result]:
    """A stage's results, by shard, from `prepare` to `close`.

    Whatever the stage, the contract is checked: no row is lost, the rows kept and dropped have the
    right columns, and a second run in another order gives the same.
    """
    before = {
        name: given if isinstance(given, Inputs) else _inputs(given)
        for name, given in (earlier or {}).items()
    }
    first = _run(stage, _inputs(shards, before), shards, lang, seed)
    again = _run(stage, _inputs(shards, before), dict(reversed(list(shards.items()))), lang, seed)
    for name, table in shards.items():
        result = first[name]
        assert result.num_kept + result.dropped.num_rows == table.num_rows
        assert result.kept.schema.equals(arrow_schema(stage.gives), check_metadata=True)
        assert result.dropped.schema.equals(arrow_schema(stage.takes, REASON, DETAIL))
        assert result.kept.equals(again[name].kept)
        assert result.dropped.equals(again[name].dropped)
    return first


def kept_rows(results: Mapping[str, Result], model: type[Row]) -> list[Any]:
    """What a stage kept, over all shards, in order."""
    return [row for name in sorted(results) for row in rows_of(results[name].kept, model)]


def reasons(results: Mapping[str, Result]) -> list[str]:
    """Why rows were dropped, over all shards, in order."""
    return [r for name in sorted(results) for r in results[name].dropped["reason"].to_pylist()]


def _inputs(shards: Mapping[str, pa.Table], earlier: Mapping[str, Inputs] | None = None) -> Inputs:
    def read(name: str, columns: list[str] | None) -> pa.Table:
        return shards[name] if columns is None else shards[name].select(columns)

    return Inputs(tuple(shards), read, earlier or {})


def _run(
    stage: Stage, inputs: Inputs, order: Mapping[str, pa.Table], lang: str, seed: int
) -> dict[str, Result]:
    with tempfile.TemporaryDirectory() as folder:
        ctx = Context(langs=tuple(lang.split(",")), seed=seed, dir=Path(folder))
        stage.prepare(inputs, ctx)
        state = stage.open(ctx)
        results = {name: stage.run(Shard(name, table), ctx, state) for name, table in order.items()}
        stage.close(state)
        return results


@lru_cache(maxsize=4096)
def bare(text: str) -> str:
    """Letters, marks and digits of a text, folded: a plain version of `sdg.text.canonical`."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return "".join(c for c in folded if unicodedata.category(c)[0] in "LMN")


def pieces(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """Runs of `size` items, the last one shorter."""
    return (items[i : i + size] for i in range(0, len(items), size))


def peer_scores(
    pool: Sequence[str],
    left: Sequence[str],
    right: Sequence[str],
    ngrams: tuple[int, int],
    own: Sequence[str] = (),
) -> np.ndarray:
    """What the lexical teacher should give: scikit-learn's TF-IDF of its own n-grams, put into as
    many columns by the same hash, in float64. With `own`, the documents of `left`, these go without
    what more than a third of the pool has (and more than 100 of it), where half of their squared
    weight is left, and some of it is in their document."""
    counter = CountVectorizer(analyzer="char_wb", ngram_range=ngrams)
    grams = counter.fit([*pool, *left, *right, *own]).get_feature_names_out()
    columns = [hashed(gram) for gram in grams]
    shape = (len(grams), 2**20)
    to_column = sparse.csr_matrix((np.ones(len(grams)), (np.arange(len(grams)), columns)), shape)
    weights = TfidfTransformer(sublinear_tf=True).fit(counter.transform(pool) @ to_column)
    rows, others = (weights.transform(counter.transform(t) @ to_column) for t in (left, right))
    df = np.diff((counter.transform(pool) @ to_column).tocsc().indptr)
    is_rare = df <= max(len(pool) / 3, 100)
    for place, text in enumerate(own):
        cut = rows[place].multiply(is_rare).tocsr()
        document = weights.transform(counter.transform([text]) @ to_column)
        if cut.multiply(cut).sum() >= 0.5 and cut.multiply(document).sum() > 0:
            rows[place] = unit_rows(cut)
    scores: np.ndarray = (rows @ others.T).toarray()
    return scores


def hashed(gram: str) -> int:
    """FNV-1a of the characters, one after another, and of that the high bits (Fibonacci hashing)."""
    golden, low = 0x9E3779B97F4A7C15, 2**64 - 1
    value = golden
    for character in gram:
        value = (value ^ ord(character)) * 0x100000001B3 & low
    return (value * golden & low) >> 44
