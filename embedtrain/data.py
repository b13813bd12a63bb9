"""What a training step sees: batches of one task, drawn from all sources by weight.

A step's batch is a function of the settings, the seed and a small JSON state, whatever the number
of ranks: every rank draws the whole batch and takes its share. Each group (source, task, language)
is gone through in an order of its own, shuffled anew for each epoch by a permutation that is
computed place by place, so nothing is held in memory and any step can be gone on from.

Groups are drawn in proportion to

    weight(source) * weight(task) * weight(language) * rows ^ (1 / temperature)

and in fact never further than about a row from it: the group furthest behind goes next. With all
weights 1 and temperature 1 an epoch sees each row once; a high temperature makes all alike.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from embedtrain.adapters import SourceConfig, adapt, find_files
from embedtrain.prepared import Source, find_shards, fingerprint, prepare, read_shards
from sdg.errors import UserError
from sdg.schema import SYMMETRIC_TASKS, instructed

GOOD_GRADE = 0.8  # of graded similarity, from which a text is a positive
Weights = dict[str, float]


class DataConfig(BaseModel):
    """What is trained on, and in which proportions."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sources: tuple[SourceConfig, ...] = Field((), validate_default=False)
    temperature: float = Field(1.0, gt=0)
    tasks: Weights = {}  # task -> weight, 1 where not named; 0 leaves it out
    languages: Weights = {}  # query language -> the same
    negatives: int = Field(4, ge=0)  # hard negatives a query, at most
    not_in_batch: tuple[str, ...] = ("classification", "sts")  # tasks that never take in-batch ones
    instruct: bool = True  # queries carry their instruction, as `instructed` writes it
    instructions: dict[str, str] = {}  # task -> the one instruction, in place of the rows' own


@dataclass(frozen=True)
class Item:
    """A row as it is trained on."""

    id: str
    source: int
    task: str
    lang: str
    query: str  # with its instruction
    documents: tuple[str, ...]  # the positive, then hard negatives
    scores: tuple[float, ...]  # the teacher's, one a document, or ()
    grades: tuple[float, ...]  # graded similarity in [0, 1], one a document, or ()


@dataclass(frozen=True)
class Batch:
    """One step's rows, of one task, over all ranks."""

    step: int  # from 0
    task: str
    in_batch: bool  # whether other rows' documents may serve as negatives
    items: tuple[Item, ...]

    def share(self, rank: int, num_ranks: int) -> tuple[Item, ...]:
        """One rank's rows; dealt out by length, so that all ranks have about as much to do."""
        lengths = [len(i.query) + sum(map(len, i.documents)) for i in self.items]
        order = sorted(range(len(self.items)), key=lambda i: (-lengths[i], i))
        mine = [place for turn, place in enumerate(order) if _dealt(turn, num_ranks) == rank]
        return tuple(self.items[place] for place in sorted(mine))


def _dealt(turn: int, num_ranks: int) -> int:
    """Who gets the card of this turn: there and back again."""
    lap, place = divmod(turn, num_ranks)
    return place if lap % 2 == 0 else num_ranks - 1 - place


def open_sources(
    config: DataConfig, folder: Path, say: Callable[[str], None] = lambda text: None
) -> list[Source]:
    """The sources, laid out in `folder` where they are not there yet.

    Raises:
        UserError: a source is missing, broken, of another schema version, or without usable rows.
    """
    if not config.sources:
        raise UserError(
            "no data: give a run, DATA=runs/<run>, or sources, "
            "--set 'data.sources=[{path: runs/sw}]'"
        )
    opened = []
    for number, source in enumerate(config.sources):
        own = source.layout == "examples"
        files = find_shards(source.path) if own else find_files(source.path)
        settings = source.model_dump_json(exclude={"weight", "path"}) + str(config.negatives)
        name = f"{number}-{fingerprint(files, '' if own else settings)}"
        if not (folder / name).is_dir():
            say(f"laying out {source.path} …")
            rows = read_shards(files) if own else adapt(source, files, config.negatives)
            try:
                prepare(rows, folder / name)
            except UserError as error:
                named = str(source.path) in str(error)
                raise UserError(str(error) if named else f"{source.path}: {error}") from None
        opened.append(Source(folder / name))
    return opened


def common_instructions(config: DataConfig, sources: Sequence[Source]) -> dict[str, str]:
    """Task -> the instruction that most of its rows are trained with: an export's prompt."""
    counts: dict[str, dict[str, int]] = {}
    for source in sources:
        for task, found in source.about["instructions"].items():
            for instruction, n in found.items():
                counts.setdefault(task, {}).setdefault(instruction, 0)
                counts[task][instruction] += n
    common = {task: max(sorted(found), key=found.__getitem__) for task, found in counts.items()}
    return {task: config.instructions.get(task, text) for task, text in sorted(common.items())}


