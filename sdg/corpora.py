"""Reads a corpus as a stream of documents, whatever file it comes in.

`CORPUS=` takes a Parquet, JSON Lines, CSV, TSV or text file (all but Parquet also as .gz or .zst),
a folder or glob of those, on a disk or in an object store (s3://bucket/news/*.parquet), or the id
of a dataset on the Hugging Face hub. Nothing else is needed
where the columns have usual names. A bad row becomes a document with an `error`; a bad corpus is
a `UserError`. What a corpus says of itself (ids, languages, licences) is data, never a path.
"""

import difflib
import glob
import itertools
import logging
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from pydantic import BaseModel, ConfigDict

from sdg.errors import UserError
from sdg.languages import language
from sdg.lock import is_locked
from sdg.readers import USUAL_NAMES, File, Raw, by_role, known_kinds, listed, read_rows
from sdg.schema import Document
from sdg.storage import find, path_of
from sdg.text import canonical, digest, normalize

log = logging.getLogger(__name__)

BUNDLED = Path(__file__).parent / "corpus"
_DATASET_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+", re.ASCII)
_HUB_TIMEOUT = 10.0  # seconds
MOST_SIZED = 100  # files of an object store that are asked whether they are empty


class SourceConfig(BaseModel, ABC):
    """Where rows come from; an empty column name means: find it by its usual names."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str = ""  # file, folder, glob or dataset id; empty for the bundled corpus of the language
    id: str = ""
    lang: str = ""
    license: str = ""
    license_default: str = ""  # for rows that name none
    split: str = "train"  # of a dataset id
    subset: str = ""  # of a dataset id

    @abstractmethod
    def columns(self) -> dict[str, str]:
        """The columns that the user named, by role."""


class CorpusConfig(SourceConfig):
    """Where the documents come from."""

    text: str = ""
    title: str = ""

    def columns(self) -> dict[str, str]:
        """The columns that the user named, by role."""
        return {role: getattr(self, role) for role in USUAL_NAMES}


def read_documents(config: CorpusConfig, langs: Sequence[str]) -> Iterator[Document]:
    """Every row of the corpus, in order, one at a time; rows that are bad carry an `error`.

    Bundled corpora are labelled with their language.

    Raises:
        UserError: the corpus as a whole is missing, unreadable, cut, or of no known kind.
    """
    row = itertools.count()
    for name, raws in read_sources(config, langs):
        label = "" if config.path else name.partition(".")[0]
        for raw in raws:
            yield _document(next(row), name, raw, config, label)


def corpus_files(config: SourceConfig, langs: Sequence[str]) -> list[File]:
    """The files of the corpus, sorted by name; none for a dataset id.

    Raises:
        UserError: there are none, or one is empty or of no known kind.
    """
    if not config.path:
        return [File(path, path.name) for path in map(_bundled, langs)]
    if "://" in config.path:
        return _stored(config.path)
    try:
        return [] if _is_dataset(config.path) else _located(Path(config.path).expanduser())
    except OSError as error:
        raise UserError(f"{config.path}: cannot be read ({error.strerror})") from None


def corpus_name(config: CorpusConfig, langs: Sequence[str]) -> str:
    """The corpus as messages call it."""
    return config.path or ", ".join(_bundled(lang).name for lang in langs)


def read_sources(config: SourceConfig, langs: Sequence[str]) -> Iterator[tuple[str, Iterator[Raw]]]:
    """Every file's name and rows, by the roles of the columns."""
    wanted = config.columns()
    files = corpus_files(config, langs)
    for file in files:
        yield file.name, read_rows(file, wanted)
    if not files:
        yield config.path, by_role(_dataset(config), config.path, wanted)


def _document(row: int, name: str, raw: Raw, config: CorpusConfig, label: str) -> Document:
    text, error = raw.values.get("text"), raw.error
    if error is None and not isinstance(text, str):
        error = "no_text" if text is None else "text_not_a_string"
    text = storable(text) if isinstance(text, str) else ""
    values = {role: label_of(value) for role, value in raw.values.items() if role != "text"}
    source = f"{name}#{values['id']}" if values.get("id") else name
    title = raw.values.get("title")
    return Document(
        row=row,
        source=label_of(source),
        text=text,
        title=storable(title) if isinstance(title, str) else "",
        lang=values.get("lang", "") or label,
        license=values.get("license", "") or config.license_default,
        error=error,
        digest="" if error else digest(canonical(text)),
    )


def storable(value: str) -> str:
    """The value without half surrogate pairs, which neither Arrow nor UTF-8 can hold."""
    return value.encode("utf-8", "ignore").decode()


def label_of(value: Any) -> str:
    """A corpus's own id, language or licence: one line, of bounded length; "" if it is no label."""
    return normalize(str(value))[:200] if isinstance(value, str | int) else ""


# Where the files are


def bundled_languages() -> list[str]:
    """Codes of the languages that have a corpus in the package."""
    return sorted(path.stem for path in BUNDLED.glob("*.jsonl"))


def _bundled(lang: str) -> Path:
    wanted = language(lang)
    for code in bundled_languages():
        same_script = language(code).script == wanted.script
        if code == wanted.code or (code == wanted.base and same_script):
            return BUNDLED / f"{code}.jsonl"
    raise UserError(
        f"no corpus of {wanted.name} ({wanted.code}) comes with Mbegu, only of "
        f"{', '.join(bundled_languages())}; give one: CORPUS=<file, folder or dataset id>"
    )


