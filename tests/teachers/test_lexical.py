"""The lexical teacher, against scikit-learn's own TF-IDF and against the formula."""

import math
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

from sdg.corpora import bundled_languages
from sdg.teachers.lexical import LexicalEncoder
from tests.rows import bundled_seeds, hashed, peer_scores, pieces

NGRAMS = (2, 4)


def grams(text: str, low: int, high: int) -> Counter[str]:
    """Character n-grams inside words padded with a space on each side; a word that is shorter
    than an n-gram counts once, whole."""
    found: Counter[str] = Counter()
    for word in text.lower().split():
        padded = f" {word} "
        for n in range(low, high + 1):
            found.update(padded[i : i + n] for i in range(max(1, len(padded) - n + 1)))
            if len(padded) <= n:
                break
    return found


def cosines(fitted_on: list[str], left: list[str], right: list[str]) -> np.ndarray:
    """The formula of the class's docstring, in float64, without hashing."""
    df = Counter(gram for text in fitted_on for gram in grams(text, *NGRAMS))

    def vector(text: str) -> dict[str, float]:
        weights = {
            gram: (1 + math.log(tf)) * (math.log((1 + len(fitted_on)) / (1 + df[gram])) + 1)
            for gram, tf in grams(text, *NGRAMS).items()
        }
        norm = math.sqrt(sum(w * w for w in weights.values()))
        return {gram: w / norm for gram, w in weights.items()}

    rows, columns = [vector(text) for text in left], [vector(text) for text in right]
    return np.array([[sum(w * c.get(g, 0) for g, w in r.items()) for c in columns] for r in rows])


def test_scores_follow_the_formula() -> None:
    pool = ["Mto mto mto mrefu", "mto mfupi", "Mlima mrefu sana", "a b c"]
    queries = ["mto mrefu", "mlima wa mto", "haiko", "a"]
    teacher = LexicalEncoder.fit([[text] for text in pool], NGRAMS)
    # df counts texts, not occurrences; tf is damped.
    found = (teacher.encode(queries) @ teacher.encode(pool).T).toarray()
    np.testing.assert_allclose(found, cosines(pool, queries, pool), atol=1e-5)
    assert found.max() > 0.3


@pytest.mark.parametrize("lang", bundled_languages())
def test_scores_are_those_of_scikit_learn(lang: str) -> None:
    seeds = bundled_seeds(lang)
    texts, titles = [seed.text for seed in seeds], [seed.title for seed in seeds]
    teacher = LexicalEncoder.fit([texts], NGRAMS)
    found = (teacher.encode(texts + titles) @ teacher.encode(texts).T).toarray()
    expected = peer_scores(texts, texts + titles, texts, NGRAMS)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("lang", bundled_languages())
def test_hashing_costs_little(lang: str) -> None:
    texts = [seed.text for seed in bundled_seeds(lang)]
    teacher = LexicalEncoder.fit([texts], NGRAMS)
    exact = TfidfVectorizer(analyzer="char_wb", ngram_range=NGRAMS, sublinear_tf=True).fit(texts)
    found = (teacher.encode(texts) @ teacher.encode(texts).T).toarray()
    peers = (exact.transform(texts) @ exact.transform(texts).T).toarray()
    np.testing.assert_allclose(found, peers, atol=0.01)


@pytest.mark.parametrize("lang", bundled_languages())
def test_searched_queries_are_those_of_scikit_learn(lang: str) -> None:
    seeds = bundled_seeds(lang)
    titles, own = [seed.title for seed in seeds], [seed.text for seed in seeds]
    texts = [f"{a.text} {b.text}" for a in seeds[:18] for b in seeds[18:36]]
    teacher = LexicalEncoder.fit([texts], NGRAMS)
    whole = teacher.queries(titles, [""] * len(titles))
    searched = teacher.searched(whole, teacher.documents(own))
    found = (searched @ teacher.documents(texts).T).toarray()
    np.testing.assert_allclose(found, peer_scores(texts, titles, texts, NGRAMS, own), atol=1e-5)
    # Of the Chinese titles none has anything that so many texts have.
    before = (whole @ teacher.documents(texts).T).toarray()
    assert (np.abs(found - before).max() > 0.001) == (lang != "zh")


@pytest.mark.parametrize("lang", bundled_languages())
@pytest.mark.parametrize("length", [600, 8000])
def test_a_document_that_is_found_is_found_without_common_ngrams(lang: str, length: int) -> None:
    # Of long passages in one language, most have most n-grams of any word.
    words = [word for seed in bundled_seeds(lang) for word in seed.text.split()]
    draw = random.Random(0)
    passages = [" ".join(draw.choices(words, k=length // 6)) for _ in range(400)]
    queries = [" ".join(draw.sample(words, 3)) for _ in passages]  # of any document
    teacher = LexicalEncoder.fit([passages], NGRAMS)
    whole, documents = teacher.queries(queries, [""] * 400), teacher.documents(passages)
    searched = teacher.searched(whole, documents)
    found, before = (of.multiply(documents).sum(axis=1) > 0 for of in (searched, whole))
    np.testing.assert_array_equal(found, before)
    if lang not in ("th", "zh") and length == 8000:  # without spaces, a "word" is a sentence
        assert searched.nnz < whole.nnz


@pytest.mark.parametrize("lang", ["en", "zh", "th", "am"])
def test_ngrams_share_buckets_as_rarely_as_chance_has_it(lang: str) -> None:
    found = {gram for seed in bundled_seeds(lang) for gram in grams(seed.text, *NGRAMS)}
    buckets = len({hashed(gram) for gram in found})
    expected = 2**20 * (1 - (1 - 2**-20) ** len(found))
    assert buckets == pytest.approx(expected, rel=0.01)


def test_batches_do_not_matter() -> None:
    texts = [seed.text for seed in bundled_seeds("en")]
    whole = LexicalEncoder.fit([texts], NGRAMS)
    parts = LexicalEncoder.fit([[], *pieces(texts, 7), []], NGRAMS)
    np.testing.assert_array_equal(whole.idf_D, parts.idf_D)
    apart = [parts.encode([text]).toarray() for text in texts[:3]]
    np.testing.assert_array_equal(whole.encode(texts[:3]).toarray(), np.vstack(apart))


def test_vectors_have_length_one_or_zero() -> None:
    teacher = LexicalEncoder.fit([["mto", "mlima"]], NGRAMS)
    lengths = [
        np.linalg.norm(teacher.encode([text]).toarray()) for text in ("mto mto", "x", "", " ")
    ]
    assert lengths == pytest.approx([1, 1, 0, 0])
    assert teacher.encode([]).shape == (0, teacher.encode(["x"]).shape[1])


def test_case_is_folded() -> None:
    teacher = LexicalEncoder.fit([["mto"]], NGRAMS)
    assert (teacher.encode(["MTO"]) != teacher.encode(["mto"])).nnz == 0


def test_a_saved_teacher_scores_alike(tmp_path: Path) -> None:
    texts = [seed.text for seed in bundled_seeds("en")][:5]
    teacher = LexicalEncoder.fit([texts], (3, 5))
    teacher.save(tmp_path / "teacher.npz")
    again = LexicalEncoder.load(tmp_path / "teacher.npz")
    assert again.ngrams == (3, 5)
    assert (teacher.encode(texts) != again.encode(texts)).nnz == 0
