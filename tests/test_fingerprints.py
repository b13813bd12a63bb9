"""Files that say the same have one fingerprint, others another."""

from pathlib import Path

import pytest

from sdg import fingerprints
from sdg.fingerprints import files_fingerprint


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_it_is_of_the_content_and_the_order(tmp_path: Path) -> None:
    one, copy = write(tmp_path / "a", b"mti"), write(tmp_path / "b", b"mti")
    other = write(tmp_path / "c", b"maj")  # as long
    assert files_fingerprint([one]) == files_fingerprint([copy])
    found = [[one], [other], [one, other], [other, one], [one, copy], []]
    assert len({files_fingerprint(files) for files in found}) == len(found)
    split = [write(tmp_path / "d", b"mt"), write(tmp_path / "e", b"i")]
    assert files_fingerprint(split) != files_fingerprint([one])


def test_of_a_large_file_all_parts_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprints, "WHOLE_BYTES", 1000)
    monkeypatch.setattr(fingerprints, "BLOCK_BYTES", 16)
    content = bytearray(20_000)
    found = {files_fingerprint([write(tmp_path / "0", bytes(content))])}
    for place in (0, 5_000, 19_999):  # the middle one lies in a block of 16 in 78
        changed = bytearray(content)
        changed[place - place % 78 if 0 < place < 19_999 else place] = 1
        found.add(files_fingerprint([write(tmp_path / "1", bytes(changed))]))
    assert len(found) >= 3  # the first and the last byte are always seen
    longer = write(tmp_path / "2", bytes(20_001))
    assert files_fingerprint([longer]) not in found