def permuted(place: int, size: int, *key: object) -> int:
    """Where a permutation of `size` places, one for each key, puts `place`.

    A Feistel network over the next power of 4 with cycle walking (Black and Rogaway, "Ciphers with
    arbitrary finite domains", CT-RSA 2002): a bijection that needs no table.
    """
    half = max(1, ((size - 1).bit_length() + 1) // 2)
    mask = (1 << half) - 1
    salt = json.dumps([str(part) for part in key]).encode()
    while True:
        left, right = place >> half, place & mask
        for turn in range(4):
            state = hashlib.blake2b(salt, digest_size=8)
            state.update(turn.to_bytes(1, "little") + right.to_bytes(8, "little"))
            mixed = int.from_bytes(state.digest(), "little") & mask
            left, right = right, left ^ mixed
        place = left << half | right
        if place < size:
            return place


class _Group:
    """The rows of one source, task and language."""

    def __init__(self, number: int, source: Source, about: dict[str, Any]) -> None:
        self.number, self.source, self.about = number, source, about
        self.task, self.lang, self.count = about["task"], about["lang"], about["count"]
        self.key = f"{number}/{self.task}/{self.lang}"
        self.taken = 0  # places drawn so far, over all epochs
        self.used = 0  # rows that went into a batch
        self.held: list[int] = []  # places drawn whose documents were in their batch already

    def row(self, place: int, seed: int) -> dict[str, Any]:
        epoch, within = divmod(place, self.count)
        found = self.source.row(self.about, permuted(within, self.count, seed, self.key, epoch))
        return {**found, "epoch": epoch}


class Batches:
    """The stream of batches; `state` and `restore` are all that a checkpoint needs."""

    def __init__(
        self,
        config: DataConfig,
        sources: Sequence[Source],
        batch_size: int,
        seed: int,
        in_batch: bool,
        by_grade: bool = True,
    ) -> None:
        """
        Args:
            batch_size: rows a step, over all ranks.
            in_batch: whether the loss takes other rows' documents, where a task allows it.
            by_grade: whether the loss takes graded similarity; else it needs good positives.

        Raises:
            UserError: the weights leave nothing.
        """
        self._config, self._batch_size = config, batch_size
        self._seed, self._in_batch, self._by_grade = seed, in_batch, by_grade
        groups = [_Group(i, s, g) for i, s in enumerate(sources) for g in s.about["groups"]]
        raw = {group.key: self._weight(group) for group in groups}
        self._groups = [group for group in groups if raw[group.key] > 0]
        if not self._groups:
            raise UserError("data: the weights of tasks and languages leave no row to train on")
        total = sum(raw.values())
        self._share = {group.key: raw[group.key] / total for group in self._groups}
        self._tasks = sorted({group.task for group in self._groups})
        self.step = 0
        self.skipped: dict[str, int] = {}
        self._task_batches = dict.fromkeys(self._tasks, 0)

    def _weight(self, group: _Group) -> float:
        config = self._config
        return (
            config.sources[group.number].weight
            * config.tasks.get(group.task, 1.0)
            * config.languages.get(group.lang, 1.0)
            * group.count ** (1 / config.temperature)
        )

    @property
    def num_rows(self) -> int:
        """Rows of one pass over all groups."""
        return sum(group.count for group in self._groups)

    def state(self) -> dict[str, Any]:
        """Where the stream is, as JSON."""
        return {
            "step": self.step,
            "tasks": dict(self._task_batches),
            "groups": {g.key: [g.taken, g.used, list(g.held)] for g in self._groups},
            "skipped": dict(self.skipped),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state.

        Raises:
            UserError: the state is of other data or weights.
        """
        keys = {group.key for group in self._groups}
        if state["groups"].keys() != keys or state["tasks"].keys() != set(self._tasks):
            odd = sorted(state["groups"].keys() ^ keys)
            raise UserError(f"data: not what the checkpoint was trained on ({', '.join(odd[:4])})")
        self.step, self.skipped = state["step"], dict(state["skipped"])
        self._task_batches = dict(state["tasks"])
        for group in self._groups:
            group.taken, group.used, held = state["groups"][group.key]
            group.held = list(held)

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        """The next step's batch.

        Raises:
            UserError: no row of a group can be used, or the batch cannot be filled.
        """
        shares = {t: sum(self._share[g.key] for g in self._of(t)) for t in self._tasks}
        task = max(self._tasks, key=lambda t: shares[t] * (self.step + 1) - self._task_batches[t])
        in_batch = self._in_batch and task not in self._config.not_in_batch
        items = self._fill(self._of(task), in_batch)
        self._task_batches[task] += 1
        self.step += 1
        return Batch(self.step - 1, task, in_batch, tuple(items))

    def _of(self, task: str) -> list[_Group]:
        return [group for group in self._groups if group.task == task]

    def _fill(self, groups: Sequence[_Group], in_batch: bool) -> list[Item]:
        shares_G = np.array([self._share[group.key] for group in groups])
        shares_G /= shares_G.sum()
        used_G = np.array([float(group.used) for group in groups])
        waiting = {group.key: group.held for group in groups}
        for group in groups:
            group.held = []
        texts: set[str] = set()
        items: list[Item] = []
        for _ in range(self._batch_size):
            item = None
            while item is None:
                if not shares_G.any():
                    raise self._cannot_fill(groups, len(items))
                place = int(
                    np.argmax(np.where(shares_G, shares_G * (used_G.sum() + 1) - used_G, -np.inf))
                )
                group = groups[place]
                item = self._draw(group, waiting[group.key], texts, in_batch)
                if item is None:  # others fill this batch
                    shares_G[place] = 0
            items.append(item)
            used_G[place] += 1
            group.used += 1
        for group in groups:
            group.held += waiting[group.key]
        return items

    def _draw(
        self, group: _Group, waiting: list[int], texts: set[str], in_batch: bool
    ) -> Item | None:
        """The group's next row that fits this batch, if one of the next few does; rows whose texts
        are in the batch are held for a later one."""
        for _ in range(min(group.count, 4 * self._batch_size) + self._batch_size):
            if waiting:
                place = waiting.pop(0)
            else:
                place = group.taken
                group.taken += 1
            found = self._item(group, place, texts, in_batch)
            if isinstance(found, Item):
                return found
            if found == "duplicate":
                if len(group.held) < 4 * self._batch_size:
                    group.held.append(place)
                    continue
                found = "duplicate_in_batch"
            self.skipped[found] = self.skipped.get(found, 0) + 1
        return None

    def _cannot_fill(self, groups: Sequence[_Group], num_items: int) -> UserError:
        paths = {str(self._config.sources[group.number].path) for group in groups}
        reasons = ", ".join(f"{n} {reason}" for reason, n in self.skipped.items())
        return UserError(
            f"{', '.join(sorted(paths))}: {groups[0].task}: only {num_items} rows for a batch of "
            f"{self._batch_size} that repeat no text and can be trained on (left out so far: "
            f"{reasons or 'none'}); lower batch_size, or take the loss hard_negatives"
        )

    def _item(self, group: _Group, place: int, texts: set[str], in_batch: bool) -> Item | str:
        """The row as an item, or why it is none: it repeats a text, or lacks a negative."""
        config = self._config
        row = group.row(place, self._seed)
        positives, negatives = row["positives"], row["negatives"]
        graded = bool(row["positive_grades"]) and self._by_grade
        turn = int.from_bytes(hashlib.blake2b(row["id"].encode(), digest_size=4).digest(), "big")
        chosen = (turn + row["epoch"]) % len(positives)
        if not in_batch and not graded and not (negatives and config.negatives):
            return "no_negatives"
        if row["positive_grades"] and not graded and row["positive_grades"][chosen] < GOOD_GRADE:
            return "low_grade"
        wanted = list(range(len(negatives)))
        if in_batch:
            own = {_bare(row["query"]), _bare(positives[chosen])}
            if texts & own or len(own) == 1:
                return "duplicate"
            wanted = _distinct(negatives, texts | own)
            if len(wanted) < min(config.negatives, len(negatives)):
                return "duplicate"
        picked = wanted[: config.negatives]
        if in_batch:
            texts |= own | {_bare(negatives[i]) for i in picked}

        def of_each(name: str) -> tuple[float, ...]:
            first, others = row[f"positive_{name}"], row[f"negative_{name}"]
            if not first or (picked and not others):
                return ()
            return (first[chosen], *(others[i] for i in picked))

        instruction = config.instructions.get(group.task, row["instruction"])

        def asked(text: str) -> str:
            return instructed(instruction, text) if config.instruct else text

        documents = [positives[chosen], *(negatives[i] for i in picked)]
        return Item(
            id=row["id"],
            source=group.number,
            task=group.task,
            lang=group.lang,
            query=asked(row["query"]),
            documents=tuple(map(asked, documents) if group.task in SYMMETRIC_TASKS else documents),
            scores=of_each("scores"),
            grades=of_each("grades"),
        )


def _bare(text: str) -> str:
    """A text for comparing: case and white space do not count."""
    return " ".join(text.split()).casefold()


def _distinct(negatives: Sequence[str], seen: set[str]) -> list[int]:
    """Places of the negatives that are not in `seen` and of which none stands before."""
    found: dict[str, int] = {}
    for place, text in enumerate(negatives):
        bare = _bare(text)
        if bare not in seen:
            found.setdefault(bare, place)
    return list(found.values())
