"""The texts of a shard, and what filters ask about each: found out for all of them at once."""

from collections.abc import Iterable, Sequence
from functools import cached_property

from sdg.canonical import canonicals
from sdg.filters.repeats import Repeats, repeats
from sdg.filters.tally import Tally, tallies
from sdg.patterns import Rough
from sdg.phrases import Openings, Phrases, fold_all

SHORT = 150  # characters, below which a text's 5-grams count too
START = 48  # characters at a text's start, which the first words of `Openings` stand in


class _Findings:
    """Distinct texts, and what has been asked about any of them so far."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = texts
        self._counts: dict[Phrases, list[int]] = {}
        self._begun: dict[Openings, list[bool]] = {}
        self._hits: dict[Rough, list[bool]] = {}

    @cached_property
    def tallies(self) -> list[Tally]:
        return tallies(self._texts)

    @cached_property
    def _casefolded(self) -> list[str]:
        return [text.casefold() for text in self._texts]

    @cached_property
    def folded(self) -> list[str]:
        return fold_all(self._casefolded)

    @cached_property
    def canonical(self) -> list[str]:
        return canonicals(self._texts)

    @cached_property
    def repeats(self) -> list[Repeats]:
        return repeats(self._casefolded, [len(text) < SHORT for text in self._texts])

    def counts(self, phrases: Phrases) -> list[int]:
        if phrases not in self._counts:
            self._counts[phrases] = phrases.counts(self.folded)
        return self._counts[phrases]

    @cached_property
    def _starts(self) -> list[str]:
        """Folded; whole texts are folded for it only where they have been already."""
        if "folded" in self.__dict__:
            return [text[:START] for text in self.folded]
        return fold_all([text[:START].casefold() for text in self._texts])

    def begun(self, openings: Openings) -> list[bool]:
        if openings not in self._begun:
            self._begun[openings] = openings.begin(self._texts, self._starts)
        return self._begun[openings]

    def hits(self, pattern: Rough) -> list[bool]:
        if pattern not in self._hits:
            self._hits[pattern] = pattern.hits(self._texts)
        return self._hits[pattern]


class Text:
    """A text of a pair. One that is in several pairs is looked at once."""

    __slots__ = ("_findings", "_place", "text")

    def __init__(self, text: str, place: int, findings: _Findings) -> None:
        self.text, self._place, self._findings = text, place, findings

    @property
    def tally(self) -> Tally:
        return self._findings.tallies[self._place]

    @property
    def weight(self) -> int:
        """`sdg.text.weight` of it."""
        return self.tally.weight

    @property
    def folded(self) -> str:
        """`sdg.phrases.fold` of it, if it is NFC."""
        return self._findings.folded[self._place]

    @property
    def canonical(self) -> str:
        """`sdg.text.canonical` of it."""
        return self._findings.canonical[self._place]

    @property
    def repeats(self) -> Repeats:
        return self._findings.repeats[self._place]

    def count(self, phrases: Phrases) -> int:
        """How many of the phrases it has."""
        return self._findings.counts(phrases)[self._place]

    def begins_with(self, openings: Openings) -> bool:
        """Whether it begins with one of them."""
        return self._findings.begun(openings)[self._place]

    def may_have(self, pattern: Rough) -> bool:
        """False where the pattern is not in it, as it is written."""
        return self._findings.hits(pattern)[self._place]


def look_at(texts: Iterable[str]) -> dict[str, Text]:
    """Each of the texts as filters see it; nothing is found out before it is asked for."""
    distinct = list(dict.fromkeys(texts))
    findings = _Findings(distinct)
    return {text: Text(text, place, findings) for place, text in enumerate(distinct)}
