"""Mining from given vectors, beside sentence-transformers' `mine_hard_negatives`.

    make bench BENCH=mine [DATA=<folder>] [ARGS=--large]

Same vectors, same rule (7 negatives below 95 % of the positive's score), encoding excluded. With
DATA, the questions and contexts of its xquad/*.json as MiniLM sees them; without, unit vectors in
clusters. Either way 14,280 questions on 2,880 contexts in 12 languages (XQuAD's, twice over, the
second time with noise on the vectors); --large has 100,000 on 200,000 in clusters. What the negatives
must not be is planted: translations of each context, copies, questions with two answers. Ours is on
a GPU if there is one, the peer, which gets its vectors as arrays, on the CPU.
"""

import argparse
import contextlib
import io
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from datasets import Dataset
from scipy import sparse

from sdg.search import Questions, ban, merge, search
from sdg.vectors import dense_vectors, dots

NUM = 7
SHARE = 0.95
MEMORY_MB = 256


@dataclass
class Corpus:
    """Vectors (unit rows), and by context: its language, what it is a translation or copy of."""

    queries: np.ndarray
    contexts: np.ndarray
    answer: np.ndarray  # question -> context
    lang: np.ndarray  # context -> number of its language
    row: np.ndarray  # context -> number of what it says in all languages
    copy_of: np.ndarray  # context -> context with the same text, or itself
    asks: np.ndarray  # question -> number of its text; the same for two with one text

    def query(self, i: int) -> str:
        return f"question {self.asks[i]}"

    def context(self, j: int) -> str:
        return f"context {j}"


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def clusters(num_questions: int, num_rows: int, num_langs: int, dim: int = 384) -> Corpus:
    """What contexts say, and their language, as directions; questions near their contexts."""
    rng = np.random.default_rng(0)

    def noise(num: int) -> np.ndarray:
        return rng.standard_normal((num, dim), dtype=np.float32) / np.float32(np.sqrt(dim))

    themes, says, langs = noise(max(8, num_rows // 30)), noise(num_rows), noise(num_langs)
    row, lang = (
        np.arange(num_rows * num_langs) % num_rows,
        np.arange(num_rows * num_langs) // num_rows,
    )
    theme = rng.integers(0, len(themes), num_rows)
    contexts = noise(len(row)) * np.float32(0.8)
    contexts += themes[theme[row]]
    # Translations are about as near as what one language says of one theme.
    contexts += says[row] * np.float32(0.85) + langs[lang] * np.float32(0.9)
    answer = np.arange(num_questions) % len(row)
    queries = noise(num_questions) * np.float32(0.9) + unit(contexts)[answer]
    return plant(unit(queries), unit(contexts), answer, lang, row)


def xquad(folder: Path) -> Corpus:
    """XQuAD through MiniLM, each language twice."""
    from sentence_transformers import SentenceTransformer

    from tests.minilm_gain import minilm_path

    questions: list[str] = []
    contexts: list[str] = []
    answer, lang, row = [], [], []
    for code, path in enumerate(sorted((folder / "xquad").glob("xquad.*.json"))):
        articles = json.loads(path.read_text(encoding="utf-8"))["data"]
        for number, part in enumerate(p for a in articles for p in a["paragraphs"]):
            answer += [len(contexts)] * len(part["qas"])
            questions += [qa["question"] for qa in part["qas"]]
            contexts.append(part["context"])
            lang.append(code)
            row.append(number)
    model = SentenceTransformer(str(minilm_path()), device="cpu")
    model.max_seq_length = 128
    vectors = [model.encode(texts, normalize_embeddings=True) for texts in (questions, contexts)]
    rng = np.random.default_rng(0)
    num, num_langs = len(contexts), max(lang) + 1
    twice = []
    for rows in vectors:
        noise = rng.standard_normal(rows.shape) * 0.3 / np.sqrt(rows.shape[1])
        twice.append(unit(np.concatenate([rows, rows + noise])))
    return plant(
        twice[0],
        twice[1],
        np.concatenate([answer, np.add(answer, num)]),
        np.concatenate([lang, np.add(lang, num_langs)]),
        np.concatenate([row, row]),
    )


def plant(
    queries: np.ndarray, contexts: np.ndarray, answer: np.ndarray, lang: np.ndarray, row: np.ndarray
) -> Corpus:
    """Every 50th context becomes a copy of the one before it; every 30th question asks what the one
    before it asks."""
    copy_of, asks = np.arange(len(contexts)), np.arange(len(queries))
    copies = np.arange(50, len(contexts), 50)
    copies = copies[lang[copies] == lang[copies - 1]]
    copy_of[copies] = copies - 1
    contexts[copies], row[copies] = contexts[copies - 1], row[copies - 1]
    again = np.arange(30, len(queries), 30)
    asks[again] = again - 1
    queries[again] = queries[again - 1]
    return Corpus(queries, contexts, answer, lang, row, copy_of, asks)


def known(corpus: Corpus) -> np.ndarray:
    """(question, context) codes of what is no negative: what has the answer's row, whatever its
    language, of all questions of one text."""
    num, num_rows = len(corpus.queries), corpus.row.max() + 1
    every = np.arange(num)
    of_text = sparse.csr_matrix((np.ones(num), (every, corpus.asks)))
    says = sparse.csr_matrix(
        (np.ones(num), (every, corpus.row[corpus.answer])), shape=(num, num_rows)
    )
    has = sparse.csr_matrix(
        (np.ones(len(corpus.row)), (corpus.row, np.arange(len(corpus.row)))),
    )
    places, rows = (of_text @ (of_text.T @ says) @ has).nonzero()
    return ban(places, rows, len(corpus.contexts))


def ours(corpus: Corpus) -> Dataset:
    num_rows = len(corpus.contexts)
    positive_B = np.concatenate(
        [
            dots(corpus.queries[part], corpus.contexts[corpus.answer[part]])
            for part in np.array_split(np.arange(len(corpus.queries)), 16)
        ]
    )
    questions = Questions(
        vectors=(corpus.queries,),
        ceilings_TB=SHARE * positive_B[None],
        banned=known(corpus),
        turns_B=np.arange(len(corpus.queries)) % num_rows,
        num_rows=num_rows,
    )
    part = search([dense_vectors(corpus.contexts)], 0, questions, NUM, MEMORY_MB)
    found = merge([part], questions, NUM)
    bounds = np.searchsorted(found.question_M, np.arange(len(corpus.queries) + 1))
    full = np.flatnonzero(np.diff(bounds) == NUM)
    columns = {
        "query": [corpus.query(i) for i in full],
        "answer": [corpus.context(j) for j in corpus.answer[full]],
    }
    for n in range(NUM):
        columns[f"negative_{n + 1}"] = [corpus.context(j) for j in found.row_M[bounds[full] + n]]
    return Dataset.from_dict(columns)


def peers(corpus: Corpus) -> Dataset:
    import torch
    from sentence_transformers.util import cos_sim, mine_hard_negatives, pairwise_cos_sim

    number = {corpus.query(i): i for i in range(len(corpus.queries))}
    model: Any = SimpleNamespace(
        device=torch.device("cpu"),
        model_card_data=SimpleNamespace(base_model=""),
        similarity=cos_sim,
        similarity_pairwise=pairwise_cos_sim,
        encode_query=lambda texts, **_: corpus.queries[[number[text] for text in texts]],
        encode_document=lambda texts, **_: corpus.contexts[[int(t.split()[1]) for t in texts]],
    )
    pairs = Dataset.from_dict(
        {
            "query": [corpus.query(i) for i in range(len(corpus.queries))],
            "answer": [corpus.context(j) for j in corpus.answer],
        }
    )
    return mine_hard_negatives(
        pairs,
        model,
        corpus=[corpus.context(j) for j in range(len(corpus.contexts))],
        relative_margin=1 - SHARE,
        num_negatives=NUM,
        output_format="n-tuple",
        # 4,096 at once, where 16,384 is its default, which takes 13 GB at 200,000 contexts.
        faiss_batch_size=4096,
        verbose=False,
    )


def measure(work: Callable[[Corpus], Dataset], corpus: Corpus) -> tuple[Dataset, float, float]:
    """What it gives, seconds, and the MB that it takes at most beside what is there already."""
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before, started = _memory("VmRSS"), time.perf_counter()
    with contextlib.redirect_stderr(io.StringIO()):
        found = work(corpus)
    return found, time.perf_counter() - started, _memory("VmHWM") - before


def _memory(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def report(name: str, corpus: Corpus, found: Dataset, seconds: float, memory: float) -> None:
    """Speed, and what became of the questions."""
    number = {corpus.query(i): i for i in range(len(corpus.queries))}
    answers: dict[int, set[int]] = {}
    for i, j in enumerate(corpus.answer):
        answers.setdefault(int(corpus.asks[i]), set()).add(int(j))
    places = np.array([int(text.split()[1]) for text in found["answer"]])
    asked = corpus.asks[[number[text] for text in found["query"]]]
    wrong = dict.fromkeys(("translations", "copies", "other positives"), 0)
    for n in range(NUM):
        negatives = np.array([int(text.split()[1]) for text in found[f"negative_{n + 1}"]])
        is_copy = corpus.copy_of[negatives] == corpus.copy_of[places]
        wrong["copies"] += int(is_copy.sum())
        same_row = corpus.row[negatives] == corpus.row[places]
        wrong["translations"] += int(
            (same_row & (corpus.lang[negatives] != corpus.lang[places])).sum()
        )
        wrong["other positives"] += sum(
            int(j) in answers[int(i)] for i, j in zip(asked, negatives, strict=True)
        )
    asked_of = np.bincount(corpus.lang[corpus.answer])
    served = np.bincount(corpus.lang[places], minlength=len(asked_of)) / asked_of
    total = max(1, len(found) * NUM)
    faults = ", ".join(f"{num} {what} ({num / total:.1%})" for what, num in wrong.items())
    print(
        f"{name:<22} {seconds:8.2f} s {memory:8.0f} MB; served {len(found) / len(corpus.answer):.1%},"
        f" the least served language {served.min():.1%}; {faults}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench BENCH=mine", description=__doc__)
    parser.add_argument("--data", type=Path, help="folder that has xquad/xquad.<lang>.json")
    parser.add_argument(
        "--large", action="store_true", help="100,000 questions on 200,000 contexts"
    )
    parser.add_argument(
        "--repeat", type=int, default=0, help="runs, the best counts (default: 3, large 1)"
    )
    args = parser.parse_args()
    if args.large:
        corpus = clusters(100_000, 20_000, 10)
    else:
        corpus = xquad(args.data) if args.data else clusters(14_280, 240, 12)
    print(f"{len(corpus.queries):,} questions, {len(corpus.contexts):,} contexts, "
          f"{corpus.contexts.shape[1]} dimensions, {corpus.lang.max() + 1} languages")  # fmt: skip
    best: dict[str, float] = {}
    for _ in range(args.repeat or (1 if args.large else 3)):
        for name, work in (("mbegu", ours), ("sentence-transformers", peers)):
            found, seconds, memory = measure(work, corpus)
            report(name, corpus, found, seconds, memory)
            best[name] = min(seconds, best.get(name, seconds))
    print(f"ratio={best['sentence-transformers'] / best['mbegu']:.2f}")


if __name__ == "__main__":
    main()
