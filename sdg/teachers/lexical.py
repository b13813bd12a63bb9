"""The default teacher, lexical: it needs no download, and serves any language.

Character n-grams inside words, weighted by TF-IDF. On XQuAD it ranks a question's own paragraph
first as well as BM25 with a good tokenizer does, in scripts with and without spaces alike, where
small multilingual models fail.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from scipy import sparse

from sdg.teachers.base import Encoder, Teacher
from sdg.teachers.ngrams import count_ngrams

MAX_DF = 0.5  # share of the texts; what more have, `LexicalEncoder` passes over ...
MIN_CUT = 100  # ... if these are more than so many: of a few, shares are chance
FEATURE_BITS = 20
NUM_FEATURES = 2**FEATURE_BITS


class LexicalTeacher(Teacher):
    """Character n-gram TF-IDF with hashed features."""

    name: Literal["lexical"] = "lexical"
    ngrams: tuple[int, int] = (2, 4)  # characters, inside words

    def fit(self, batches: Iterable[Sequence[str]], path: Path) -> None:
        LexicalEncoder.fit(batches, self.ngrams).save(path)

    def open(self, path: Path) -> Encoder:
        return LexicalEncoder.load(path)


class LexicalEncoder(Encoder):
    """Character n-gram TF-IDF with hashed features: nothing to learn but document frequencies.

    `idf_D` is ln((1 + N) / (1 + df)) + 1 over the N texts it was fitted on, term frequency is
    1 + ln(tf), rows are L2-normalised, so a dot product is a cosine in [0, 1]. An n-gram that more
    than half of the texts have counts nothing: on XQuAD in six languages, beside TICO-19, the mean
    reciprocal rank is .897 without those and .896 with them, for 4.7 times the work.
    """

    crosses_languages: ClassVar[bool] = False

    def __init__(self, idf_D: np.ndarray, ngrams: tuple[int, int]) -> None:
        self.idf_D = idf_D
        self.ngrams = ngrams

    @classmethod
    def fit(cls, batches: Iterable[Sequence[str]], ngrams: tuple[int, int]) -> "LexicalEncoder":
        """Count document frequencies over batches of texts, one batch in memory at a time."""
        df_D = np.zeros(NUM_FEATURES, dtype=np.int64)
        num_texts = 0
        for batch in batches:
            if batch:
                found_BD = count_ngrams(batch, ngrams, FEATURE_BITS)
                df_D += np.bincount(found_BD.indices, minlength=NUM_FEATURES)
                num_texts += len(batch)
        idf_D = (np.log((1 + num_texts) / (1 + df_D)) + 1).astype(np.float32)
        idf_D[df_D > max(MAX_DF * num_texts, MIN_CUT)] = 0
        return cls(idf_D, ngrams)

    def encode(self, texts: Sequence[str]) -> sparse.csr_matrix:
        """Unit vectors (B, D) float32; a text without any n-gram is a zero row."""
        if not texts:
            return sparse.csr_matrix((0, NUM_FEATURES), dtype=np.float32)
        from sklearn.preprocessing import normalize as unit_rows

        counts_BD = count_ngrams(texts, self.ngrams, FEATURE_BITS)
        counts_BD.data = (1 + np.log(counts_BD.data)) * self.idf_D[counts_BD.indices]
        counts_BD.eliminate_zeros()
        unit_BD: sparse.csr_matrix = unit_rows(counts_BD, copy=False)
        return unit_BD

    def queries(self, texts: Sequence[str], instructions: Sequence[str]) -> sparse.csr_matrix:
        return self.encode(texts)

    def documents(self, texts: Sequence[str]) -> sparse.csr_matrix:
        return self.encode(texts)

    def save(self, path: Path) -> None:
        """Write it as one .npz file."""
        np.savez_compressed(path, idf=self.idf_D, ngrams=np.array(self.ngrams))

    @classmethod
    def load(cls, path: Path) -> "LexicalEncoder":
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as file:
            low, high = (int(n) for n in file["ngrams"])
            return cls(file["idf"], (low, high))
