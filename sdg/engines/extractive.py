"""The embedded default: queries taken from the document itself, with no language model.

Strategies, all of which work in any language and need nothing but the document:

- `title`: the document's title asks for the document;
- `random_crop`: one span asks for another, independent one (Contriever, arXiv 2112.09118, 3.1);
- `inverse_cloze`: a sentence asks for its document, from which it is removed (Lee et al.,
  arXiv 1906.00300, 4);
- `keyphrase`: a few telling words of the document, as people type them into a search box.

A prompt's front matter says which of them may stand in for it (`extractive: [...]`); where none
can (a question in another language, say), `check` refuses before anything runs.
"""

import json
import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator

from sdg.engines.base import Engine, Hear, Reply, Resources, Session, hear_nothing
from sdg.errors import UserError
from sdg.prompting import Prompt
from sdg.schema import Call
from sdg.text import rng, sentence_spans, word_spans

# (query, what remains as the document), or None where the document does not allow it.
Extracted = tuple[str, str] | None

MIN_WORDS = 8  # of a document: below it no part is both a query and apart from the rest


def title(text: str, heading: str, lang: str, rand: random.Random) -> Extracted:
    """The title asks for the document; a title that opens the text is taken out of it."""
    if not heading:
        return None
    rest = text
    inside_word = any(a < len(heading) < b for a, b in word_spans(text[: len(heading) + 50], lang))
    if text.startswith(heading) and not inside_word:
        rest = text.removeprefix(heading).lstrip(" .:-–—|")
    return (heading, rest) if rest else None


def random_crop(text: str, heading: str, lang: str, rand: random.Random) -> Extracted:
    """Two independent spans of whole words: 10 to 40 % of the document asks for 50 to 100 %."""
    words = word_spans(text, lang)
    if len(words) < MIN_WORDS:
        return None
    query = _span(words, rand.uniform(0.1, 0.4), 3, 24, rand)
    document = _span(words, rand.uniform(0.5, 1.0), 5, len(words), rand)
    return text[slice(*query)], _to_end_mark(text, document)


def inverse_cloze(text: str, heading: str, lang: str, rand: random.Random) -> Extracted:
    """A sentence asks for the document without it."""
    spans = sentence_spans(text, lang)
    # A heading's crumb or a whole page without a full stop makes no query.
    fit = [s for s in spans if 4 <= len(word_spans(text[slice(*s)], lang)) <= 48]
    if len(spans) < 2 or not fit:
        return None
    start, end = rand.choice(fit)
    before, after = text[:start].rstrip(), text[end:].lstrip()
    joint = " " if before and after and text[start - 1 : start].isspace() else ""
    if not joint and before and text[end : end + 1].isspace():
        joint = " "
    return text[start:end], before + joint + after


def keyphrase(text: str, heading: str, lang: str, rand: random.Random) -> Extracted:
    """Two to five telling words, in their order in the document.

    A word tells the more the longer it is (common words are short in every language: Zipf's law of
    abbreviation) and the oftener this document says it.
    """
    words = [text[slice(*span)] for span in word_spans(text, lang)]
    if len(words) < MIN_WORDS:
        return None
    counts = Counter(word.casefold() for word in words)
    first: dict[str, str] = {}
    for word in words:
        first.setdefault(word.casefold(), word)
    telling = sorted(
        (w for w in counts if len(w) > 1 and not any(c.isdigit() for c in w)),
        key=lambda w: (-len(w) * (1 + math.log(counts[w])), w),
    )
    wanted = rand.randint(2, 5)
    # Drawn among the best dozen, so that several calls on one document ask differently.
    drawn = rand.sample(telling[: max(6, 2 * wanted)], min(wanted, len(telling)))
    chosen = [first[w] for w in counts if w in drawn]
    return (" ".join(chosen), text) if len(chosen) >= 2 else None


STRATEGIES = {f.__name__: f for f in (title, random_crop, inverse_cloze, keyphrase)}


def _span(
    words: list[tuple[int, int]], share: float, low: int, high: int, rand: random.Random
) -> tuple[int, int]:
    """Start and end, in the text, of a random run of words: `share` of them, `low` to `high`."""
    num_words = min(len(words), max(low, min(high, round(share * len(words)))))
    first = rand.randint(0, len(words) - num_words)
    return words[first][0], words[first + num_words - 1][1]


