"""What engines that serve a model share: an event loop in a thread, and a call as a request."""

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from sdg.prompting import Sampling
from sdg.schema import Call

T = TypeVar("T")


def request_seed(call: Call) -> int:
    """The random seed of a call's request: its own, the same in every run, 31 bits."""
    return int(call.id[:8], 16) & 0x7FFFFFFF


def sampling_of(call: Call) -> Sampling:
    """The decoding parameters that the call was rendered with."""
    return Sampling.model_validate_json(call.sampling)


def messages_of(call: Call) -> list[dict[str, str]]:
    """The chat messages as chat templates and the OpenAI protocol take them."""
    return [{"role": message.role, "content": message.content} for message in call.messages]


def one_line(text: object, max_chars: int = 200) -> str:
    """Any text as one line for an error message."""
    line = " ".join(str(text).split())
    return line if len(line) <= max_chars else line[: max_chars - 1] + "…"


class LoopThread:
    """One event loop in one thread, where coroutines from any number of other threads meet."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run to the end on the loop and return, or raise, what the coroutine does."""
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # the caller was interrupted: its requests are nobody's now
            raise

    def close(self) -> None:
        """Stop the loop; coroutines that still run are cancelled. Closing twice does nothing."""
        if self._loop.is_closed():
            return
        asyncio.run_coroutine_threadsafe(_cancel_all(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _cancel_all() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
