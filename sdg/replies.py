"""Replies of language models, as they come -> the object that was asked for, or a reason.

Models cut, decline, ramble, think aloud and loop. Each has its own reason, since each is mended in
its own way: `reply_cut` by more `max_tokens`, `repetition` by other sampling, `wrong_schema` by the
prompt. A reply is repaired only where one reading of it is possible: reasoning that has an end is
taken off, a fence is opened, and a single JSON object that validates is taken out of chatter.
Nothing is ever evaluated, guessed at or completed. Every step takes time linear in the reply.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from sdg import phrases

REASONS = (
    "content_filter",  # the endpoint withheld it
    "duplicate_keys",  # an object says a key twice: either could be meant
    "empty_reply",
    "not_json",
    "reasoning_only",  # thought aloud, and never came to an answer
    "refusal",
    "repetition",  # a loop
    "reply_cut",  # ended by max_tokens
    "several_answers",
    "wrong_schema",
)
REPAIRS = ("fence", "reasoning", "chatter")

# (opening, closing) of reasoning; templates may open it in the prompt, so the closing mark counts.
_REASONING = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("[THINK]", "[/THINK]"),
    ("<|channel|>analysis", "<|channel|>final<|message|>"),  # gpt-oss's harmony format
    ("analysis", "assistantfinal"),  # ... detokenized without its special tokens
)
_FENCES = ("```", "~~~")
_END_TOKENS = ("<|return|>", "<|end|>", "<|im_end|>", "<|eot_id|>", "</s>")
_MARKS = re.compile(r'[{}"\\]')
_AROUND = " \n\r\t\ufeff\u200b"
_ANCHORED = 400  # characters at a reply's start where a refusal shows
_TAIL = 2_000  # characters at a reply's end where a loop shows
MIN_LOOP, LOOP_SHARE, _GRAM = 60, 0.5, 8

Model = TypeVar("Model", bound=BaseModel)


class Rejected(Exception):
    """A reply that gives no pair; `reason` is the counter it is dropped under."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def read_reply(
    reply: str | None, finish_reason: str | None, model: type[Model]
) -> tuple[Model, str]:
    """The reply as `model`, and the last repair that it took, one of `REPAIRS`, or "".

    Raises:
        Rejected: with one of `REASONS`.
    """
    text = (reply or "").strip(_AROUND)
    if not text:
        raise Rejected("content_filter" if finish_reason == "content_filter" else "empty_reply")
    repaired = ""
    try:
        found = _loads(text)
    except _NotJson:
        try:
            found, repaired = _repaired(text, model)
        except _NotJson as error:
            raise Rejected(_why_not(reply or "", finish_reason, error.reason)) from None
    try:
        return model.model_validate(found), repaired
    except ValidationError:
        raise Rejected("refusal" if _declines(found) else "wrong_schema") from None


def is_loop(text: str) -> bool:
    """True where a text says the same over and over: half of its 8-character pieces stand in it
    before. Genuine texts stay below. By characters, since half of the scripts don't part words.
    """
    num = len(text) - _GRAM + 1
    if len(text) < MIN_LOOP:
        return False
    return 1 - len({text[i : i + _GRAM] for i in range(num)}) / num >= LOOP_SHARE


def has_loop(reply: BaseModel) -> bool:
    """True where a text of an answer is a loop."""
    for value in reply.model_dump().values():
        texts = value if isinstance(value, list) else [value]
        if any(isinstance(text, str) and is_loop(text) for text in texts):
            return True
    return False


class _NotJson(Exception):
    def __init__(self, reason: str = "not_json") -> None:
        self.reason = reason


class _DuplicateKeys(ValueError):
    pass


def _unique(items: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(items)
    if len(found) < len(items):
        raise _DuplicateKeys
    return found


def _loads(text: str) -> Any:
    try:
        return json.loads(text, strict=False, object_pairs_hook=_unique)
    except _DuplicateKeys:
        raise Rejected("duplicate_keys") from None
    except (ValueError, RecursionError):  # also numbers of thousands of digits
        raise _NotJson from None


def _repaired(text: str, model: type[BaseModel]) -> tuple[Any, str]:
    """The JSON value in a reply that is not JSON as a whole, and what was taken off."""
    answer = _without_reasoning(text)
    repaired = "" if answer == text else "reasoning"
    inner = _without_fence(answer)
    if inner != answer:
        answer, repaired = inner, "fence"
    if repaired:
        try:
            return _loads(answer), repaired
        except _NotJson:
            pass
    return _single_object(answer, model), "chatter"


def _without_reasoning(text: str) -> str:
    for opening, closing in _REASONING:
        _, mark, answer = text.rpartition(closing)
        if mark and (opening != "analysis" or text.startswith(opening)):
            for token in _END_TOKENS:
                answer = answer.strip(_AROUND).removesuffix(token)
            if not answer.strip(_AROUND):
                break
            return answer.strip(_AROUND)
        if text.startswith(opening) and opening != "analysis":
            break
    else:
        return text
    raise _NotJson("reasoning_only")


def _without_fence(text: str) -> str:
    for fence in _FENCES:
        if len(text) > 6 and text.startswith(fence) and text.endswith(fence):
            info, newline, inner = text[3:-3].partition("\n")
            if newline and (not info.strip() or info.strip().isalnum()):
                return inner.strip(_AROUND)
    return text


def _single_object(text: str, model: type[BaseModel]) -> Any:
    """The one JSON object in a text that validates; what is around it is chatter."""
    fitting: list[Any] = []
    others: list[Any] = []
    for part in _objects(text):
        try:
            value = _loads(part)
        except _NotJson:
            continue
        try:
            model.model_validate(value)
        except ValidationError:
            others.append(value)
            continue
        fitting.append(value)
        if len(fitting) > 1:
            raise Rejected("several_answers")
    if not fitting and not others:
        raise _NotJson
    return (fitting or others)[0]


def _objects(text: str) -> Iterator[str]:
    """Parts of a text from an opening brace to the one that closes it, none within another."""
    start, depth, in_string, skip = 0, 0, False, -1
    for match in _MARKS.finditer(text):
        mark, at = match[0], match.start()
        if depth == 0:
            if mark == "{":
                start, depth = at, 1
        elif at == skip:
            continue
        elif mark == "\\":
            skip = at + 1
        elif mark == '"':
            in_string = not in_string
        elif not in_string:
            depth += 1 if mark == "{" else -1
            if depth == 0:
                yield text[start : at + 1]


def _why_not(reply: str, finish_reason: str | None, reason: str) -> str:
    """What to call a reply that holds no JSON."""
    if is_loop(reply[-_TAIL:]):
        return "repetition"
    if finish_reason == "length":
        return "reply_cut"
    if finish_reason == "content_filter":
        return "content_filter"
    return "refusal" if reason == "not_json" and _is_refusal(reply) else reason


def _is_refusal(text: str) -> bool:
    return phrases.REFUSAL.count(phrases.fold(text.strip(_AROUND)[:_ANCHORED])) > 0


def _declines(value: Any) -> bool:
    """True for an object of another shape whose texts are a refusal: {"error": "I cannot ..."}."""
    texts = value.values() if isinstance(value, dict) else [value]
    return any(isinstance(text, str) and _is_refusal(text) for text in texts)
