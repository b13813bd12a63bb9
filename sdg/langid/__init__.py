"""Language verification: is this text in the language it should be in?

`Verifier` has the method; the functions here serve what has no corpus to fit one on.
"""

from functools import lru_cache

from sdg.langid.corpus import dominant_other
from sdg.langid.features import background
from sdg.langid.policy import policy
from sdg.langid.scripts import is_foreign
from sdg.langid.verifier import WRONG_LANGUAGE, WRONG_SCRIPT, Verdict, Verifier

__all__ = [
    "WRONG_LANGUAGE",
    "WRONG_SCRIPT",
    "Verdict",
    "Verifier",
    "check_script",
    "detectors_for",
    "dominant_other",
    "verify",
]


@lru_cache(maxsize=1)
def _plain() -> Verifier:
    return Verifier()


def verify(text: str, lang: str) -> str | None:
    """Why a text is not in the language, by what is known without a corpus of it: `wrong_script`,
    `wrong_language`, or None, also where nobody can tell."""
    return _plain().check([text], lang)[0].reason


def check_script(text: str, lang: str) -> str | None:
    """`wrong_script` where most letters are of a script that the language is not written in."""
    return WRONG_SCRIPT if is_foreign(text, policy(lang)) else None


def detectors_for(lang: str) -> tuple[str, ...]:
    """The detectors that are fit to verify a language without a corpus, itself or by its near kin;
    none: only script and pivots are checked."""
    known = policy(lang).own | policy(lang).kin
    return ("py3langid",) if background().columns(known) else ()
