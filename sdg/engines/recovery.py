"""Which of several items makes an engine crash: found by halving, while all others are answered."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")

PATIENCE = 4  # crashes without an answer in between, beyond those that halving may take


class KeepsCrashing(RuntimeError):
    """The engine crashes whatever it is given."""


def isolate(suspects: Sequence[T], run: Callable[[Sequence[T]], Sequence[T]]) -> Iterator[T]:
    """The items that make the engine crash, each as soon as it is found; the others get answered.

    All are tried together once more, since what crashed it may have come from outside. Nothing is
    blamed that did not crash the engine alone.

    Args:
        suspects: what the engine was at when it crashed.
        run: has a fresh engine, or one that has not crashed since, answer items; returns those that
            are not answered as it crashes, none where it does not.

    Raises:
        KeepsCrashing: it does so too often without answering anything.
    """
    groups, num_barren = [list(suspects)], 0
    while groups:
        group = groups.pop()
        left = list(run(group))
        num_barren = num_barren + 1 if len(left) == len(group) else 0
        if num_barren > math.log2(max(1, len(suspects))) + PATIENCE:
            raise KeepsCrashing(f"{num_barren} crashes one after another, and not one answer")
        if left and len(group) == 1:
            yield group[0]
        elif left:
            half = (len(left) + 1) // 2
            groups += [part for part in (left[half:], left[:half]) if part]
