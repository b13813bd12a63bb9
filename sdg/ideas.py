"""The task list: ideas that one model brainstorms and others write samples for.

From scratch in two steps (E5-mistral, arXiv 2401.00368, 3.1): an LLM lists tasks, about 20 a call;
an LLM writes the samples of a task. The recipe (arXiv 2511.07025) has different models do the two
steps. The list is a product of its own: Parquet of seeds of kind "idea", near-copies left out, and
any later run may use it.
"""

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

from rapidfuzz import fuzz

from sdg.errors import UserError
from sdg.schema import Seed, read_rows, rows_of, to_table
from sdg.store import write_table
from sdg.tasks.base import IDEA, NONE
from sdg.text import canonical, digest

GRAM = 4  # characters a piece
NEAR = 0.7  # Jaccard similarity of pieces from which two ideas are one
MAYBE = 0.6  # ... from which their words are compared, too
SHARED = 8  # rare pieces that two ideas have in common before they are compared at all
NEAR_WORDS = 88.0  # rapidfuzz's token sort ratio, 0 to 100


def blank_seed(number: int) -> Seed:
    """What a brainstorming call is made from: nothing; `number` tells one call from another."""
    return Seed(
        id=digest("blank", number),
        text="",
        title="",
        lang="en",
        source="",
        license="unknown",
        kind=NONE,
    )


def write_ideas(path: Path, ideas: Sequence[Seed]) -> None:
    """Write a task list, whole or not at all."""
    write_table(path, to_table(ideas, Seed))


def read_ideas(path: Path) -> list[Seed]:
    """A task list.

    Raises:
        UserError: the file is missing, cut, of another schema, or holds other seeds.
    """
    ideas: list[Seed] = rows_of(read_rows(path, Seed), Seed)
    if other := next((idea for idea in ideas if idea.kind != IDEA), None):
        raise UserError(f"{path}: not a task list: it holds a seed of kind '{other.kind}'")
    return ideas


def dedupe_ideas(ideas: Iterable[Seed]) -> list[Seed]:
    """The ideas without near-copies of others of their family and form, by id.

    Which of two near-copies stays follows from their ids, so the result is the same in whatever
    order, or in however many shards, the ideas come. An idea goes where its character 4-grams agree
    with a kept one's (Jaccard >= 0.7), or nearly do (>= 0.6) and the words are much the same
    (rapidfuzz's token sort ratio >= 88).
    """
    groups: dict[tuple[str, str], dict[str, Seed]] = defaultdict(dict)
    for idea in sorted(ideas, key=lambda idea: (idea.id, idea.fields)):
        fields = json.loads(idea.fields)
        groups[fields["family"], fields["form"]].setdefault(idea.id, idea)
    kept = [idea for group in groups.values() for idea in _distinct(list(group.values()))]
    return sorted(kept, key=lambda idea: idea.id)


def _distinct(ideas: Sequence[Seed]) -> Iterator[Seed]:
    """Ideas that are near to none before.

    With pieces in one order, the rarest first, two sets whose Jaccard similarity is t share `k` of
    their first n - ceil(t n) + k, of n (prefix filter: Bayardo et al., WWW 2007; with k > 1: Wang
    et al., SIGMOD 2012). So few need comparing, and the words that all ideas have don't count.
    """
    pieces = [_pieces(idea.text) for idea in ideas]
    counts = Counter(piece for found in pieces for piece in found)
    index: dict[str, list[int]] = defaultdict(list)
    least = [math.ceil(MAYBE * len(found)) for found in pieces]  # that a near-copy shares
    for place, idea in enumerate(ideas):
        rarest = sorted(pieces[place], key=lambda piece: (counts[piece], piece))
        enough = min(SHARED, least[place])
        prefix = rarest[: len(rarest) - least[place] + enough]
        shared = Counter(chain.from_iterable(index[piece] for piece in prefix))
        candidates = [o for o, num in shared.items() if num >= enough or num >= least[o]]
        if any(_near(place, other, ideas, pieces) for other in candidates):
            continue
        for piece in prefix:
            index[piece].append(place)
        yield idea


def _pieces(text: str) -> frozenset[str]:
    """Character 4-grams within words, the word's ends counted in, so that order does not matter."""
    words = [f" {canonical(word)} " for word in text.split()]
    return frozenset(
        word[i : i + GRAM] for word in words for i in range(max(1, len(word) - GRAM + 1))
    )


def _near(one: int, other: int, ideas: Sequence[Seed], pieces: Sequence[frozenset[str]]) -> bool:
    shared = len(pieces[one] & pieces[other])
    jaccard = shared / (len(pieces[one]) + len(pieces[other]) - shared)
    if jaccard >= NEAR or jaccard < MAYBE:
        return jaccard >= NEAR
    texts = (ideas[one].text.casefold(), ideas[other].text.casefold())
    return fuzz.token_sort_ratio(*texts) >= NEAR_WORDS
