"""Any endpoint that speaks the OpenAI protocol: vllm serve, Ollama, llama.cpp, hosted ones.

    OPENAI_API_KEY=... make generate ENGINE=openai MODEL=<model> \
        SET=engine.base_url=http://localhost:8000/v1

The key comes from the environment alone and is in no setting, log, message or output. A row that
the endpoint refuses is a row's error; what no row can succeed with stops the run with one line.
Waiting follows the usual exponential back-off with jitter, or the server's `Retry-After`.
"""

import asyncio
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import openai
from openai.types.chat import ChatCompletion
from pydantic import ConfigDict, Field, field_validator

from sdg.engines.base import Engine, Hear, Reply, Resources, Session, hear_nothing
from sdg.engines.endpoint import (
    DEFAULT_URL,
    at_home,
    checked_url,
    knows,
    listed,
    offer,
    refused_key,
    said_by,
    unreachable,
)
from sdg.engines.serving import LoopThread, messages_of, request_seed, sampling_of
from sdg.errors import UserError
from sdg.prompting import Prompt
from sdg.schema import Call
from sdg.text import rng

CONNECT_S = 5.0
CHECK_S = 10.0  # for one answer during `check`
GIVE_UP_S = 25.0  # of connections refused with nothing else in between
BACKOFF_S, MAX_BACKOFF_S = 0.5, 8.0
MAX_RETRY_AFTER_S = 60.0
STOP_AFTER_FAILED = 16  # calls in a row that failed for good: it is the endpoint, not the rows
RESERVED = frozenset(
    {"model", "messages", "temperature", "top_p", "max_tokens", "max_completion_tokens", "seed"}
    | {"response_format", "n", "stream"}
)

_TOO_LONG = re.compile(r"context.?(length|size|window)|too many tokens|too long", re.IGNORECASE)
_FORMAT = re.compile(r"response.?format|json.?schema|structured.?output|grammar", re.IGNORECASE)


