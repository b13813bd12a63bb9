"""Is this text in the language it should be in? For any language, also those no detector knows.

This is verification, not identification: the wanted language is given, and a text is refused only
on good evidence of another. The evidence, in turn:

1. Script: most letters are of a script that the language is not written in.
2. py3langid (naive Bayes over byte n-grams, 140 labels; Lui and Baldwin, ACL 2012, P12-3005): how
   probable the wanted language and its near kin are against every stranger.
3. langdetect, asked only where py3langid objects, for the languages where it is no attractor: it
   may overrule the objection.

A language that no detector knows is checked by script, and against the pivots that a model falls
back to (English, French, ...), its own kin excepted. Thresholds were set on TICO-19 passages and
sentences in 36 languages and on XQuAD and AfriQA questions in 11.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import langcodes
import numpy as np
import regex
from langdetect import LangDetectException
from langdetect.detector_factory import PROFILES_DIRECTORY, DetectorFactory
from py3langid.langid import MODEL_FILE, LanguageIdentifier

from sdg.languages import language
from sdg.text import weight

WRONG_SCRIPT = "wrong_script"
WRONG_LANGUAGE = "wrong_language"

# Share of letters in the language's own scripts. Latin names and abbreviations are at home in any
# script (genuine Chinese and Tigrinya sentences go down to .25), so Latin gets more room.
MIN_SHARE, MIN_SHARE_BESIDE_LATIN = 0.5, 0.25
NAME_LETTERS = 10  # a text of so few Latin letters may be a brand or a person, in any language

MIN_WEIGHT = 12  # below it a text is accepted unverified; in letters, as `sdg.text.weight` has it
LONG_WEIGHT = 80  # from here the wanted language itself must be the likely one
WINDOW = 160  # characters looked at from either end of a long text
LONG_OWN = 0.5  # least probability of the wanted language in a long text
SHORT_OWN, STRANGER, PIVOT = 0.2, 0.5, 0.3  # short: wanted below the first, another above
PIVOT_ALONE = 0.4  # for a language that no detector knows
PLAINLY = 0.8  # `dominant_other`: the other's probability, a text

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

# Languages that langdetect takes much else for (0.2 to 10 % of texts in other languages, most of
# them African): its word for them is worth nothing.
_ATTRACTORS = frozenset("af en et fa fi hr id it ro sl so sq sw tl tr ur vi".split())  # noqa: SIM905
# Codes that a detector spells its own way.
_LABELS = {"fil": "tl", "nb": "no", "gn": "gug", "ff": "fuv", "ckb": "sdh", "bik": "bcl"}
_CODES = {"sdh": "ckb", "fuv": "ff", "gug": "gn", "srl": "sr", "bcl": "bik", "uzs": "uz"}


@dataclass(frozen=True)
class _Policy:
    """How texts of one language are checked; made once a language."""

    foreign: regex.Pattern[str]  # runs of letters in scripts that are not the language's
    unusual: regex.Pattern[str] | None  # ... in those of its scripts that detectors don't know
    latin: bool  # written in Latin letters
    columns: np.ndarray  # labels that count as the language, none where no detector knows it
    exact: bool  # the detector knows the language itself, not only its kin
    pivots: np.ndarray  # columns of pivots that are strangers to it
    langdetect: str | None  # langdetect's label for it, where it is fit


_LETTER = regex.compile(r"[[\p{L}\p{M}]--[\p{Script=Common}\p{Script=Inherited}]]+", regex.V1)
_LATIN = regex.compile(r"\p{Script=Latin}+")


@lru_cache(maxsize=1)
def _identifier() -> LanguageIdentifier:
    """py3langid with probabilities; read only once made, so threads may share it."""
    found = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    found.set_languages([label for label in found.labels if label != "zxx"])  # "no language"
    return found


@lru_cache(maxsize=1)
def _columns() -> dict[str, int]:
    """Label -> column of py3langid's scores (the first, where a label has two)."""
    columns: dict[str, int] = {}
    for column, label in enumerate(_identifier().nb_classes):
        columns.setdefault(label, column)
    return columns


@lru_cache(maxsize=1)
def _second() -> DetectorFactory:
    """langdetect, seeded: unseeded it changes its mind from call to call."""
    factory = DetectorFactory()
    factory.load_profile(PROFILES_DIRECTORY)
    factory.set_seed(0)
    return factory


def _second_label(code: str) -> str | None:
    """langdetect's label for a language, where its word is worth asking for."""
    label = {"nb": "no", "nn": "no"}.get(code, code)
    labels = {profile.name.split("-")[0] for profile in Path(PROFILES_DIRECTORY).iterdir()}
    return label if label in labels and label not in _ATTRACTORS else None


def _letters(scripts: Sequence[str], outside: bool) -> regex.Pattern[str]:
    """Runs of letters and marks in these scripts, or outside of them."""
    listed = "".join(rf"\p{{Script={script}}}" for script in scripts)
    rest = r"\p{Script=Common}\p{Script=Inherited}"
    chosen = f"--[{listed}{rest}]" if outside else f"&&[{listed}]"
    return regex.compile(rf"[[\p{{L}}\p{{M}}]{chosen}]+", regex.V1)


def _code(lang: str) -> str:
    """Bare standard code: a macrolanguage's for its standard variety (cmn -> zh, swh -> sw)."""
    base = language(lang).base
    return langcodes.standardize_tag(base, macro=True).split("-")[0]


