"""Calls whose reply is of no use may be made again, with another random seed.

Rounds fill a quota as well, with calls on other seeds, at the same price a pair; made again, a call
whose reply was cut, empty or in another language still gives the very pair that it was made for.
"""

from collections.abc import Sequence
from dataclasses import replace

from sdg.engines import Reply, Session
from sdg.kept import storable
from sdg.langid import verify
from sdg.schema import Call
from sdg.tasks import Rejected, get_task
from sdg.tasks.base import NONE
from sdg.text import digest

DECLINED = "refused"  # the error of a reply in which the model says so by the protocol's own means


def answer(session: Session, calls: Sequence[Call], attempts: int) -> list[Reply]:
    """A reply a call; each that is of no use is asked for again, up to `attempts` times in all."""
    replies = session.answer(calls) if calls else []
    for number in range(2, attempts + 1):
        places = [i for i, call in enumerate(calls) if not is_of_use(call, replies[i])]
        if not places:
            break
        fresh = session.answer([_another(calls[place], number) for place in places])
        for place, reply in zip(places, fresh, strict=True):
            replies[place] = _added(replies[place], reply)
    return replies


def is_of_use(call: Call, reply: Reply) -> bool:
    """Whether a reply gives pairs, in the languages that they should be in; or else is an error,
    which would be the same again."""
    if reply.error:
        return reply.error != DECLINED
    update = {"reply": storable(reply.text), "finish_reason": reply.finish_reason}
    answered = call.model_copy(update=update)
    task = get_task(call.task, call.prompt)
    try:
        if call.seed.kind == NONE:
            return bool(task.parse_ideas(answered))
        pairs = task.parse(answered, 0)
    except Rejected as rejected:
        return rejected.reason == "content_filter"
    sides = [
        side for p in pairs for side in ((p.query, p.query_lang), (p.positive, p.positive_lang))
    ]
    return not any(verify(text, lang) for text, lang in sides if text != call.seed.text)


def _another(call: Call, number: int) -> Call:
    """The same call with a random seed of its own, which comes of the call's id."""
    return call.model_copy(update={"id": digest("again", call.id, number)})


def _added(before: Reply, after: Reply) -> Reply:
    """The later reply, at the cost of both; the earlier one where the later did not come."""
    paid = [reply for reply in (before, after) if reply.attempts] or [after]
    chosen = before if after.text is None else after
    return replace(
        chosen,
        attempts=before.attempts + after.attempts,
        tokens_in=sum(reply.tokens_in or 0 for reply in paid),
        tokens_out=sum(reply.tokens_out or 0 for reply in paid),
    )
