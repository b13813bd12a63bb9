"""Text in any script: normalising, comparing, sentences, words, and hashes that never change.

Sentence and word boundaries come from ICU (UAX #29 with its dictionaries for Thai, Lao, Khmer,
Burmese, Chinese and Japanese). Thai writes no mark at a sentence's end, which ICU cannot see, so
Thai sentences come from PyThaiNLP's CRF model.
"""

import hashlib
import itertools
import os
import random
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

import numpy as np
import regex
from icu4py.breakers import SentenceBreaker, WordBreaker

from sdg.characters import codes_of, laid_out, table, text_of

# What must not survive in a text: controls, private use, unassigned and half surrogate pairs.
# ZWJ and ZWNJ are format characters that Persian, Hindi or Sinhala spelling needs: they stay.
_CONTROL = regex.compile(r"[\p{Cc}\p{Co}\p{Cs}\p{Cn}--[\n\r\t\x0b\x0c\x85]]", regex.V1)
_INVISIBLE = regex.compile(r"[\ufeff\u200b\u2060\u00ad\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_SPACE = regex.compile(r"\s+")
# By character: halves of what a letter of an alphabet says.
HALVES = table(
    {
        r"[\p{L}\p{N}\p{M}]": 2,
        r"[\p{Ethiopic}&&[\p{L}\p{N}]]": 3,
        r"[[\p{Hangul}\p{Hiragana}\p{Katakana}\p{Yi}\p{Bopomofo}]&&[\p{L}\p{N}]]": 4,
        r"[\p{Han}&&[\p{L}\p{N}]]": 6,
    }
)
_ASCII_NO_TEXT = {code: None for code in range(128) if not chr(code).isalnum()}
_WORD = regex.compile(r"[\p{L}\p{N}]")
_CLAUSE_END = regex.compile(r"(?<=[،,;:؛])(?=\s)|(?<=[、，；：፣፤၊])")  # not within 10:30 or 1,000
_AFTER_SPACE = regex.compile(r"(?<=\s)")
_THAI_ENDS = regex.compile(r"\s+|(?<=[!.?])")  # where PyThaiNLP ends a sentence, and elsewhere


def normalize(text: str) -> str:
    """NFC, one line, single spaces, no control or invisible characters. Idempotent."""
    text = _INVISIBLE.sub("", _CONTROL.sub("", text))
    return unicodedata.normalize("NFC", _SPACE.sub(" ", text)).strip()


def canonical(text: str) -> str:
    """What is left for comparing: compatibility forms folded, letters, marks and digits only.

    Two texts that differ in case, punctuation, width or spacing alone have one canonical form.
    """
    if text.isascii():
        return text.lower().translate(_ASCII_NO_TEXT)
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    # What stood apart may now stand side by side and compose.
    return unicodedata.normalize("NFC", text_of(letters(folded)))


def letters(text: str) -> np.ndarray:
    """The code points of a text's letters, marks and digits (C,) uint32."""
    codes = codes_of(text)
    return codes.compress(HALVES().take(codes) > 0)


def weight(text: str) -> int:
    """How much a text says, in letters of an alphabet; punctuation and spaces weigh nothing.

    A Han character says as much as three letters, a syllable sign as much as one and a half or
    two: the ratios of parallel translations' lengths.
    """
    return int(HALVES().take(codes_of(text)).sum()) // 2


def weights(texts: Sequence[str]) -> np.ndarray:
    """The weight of each of many texts (B,), looked up all at once."""
    codes_C, ends_B = laid_out(texts)
    halves_C = np.append(0, np.cumsum(HALVES().take(codes_C), dtype=np.int64))
    return np.diff(halves_C[ends_B], prepend=0) // 2


def contains(text: str, part: str) -> bool:
    """True where `part` stands in `text`, whatever case, punctuation, width or spacing."""
    return canonical(part) in canonical(text)


def digest(*parts: object) -> str:
    """A stable 128-bit hash of the parts, as 32 hex digits."""
    state = hashlib.blake2b(digest_size=16)
    for part in parts:
        data = str(part).encode("utf-8", "surrogatepass")
        state.update(len(data).to_bytes(8, "little") + data)
    return state.hexdigest()


def rng(*parts: object) -> random.Random:
    """A generator seeded by what it is for: the run's seed, the row's id, the purpose."""
    return random.Random(int(digest(*parts), 16))


@lru_cache(maxsize=64)
def _breaker_locale(lang: str) -> str:
    return lang.split("-")[0]


def _thai_sentences(text: str) -> list[str]:
    os.environ.setdefault("PYTHAINLP_READ_ONLY", "1")  # its import would make a folder in $HOME
    from pythainlp.tokenize import sent_tokenize

    return [str(part) for part in sent_tokenize(text, engine="crfcut")]


def _pieces(text: str, lang: str) -> list[str]:
    base = _breaker_locale(lang)
    if base == "th":
        pieces = _thai_sentences(text)
        if "".join(pieces) == text:
            return pieces
    if base in ("th", "lo"):  # Lao too ends a sentence with a space, and nobody ships a model
        return [str(piece) for piece in _AFTER_SPACE.split(text)]
    return [str(piece) for piece in SentenceBreaker(text, base)]


def sentence_spans(text: str, lang: str) -> list[tuple[int, int]]:
    """(start, end) of every sentence, in code points, white space around it left out."""
    return list(_stripped_spans(text, _pieces(text, lang)))


def sentences(text: str, lang: str) -> list[str]:
    """The sentences of a text, stripped, none empty."""
    return [text[start:end] for start, end in sentence_spans(text, lang)]


def sentence_parts(text: str, lang: str) -> list[str]:
    """Pieces that the sentences of a text are put together of, white space apart: the sentences
    themselves, but in Thai, where a model of words has to tell which spaces end one, all that
    stands between spaces."""
    return _THAI_ENDS.split(text) if _breaker_locale(lang) == "th" else sentences(text, lang)


def word_spans(text: str, lang: str) -> list[tuple[int, int]]:
    """(start, end) of every word of a text, in order, in code points; punctuation is no word."""
    spans, start = [], 0
    for segment in WordBreaker(text, _breaker_locale(lang)):
        end = start + len(str(segment))
        if _WORD.search(text, start, end):
            spans.append((start, end))
        start = end
    return spans


def _stripped_spans(text: str, pieces: Iterable[str]) -> Iterator[tuple[int, int]]:
    start = 0
    for piece in pieces:
        end = start + len(piece)
        left = end - len(piece.lstrip())
        right = start + len(piece.rstrip())
        if left < right:
            yield left, right
        start = end


def chunks(text: str, lang: str, max_chars: int) -> list[str]:
    """Cut a text into slices of at most `max_chars` characters that end where sentences end.

    A sentence that is longer itself is cut at clause marks, else spaces, else words. The slices
    are near one length, rather than full ones and a crumb at the end.
    """
    if len(text) <= max_chars:
        return [text]
    num_chunks = -(-len(text) // max_chars)
    target = min(max_chars, len(text) // num_chunks + max_chars // 10)
    units: list[tuple[int, int]] = []
    for start, end in sentence_spans(text, lang):
        if end - start <= max_chars:
            units.append((start, end))
        else:
            units.extend((start + a, start + b) for a, b in _clauses(text[start:end], lang, target))
    merged: list[tuple[int, int]] = []
    for start, end in units:
        if merged and end - merged[-1][0] <= target:
            merged[-1] = (merged[-1][0], end)
        else:
            merged.append((start, end))
    return [text[start:end] for start, end in merged]


def _short_or_parted(clauses: Iterable[str], max_chars: int) -> Iterator[str]:
    """Clauses, the long ones in words as far as spaces part them."""
    for clause in clauses:
        yield from [clause] if len(clause) <= max_chars else _AFTER_SPACE.split(clause)


def _clauses(sentence: str, lang: str, max_chars: int) -> Iterator[tuple[int, int]]:
    start = 0
    for clause in _short_or_parted(_CLAUSE_END.split(sentence), max_chars):
        end = start + len(clause)
        if len(clause) <= max_chars:
            bounds = [start, end]
        else:
            ends = [start + stop for _, stop in word_spans(clause, lang)][:-1]
            bounds = [start, *ends, end]
            for long in [a for a, b in itertools.pairwise(bounds) if b - a > max_chars]:
                stop = bounds[bounds.index(long) + 1]
                bounds = sorted({*bounds, *range(long, stop, max_chars)})
        for a, b in itertools.pairwise(bounds):
            yield from ((a + x, a + y) for x, y in _stripped_spans(sentence[a:b], [sentence[a:b]]))
        start = end
