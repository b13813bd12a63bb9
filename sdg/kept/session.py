"""A session that asks its engine only what no kept reply answers."""

import time
from collections.abc import Sequence
from threading import Lock

from sdg.engines import Engine, Hear, Reply, Session, hear_nothing
from sdg.engines.serving import sampling_of
from sdg.kept.record import KeptReply, came_back, content_ids, storable
from sdg.kept.store import ReplyStore
from sdg.schema import Call


class ReusingSession(Session):
    """Looks calls up, asks the engine for the others, and keeps what it says as it says it.

    The engine is started by the first call that it has to be asked. A kept reply comes with
    `attempts` 0, for it costs nothing; but one that this same run has paid for, before it was cut
    short, comes as it was, so that a run that went on accounts for the same as one that was not
    cut.
    """

    def __init__(self, engine: Engine, store: ReplyStore, run: str) -> None:
        self._engine = engine
        self._store = store
        self._run = run
        self._lock = Lock()
        self._session: Session | None = None

    def answer(self, calls: Sequence[Call], hear: Hear = hear_nothing) -> list[Reply]:
        ids = content_ids(self._engine, calls)
        limits = [sampling_of(call).max_tokens for call in calls]
        kept = self._store.find(list(zip(ids, limits, strict=True)))
        asked = [call for call, found in zip(calls, kept, strict=True) if not found]
        key_of = {call.id: key for call, key in zip(calls, ids, strict=True)}

        def keep(call: Call, reply: Reply) -> None:
            if came_back(reply):
                self._store.keep(self._kept(key_of[call.id], call, reply))
            hear(call, reply)

        fresh = self._started().answer(asked, keep) if asked else []
        self._store.flush()
        places = [place for place, found in enumerate(kept) if not found]
        answered = dict(zip(places, fresh, strict=True))
        return [
            self._reply(found) if found else answered[place] for place, found in enumerate(kept)
        ]

    def close(self) -> None:
        try:
            if self._session:
                self._session.close()
        finally:
            self._store.close()

    def _started(self) -> Session:
        with self._lock:
            self._session = self._session or self._engine.open()
            return self._session

    def _kept(self, key: str, call: Call, reply: Reply) -> KeptReply:
        return KeptReply(
            key=key,
            model=self._engine.model,
            revision=self._engine.revision,
            max_tokens=sampling_of(call).max_tokens,
            text=storable(reply.text),
            finish_reason=reply.finish_reason,
            tokens_in=reply.tokens_in,
            tokens_out=reply.tokens_out,
            error=storable(reply.error),
            attempts=reply.attempts,
            run=self._run,
            at=int(time.time()),
        )

    def _reply(self, kept: KeptReply) -> Reply:
        return Reply(
            text=kept.text,
            finish_reason=kept.finish_reason,
            tokens_in=kept.tokens_in,
            tokens_out=kept.tokens_out,
            error=kept.error,
            attempts=kept.attempts if kept.run == self._run else 0,
        )
