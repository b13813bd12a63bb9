"""Folders and files on a disk or in an object store: `runs/sw`, `s3://bucket/runs/sw`, `gs://…`.

What is in an object store is a `UPath` of fsspec: it answers as `pathlib.Path` does, and types here
call both `Path`. Code that writes goes through `write_atomically`. A file system has a rename for
that; an object store has none, and needs none: an object is there, whole, once its last byte is.
"""

import os
import shutil
import tempfile
import uuid
from collections.abc import Callable
from glob import has_magic
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq
from upath import UPath

from sdg.errors import UserError


def path_of(text: str) -> Path:
    """The path that a user gave.

    Raises:
        UserError: it is a URL of a kind that cannot be read here.
    """
    if "://" not in text:
        return Path(text).expanduser()
    try:
        # Other machines write there meanwhile: a listing is never taken from memory.
        found: Any = UPath(text, use_listings_cache=False)
        found.fs  # noqa: B018  imports what its protocol needs
    except (ImportError, ValueError) as error:
        said = " ".join(str(error).split())[:200]
        raise UserError(
            f"{text}: cannot be reached from here ({said}); for s3:// and gs:// install the extra "
            f"'cluster': pip install -e '.[cluster]'"
        ) from None
    return cast(Path, found)


def is_object(path: Path) -> bool:
    """Whether a path is in an object store."""
    return not isinstance(path, Path)


def _file_system(path: Path) -> tuple[Any, str]:
    remote: Any = path
    return remote.fs, remote.path


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Have `write` fill a temporary file, sync it, and put it into place all at once."""
    if is_object(path):
        with tempfile.TemporaryDirectory(prefix="mbegu-") as folder:
            whole = Path(folder) / path.name
            write(whole)
            put(whole, path)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        write(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file all at once."""
    write_atomically(path, lambda temporary: _fill(temporary, data))


def write_text(path: Path, text: str) -> None:
    """Write a text file all at once, as UTF-8."""
    write_bytes(path, text.encode())


def _fill(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def put(source: Path, target: Path) -> None:
    """Copy a file of this machine into an object store."""
    store, name = _file_system(target)
    store.put_file(str(source), name)


def read_object(path: Path) -> bytes:
    """An object as it is at one moment; `path.open` asks for its size first, and then it may be
    another already."""
    store, name = _file_system(path)
    whole: bytes = store.cat_file(name)
    return whole


def read_table(path: Path, columns: list[str] | None = None) -> pa.Table:
    """A whole Parquet file."""
    if not is_object(path):
        return pq.read_table(path, columns=columns)
    with path.open("rb") as file:
        return pq.read_table(file, columns=columns)


def open_parquet(path: Path, **options: Any) -> pq.ParquetFile:
    """A Parquet file, to be read in parts."""
    return pq.ParquetFile(path.open("rb") if is_object(path) else path, **options)


def remove_folder(path: Path) -> None:
    """Remove a folder with all that is in it, if it is there."""
    if not is_object(path):
        shutil.rmtree(path, ignore_errors=True)
        return
    store, name = _file_system(path)
    if store.exists(name):
        store.rm(name, recursive=True)


def find(path: Path) -> list[Path]:
    """The objects that a path in an object store names, in order: one, all below it, or those that
    a pattern matches."""
    store, name = _file_system(path)
    if store.isfile(name):
        return [path]
    found = store.glob(name) if has_magic(name) else store.find(name)
    remote: Any = path
    kind = type(remote)
    paths = [kind(one, protocol=remote.protocol, **remote.storage_options) for one in found]
    return [one for one in paths if one.is_file()] if has_magic(name) else paths


def copy(source: Path, target: Path) -> None:
    """Copy a file to where nothing is: a hard link where the file system has them, or within the
    object store, so that no byte goes through this machine."""
    if is_object(target):
        store, name = _file_system(target)
        store.cp_file(_file_system(source)[1], name)
        return
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def upload(source: Path, target: Path) -> None:
    """All files below a folder of this machine."""
    for path in sorted(source.rglob("*")):
        if path.is_file():
            put(path, target / path.relative_to(source).as_posix())


def download(source: Path, target: Path) -> None:
    """All files below a folder of an object store, into a folder that is not there yet: it appears
    once it is whole."""
    fresh = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    fresh.mkdir(parents=True)
    store, name = _file_system(source)
    for found in store.find(name):
        place = fresh / found.removeprefix(name).lstrip("/")
        if not place.resolve().is_relative_to(fresh.resolve()):
            continue  # an object's name is text like any other
        place.parent.mkdir(parents=True, exist_ok=True)
        store.get_file(found, str(place))
    try:
        fresh.rename(target)
    except OSError:  # another process of this machine was faster
        shutil.rmtree(fresh)


def scratch() -> Path:
    """A folder of this machine and user, for copies of what is in object stores.

    Raises:
        UserError: another user has made it.
    """
    folder = Path(tempfile.gettempdir()) / f"mbegu-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise UserError(f"{folder}: belongs to another user; set TMPDIR to a folder of your own")
    return folder
