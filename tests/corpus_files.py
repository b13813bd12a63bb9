"""Corpora to read: written in a test's folder, read whole, or refused in one line."""

import json
from pathlib import Path
from typing import Any

import pytest

from sdg.corpora import CorpusConfig, read_documents
from sdg.errors import UserError
from sdg.schema import Document


def read(path: Path | str, run_lang: str = "sw", **settings: Any) -> list[Document]:
    return list(read_documents(CorpusConfig(path=str(path), **settings), [run_lang]))


def texts(path: Path | str, **settings: Any) -> list[str]:
    return [document.text for document in read(path, **settings)]


def refusal(path: Path | str, **settings: Any) -> str:
    """The message that a corpus is refused with; always one line."""
    with pytest.raises(UserError) as caught:
        read(path, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def jsonl(*rows: Any) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
