"""A started vLLM engine, fed by one thread: it hands replies out, and mends the engine's crashes.

vLLM's `LLMEngine` is driven as `LLM.generate` drives it, but with the calls of all shards in flight
in one batch, so that it is never short of work while a shard is read or written. An engine that
crashes is started again with what it was at; a call that crashes it alone is left out.
"""

import itertools
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

from sdg.engines.base import Engine, Hear, Reply, Session, hear_nothing
from sdg.engines.recovery import KeepsCrashing, isolate
from sdg.engines.serving import messages_of, one_line, request_seed, sampling_of
from sdg.engines.vllm_process import Launch, RunningEngine
from sdg.errors import UserError
from sdg.schema import Call

log = logging.getLogger(__name__)

MOST_LEFT_OUT = 16  # calls of one session: with more it is hardly the calls


@dataclass(frozen=True)
class _Request:
    """A call on its way through the engine."""

    id: str
    prompt: Any
    params: Any
    finish: Callable[[Reply | BaseException], None]


class VLLMSession(Session):
    """Shards' threads render prompts and wait; the session's own thread talks to the engine."""

    def __init__(
        self, engine: Engine, launch: Launch, chat_template_kwargs: dict[str, Any]
    ) -> None:
        self._engine = engine
        self._launch = launch
        self._template_kwargs = {"add_generation_prompt": True, **chat_template_kwargs}
        self._running = RunningEngine(launch)
        self._swapping = threading.Lock()  # of `_running`, and of its renderer, which is for one
        self._numbers = itertools.count()
        self._inbox: SimpleQueue[_Request | None] = SimpleQueue()
        self._open: dict[str, _Request] = {}  # all that are not answered
        self._asked: dict[str, _Request] = {}  # those of them that the engine is at
        self._is_dead = False
        self._num_left_out = 0
        self._failed: BaseException | None = None
        self._thread = threading.Thread(target=self._serve, name="vllm", daemon=True)
        self._thread.start()

    def answer(self, calls: Sequence[Call], hear: Hear = hear_nothing) -> list[Reply]:
        box: SimpleQueue[tuple[int, Reply | BaseException]] = SimpleQueue()

        def finisher(place: int) -> Callable[[Reply | BaseException], None]:
            return lambda reply: box.put((place, reply))

        for place, call in enumerate(calls):
            self._submit(call, finisher(place))
        replies: dict[int, Reply] = {}
        for _ in calls:
            place, reply = box.get()
            if isinstance(reply, UserError):
                raise UserError(str(reply))
            if isinstance(reply, BaseException):
                raise RuntimeError(str(reply)) from reply
            hear(calls[place], reply)
            replies[place] = reply
        return [replies[place] for place in range(len(calls))]

    def close(self) -> None:
        self._inbox.put(None)
        self._thread.join()
        self._running.close()

    def _submit(self, call: Call, finish: Callable[[Reply | BaseException], None]) -> None:
        from vllm.exceptions import VLLMClientError

        try:
            with self._swapping:
                prompt = self._render(call)
        except VLLMClientError as error:
            finish(_refused(error))
            return
        # The same call may be asked twice at once; vLLM wants one id a request.
        request_id = f"{call.id}-{next(self._numbers)}"
        request = _Request(request_id, prompt, sampling_params(self._engine, call), finish)
        self._open[request_id] = request
        self._inbox.put(request)
        if self._failed and self._open.pop(request_id, None):
            finish(self._failed)

    def _render(self, call: Call) -> Any:
        """The call as vLLM's engine takes it: chat template applied, tokenized."""
        from vllm.renderers import ChatParams
        from vllm.renderers.chat_utils import ChatTemplateResolutionError

        renderer = self._running.llm.renderer
        messages = messages_of(call)
        params = ChatParams(chat_template_kwargs=self._template_kwargs)
        try:
            _, (prompt,) = renderer.render_chat([messages], params)
        except ChatTemplateResolutionError:
            text = "\n\n".join(message["content"] for message in messages)
            (prompt,) = renderer.render_cmpl([{"prompt": text}])
        return prompt

    def _serve(self) -> None:
        """The session's thread."""
        try:
            while (fresh := self._take()) is not None:
                try:
                    self._ask(fresh)
                    self._step()
                except UserError:
                    raise
                except Exception as error:  # its processes died, or it is in a state unknown
                    self._recover(error)
        except BaseException as error:
            self._failed = error
            for request_id in list(self._open):
                if request := self._open.pop(request_id, None):
                    request.finish(error)

    def _take(self) -> list[_Request] | None:
        """What has come in; waits for it where there is nothing else to do. None: it is over."""
        fresh: list[_Request] = []
        while True:
            try:
                request = self._inbox.get(block=not self._asked and not fresh)
            except Empty:
                return fresh
            if request is None:
                return None
            fresh.append(request)

    def _ask(self, requests: Sequence[_Request]) -> None:
        from vllm.exceptions import VLLMClientError

        self._asked |= {request.id: request for request in requests}
        if self._is_dead:
            self._restart()
        for request in requests:
            try:
                self._running.llm.add_request(request.id, request.prompt, request.params)
            except (VLLMClientError, ValueError) as error:
                self._finish(request.id, _refused(error))

    def _step(self) -> None:
        for output in self._running.llm.step():
            if output.finished:
                self._finish(output.request_id, _reply(output))

    def _finish(self, request_id: str, reply: Reply) -> None:
        request = self._asked.pop(request_id)
        del self._open[request_id]
        request.finish(reply)

    def _recover(self, error: Exception) -> None:
        """Start the engine again, answer what it was at, and leave out what crashes it.

        Raises:
            RuntimeError: it keeps crashing.
        """
        reason = self._note_crash(error)

        def run(group: Sequence[_Request]) -> list[_Request]:
            nonlocal reason
            try:
                self._ask(group)
                while self._asked:
                    self._step()
            except UserError:  # it does not even start
                raise
            except Exception as again:  # what kills an engine has no type of its own
                reason = self._note_crash(again)
            return self._interrupted()

        try:
            for poison in isolate(self._interrupted(), run):
                self._leave_out(poison, reason)
        except KeepsCrashing as error:
            raise RuntimeError(f"vLLM, MODEL={self._launch.model}: {error}: {reason}") from error

    def _note_crash(self, error: Exception) -> str:
        self._is_dead = True
        reason = self._running.reason(error)
        log.warning("vLLM crashed with %d calls under way: %s", len(self._asked), reason)
        return reason

    def _interrupted(self) -> list[_Request]:
        """What the engine was at, taken from it."""
        left = list(self._asked.values())
        self._asked.clear()
        return left

    def _leave_out(self, request: _Request, reason: str) -> None:
        log.warning("call %s crashes vLLM and is left out: %s", request.id, reason)
        self._num_left_out += 1
        del self._open[request.id]
        request.finish(Reply(text=None, error=f"engine_crash: {reason}"))
        if self._num_left_out > MOST_LEFT_OUT:
            raise RuntimeError(
                f"vLLM, MODEL={self._launch.model}: {self._num_left_out} calls crash it: {reason}"
            )

    def _restart(self) -> None:
        with self._swapping:
            self._running.close()
            self._running = RunningEngine(self._launch)
        self._is_dead = False


def _refused(error: Exception) -> Reply:
    if getattr(error, "parameter", None) == "input_tokens":
        return Reply(text=None, error="prompt_too_long")
    return Reply(text=None, error=f"bad_request: {one_line(error, 160)}")


def sampling_params(engine: Engine, call: Call) -> Any:
    """A call's decoding parameters as vLLM takes them."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

    sampling = sampling_of(call)
    schema = engine.reply_schema(call)
    return SamplingParams(
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        max_tokens=sampling.max_tokens,
        seed=request_seed(call),
        structured_outputs=None if schema is None else StructuredOutputsParams(json=schema),
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def _reply(output: Any) -> Reply:
    (choice,) = output.outputs
    failed = choice.finish_reason in ("error", "abort")
    return Reply(
        text=None if failed else choice.text,
        finish_reason=choice.finish_reason,
        tokens_in=len(output.prompt_token_ids or []),
        tokens_out=len(choice.token_ids),
        error=f"engine_{choice.finish_reason}" if failed else None,
    )
