"""Any endpoint that speaks the OpenAI protocol: vllm serve, Ollama, llama.cpp, hosted ones.

    OPENAI_BASE_URL=http://localhost:8000/v1 OPENAI_API_KEY=... \
        make generate LANG=sw ENGINE=openai MODEL=<model>

The key comes from the environment alone and is in no setting, log, message or output. A row that
the endpoint refuses is a row's error; what no row can succeed with stops the run with one line, and
so does an endpoint that is down, or refuses all for its rate limit, for longer than one would wait.
Until then nothing is lost: a row is given up only while the endpoint answers others.
"""

import asyncio
import os
import random
from collections.abc import Sequence
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
)
from sdg.engines.failures import Asked, Failure, classify
from sdg.engines.limits import ROOM_AFTER, AdaptiveLimit, Breaker, Gate, backoff_s
from sdg.engines.serving import LoopThread, messages_of, request_seed, sampling_of
from sdg.errors import UserError
from sdg.prompting import Prompt
from sdg.schema import Call
from sdg.text import rng

CONNECT_S = 5.0
CHECK_S = 10.0  # for one answer during `check`
GIVE_UP_S = 30.0  # of nearly all requests failing
GIVE_UP_LIMITED_S = 600.0  # of nearly all being refused for a rate limit
MOST_SPARED = 2  # times that all fails but the least question, and the run goes on
MAX_RETRY_AFTER_S = 600.0  # asked for by the server; if more, the run is better given again then
_GO_ON = "what came back is kept: when it is well again, give the same command again"
RESERVED = frozenset(
    {"model", "messages", "temperature", "top_p", "max_tokens", "max_completion_tokens", "seed"}
    | {"response_format", "n", "stream"}
)


