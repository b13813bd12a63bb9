"""What is asked of an OpenAI-compatible endpoint before a run, and what its failures mean."""

import difflib
import os
import re
from collections.abc import Sequence

import openai

from sdg.engines.serving import one_line
from sdg.errors import UserError

CONNECT_S = 5.0
CHECK_S = 10.0  # for one answer before a run
_SECRET = re.compile(r"\b(?:sk|key|Bearer)[-_ ][\w*.-]{6,}")


def check_model(url: str, key: str, model: str, max_tokens_field: str) -> None:
    """Refuse what a run could not ask.

    Raises:
        UserError: nobody answers there, or not to this key; there is no such model, or none is
            named.
    """
    timeout = openai.Timeout(CHECK_S, connect=CONNECT_S)
    with openai.OpenAI(base_url=url, api_key=key, timeout=timeout, max_retries=0) as client:
        if not model:
            try:
                offered = offer(listed(client, url) or [], "")
            except UserError:
                offered = ""
            raise UserError(f"ENGINE=openai needs a model: give MODEL=<name>{offered}")
        names = listed(client, url)
        # Some servers answer to names that they do not list (aliases, tags): ask before no.
        if names is not None and model not in names and not knows(client, model, max_tokens_field):
            raise UserError(f"MODEL={model}: {url} has no such model{offer(names, model)}")


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
