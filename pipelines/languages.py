"""Languages that data can be made in: `make languages [ARGS="hausa --json"]`.

Every language that CLDR knows speakers of, with its script, how many speak it, what comes along for
it (a corpus, overrides of prompts), and which detectors can verify it.
"""

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache

from language_data.population_data import LANGUAGE_SPEAKING_POPULATION
from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from sdg import langid
from sdg.corpora import BUNDLED
from sdg.errors import entry_point
from sdg.languages import language
from sdg.prompting import PROMPTS_DIR
from sdg.text import canonical

# Unicode isolates: an autonym written from right to left leaves the columns in their order.
_ISOLATE, _END = "\u2068", "\u2069"
COLUMNS = {
    "code": 5,
    "name": 26,
    "autonym": 22,
    "script": 20,
    "dir": 4,
    "speakers": 14,
    "corpus": 7,
    "overrides": 10,
    "detectors": 22,
}


@dataclass(frozen=True)
class Entry:
    """What is known of a language and what is there for it."""

    code: str
    name: str  # in English
    autonym: str
    script: str  # English name of the usual one
    scripts: tuple[str, ...]  # ISO 15924 codes of all
    direction: str  # "ltr" or "rtl"
    speakers: int  # as CLDR estimates, of first and second language
    corpus: bool  # a small one comes along
    overrides: int  # prompts that have words of their own for it
    detectors: tuple[str, ...]  # that are fit to verify it; none: script and pivots alone


def entries() -> list[Entry]:
    """All languages with speakers in CLDR, by code."""
    spoken = {code: num for code, num in LANGUAGE_SPEAKING_POPULATION.items() if code.isalpha()}
    codes = {language(code).code for code in spoken}
    return [_entry(code, spoken.get(code, 0)) for code in sorted(codes)]


def _entry(code: str, speakers: int) -> Entry:
    found = language(code)
    return Entry(
        code=code,
        name=found.name,
        autonym=found.autonym,
        script=found.script,
        scripts=found.scripts,
        direction=found.direction,
        speakers=speakers,
        corpus=(BUNDLED / f"{code}.jsonl").is_file(),
        overrides=_overrides()[code],
        detectors=langid.detectors_for(code),
    )


@lru_cache(maxsize=1)
def _overrides() -> Counter[str]:
    """Overrides of prompts, by language."""
    return Counter(path.stem.partition(".")[2] for path in PROMPTS_DIR.glob("*/*.*.md"))


def matching(found: Sequence[Entry], words: Sequence[str]) -> list[Entry]:
    """Entries for a word each: the one of that code, or else those with it in a name or script."""
    codes = {entry.code for entry in found}
    parts = [canonical(word) for word in words if word not in codes]
    return [
        entry
        for entry in found
        if not words
        or entry.code in words
        or any(p and p in canonical(f"{entry.name}|{entry.autonym}|{entry.script}") for p in parts)
    ]


def row(entry: Entry) -> str:
    """One line; columns are counted in cells of the screen, since wide letters take two."""
    values = {
        "code": entry.code,
        "name": entry.name,
        "autonym": entry.autonym,
        "script": entry.script,
        "dir": entry.direction,
        "speakers": f"{entry.speakers:>13,}",
        "corpus": "yes" if entry.corpus else "",
        "overrides": str(entry.overrides or ""),
        "detectors": ", ".join(entry.detectors) or "script and pivots",
    }
    cells = {name: _fitted(values[name], width) for name, width in COLUMNS.items()}
    autonym = cells["autonym"].rstrip()
    cells["autonym"] = cells["autonym"].replace(autonym, f"{_ISOLATE}{autonym}{_END}", 1)
    return " ".join(cells.values()).rstrip()


def _fitted(text: str, width: int) -> str:
    cut = text if cell_len(text) <= width else set_cell_size(text, width - 1) + "…"
    return cut + " " * (width - cell_len(cut))


def summary(found: Sequence[Entry]) -> str:
    """What the list comes to."""
    scripts = {entry.script for entry in found}
    verified = sum(bool(entry.detectors) for entry in found)
    corpora = sum(entry.corpus for entry in found)
    overrides = sum(bool(entry.overrides) for entry in found)
    return (
        f"{len(found)} language{'s' * (len(found) != 1)} in {len(scripts)} "
        f"script{'s' * (len(scripts) != 1)}; a detector for {verified}, a corpus "
        f"for {corpora}, overrides of prompts for {overrides}. Any other that CLDR names will do."
    )


@entry_point
def main(argv: Sequence[str]) -> int:
    """Exit status: 0 done, 1 no language matches."""
    parser = argparse.ArgumentParser(prog="languages", description="List languages.")
    parser.add_argument("words", nargs="*", help="codes, or parts of names or scripts")
    parser.add_argument("--json", action="store_true", help="one JSON array in place of a table")
    args = parser.parse_args(argv)
    found = matching(entries(), args.words)
    if args.json:
        print(json.dumps([asdict(entry) for entry in found], ensure_ascii=False, indent=1))
        return 0 if found else 1
    if not found:
        print(f"no language matches {' '.join(args.words)}", file=sys.stderr)
        return 1
    head = " ".join(_fitted(name, width) for name, width in COLUMNS.items()).rstrip()
    lines = [head, *(row(entry) for entry in found), "", summary(found)]
    console = Console(highlight=False)
    if not console.is_terminal or len(lines) < console.height:
        print("\n".join(lines))
        return 0
    os.environ.setdefault("LESS", "-RFXS")  # long lines scroll sideways in place of wrapping
    with console.pager():
        console.print(Text("\n".join(lines)), soft_wrap=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
