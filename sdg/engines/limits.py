"""How fast to ask an endpoint, and when to stop asking it: back-off, concurrency, circuit breaker.

All of it is arithmetic on times that the caller gives, but for `Gate`, where coroutines wait.
"""

import asyncio
import random
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

BACKOFF_S, MAX_BACKOFF_S = 0.5, 8.0
START = 10  # requests at once to begin with: TCP's initial window (RFC 6928)
ROOM_AFTER = 8  # failures in a row after which all requests wait, not only those that failed


def backoff_s(failures: int, rand: random.Random) -> float:
    """Seconds to wait after the given number of failures: exponential with full jitter, uniform in
    [0, min(cap, base * 2^(failures - 1))], so that those that failed together do not come back
    together (M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015)."""
    return rand.uniform(0, min(MAX_BACKOFF_S, BACKOFF_S * 2.0 ** min(failures - 1, 16)))


class AdaptiveLimit:
    """How many requests may be in flight: grown by answers, halved by signs of overload.

    As TCP does it (RFC 5681): doubled each round trip until the first overload, then one more each
    round trip; a burst of refusals that were in flight together is one sign, and halves once.
    """

    def __init__(self, most: int, least: int = 1) -> None:
        self._least, self._most = min(least, most), most
        self._limit = float(min(most, max(least, START)))
        self._threshold = float(most)  # up to it the limit doubles
        self._cut_at = float("-inf")

    @property
    def limit(self) -> int:
        return int(self._limit)

    def answered(self) -> None:
        """A request was answered."""
        step = 1.0 if self._limit < self._threshold else 1.0 / self._limit
        self._limit = min(float(self._most), self._limit + step)

    def overloaded(self, sent_at: float, now: float) -> None:
        """A request sent at `sent_at` was refused, or not answered in time, for overload."""
        if sent_at >= self._cut_at:
            self._limit = self._threshold = max(float(self._least), self._limit / 2)
            self._cut_at = now


class Breaker:
    """Tells when requests fail nearly wholly, and for so long that the run should stop.

    One good answer among many failures does not make an endpoint well: what counts is the share of
    failures among the last `window` outcomes, of which there must be `few` at least.
    """

    def __init__(
        self, give_up_s: float, window: int = 20, share: float = 0.95, few: int = 8
    ) -> None:
        self._give_up_s, self._share, self._few = give_up_s, share, few
        self._failed: deque[bool] = deque(maxlen=window)
        self._bad_since: float | None = None

    @property
    def is_bad(self) -> bool:
        """Whether failures are now the endpoint's, not the rows'."""
        return self._bad_since is not None

    def record(self, failed: bool, now: float) -> None:
        """An outcome."""
        self._failed.append(failed)
        num = len(self._failed)
        if num < self._few or sum(self._failed) < self._share * num:
            self._bad_since = None
        elif self._bad_since is None:
            self._bad_since = now

    def is_open(self, now: float) -> bool:
        """Whether it has been bad for as long as one should wait."""
        return self._bad_since is not None and now - self._bad_since >= self._give_up_s

    def reset(self) -> None:
        """Forget all: the endpoint was seen to be well."""
        self._failed.clear()
        self._bad_since = None


class Gate:
    """Lets `limit.limit` coroutines through at once, in order, and none during a pause."""

    def __init__(self, limit: AdaptiveLimit) -> None:
        self._limit = limit
        self._inside = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._opens_at = 0.0

    @property
    def is_closed(self) -> bool:
        """Whether there is a pause."""
        # A timer may go off a tick of the clock early.
        return asyncio.get_running_loop().time() < self._opens_at - 1e-3

    def pause(self, seconds: float) -> None:
        """Let nobody in for so long, from now; a longer pause stands."""
        loop = asyncio.get_running_loop()
        opens_at = loop.time() + seconds
        if opens_at > self._opens_at:
            self._opens_at = opens_at
            loop.call_at(opens_at, self.admit)

    @asynccontextmanager
    async def place(self, *, in_front: bool = False) -> AsyncIterator[None]:
        """A place inside; `in_front` is for who was inside before."""
        turn = asyncio.get_running_loop().create_future()
        (self._waiting.appendleft if in_front else self._waiting.append)(turn)
        self.admit()
        try:
            await turn
        except asyncio.CancelledError:
            if turn in self._waiting:
                self._waiting.remove(turn)
            elif not turn.cancelled():
                self._inside -= 1  # let in, and cancelled before it could go
            self.admit()
            raise
        try:
            yield
        finally:
            self._inside -= 1
            self.admit()

    def admit(self) -> None:
        """Let in who may; to be called when the limit has grown."""
        while not self.is_closed and self._waiting and self._inside < self._limit.limit:
            turn = self._waiting.popleft()
            if not turn.cancelled():
                self._inside += 1
                turn.set_result(None)
