"""The table on disk gives what a dictionary does."""

import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sdg.hash_index import HashIndex, HashIndexWriter

HASHES = st.one_of(st.integers(0, 5), st.integers(2**64 - 5, 2**64 - 1), st.integers(0, 2**64 - 1))


@settings(max_examples=40)
@given(st.lists(st.lists(st.tuples(HASHES, st.integers(0, 2**32 - 1)), max_size=20), max_size=4))
def test_it_is_a_dictionary_of_first_owners(batches: list[list[tuple[int, int]]]) -> None:
    first: dict[int, int] = {}
    with tempfile.TemporaryDirectory() as folder:
        writer = HashIndexWriter(Path(folder) / "index")
        for batch in batches:
            hashes, owners = ([pair[i] for pair in batch] for i in (0, 1))
            writer.add(np.array(hashes, np.uint64), np.array(owners, np.int64))
            for key, owner in batch:
                first[key] = min(owner, first.get(key, owner))
        writer.finish()
        index = HashIndex(Path(folder) / "index")
        asked = [*first, 3, 2**64 - 2, 2**63]
        found = index.owners(np.array(asked, np.uint64))
    assert len(index) == len(first)
    assert found.tolist() == [first.get(key, -1) for key in asked]
