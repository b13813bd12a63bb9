"""Replies of language models as they come -> the JSON object asked for, or a reason.

First light: fences and plain JSON. See `read_reply`.
"""

import json
import re
from typing import Any

from pydantic import BaseModel, ValidationError

_FENCED = re.compile(r"\A```(?:json)?\s*\n(.*)\n```\Z", re.DOTALL)


class Rejected(Exception):
    """A reply that gives no pair; `reason` is the counter it is dropped under."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def read_reply(
    reply: str | None, finish_reason: str | None, model: type[BaseModel]
) -> tuple[Any, str]:
    """The reply as `model`, and what was repaired ("" for nothing).

    Raises:
        Rejected: with the reason.
    """
    text, repaired = (reply or "").strip(), ""
    if not text:
        raise Rejected("empty_reply")
    if fenced := _FENCED.match(text):
        text, repaired = fenced[1], "fenced"
    try:
        return model.model_validate(json.loads(text, strict=False)), repaired
    except ValidationError:
        raise Rejected("wrong_schema") from None
    except (ValueError, RecursionError):  # also numbers of thousands of digits
        raise Rejected("reply_cut" if finish_reason == "length" else "not_json") from None
