"""A kept reply, and the id that it is kept by."""

import json
from collections.abc import Iterable, Sequence
from typing import Annotated

from pydantic import Field

from sdg.engines import Engine, Reply
from sdg.engines.serving import messages_of, request_seed, sampling_of
from sdg.schema import Call, Row
from sdg.text import digest

CUT = "length"  # the finish reason of a reply that max_tokens has cut


class KeptReply(Row):
    """One reply as it came, under the content id of its call."""

    key: Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
    model: str
    revision: str
    max_tokens: int  # that the call allowed
    text: str | None
    finish_reason: str | None
    tokens_in: int | None
    tokens_out: int | None
    error: str | None
    attempts: int
    run: str  # the stage of a run that paid for it
    at: int  # seconds since 1970

    @property
    def cut(self) -> bool:
        return self.finish_reason == CUT

    def answers(self, max_tokens: int) -> bool:
        """Whether a call that allows so many tokens would have this reply: one that is whole and
        fits, or one that was cut and would be again."""
        if self.cut or self.tokens_out is None:
            return max_tokens <= self.max_tokens if self.cut else max_tokens >= self.max_tokens
        return self.tokens_out <= max_tokens


def best(found: Iterable[KeptReply], max_tokens: int) -> KeptReply | None:
    """The reply to a call that allows so many tokens: a whole one before a cut one; of several
    whole ones (of runs that asked at the same time) the first, so that it stays the same."""
    fitting = [reply for reply in found if reply.answers(max_tokens)]
    return min(fitting, key=lambda r: (r.cut, -r.max_tokens if r.cut else r.at), default=None)


def content_ids(engine: Engine, calls: Sequence[Call]) -> list[str]:
    """What replies to the calls are kept by: a hash of all that the model is told.

    That is its name and revision, the engine's settings that shape replies, messages, schema and
    sampling. `max_tokens` is left out: whether a reply fits another limit can be told from itself.
    The request's random seed is in, and is the call's own, so that two calls with the same text
    are two samples, whatever shard, round or run they are made in.
    """
    asked = json.dumps(engine.shaping(), sort_keys=True, ensure_ascii=False)
    common = ("reply", engine.model, engine.revision, asked)
    return [
        digest(
            *common,
            json.dumps(messages_of(call), sort_keys=True),
            json.dumps(engine.reply_schema(call), sort_keys=True),
            sampling_of(call).model_dump_json(exclude={"max_tokens"}),
            request_seed(call),
        )
        for call in calls
    ]


def came_back(reply: Reply) -> bool:
    """Whether a model has spoken, be it to decline; else something failed on the way."""
    if reply.finish_reason is None:
        return reply.error is None
    return reply.finish_reason not in ("error", "abort")


def storable(text: str | None) -> str | None:
    """The text as it came, but for half surrogate pairs, which neither Arrow nor UTF-8 can hold."""
    if text is None:
        return None
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
