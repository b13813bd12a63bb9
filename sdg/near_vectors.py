"""Pairs of unit vectors that are near each other, all with all, a block of rows at a time."""

from typing import Any

import numpy as np
from scipy import sparse

BLOCK_SCORES = 1 << 22  # scores in memory at once


def near_vectors(vectors_ND: Any, cosine: float) -> np.ndarray:
    """All pairs (P, 2) int64 of rows whose cosine is at least `cosine`, the lower number first.

    Args:
        vectors_ND: rows of length 1 or 0, an array or a sparse matrix. Time grows with N².
        cosine: in (0, 1]; scores are compared in float32, which is exact to 6 digits.
    """
    num, found = vectors_ND.shape[0], [np.empty((0, 2), np.int64)]
    rows = max(1, BLOCK_SCORES // max(1, num))
    for start in range(0, num, rows):
        stop = min(start + rows, num)
        scores = vectors_ND[start:stop] @ vectors_ND[:stop].T
        if sparse.issparse(scores):
            scores = scores.toarray()
        later, earlier = np.nonzero(scores >= cosine - 1e-6)
        later += start
        before = earlier < later
        found.append(np.stack([earlier[before], later[before]], axis=1))
    return np.concatenate(found)
