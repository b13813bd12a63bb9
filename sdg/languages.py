"""Language policy on top of langcodes (CLDR): names, scripts, and near codes for a mistyped one."""

from dataclasses import dataclass
from functools import lru_cache

import langcodes
import regex
from language_data.population_data import LANGUAGE_SPEAKING_POPULATION

from sdg.errors import UserError

# Scripts that a language is also written in, beside the one that CLDR names first.
_MORE_SCRIPTS = {
    "az": ("Cyrl", "Arab"),
    "bs": ("Cyrl",),
    "ff": ("Adlm",),
    "ha": ("Arab",),
    "kk": ("Arab", "Latn"),
    "kr": ("Arab",),
    "ks": ("Deva",),
    "ku": ("Arab",),
    "mn": ("Mong",),
    "ms": ("Arab",),
    "pa": ("Arab",),
    "sd": ("Deva",),
    "sr": ("Latn",),
    "tg": ("Arab", "Latn"),
    "tk": ("Cyrl", "Arab"),
    "ug": ("Cyrl", "Latn"),
    "uz": ("Cyrl", "Arab"),
    "yi": ("Latn",),
}
# ISO 15924 codes that stand for several Unicode scripts, or for a style of one.
_UNICODE_SCRIPTS = {
    "Aran": ("Arab",),
    "Cyrs": ("Cyrl",),
    "Hanb": ("Hani", "Bopo"),
    "Hans": ("Hani", "Bopo"),
    "Hant": ("Hani", "Bopo"),
    "Hrkt": ("Hira", "Kana"),
    "Jamo": ("Hang",),
    "Jpan": ("Hani", "Hira", "Kana"),
    "Kore": ("Hang", "Hani"),
    "Latf": ("Latn",),
    "Latg": ("Latn",),
    "Syre": ("Syrc",),
    "Syrj": ("Syrc",),
    "Syrn": ("Syrc",),
}


@dataclass(frozen=True)
class Language:
    """A language as the pipeline needs it."""

    code: str  # the shortest standard tag
    name: str  # in English
    autonym: str  # in itself
    scripts: tuple[str, ...]  # Unicode script codes it is written in, the usual one first
    direction: str  # "ltr" or "rtl"
    script: str  # English name of the script it is usually written in

    @property
    def base(self) -> str:
        """The code without script or region."""
        return self.code.split("-")[0]


_RTL = frozenset({"Arab", "Hebr", "Syrc", "Thaa", "Nkoo", "Adlm", "Rohg"})


@lru_cache(maxsize=1024)
def language(code: str) -> Language:
    """Look a language up by its BCP 47 or ISO 639 code.

    Raises:
        UserError: no such language; the message names near ones.
    """
    tag = code.strip() if code else ""
    if not tag or not langcodes.tag_is_valid(tag) or tag.lower() in ("und", "mul", "zxx", "mis"):
        raise UserError(f"unknown language '{code}'; {_suggest(tag)}")
    standard = langcodes.standardize_tag(tag)
    found = langcodes.get(standard)
    full = found.maximize()
    if found.display_name().startswith("Unknown language"):  # private use: no name to prompt with
        raise UserError(f"unknown language '{code}'; {_suggest(tag)}")
    first = full.script or "Latn"
    iso_scripts = (first,) if found.script else (first, *_MORE_SCRIPTS.get(full.language or "", ()))
    scripts = tuple(s for iso in iso_scripts for s in _UNICODE_SCRIPTS.get(iso, (iso,)))
    if not all(_is_unicode_script(script) for script in scripts):
        raise UserError(f"language '{code}': no letters are of script '{first}'; leave it out")
    return Language(
        code=standard,
        name=found.display_name(),
        autonym=found.autonym(),
        scripts=scripts,
        direction="rtl" if scripts[0] in _RTL else "ltr",
        script=_script_name(first),
    )


def _script_name(script: str) -> str:
    """CLDR's English name, which is "Simplified" alone for Hans."""
    name = langcodes.Language.make(script=script).script_name()
    return f"{name} Han" if script in ("Hans", "Hant") else name


def _is_unicode_script(script: str) -> bool:
    """True where Unicode has letters of a script."""
    if script in ("Zinh", "Zyyy", "Zzzz"):  # inherited, common, unknown
        return False
    try:
        return bool(regex.compile(rf"\p{{Script={script}}}"))
    except regex.error:
        return False


def _suggest(tag: str) -> str:
    """What the user may have meant: a language of that name, or codes near to it."""
    from rapidfuzz import process
    from rapidfuzz.distance import DamerauLevenshtein

    try:
        found = langcodes.find(tag)
        return f"did you mean LANG={found} ({found.display_name()})?"
    except LookupError:
        pass
    codes = [code for code in LANGUAGE_SPEAKING_POPULATION if "-" not in code and "_" not in code]
    by_code = process.extract(
        tag.lower(), codes, scorer=DamerauLevenshtein.distance, limit=40, score_cutoff=1
    )
    names = {langcodes.get(code).display_name().lower(): code for code in codes}
    by_name = process.extract(tag.lower(), names.keys(), limit=3, score_cutoff=70)
    # Among codes one letter away, those with the most speakers are the likeliest to be meant.
    spoken = sorted((c for c, _, _ in by_code), key=lambda c: -LANGUAGE_SPEAKING_POPULATION[c])
    near = list(dict.fromkeys([*(names[name] for name, _, _ in by_name), *spoken]))[:5]
    if not near:
        return "give a BCP 47 code such as sw, ha or zh"
    listed = ", ".join(f"{code} ({langcodes.get(code).display_name()})" for code in near)
    return f"near ones: {listed}"
