"""A logits processor that vLLM's engine cannot bear: it raises on requests of one `max_tokens`."""

from typing import Any

from vllm.v1.sample.logits_processor import LogitsProcessor

MAX_TOKENS = 13


class Poison(LogitsProcessor):
    """Fails as a kernel or a grammar does: within a step of the whole batch."""

    def __init__(self, vllm_config: Any, device: Any, is_pin_memory: bool) -> None:
        pass

    def apply(self, logits: Any) -> Any:
        return logits

    def is_argmax_invariant(self) -> bool:
        return True

    def update_state(self, batch_update: Any) -> None:
        for _, params, *_ in batch_update.added if batch_update else ():
            if params.max_tokens == MAX_TOKENS:
                raise RuntimeError("the poison")
