"""Patterns of many alternatives, searched in one pass."""

import re

import re2

_LOOKAROUND = re.compile(r"\(\?<?[!=](?:[^()]|\([^()]*\))*\)")
# RE2 takes these for ASCII's alone.
_WIDER = (
    (r"\b", ""),
    (r"\d", r"\p{Nd}"),
    (r"[\s", r"[\pZ\t-\r"),
    (r"\s", r"[\pZ\t-\r]"),
)


def rough(pattern: str) -> re.Pattern[str]:
    """A pattern of RE2's that is found wherever `pattern`, of the `regex` module, is, and maybe
    elsewhere: what it finds has to be searched for again.

    A backtracking matcher tries each alternative at each character; RE2's automaton reads a text
    once for all of them, but knows no lookaround.
    """
    wider = _LOOKAROUND.sub("", pattern)
    for theirs, ours in _WIDER:
        wider = wider.replace(theirs, ours)
    compiled: re.Pattern[str] = re2.compile(wider)
    return compiled