class OpenAIEngine(Engine):
    """An endpoint and how to ask it. `base_url` "" is $OPENAI_BASE_URL, or else OpenAI's own."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
    speed_only: ClassVar[frozenset[str]] = frozenset(
        {"concurrency", "timeout_s", "max_attempts", "shards_in_flight"}
    )

    name: Literal["openai"] = "openai"
    base_url: str = ""
    concurrency: int = Field(default=32, ge=1)  # requests in flight, over all shards
    timeout_s: float = Field(default=120, gt=0)  # for one whole answer
    max_attempts: int = Field(default=5, ge=1)
    structured: Literal["json_schema", "json_object", "none"] = "json_schema"
    # OpenAI's reasoning models know the newer name alone, most other servers the older.
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    extra_body: dict[str, Any] = {}  # merged into every request's JSON
    shards_in_flight: int = Field(default=4, ge=1)

    @field_validator("base_url")
    @classmethod
    def _plain_url(cls, base_url: str) -> str:
        return checked_url(base_url, "engine.base_url") if base_url else ""

    @field_validator("extra_body")
    @classmethod
    def _not_reserved(cls, extra_body: dict[str, Any]) -> dict[str, Any]:
        taken = sorted(RESERVED & extra_body.keys())
        if taken:
            raise ValueError(f"engine.extra_body.{taken[0]}: comes from the prompt or the engine")
        return extra_body

    def check(self, prompts: Sequence[Prompt], lang: str) -> None:
        url, key = self.endpoint()
        timeout = openai.Timeout(CHECK_S, connect=CONNECT_S)
        with openai.OpenAI(base_url=url, api_key=key, timeout=timeout, max_retries=0) as client:
            if not self.model:
                try:
                    offered = offer(listed(client, url) or [], "")
                except UserError:
                    offered = ""
                raise UserError(f"ENGINE=openai needs a model: give MODEL=<name>{offered}")
            names = listed(client, url)
            # Some servers answer to names that they do not list (aliases, tags): ask before no.
            if names is not None and self.model not in names and not knows(client, self.model):
                raise UserError(
                    f"MODEL={self.model}: {url} has no such model{offer(names, self.model)}"
                )

    def shaping(self) -> dict[str, Any]:
        # Not the URL: a server that moves is the same model still.
        return {"structured": self.structured, "extra_body": self.extra_body}

    def reply_schema(self, call: Call) -> dict[str, Any] | None:
        return super().reply_schema(call) if self.structured == "json_schema" else None

    def resources(self) -> Resources:
        # One replica: `concurrency` is then what the endpoint sees.
        return Resources(replicas=1, shards_in_flight=self.shards_in_flight)

    def open(self) -> Session:
        return _OpenAISession(self)

    def endpoint(self) -> tuple[str, str]:
        """URL and key; an endpoint at home needs no key.

        Raises:
            UserError: no key for an endpoint elsewhere, or $OPENAI_BASE_URL is no URL.
        """
        url = self.base_url
        if not url:
            url = os.environ.get("OPENAI_BASE_URL", "").strip() or DEFAULT_URL
            try:
                url = checked_url(url, "OPENAI_BASE_URL")
            except ValueError as error:
                raise UserError(str(error)) from None
        key = os.environ.get("OPENAI_API_KEY", "").strip()
        if not key and not at_home(url):
            raise UserError(
                f"ENGINE=openai at {url} needs a key: set OPENAI_API_KEY in the environment, or "
                f"engine.base_url to a server of your own"
            )
        return url, key or "none"


@dataclass(frozen=True)
class _Failure:
    """What went wrong with one attempt."""

    kind: str  # the row's error, if it comes to that
    retry: bool = True
    wait_s: float = 0.0  # asked for by the server
    stop: str = ""  # why no row can succeed; "" where it is this row's matter
    unreachable: bool = False  # nobody there: no fault of the row's
    said: str = ""


class _OpenAISession(Session):
    def __init__(self, engine: OpenAIEngine) -> None:
        self._engine = engine
        self._url, key = engine.endpoint()
        timeout = openai.Timeout(engine.timeout_s, connect=CONNECT_S)
        self._client = openai.AsyncOpenAI(
            base_url=self._url, api_key=key, timeout=timeout, max_retries=0
        )
        self._loop = LoopThread("openai")
        self._slots = asyncio.Semaphore(engine.concurrency)
        # The state of the endpoint, touched on the loop's thread alone.
        self._stopped = ""
        self._down_since: float | None = None
        self._num_failed_in_row = 0
        self._num_answered = 0

    def answer(self, calls: Sequence[Call], hear: Hear = hear_nothing) -> list[Reply]:
        return self._loop.run(self._answer_all(calls, hear))

    def close(self) -> None:
        self._loop.run(self._client.close())
        self._loop.close()

    async def _answer_all(self, calls: Sequence[Call], hear: Hear) -> list[Reply]:
        async def answer(call: Call) -> Reply:
            reply = await self._answer(call)
            hear(call, reply)
            return reply

        tasks = [asyncio.create_task(answer(call)) for call in calls]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:  # one that stops the run stops paying for the others
                task.cancel()

    async def _answer(self, call: Call) -> Reply:
        request = self._request(call)
        num_failures = attempts = 0
        async with self._slots:
            while True:
                if self._stopped:
                    raise UserError(self._stopped)
                attempts += 1
                outcome = await self._attempt(request, attempts)
                if isinstance(outcome, Reply):
                    return outcome
                num_failures += not outcome.unreachable
                self._note(outcome)
                if not outcome.retry or num_failures >= self._engine.max_attempts:
                    self._note_lost_row(outcome)
                    return Reply(text=None, error=outcome.kind, attempts=attempts)
                await asyncio.sleep(_wait_s(call, attempts, outcome))

    async def _attempt(self, request: dict[str, Any], attempts: int) -> Reply | _Failure:
        try:
            # The SDK's timeout is for each read; a server that drips bytes would never meet it.
            async with asyncio.timeout(self._engine.timeout_s):
                completion = await self._client.chat.completions.create(**request)
        except (openai.APIError, TimeoutError, ValueError) as error:  # ValueError: not JSON
            failure = self._classified(error)
            if not failure.unreachable:
                self._down_since = None
            return failure
        self._down_since = None
        if not isinstance(completion, ChatCompletion) or not completion.choices:
            return _Failure("server_error", said="not a chat completion")
        self._num_failed_in_row = 0
        self._num_answered += 1
        return _reply(completion, attempts)

    def _request(self, call: Call) -> dict[str, Any]:
        sampling = sampling_of(call)
        request: dict[str, Any] = {
            "model": self._engine.model,
            "messages": messages_of(call),
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            self._engine.max_tokens_field: sampling.max_tokens,
            "seed": request_seed(call),
            "extra_body": self._engine.extra_body or None,
        }
        if self._engine.structured == "json_object":
            request["response_format"] = {"type": "json_object"}
        elif self._engine.structured == "json_schema":
            named = {"name": call.task, "schema": self._engine.reply_schema(call), "strict": True}
            request["response_format"] = {"type": "json_schema", "json_schema": named}
        return request

    def _classified(self, error: Exception) -> _Failure:
        cause = type(error.__cause__).__name__  # by name: httpx's or httpx2's, as the SDK's age
        if cause in ("ConnectError", "ConnectTimeout"):
            return _Failure("connection", unreachable=True, said=unreachable(error))
        if isinstance(error, openai.APITimeoutError | TimeoutError):
            return _Failure("timeout", said=f"no answer in {self._engine.timeout_s:g} s")
        if isinstance(error, openai.APIConnectionError):
            return _Failure("connection", said=unreachable(error))
        if not isinstance(error, openai.APIStatusError):
            return _Failure("server_error", said="not a chat completion")
        return self._classified_status(error)

    def _classified_status(self, error: openai.APIStatusError) -> _Failure:
        status, said = error.status_code, said_by(error)
        where = f"{self._url}, MODEL={self._engine.model}"
        if status == 429 and error.code == "insufficient_quota":
            return _Failure("rate_limited", stop=f"{where}: the account's quota is used up: {said}")
        if status == 429:
            return _Failure("rate_limited", wait_s=_retry_after(error), said=said)
        if status in (408, 409) or (status >= 500 and status != 501):
            kind = "timeout" if status == 408 else "server_error"
            return _Failure(kind, wait_s=_retry_after(error), said=f"HTTP {status} {said}".strip())
        # A 403 after good answers is about what a row says (moderation), not about the key.
        if status == 401 or (status == 403 and not self._num_answered):
            return _Failure("bad_request", stop=refused_key(self._url, status))
        if status == 404:
            advice = f"check MODEL and engine.base_url{'' if '/v1' in self._url else ' (no /v1?)'}"
            return _Failure("bad_request", stop=f"{where}: HTTP 404 {said}; {advice}")
        if _TOO_LONG.search(f"{error.code} {said}"):
            return _Failure("prompt_too_long", retry=False)
        if "max_completion_tokens" in said:
            advice = "set engine.max_tokens_field: max_completion_tokens"
            return _Failure("bad_request", stop=f"{where}: {said}; {advice}")
        if self._engine.structured != "none" and _FORMAT.search(f"{error.param} {said}"):
            other = "none" if self._engine.structured == "json_object" else "json_object or none"
            advice = f"set engine.structured: {other}"
            return _Failure(
                "bad_request", stop=f"{where}: {said or 'no response_format'}; {advice}"
            )
        said = said or f"HTTP {status}"
        return _Failure(f"bad_request: {said}", retry=False, said=said)

    def _note(self, failure: _Failure) -> None:
        """Stop the session where no row can succeed."""
        if failure.stop:
            self._stop(failure.stop)
        if not failure.unreachable:
            return
        now = asyncio.get_running_loop().time()
        if self._down_since is None:
            self._down_since = now
        if now - self._down_since >= GIVE_UP_S:
            self._stop(
                f"{self._url}: stopped answering ({failure.said}); finished shards are kept: "
                f"when it is up again, run the same command again"
            )

    def _note_lost_row(self, failure: _Failure) -> None:
        if failure.kind == "prompt_too_long":
            return
        self._num_failed_in_row += 1
        if self._num_failed_in_row >= STOP_AFTER_FAILED:
            self._stop(
                f"{self._url}, MODEL={self._engine.model}: {self._num_failed_in_row} calls in a "
                f"row failed, the last with {failure.kind.split(':')[0]} ({failure.said}); "
                f"finished shards are kept: mend it, then run the same command again"
            )

    def _stop(self, message: str) -> None:
        self._stopped = self._stopped or message
        raise UserError(self._stopped)


def _retry_after(error: openai.APIStatusError) -> float:
    """Seconds that the server asks to wait, capped; 0 where it names none (or a date)."""
    try:
        asked = float(error.response.headers.get("retry-after", ""))
    except ValueError:
        return 0.0
    return min(max(asked, 0.0), MAX_RETRY_AFTER_S)


def _wait_s(call: Call, attempts: int, failure: _Failure) -> float:
    """Seconds before the next attempt: doubling, within a cap, never sooner than asked for."""
    jitter = rng("backoff", call.id, attempts).uniform(0.5, 1.0)
    backoff = min(MAX_BACKOFF_S, BACKOFF_S * 2.0 ** min(attempts - 1, 10))
    return failure.wait_s + backoff * jitter


def _reply(completion: ChatCompletion, attempts: int) -> Reply:
    choice = completion.choices[0]
    text, error = choice.message.content, None
    if choice.finish_reason == "content_filter":
        text, error = None, "content_filter"
    elif choice.message.refusal:
        text, error = None, "refused"
    return Reply(
        text=text,
        finish_reason=choice.finish_reason,
        tokens_in=completion.usage.prompt_tokens if completion.usage else None,
        tokens_out=completion.usage.completion_tokens if completion.usage else None,
        error=error,
        attempts=attempts,
    )