def _to_end_mark(text: str, span: tuple[int, int]) -> str:
    """The span, with the punctuation that closes its last word where a sentence ends there."""
    start, end = span
    tail = text[end : end + 2].split(" ")[0]
    closing = len(tail) if tail and not any(c.isalnum() for c in tail) else 0
    return text[start : end + closing].rstrip()


class ExtractiveEngine(Engine):
    """Answers from the document alone."""

    writes_any_language: ClassVar[bool] = False
    keeps_replies: ClassVar[bool] = False  # made anew in less time than it takes to look them up

    name: Literal["extractive"] = "extractive"
    model: Literal[""] = ""
    revision: str = "1"  # raise it when a strategy changes what it answers
    # How often a prompt's strategies stand in for it; 0: never. Empty: each in its turn.
    strategies: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]] = {}

    @field_validator("strategies")
    @classmethod
    def _known(cls, strategies: dict[str, float]) -> dict[str, float]:
        unknown = [name for name in strategies if name not in STRATEGIES]
        if unknown:
            raise ValueError(f"unknown strategy '{unknown[0]}'; there are: {', '.join(STRATEGIES)}")
        return strategies

    def check(self, prompts: Sequence[Prompt], lang: str) -> None:
        for prompt in prompts:
            unknown = [s for s in prompt.extractive if s not in STRATEGIES]
            if unknown:
                raise UserError(
                    f"prompt {prompt.name}: unknown extractive strategy '{unknown[0]}'; "
                    f"there are: {', '.join(STRATEGIES)}"
                )
            if not prompt.extractive:
                raise UserError(
                    f"the extractive engine cannot answer prompt {prompt.name}: it has no language "
                    f"model to write with. Take the prompt out of the profile, or give "
                    f"ENGINE=vllm MODEL=<model> or ENGINE=openai MODEL=<model>"
                )
            if not any(self.strategies.get(name, 1) for name in prompt.extractive):
                raise UserError(
                    f"prompt {prompt.name}: engine.strategies leaves it none of its strategies "
                    f"({', '.join(prompt.extractive)}); give one a weight, or take the prompt out"
                )

    def resources(self) -> Resources:
        return Resources()

    def open(self) -> Session:
        return _ExtractiveSession(self.strategies)


class _ExtractiveSession(Session):
    def __init__(self, weights: Mapping[str, float]) -> None:
        self._weights = weights

    def answer(self, calls: Sequence[Call], hear: Hear = hear_nothing) -> list[Reply]:
        replies = [_answer(call, self._weights) for call in calls]
        for call, reply in zip(calls, replies, strict=True):
            hear(call, reply)
        return replies


def _answer(call: Call, weights: Mapping[str, float]) -> Reply:
    seed = call.seed
    names = [name for name in call.strategies if name != "title" or seed.title]
    # A strategy that this document does not allow gives way to the next.
    for name in _drawn(call, names, weights) if weights else _in_turn(call, names):
        found = STRATEGIES[name](seed.text, seed.title, seed.lang, rng(call.id, name))
        if found:
            reply = {"query": found[0], "document": found[1], "strategy": name}
            return Reply(text=json.dumps(reply, ensure_ascii=False), finish_reason="stop")
    return Reply(text=None, error="document_too_short")


def _in_turn(call: Call, names: list[str]) -> list[str]:
    """The calls of one seed take the strategies in turn, so that they differ, in the order of the
    call."""
    first = call.ordinal % max(1, len(names))
    return names[first:] + names[:first]


def _drawn(call: Call, names: list[str], weights: Mapping[str, float]) -> list[str]:
    """By weighted sampling without replacement: the largest log(u) / weight first (Efraimidis and
    Spirakis, Information Processing Letters 2006)."""
    rand = rng(call.id, "strategy")
    wanted = {name: weights.get(name, 1) for name in names if weights.get(name, 1)}
    keys = {name: math.log(1 - rand.random()) / weight for name, weight in wanted.items()}
    return sorted(keys, key=lambda name: -keys[name])