@lru_cache(maxsize=256)
def _policy(lang: str) -> _Policy:
    found, codes = language(lang), {language(lang).base, _code(lang)}
    kin = codes | {
        code for group in _GROUPS if codes & set(group.split()) for code in group.split()
    }
    columns = _columns()
    known = {_LABELS.get(code, code) for code in kin} | kin
    strangers = [p for p in PIVOTS if p not in kin and not codes & set(_PIVOT_KIN[p].split())]
    iso = langcodes.get(found.base).maximize().script or "Latn"
    # Serbian alone is known to the detectors in both its scripts.
    usual = found.scripts if found.base == "sr" else language(f"{found.base}-{iso}").scripts
    unusual = [script for script in found.scripts if script not in usual]
    return _Policy(
        foreign=_letters(found.scripts, outside=True),
        unusual=_letters(unusual, outside=False) if unusual else None,
        latin="Latn" in found.scripts,
        columns=np.array(sorted(columns[c] for c in known if c in columns), dtype=np.intp),
        exact=any(_LABELS.get(code, code) in columns for code in codes),
        pivots=np.array([columns[p] for p in strangers], dtype=np.intp),
        langdetect=next((x for x in map(_second_label, sorted(codes)) if x), None),
    )


def detectors_for(lang: str) -> tuple[str, ...]:
    """The detectors that are fit to verify a language, itself or through its near kin."""
    policy = _policy(lang)
    fit = ("py3langid",) if policy.columns.size else ()
    return (*fit, "langdetect") if policy.langdetect else fit


def is_verifiable(lang: str) -> bool:
    """True where some detector is fit for the language; else only script and pivots are checked."""
    return bool(detectors_for(lang))


def check_script(text: str, lang: str) -> str | None:
    """`wrong_script` where most letters are of a script that the language is not written in."""
    policy = _policy(lang)
    wrong = any(_wrong_script(x, policy.foreign.findall(x), policy) for x in _windows(text))
    return WRONG_SCRIPT if wrong else None


def _wrong_script(text: str, foreign: list[str], policy: _Policy) -> bool:
    if not foreign:
        return False
    strange = "".join(foreign)
    letters = sum(map(len, _LETTER.findall(text)))
    own = letters - len(strange)
    latin = sum(map(len, _LATIN.findall(strange)))
    if not policy.latin and 2 * latin > len(strange):
        return own < MIN_SHARE_BESIDE_LATIN * letters and letters > NAME_LETTERS
    return own < MIN_SHARE * letters


def verify(text: str, lang: str) -> str | None:
    """Why a text is not in the language: `wrong_script`, `wrong_language`, or None.

    None is also the answer for a text too short to tell, and where nobody can.
    """
    policy = _policy(lang)
    for part in _windows(text):
        foreign = policy.foreign.findall(part)
        if _wrong_script(part, foreign, policy):
            return WRONG_SCRIPT
        # Letters of foreign scripts lead a detector astray.
        if _stranger(policy.foreign.sub(" ", part) if foreign else part, policy):
            return WRONG_LANGUAGE
    return None


def _windows(text: str) -> tuple[str, ...]:
    """What of a text is looked at, each by itself: all of it, or its head and its tail.

    Two windows find a text that turns into another language half way, as a cut translation does.
    """
    return (text,) if len(text) <= 2 * WINDOW else (text[:WINDOW], text[-WINDOW:])


def can_verify(text: str, lang: str) -> bool:
    """True where the language has a fit detector, and the text says enough to ask it."""
    return is_verifiable(lang) and weight(text) >= MIN_WEIGHT


def _scores(text: str) -> Any:
    """Probability of every label, by column."""
    return _identifier()._decide(text)  # `rank` sorts 140 tuples, which takes as long again


def _fit_columns(policy: _Policy, text: str) -> Any:
    """The labels that stand for the language in the script this text is in."""
    if policy.unusual and 2 * sum(map(len, policy.unusual.findall(text))) > weight(text):
        return policy.columns[:0]
    return policy.columns


def _stranger(text: str, policy: _Policy) -> bool:
    """True where the detectors agree that a text is in another language."""
    size = weight(text)
    if size < MIN_WEIGHT:
        return False
    scores = _scores(text)
    pivot = float(scores[policy.pivots].max(initial=0.0))
    columns = _fit_columns(policy, text)
    if not columns.size:
        return pivot > PIVOT_ALONE
    own = float(scores[columns].sum())
    scores[columns] = 0.0
    other = float(scores.max())
    if policy.exact and size >= LONG_WEIGHT:
        objects = own < LONG_OWN
    else:
        objects = own < SHORT_OWN and (other > STRANGER or pivot > PIVOT)
    return objects and not _overruled(text, policy)


def _overruled(text: str, policy: _Policy) -> bool:
    """True where langdetect, being fit, finds the wanted language after all."""
    if not policy.langdetect:
        return False
    detector = _second().create()
    detector.append(text)
    try:
        found = detector.get_probabilities()
    except LangDetectException:  # no n-gram it knows
        return True
    return any(x.lang.split("-")[0] == policy.langdetect and x.prob > STRANGER for x in found)


def dominant_other(texts: Sequence[str], lang: str) -> str | None:
    """Code of another language that most of a sample is plainly in, or None.

    For a corpus given with the wrong language. A language that no detector knows can only be
    found to be a pivot, or in a script of others.
    """
    found: Counter[str] = Counter(filter(None, (_plain_other(text, lang) for text in texts)))
    if not found:
        return None
    label, count = found.most_common(1)[0]
    return label if 2 * count > len(texts) else None


def _plain_other(text: str, lang: str) -> str | None:
    """The other language that one text is plainly in."""
    if weight(text) < MIN_WEIGHT:
        return None
    policy = _policy(lang)
    scores: Any = _scores(text)
    best = int(scores.argmax())
    label = str(_identifier().nb_classes[best])
    if scores[best] < PLAINLY or best in policy.columns:
        return None
    same_script = check_script(text, lang) is None
    if same_script and not _fit_columns(policy, text).size and best not in policy.pivots:
        return None
    return _CODES.get(label, label)
