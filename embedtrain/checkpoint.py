"""Checkpoints by `torch.distributed.checkpoint`: written beside the training, whole or not at all.

    checkpoints/step-00000500/   the ranks' tensors, and state.json
    checkpoints/last             the name of the last whole one, replaced in one move

A kill or a full disk at any moment leaves the one that `last` names. Any number of ranks may go on
from it.
"""

import errno
import json
import os
import shutil
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_state_dict,
    set_state_dict,
)

from sdg.errors import UserError


class Checkpoints:
    """The checkpoints of one run, on every rank; rank 0 moves `last`."""

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder, self._keep = folder, keep
        # The writing thread talks to its like on other ranks while the training does, too.
        self._group = dist.new_group(backend="gloo")
        self._pending: tuple[Future[Any], Path] | None = None

    def last(self) -> Path | None:
        """The last whole checkpoint."""
        pointer = self.folder / "last"
        if not pointer.exists():
            return None
        found = self.folder / pointer.read_text(encoding="utf-8").strip()
        return found if found.parent == self.folder and found.is_dir() else None

    def save(
        self, step: int, model: torch.nn.Module, optimizer: Any, state: dict[str, Any]
    ) -> None:
        """Start to write a checkpoint; the weights may change as soon as this returns.

        Raises:
            UserError: the one before could not be written.
        """
        self.wait()
        folder = self.folder / f"step-{step:08d}"
        if folder == self.last():
            return  # stopped again before a step was made: what is there is this very state
        if dist.get_rank() == 0:
            shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed while it wrote
            self._try(lambda: _write_state(folder, state), folder)
        dist.barrier(group=self._group)
        tensors = _tensors(model, optimizer)
        try:
            future = dcp.async_save(tensors, checkpoint_id=folder, process_group=self._group)
        except (OSError, RuntimeError, CheckpointException) as error:
            raise self._failed(folder, error) from error
        assert isinstance(future, Future)
        self._pending = (future, folder)

    def wait(self) -> None:
        """Until the checkpoint that is being written is whole.

        Raises:
            UserError: it could not be written; the last one is as it was.
        """
        if self._pending is None:
            return
        (future, folder), self._pending = self._pending, None
        try:
            future.result()
        except (OSError, RuntimeError, CheckpointException) as error:
            raise self._failed(folder, error) from error
        if dist.get_rank() == 0:
            self._try(lambda: self._point_to(folder), folder)
        dist.barrier(group=self._group)

    def read_state(self, folder: Path) -> dict[str, Any]:
        """What `save` was given as a checkpoint's state."""
        try:
            state: dict[str, Any] = json.loads((folder / "state.json").read_text("utf-8"))
            return state
        except (OSError, ValueError) as error:
            raise self._unreadable(folder, error) from None

    def load(self, folder: Path, model: torch.nn.Module, optimizer: Any) -> None:
        """Put a checkpoint's weights and moments in place.

        Raises:
            UserError: it is of another model, or cannot be read.
        """
        tensors = _tensors(model, optimizer)
        try:
            dcp.load(tensors, checkpoint_id=folder, process_group=self._group)
        except (OSError, ValueError, RuntimeError, CheckpointException) as error:
            raise self._unreadable(folder, error) from error
        set_state_dict(
            model,
            optimizer,
            model_state_dict=tensors["model"],
            optim_state_dict=tensors["optimizer"],
            options=_OPTIONS,
        )

    def _unreadable(self, folder: Path, error: BaseException) -> UserError:
        return UserError(
            f"{folder}: not a checkpoint of this model, or damaged ({_reason(error)}); train under "
            f"another RUN, or remove {self.folder} to begin anew"
        )

    def _point_to(self, folder: Path) -> None:
        fresh = self.folder / ".last.tmp"
        with fresh.open("w", encoding="utf-8") as file:
            file.write(folder.name + "\n")
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self.folder / "last")
        whole = sorted(p for p in self.folder.glob("step-*") if p.name <= folder.name)
        for old in whole[: -self._keep]:
            shutil.rmtree(old, ignore_errors=True)

    def _try(self, write: Callable[[], None], folder: Path) -> None:
        try:
            write()
        except OSError as error:
            raise self._failed(folder, error) from error

    def _failed(self, folder: Path, error: BaseException) -> UserError:
        shutil.rmtree(folder, ignore_errors=True)
        last = self.last()
        kept = f"the last good one is {last}" if last else "there is none before it"
        full = any(word in _reason(error) for word in ("No space left", "File too large", "quota"))
        advice = "the disk is full: free some space" if full else _reason(error)
        return UserError(
            f"checkpoint {folder} could not be written: {advice}; {kept}: the same command goes on "
            f"from there"
        )


_OPTIONS = StateDictOptions(ignore_frozen_params=True, strict=False)


def _tensors(model: torch.nn.Module, optimizer: Any) -> dict[str, Any]:
    weights, moments = get_state_dict(model, optimizer, options=_OPTIONS)
    return {"model": weights, "optimizer": moments}


def _write_state(folder: Path, state: dict[str, Any]) -> None:
    folder.mkdir(parents=True)
    text = json.dumps(state, ensure_ascii=False) + "\n"
    (folder / "state.json").write_text(text, encoding="utf-8")


def _reason(error: BaseException) -> str:
    """The innermost words of an error: those of the ranks' own where it is a collective's."""
    if isinstance(error, CheckpointException):
        inner = [pair[0] for pair in error.failures.values()]
        return _reason(inner[0]) if inner else "unknown"
    while error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "No space left"
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:300]