class OpenAIEngine(Engine):
    """An endpoint and how to ask it. `base_url` "" is $OPENAI_BASE_URL, or else OpenAI's own."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
    speed_only: ClassVar[frozenset[str]] = frozenset(
        {
            "replicas",
            "concurrency",
            "min_concurrency",
            "timeout_s",
            "max_attempts",
            "shards_in_flight",
        }
    )

    name: Literal["openai"] = "openai"
    base_url: str = ""
    replicas: int = Field(default=1, ge=1)  # workers that ask, each as much as is said below
    # Requests in flight, over all shards: as many as the endpoint bears, within these bounds.
    concurrency: int = Field(default=32, ge=1)
    min_concurrency: int = Field(default=1, ge=1)
    timeout_s: float = Field(default=120, gt=0)  # for one whole answer
    max_attempts: int = Field(default=5, ge=1)  # of a row that fails while others are answered
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
            if (
                names is not None
                and self.model not in names
                and not knows(client, self.model, self.max_tokens_field)
            ):
                raise UserError(
                    f"MODEL={self.model}: {url} has no such model{offer(names, self.model)}"
                )

    def shaping(self) -> dict[str, Any]:
        # Not the URL: a server that moves is the same model still.
        return {"structured": self.structured, "extra_body": self.extra_body}

    def reply_schema(self, call: Call) -> dict[str, Any] | None:
        return super().reply_schema(call) if self.structured == "json_schema" else None

    def resources(self) -> Resources:
        return Resources(replicas=self.replicas, shards_in_flight=self.shards_in_flight)

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


class _OpenAISession(Session):
    """Its state is touched on the loop's thread alone."""

    def __init__(self, engine: OpenAIEngine) -> None:
        self._engine = engine
        self._url, key = engine.endpoint()
        timeout = openai.Timeout(engine.timeout_s, connect=CONNECT_S)
        self._client = openai.AsyncOpenAI(
            base_url=self._url, api_key=key, timeout=timeout, max_retries=0
        )
        self._loop = LoopThread("openai")
        self._limit = AdaptiveLimit(engine.concurrency, engine.min_concurrency)
        self._gate = Gate(self._limit)
        self._down = Breaker(GIVE_UP_S)
        self._limited = Breaker(GIVE_UP_LIMITED_S)
        self._num_failed_in_row = self._num_pauses = self._num_spared = 0
        self._answered = self._is_probing = False
        self._is_rows_fault = False  # whether what is left fails beside a probe that is answered
        self._stopped = ""

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
        attempts = num_failures = 0
        while True:
            async with self._gate.place(in_front=attempts > 0):
                if self._stopped:
                    raise UserError(self._stopped)
                attempts += 1
                rand = rng("backoff", call.id, attempts)
                outcome = await self._attempt(request, rand)
            if isinstance(outcome, ChatCompletion):
                return _reply(outcome, attempts)
            num_failures += outcome.the_rows or self._is_rows_fault
            given_up = num_failures >= self._engine.max_attempts and not self._down.is_bad
            if given_up or not outcome.retry:
                return Reply(text=None, error=outcome.kind, attempts=attempts)
            await asyncio.sleep(outcome.wait_s + backoff_s(attempts, rand))

    async def _attempt(
        self, request: dict[str, Any], rand: random.Random
    ) -> ChatCompletion | Failure:
        sent_at = asyncio.get_running_loop().time()
        outcome = await self._ask(request)
        if isinstance(outcome, ChatCompletion):
            self._limit.answered()
            self._answered = True
            self._num_spared = 0
            self._is_rows_fault = False
            self._note_well()
        elif outcome.stop:
            self._stop(outcome.stop)
        elif not outcome.retry:
            self._note_well()
        else:
            await self._note(outcome, sent_at, rand)
        return outcome

    async def _ask(self, request: dict[str, Any]) -> ChatCompletion | Failure:
        try:
            # The SDK's timeout is for each read; a server that drips bytes would never meet it.
            async with asyncio.timeout(self._engine.timeout_s):
                completion = await self._client.chat.completions.create(**request)
        except (openai.APIError, TimeoutError, ValueError) as error:  # ValueError: not JSON
            engine = self._engine
            return classify(
                error,
                Asked(self._url, engine.model, engine.timeout_s, engine.structured, self._answered),
            )
        if not isinstance(completion, ChatCompletion) or not completion.choices:
            return Failure("server_error", "not a chat completion")
        return completion

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

    def _note_well(self) -> None:
        """The endpoint answered, be it that it does not like the row."""
        now = asyncio.get_running_loop().time()
        self._down.record(False, now)
        self._limited.record(False, now)
        self._num_failed_in_row = self._num_pauses = 0

    async def _note(self, failure: Failure, sent_at: float, rand: random.Random) -> None:
        """What a failure that may pass means for all: ask less, wait, or stop the run."""
        now = asyncio.get_running_loop().time()
        if failure.overload:
            self._limit.overloaded(sent_at, now)
        if failure.wait_s > MAX_RETRY_AFTER_S:
            self._stop(
                f"{self._url}: asks to wait {failure.wait_s / 60:.0f} minutes ({failure.said}); "
                f"{_GO_ON}"
            )
        self._gate.pause(failure.wait_s)
        self._num_failed_in_row += 1
        if self._num_failed_in_row >= ROOM_AFTER and not self._gate.is_closed:
            self._num_pauses += 1
            self._gate.pause(backoff_s(self._num_pauses, rand))
        breaker = self._limited if failure.kind == "rate_limited" else self._down
        breaker.record(True, now)
        if breaker.is_open(now) and not self._is_probing:
            await self._make_sure(failure)

    async def _make_sure(self, failure: Failure) -> None:
        """Ask the least there is to ask. If that is answered, it is the rows that fail; but not if
        it comes to that again and again without a row that is answered."""
        self._is_probing = True
        try:
            outcome = await self._ask(
                {
                    "model": self._engine.model,
                    "messages": [{"role": "user", "content": "."}],
                    self._engine.max_tokens_field: 1,
                }
            )
        finally:
            self._is_probing = False
        self._num_spared += 1
        if (isinstance(outcome, Failure) and outcome.retry) or self._num_spared > MOST_SPARED:
            self._stop(
                f"{self._url}, MODEL={self._engine.model}: nearly all requests fail, the last with "
                f"{failure.kind} ({failure.said}); {_GO_ON}"
            )
        self._is_rows_fault = True
        self._down.reset()
        self._limited.reset()

    def _stop(self, message: str) -> None:
        self._stopped = self._stopped or message
        raise UserError(self._stopped)


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
