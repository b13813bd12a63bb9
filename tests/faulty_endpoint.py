"""A scripted endpoint that answers by what it is asked, and fails in every way that endpoints do.

A good answer depends on the messages alone, so a call has the same one whenever and however often
it is asked. Whether a request fails, and how, is drawn from its messages and from how often they
were asked before; after `MOST_FAULTS` it no longer does.
"""

import json
import random
import re
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import formatdate

from tests.engines.scripted_server import (
    Handler,
    ScriptedServer,
    Step,
    cut,
    ok,
    reset,
    serving,
    stall,
    status,
)

MOST_FAULTS = 4  # of requests with the same messages
STALL_S = 6.0
LATENCY_S = 0.03
WRONG_LANGUAGE = (
    "Welche Behörde stellt in dieser Stadt die Genehmigung für einen neuen Brunnen aus?"
)


def good_query(content: str) -> str:
    """A query for the passage in a prompt: a few of its words, in its language, not in its order."""
    (passage,) = re.findall(r"<passage>\n(.*)\n</passage>", content, re.DOTALL)
    words = re.findall(r"\w+", passage)
    rand = random.Random(content)
    first = rand.randrange(max(1, len(words) - 16))
    return " ".join(words[first : first + 16 : 2][::-1])


def answered(text: str, finish_reason: str = "stop") -> Callable[[str], Step]:
    """A reply with the good one in the place of %s."""
    return lambda good: ok(text.replace("%s", good), finish_reason)


def echo(code: int, headers: dict[str, str] | None = None) -> Step:
    """An error that says the key back, as some servers do."""
    return lambda handler: status(
        code,
        f"no: {handler.headers['Authorization']}, {handler.headers['Authorization'][7:]}",
        headers,
    )(handler)


def late_body(handler: Handler) -> None:
    """An answer whose bytes stop coming."""
    handler.send_response(200)
    handler.send_header("Content-Length", "900")
    handler.end_headers()
    handler.wfile.write(b'{"id": "1", ')
    handler.wfile.flush()
    time.sleep(STALL_S)


def limited_until(handler: Handler) -> None:
    """A rate limit with a date."""
    until = formatdate(time.time() + 1, usegmt=True)
    echo(429, {"Retry-After": until})(handler)


# Every way to fail. What follows "reply" goes wrong in the model's words, not on the way.
FAULTS: dict[str, Callable[[str], Step]] = {
    "rate limit": lambda good: echo(429),
    "rate limit, seconds": lambda good: echo(429, {"Retry-After": "1"}),
    "rate limit, date": lambda good: limited_until,
    "server error": lambda good: echo(500),
    "overload": lambda good: echo(503),
    "reset": lambda good: reset(),
    "time-out": lambda good: stall(STALL_S),
    "stall": lambda good: late_body,
    "connection cut": lambda good: cut(),
    "reply cut": lambda good: ok(good[: len(good) // 2], "length"),
    "reply empty": answered(""),
    "reply fenced": answered("```json\n%s\n```"),
    "reply in chatter": answered("Here is the query you asked for:\n\n%s\n\nAnything else?"),
    "reply after reasoning": answered("<think>\nThe passage is about {this}.\n</think>\n\n%s"),
    "reply of another schema": answered('{"question": "nini", "answer": "hii"}'),
    "reply refused": answered("I'm sorry, but I cannot help with that request."),
    "reply in another language": answered(json.dumps({"query": WRONG_LANGUAGE})),
    "reply in a loop": answered('{"query": "' + "na tena na " * 40),
}
SAFE = {"reply fenced", "reply in chatter", "reply after reasoning"}  # repaired without asking


def is_hopeless(content: str) -> bool:
    """Of some calls every request is refused, for what they say."""
    return zlib.crc32(content.encode()) % 25 == 0


class FaultyServer:
    """What a scripted server does by default, and what it has seen."""

    def __init__(self, share: float, seed: int = 0) -> None:
        self.share = share  # of requests that fail
        self.seed = seed
        self.faults: Counter[str] = Counter()
        self.num_requests = 0
        self._asked: Counter[str] = Counter()
        self._lock = threading.Lock()

    def __call__(self, handler: Handler) -> None:
        content = handler.body["messages"][-1]["content"]
        with self._lock:
            self.num_requests += 1
            asked = self._asked[content]
            self._asked[content] += 1
        good = json.dumps({"query": good_query(content)}, ensure_ascii=False)
        time.sleep(LATENCY_S)
        rand = random.Random(f"{self.seed} {asked} {content}")
        if is_hopeless(content):
            echo(400)(handler)
        elif asked < MOST_FAULTS and rand.random() < self.share:
            name = rand.choice(sorted(FAULTS))
            with self._lock:
                self.faults[name] += 1
            FAULTS[name](good)(handler)
        else:
            ok(good)(handler)


@contextmanager
def endpoint(share: float, seed: int = 0) -> Iterator[tuple[ScriptedServer, FaultyServer]]:
    """A server on a free port of this machine of which so many requests fail."""
    with serving() as server:
        behaviour = FaultyServer(share, seed)
        server.default = behaviour
        yield server, behaviour
