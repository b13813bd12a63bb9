"""What a failed request to an OpenAI-compatible endpoint means for the row, the pace, the run."""

import re
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

import openai

from sdg.engines.endpoint import refused_key, said_by, unreachable

# The server, or one on the way to it, has more to do than it can: ask less.
OVERLOADED = frozenset({408, 429, 503, 504, 529})

_TOO_LONG = re.compile(r"context.?(length|size|window)|too many tokens|too long", re.IGNORECASE)
_FORMAT = re.compile(r"response.?format|json.?schema|structured.?output|grammar", re.IGNORECASE)


@dataclass(frozen=True)
class Failure:
    """What went wrong with one attempt."""

    kind: str  # the row's error, if it comes to that
    said: str = ""  # by the server or the system, in one line
    retry: bool = True
    the_rows: bool = True  # whether it may be the row's fault; a rate limit seldom is
    overload: bool = False
    wait_s: float = 0.0  # asked for by the server
    stop: str = ""  # why no row can succeed; "" where others may


@dataclass(frozen=True)
class Asked:
    """What of the engine's settings decides what a failure means."""

    url: str
    model: str
    timeout_s: float
    structured: str
    answered: bool  # whether the endpoint has answered any request of this session


def classify(error: Exception, asked: Asked) -> Failure:
    """The meaning of what the OpenAI client, or asyncio's timeout, raised."""
    cause = type(error.__cause__).__name__  # by name: httpx's or httpx2's, as the SDK's age
    if cause in ("ConnectError", "ConnectTimeout"):
        return Failure("connection", unreachable(error), the_rows=False)
    if isinstance(error, openai.APITimeoutError | TimeoutError):
        return Failure("timeout", f"no answer in {asked.timeout_s:g} s", overload=True)
    if isinstance(error, openai.APIConnectionError):
        return Failure("connection", unreachable(error))
    if not isinstance(error, openai.APIStatusError):
        return Failure("server_error", "not a chat completion")
    return _of_status(error, asked)


def _of_status(error: openai.APIStatusError, asked: Asked) -> Failure:
    status, said = error.status_code, said_by(error)
    where = f"{asked.url}, MODEL={asked.model}"
    if status == 429 and error.code == "insufficient_quota":
        return Failure("rate_limited", stop=f"{where}: the account's quota is used up: {said}")
    if status in (408, 409, 429) or (status >= 500 and status != 501):
        return Failure(
            kind={408: "timeout", 429: "rate_limited"}.get(status, "server_error"),
            said=f"HTTP {status} {said}".strip(),
            the_rows=status != 429,
            overload=status in OVERLOADED,
            wait_s=retry_after_s(error.response.headers.get("retry-after", ""), time.time()),
        )
    # A 403 after good answers is about what a row says (moderation), not about the key.
    if status == 401 or (status == 403 and not asked.answered):
        return Failure("bad_request", stop=refused_key(asked.url, status))
    if status == 404:
        advice = f"check MODEL and engine.base_url{'' if '/v1' in asked.url else ' (no /v1?)'}"
        return Failure("bad_request", stop=f"{where}: HTTP 404 {said}; {advice}")
    return _of_bad_request(error, said or f"HTTP {status}", where, asked)


def _of_bad_request(error: openai.APIStatusError, said: str, where: str, asked: Asked) -> Failure:
    if _TOO_LONG.search(f"{error.code} {said}"):
        return Failure("prompt_too_long", retry=False)
    if "max_completion_tokens" in said:
        advice = "set engine.max_tokens_field: max_completion_tokens"
        return Failure("bad_request", stop=f"{where}: {said}; {advice}")
    if asked.structured != "none" and _FORMAT.search(f"{error.param} {said}"):
        other = "none" if asked.structured == "json_object" else "json_object or none"
        return Failure("bad_request", stop=f"{where}: {said}; set engine.structured: {other}")
    return Failure(f"bad_request: {said}", said, retry=False)


def retry_after_s(header: str, now: float) -> float:
    """Seconds that a `Retry-After` header asks to wait: a number of them, or a date (RFC 9110,
    10.2.3). 0 where it is neither, or past.

    Args:
        now: the time, in seconds since 1970, that a date is held against.
    """
    header = header.strip()
    if re.fullmatch(r"\d{1,9}(\.\d+)?", header, re.ASCII):
        return float(header)
    try:
        return max(0.0, parsedate_to_datetime(header).timestamp() - now)
    except (ValueError, TypeError, OverflowError):
        return 0.0
