"""What is asked of an OpenAI-compatible endpoint before a run, and what its failures mean."""

import difflib
import ipaddress
import os
import re
from collections.abc import Sequence
from urllib.parse import urlsplit

import openai

from sdg.engines.serving import one_line
from sdg.errors import UserError

DEFAULT_URL = "https://api.openai.com/v1"  # the SDK's own
_SECRET = re.compile(r"\b(?:sk|key|Bearer)[-_ ][\w*.-]{6,}")


def checked_url(url: str, where: str) -> str:
    parts = urlsplit(url)
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError(
            f"{where}: must hold no user, password or query, as it is written into every run's "
            f"manifest; give the key in OPENAI_API_KEY"
        )
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{where}: not a URL such as http://localhost:8000/v1")
    return url.rstrip("/")


def at_home(url: str) -> bool:
    """Whether the host is this machine, a private address or a name without a public domain."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_private  # loopback included
    except ValueError:
        return "." not in host or host.endswith((".local", ".localhost", ".internal"))


def offer(names: Sequence[str], wanted: str) -> str:
    if not names:
        return ""
    near = difflib.get_close_matches(wanted, names, n=8, cutoff=0.4)
    some = (near + [name for name in names if name not in near])[:8]
    return f"; it offers {', '.join(some)}{', ...' if len(names) > 8 else ''}"


def listed(client: openai.OpenAI, url: str) -> list[str] | None:
    """Names of the endpoint's models, or None where it keeps no list.

    Raises:
        UserError: nobody answers there, or not to this key, or not under this path.
    """
    try:
        return [model.id for model in client.models.list().data]
    except openai.APIStatusError as error:
        status = error.status_code
    except openai.APIConnectionError as error:
        raise UserError(f"{url}: {unreachable(error)}; is the server up?") from None
    except (openai.APIError, ValueError, AttributeError, TypeError):
        return None  # something else than a list came back
    if status in (401, 403):
        raise UserError(refused_key(url, status))
    if status not in (404, 405):
        raise UserError(f"{url}: HTTP {status}, so not ready to answer; try again later")
    if not url.endswith("/v1"):
        try:
            client.with_options(base_url=f"{url}/v1").models.list()
        except (openai.APIError, ValueError):
            return None
        raise UserError(f"{url}: no OpenAI protocol there; did you mean engine.base_url={url}/v1")
    return None


def knows(client: openai.OpenAI, model: str, max_tokens_field: str) -> bool:
    """Whether a server has a model, by asking for one token of it."""
    try:
        client.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": "."}],
            extra_body={max_tokens_field: 1},
        )
    except openai.NotFoundError:
        return False
    except openai.BadRequestError as error:
        # "'max_tokens' is not supported with this model" is of a model that is there.
        return error.param not in (None, "model") or "model" not in said_by(error).lower()
    except openai.APIError:
        return True  # busy or loading: the run will tell
    return True


def refused_key(url: str, status: int) -> str:
    state = "is wrong or may not use it" if os.environ.get("OPENAI_API_KEY") else "is not set"
    return f"{url}: HTTP {status}, access refused; OPENAI_API_KEY {state}: set the right one"


def unreachable(error: BaseException) -> str:
    """Why a connection failed, as the system says it."""
    if isinstance(error, openai.APITimeoutError):
        return "no answer in time"
    cause: BaseException = error
    while cause.__cause__ or cause.__context__:
        cause = cause.__cause__ or cause.__context__ or cause
    return one_line(cause, 100)


def said_by(error: openai.APIError) -> str:
    """The server's own words, without its envelope and whatever looks like a key."""
    body = error.body
    if isinstance(body, dict):
        body = body.get("error", body)
    if isinstance(body, dict):
        body = body.get("message") or body.get("detail") or ""
    text = str(body or "")
    if key := os.environ.get("OPENAI_API_KEY", "").strip():
        text = text.replace(key, "***")
    return one_line(_SECRET.sub("***", text), 160)
