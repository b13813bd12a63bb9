"""How many tokens a text has: by a model's own tokenizer where it is at hand, else an estimate."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import regex

# Characters a token, by script, as vocabularies of 128k to 256k pieces have them; rough, since they
# differ by a half from model to model. Scripts left out: two tokens a character, as bytes go.
_CHARS_PER_TOKEN = {
    "Latin": 1.2,  # beyond ASCII: letters with marks are mostly tokens of their own
    "Cyrillic": 2.6,
    "Greek": 2.0,
    "Arabic": 2.2,
    "Hebrew": 1.8,
    "Devanagari": 1.7,
    "Bengali": 1.4,
    "Gujarati": 1.3,
    "Gurmukhi": 1.2,
    "Tamil": 1.5,
    "Telugu": 1.3,
    "Kannada": 1.3,
    "Malayalam": 1.3,
    "Sinhala": 1.0,
    "Thai": 1.7,
    "Georgian": 1.2,
    "Armenian": 1.2,
    "Han": 1.2,
    "Hiragana": 1.4,
    "Katakana": 1.2,
    "Hangul": 1.2,
}
_ASCII, _OTHER = 3.6, 0.5
_RUNS = regex.compile(
    r"(?P<ASCII>[\x00-\x7f]+)|"
    + "|".join(rf"(?P<{name}>\p{{Script={name}}}+)" for name in _CHARS_PER_TOKEN)
    + r"|(?P<Common>[\p{Script=Common}\p{Script=Inherited}])"
)


def estimate_tokens(text: str) -> int:
    """Tokens that a text has in a large multilingual vocabulary, by its scripts; within a half."""
    total, read = 0.0, 0
    for match in _RUNS.finditer(text):
        name, size = str(match.lastgroup), match.end() - match.start()
        per_token = {"ASCII": _ASCII, "Common": 1.0}.get(name) or _CHARS_PER_TOKEN[name]
        total, read = total + size / per_token, read + size
    return round(total + (len(text) - read) / _OTHER)


@dataclass(frozen=True)
class TokenCounter:
    """Counts tokens; `how` says by what."""

    count: Callable[[str], int]
    how: str


@lru_cache(maxsize=8)
def token_counter(model: str) -> TokenCounter:
    """A model's counter: its tokenizer, from a folder or the hub's cache, never downloaded."""
    if not model:
        return TokenCounter(estimate_tokens, "estimated by script; MODEL= counts them")
    path = _tokenizer_file(model)
    if path is None:
        return TokenCounter(estimate_tokens, f"estimated by script: no tokenizer of {model} here")
    try:
        from tokenizers import Tokenizer
    except ImportError:
        return TokenCounter(estimate_tokens, "estimated by script: `tokenizers` is not installed")
    tokenizer = Tokenizer.from_file(str(path))
    return TokenCounter(
        lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids),
        f"by the tokenizer of {model}, chat template left out",
    )


def _tokenizer_file(model: str) -> Path | None:
    if (local := Path(model) / "tokenizer.json").is_file():
        return local
    if Path(model).exists():
        return None
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        cached = try_to_load_from_cache(model, "tokenizer.json")
    except HFValidationError:  # the name of an endpoint's model, say
        return None
    return Path(cached) if isinstance(cached, str) else None
