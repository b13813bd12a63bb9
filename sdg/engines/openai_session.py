"""Asks an endpoint, as much at once as it bears; see sdg/engines/openai.py."""

import asyncio
import random
from collections.abc import Sequence
from typing import Any

import openai
from openai.types.chat import ChatCompletion

from sdg.engines.base import Hear, Reply, Session, hear_nothing
from sdg.engines.endpoint import CONNECT_S
from sdg.engines.failures import Asked, Failure, classify
from sdg.engines.limits import ROOM_AFTER, AdaptiveLimit, Breaker, Gate, backoff_s
from sdg.engines.openai_settings import OpenAISettings
from sdg.engines.serving import LoopThread, messages_of, request_seed, sampling_of
from sdg.errors import UserError
from sdg.schema import Call
from sdg.text import rng

GIVE_UP_S = 30.0  # of nearly all requests failing
GIVE_UP_LIMITED_S = 600.0  # of nearly all being refused for a rate limit
MOST_SPARED = 2  # times that all fails but the least question, and the run goes on
MAX_RETRY_AFTER_S = 600.0  # asked for by the server; if more, the run is better given again then
_GO_ON = "what came back is kept: when it is well again, give the same command again"


class OpenAISession(Session):
    """Its state is touched on the loop's thread alone."""

    def __init__(self, engine: OpenAISettings) -> None:
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
