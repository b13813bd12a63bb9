"""How texts of one language are to be checked: its scripts, its kin, and what models fall back to.

All of it is knowledge of languages; none of it is measured on a corpus.
"""

from dataclasses import dataclass
from functools import lru_cache

import langcodes
import regex

from sdg.languages import language

PIVOTS = ("en", "fr", "es", "pt", "ar", "ru", "zh")
# Written close to a pivot, so that being taken for it proves nothing: creoles and pidgins, and the
# pivot's sister languages and dialects. ISO 639-3 codes where there is no shorter one.
_PIVOT_KIN: dict[str, str] = {
    "en": "pcm wes kri bzj jam gul srn srm djk tpi bi bis pis hwc rop tcs icr gcl svc aig bah bjs "
    "trf vic lir gyn fpe cpe sco enm ang",
    "fr": "ht gcf gcr acf mfe rcf crs lou frp pcd nrf wa oc frc fro frm",
    "es": "ast an ext lad gl ca oc mwl pap cbk osp",
    "pt": "mwl gl kea pov pre fab pap cri aoa",
    "ar": "arz ary apc ajp acm acq acw aeb afb abv adf aec arq ars apd auz avl ayh ayl ayn ayp shu",
    "ru": "be uk rue bg mk sr cu orv",
    "zh": "yue wuu hak nan gan hsn cdo mnp cjy cpx czh czo lzh",
}

# Labels that the detector mixes up: found as one of its group, a text is accepted. Measured where
# data was at hand (ms/id, zu/xh, am/ti, zh/wuu, es/ext, mr/gom), else near kin by descent.
_GROUPS: tuple[str, ...] = (
    "am ti tig gez",
    "ar arz ary apc ajp acm acq aeb afb ars apd arq ayl shu",
    "zh wuu yue hak nan gan hsn cdo lzh",
    "id ms bjn min zlm",
    "hr sr bs cnr",
    "no nn nb da",
    "xh zu nr ss nd",
    "rw rn",
    "st nso tn",
    "fuv ff fuf fub fuh fuq",
    "ku sdh ckb lki",
    "es ext an ast",
    "pt gl mwl",
    "it lij vec scn lmo nap pms",
    "ca oc",
    "mr gom kok",
    "hi bho mai awa mag hne",
    "ne dty",
    "fa prs",
    "ur pnb skr",
    "en pcm",
    "ht gcf gcr acf",
    "tt ba crh",
    "tr az",
    "lv ltg",
    "de lb gsw nds bar",
    "gn gug",
    "he hbo",
    "el grc",
    "uz uzs",
    "bcl bik",
    "qu quz quy",
    "uk rue",
)

# Codes that py3langid spells its own way.
_LABELS = {"fil": "tl", "nb": "no", "gn": "gug", "ff": "fuv", "ckb": "sdh", "bik": "bcl"}
_CODES = {"sdh": "ckb", "fuv": "ff", "gug": "gn", "srl": "sr", "bcl": "bik", "uzs": "uz"}


# Words of the pivots that sentences begin with, and names seldom.
_OPENERS = (
    # English, French, Spanish, Portuguese
    "Who Whom Whose What When Where Which Why How Did Does Do Is Are Was Were Has Have Had Can "
    "Could Will Would Should If In After Before During Since While Although Because However "
    "This These Those There They It He She We You "
    "Qui Que Quoi Quel Quelle Quels Quelles Quand Où Comment Pourquoi Combien Est Sont Était "
    "Dans Il Elle Ils Elles Ce Cette Ces Nous Vous On Selon Après Avant Pendant "
    "Quién Quiénes Qué Cuál Cuáles Cuándo Dónde Cómo Cuánto Cuántos Cuántas Por Según Es Fue "
    "Quem Qual Quais Quando Onde Como Quanto Quantos Quantas Em Foi São Segundo Durante"
)
OPENERS = frozenset(_OPENERS.split())


@dataclass(frozen=True)
class Policy:
    """How texts of one language are checked."""

    code: str  # bare standard code: a macrolanguage's for its standard variety
    scripts: tuple[str, ...]  # that the language is written in
    unusual: regex.Pattern[str] | None  # letters in those of them that py3langid doesn't know
    latin: bool  # written in Latin letters
    own: frozenset[str]  # codes that py3langid may know the language itself by
    kin: frozenset[str]  # ... and those that it may be taken for in good faith
    pivots: tuple[str, ...]  # strangers in Latin or its own scripts; the rest by script alone


def _letters(scripts: list[str]) -> regex.Pattern[str]:
    """Runs of letters and marks in these scripts."""
    listed = "".join(rf"\p{{Script={script}}}" for script in scripts)
    return regex.compile(rf"[[\p{{L}}\p{{M}}]&&[{listed}]]+", regex.V1)


def standard_code(lang: str) -> str:
    """Bare standard code: a macrolanguage's for its standard variety (cmn -> zh, swh -> sw)."""
    base = language(lang).base
    return langcodes.standardize_tag(base, macro=True).split("-")[0]


def code_of(label: str) -> str:
    """The standard code of a label of py3langid's."""
    return _CODES.get(label, label)


def _labels(codes: set[str]) -> frozenset[str]:
    return frozenset(codes | {_LABELS.get(code, code) for code in codes})


@lru_cache(maxsize=256)
def policy(lang: str) -> Policy:
    """The policy for a language; raises `UserError` for none."""
    found, codes = language(lang), {language(lang).base, standard_code(lang)}
    kin = {code for group in _GROUPS if codes & set(group.split()) for code in group.split()}
    related = codes | kin
    strangers = [
        pivot
        for pivot in PIVOTS
        if pivot not in related
        and not codes & set(_PIVOT_KIN[pivot].split())
        and {"Latn", *found.scripts} & set(language(pivot).scripts)
    ]
    iso = langcodes.get(found.base).maximize().script or "Latn"
    # Serbian alone is known to py3langid in both its scripts.
    usual = found.scripts if found.base == "sr" else language(f"{found.base}-{iso}").scripts
    unusual = [script for script in found.scripts if script not in usual]
    return Policy(
        code=standard_code(lang),
        scripts=tuple(found.scripts),
        unusual=_letters(unusual) if unusual else None,
        latin="Latn" in found.scripts,
        own=_labels(codes),
        kin=_labels(kin) - _labels(codes),
        pivots=tuple(strangers),
    )
