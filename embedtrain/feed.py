"""From batches to what a rank computes on: token ids, in passes of bounded size.

A thread reads and tokenises ahead of the training; each step comes with the state of the data after
it, which is what a checkpoint keeps.
"""

import queue
import threading
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

from embedtrain.data import Batch, Batches, Item

AHEAD = 2  # steps that are ready before they are needed


@dataclass(frozen=True)
class Step:
    """One rank's part of a step."""

    batch: Batch
    items: tuple[Item, ...]  # this rank's
    token_ids: tuple[tuple[list[int], ...], ...]  # of each item: the query's, then the documents'
    num_cut: int  # texts that were longer than the model may read
    state: dict[str, Any]  # of the data, after this step


def feed(
    batches: Batches, num_steps: int, tokenizer: Any, max_tokens: int, rank: int, num_ranks: int
) -> Generator[Step, None, None]:
    """Steps up to `num_steps`, from where `batches` is, made by a thread.

    Raises:
        UserError: whatever the data raises, when its step comes.
    """
    ready: queue.Queue[Step | BaseException | None] = queue.Queue(AHEAD)
    ended = threading.Event()

    def offer(found: Step | BaseException | None) -> None:
        while not ended.is_set():
            try:
                return ready.put(found, timeout=0.1)
            except queue.Full:
                continue

    def work() -> None:
        try:
            while batches.step < num_steps and not ended.is_set():
                offer(_step(batches, tokenizer, max_tokens, rank, num_ranks))
            offer(None)
        except BaseException as error:  # it is raised where the step is wanted
            offer(error)

    thread = threading.Thread(target=work, name="feed", daemon=True)
    thread.start()
    try:
        while (found := ready.get()) is not None:
            if isinstance(found, BaseException):
                raise found
            yield found
    finally:
        ended.set()
        thread.join()


def _step(batches: Batches, tokenizer: Any, max_tokens: int, rank: int, num_ranks: int) -> Step:
    batch = next(batches)
    items = batch.share(rank, num_ranks)
    texts = [text for item in items for text in (item.query, *item.documents)]
    ids, num_cut = tokenized(texts, tokenizer, max_tokens)
    whole = iter(ids)
    token_ids = tuple(tuple(next(whole) for _ in range(1 + len(item.documents))) for item in items)
    return Step(batch, items, token_ids, num_cut, batches.state())


def tokenized(texts: list[str], tokenizer: Any, max_tokens: int) -> tuple[list[list[int]], int]:
    """The texts' ids, `max_tokens` of each at most, and how many texts have more."""
    if not texts:
        return [], 0
    # One token more than is kept shows which texts are cut. They are read again, as cutting ids
    # would take the special token at their end.
    ids = tokenizer(texts, truncation=True, max_length=max_tokens + 1)["input_ids"]
    places = [place for place, one in enumerate(ids) if len(one) > max_tokens]
    if places:
        longer = [texts[place] for place in places]
        again = tokenizer(longer, truncation=True, max_length=max_tokens)["input_ids"]
        for place, one in zip(places, again, strict=True):
            ids[place] = one
    return ids, len(places)


def split(sizes: Sequence[int], num_parts: int) -> list[list[int]]:
    """Places of `sizes` in so many parts of about one sum; parts may be empty where places are few.

    Longest first, each to the part that has least.
    """
    parts: list[list[int]] = [[] for _ in range(num_parts)]
    totals = [0] * num_parts
    for place in sorted(range(len(sizes)), key=lambda i: (-sizes[i], i)):
        least = min(range(num_parts), key=totals.__getitem__)
        parts[least].append(place)
        totals[least] += sizes[place]
    return [sorted(part) for part in parts]


def num_passes(sizes: Sequence[int], most: int) -> int:
    """How many parts `split` needs for sums of at most `most`, as far as single sizes allow it."""
    least = max(1, -(-sum(sizes) // most))
    for count in range(least, len(sizes) + 1):
        if all(sum(sizes[i] for i in part) <= most for part in split(sizes, count)):
            return count
    return max(1, len(sizes))
