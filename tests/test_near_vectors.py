"""Near vectors are those that comparing every two finds."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from sdg.near_vectors import near_vectors


@given(
    st.lists(st.lists(st.sampled_from([-1.0, 0.0, 0.5, 2.0]), min_size=3, max_size=3), max_size=20)
)
def test_near_vectors_are_those_of_every_two(rows: list[list[float]]) -> None:
    vectors = np.array(rows, np.float64).reshape(-1, 3)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors = vectors / np.where(lengths, lengths, 1)
    expected = {
        (i, j) for j in range(len(rows)) for i in range(j) if vectors[i] @ vectors[j] >= 0.9 - 1e-9
    }
    for form in (vectors.astype(np.float32), csr_matrix(vectors.astype(np.float32))):
        assert {(int(i), int(j)) for i, j in near_vectors(form, 0.9)} == expected
