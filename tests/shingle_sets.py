"""Shingle sets as plain Python makes them, with Unicode's names of characters: slow and obvious."""

import unicodedata

SPACELESS = (
    *("CJK ", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR", "BOPOMOFO", "YI "),
    *("JAVANESE", "BALINESE", "TAI THAM", "NEW TAI LUE"),
)


def units(text: str) -> list[str]:
    """Words, and characters of scripts without spaces, in order."""
    found: list[str] = []
    in_word = False
    for character in text:
        if unicodedata.category(character) == "Cf":
            continue
        folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", character).casefold())
        character = folded if len(folded) == 1 else character
        if unicodedata.category(character)[0] not in "LNM":
            in_word = False
        elif _is_spaceless(character):
            found.append(character)
            in_word = False
        elif in_word:
            found[-1] += character
        else:
            found.append(character)
            in_word = True
    return found


def shingle_set(text: str, words: int = 3, characters: int = 5) -> set[tuple[str, ...]]:
    """The text's shingles; of a text too short for one, itself."""
    parts = units(text)
    sizes = [characters if _is_spaceless(part[0]) else words for part in parts]
    found = {tuple(parts[i : i + size]) for i, size in enumerate(sizes) if i + size <= len(parts)}
    return found | {tuple(parts[: sizes[0]])} if parts else found


def _is_spaceless(character: str) -> bool:
    return unicodedata.name(character, "").startswith(SPACELESS)


def jaccard(left: set[tuple[str, ...]], right: set[tuple[str, ...]]) -> float:
    """Shared shingles of all; 0 for two texts without any."""
    return len(left & right) / len(left | right) if left | right else 0.0