def _is_dataset(path: str) -> bool:
    """Whether a path reads as "owner/name" and neither it nor its folder is on this disk."""
    known_kind = File(Path(path), "").kind
    here = Path(path).exists() or Path(path).parent.exists()
    return bool(_DATASET_ID.fullmatch(path)) and not known_kind and not here


def _located(path: Path) -> list[File]:
    if path.is_dir():
        files = [File(found, found.relative_to(path).as_posix()) for found in _walk(path)]
        files = _known(files, path)
    elif path.exists():
        files = [File(path, path.name)]
        if not files[0].kind:
            raise UserError(f"{path}: not a known kind of file; give one of {known_kinds()}")
    elif glob.has_magic(str(path)):
        # `Path.glob` takes no absolute pattern.
        names = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207 - a pattern from the root, too
        found = [Path(name) for name in names]
        files = _known([File(p, p.name) for p in found if p.is_file()], path)
    else:
        _missing(path)
    for file in files:
        if file.path.is_file() and not file.path.stat().st_size:
            raise UserError(f"{file.path}: an empty file; fetch it again, or take it away")
    return files


def _stored(url: str) -> list[File]:
    """Files of an object store."""
    path = path_of(url)
    try:
        found = find(path)
        sizes = {one: one.stat().st_size for one in found[:MOST_SIZED]}
    except Exception as error:  # of whatever kind the store's library raises
        said = " ".join(str(error).split())[:200]
        raise UserError(
            f"{url}: cannot be read ({type(error).__name__}: {said}); check the name, the network "
            f"and the keys in the environment"
        ) from error
    if not found:
        raise UserError(f"{url}: nothing there; check CORPUS=")
    empty = [one for one, size in sizes.items() if not size]
    if empty:
        raise UserError(f"{empty[0]}: an empty file; fetch it again, or take it away")
    top = path.parent if found == [path] or glob.has_magic(url) else path
    prefix = f"{top.as_posix().rstrip('/')}/"
    shown = [(one, one.as_posix().removeprefix(prefix)) for one in found]
    visible = [
        File(one, name if "://" not in name else one.name)
        for one, name in shown
        if not any(part.startswith(".") for part in name.split("/"))
    ]
    return _known(sorted(visible, key=lambda file: file.path.as_posix()), path)


def _walk(folder: Path) -> list[Path]:
    """Files below a folder, sorted, hidden ones left out."""

    def refuse(error: OSError) -> NoReturn:
        raise UserError(f"{error.filename}: cannot be read ({error.strerror})")

    found: list[Path] = []
    for parent, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(parent) / name for name in names if not name.startswith(".")]
    return sorted(found)


def _known(files: list[File], path: Path) -> list[File]:
    known = [file for file in files if file.kind]
    if not known:
        others = f" (but {listed([file.name for file in files])})" if files else ""
        raise UserError(f"{path}: no corpus file there{others}; give one of {known_kinds()}")
    if len(known) < len(files):
        left_out = [file.name for file in files if not file.kind]
        log.warning("%s: left out, of no known kind: %s", path, listed(left_out, 8))
    return known


def _missing(path: Path) -> NoReturn:
    folder = path.parent
    if not folder.is_dir():
        raise UserError(f"{path}: no such file, nor a folder {folder}; check CORPUS=")
    # A run that is being made, this one for instance, is nothing to read yet.
    there = [p for p in folder.iterdir() if not p.name.startswith(".") and not is_locked(p)]
    names = sorted(p.name for p in there)
    near = [name for name in names if name.startswith(path.name)]
    near = near or difflib.get_close_matches(path.name, names, n=3)
    inside = f"in that folder: {listed(names, 8)}" if names else "nothing like it is in that folder"
    hint = f"did you mean {listed(near, 3)}?" if near else inside
    raise UserError(f"{path}: no such file; {hint}")


# Datasets of the Hugging Face hub


def _dataset(config: SourceConfig) -> Iterator[dict[str, Any]]:
    with _hub_errors(config):
        # Asked first, and once: `datasets` itself tries for half a minute before it gives up.
        from huggingface_hub import HfApi

        HfApi().dataset_info(config.path, timeout=_HUB_TIMEOUT)
        from datasets import load_dataset

        rows = iter(
            load_dataset(config.path, config.subset or None, split=config.split, streaming=True)
        )
    while True:
        with _hub_errors(config):
            row = next(rows, None)
        if row is None:
            return
        yield row


@contextmanager
def _hub_errors(config: SourceConfig) -> Iterator[None]:
    """Whatever the hub's libraries raise, of any kind, as one line that says what to do."""
    try:
        yield
    except Exception as error:  # of whatever kind: none of them share one
        reason = normalize(str(error).strip().split("\n")[0])[:160]
        raise UserError(
            f"{config.path}: no such file here, and as a dataset id it cannot be loaded "
            f"({type(error).__name__}: {reason}); check the id, the network, and "
            f"corpus.subset={config.subset or '(none)'}, corpus.split={config.split}"
        ) from error
