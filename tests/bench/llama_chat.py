"""For tests.bench.generate: a chat model of a Llama's shape, whose replies are all of one length.

Its weights are vLLM's to make up. Its tokenizer learns merges from the bundled corpora, so that
prompts come to a natural number of tokens, is filled up to the shape's whole vocabulary, so that
whatever the model says is decoded as text, and knows no end of text: `max_tokens` alone ends it.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, PreTrainedTokenizerFast

from sdg.corpora import BUNDLED
from sdg.engines.vllm import VLLMEngine
from sdg.schema import Call
from tests.bench.llama_shapes import SHAPES
from tests.tiny_model import CHAT_TEMPLATE, MAX_LENGTH

VOCABULARY, LEARNED = 128256, 16000  # tokens of Llama 3, and those learned at most


class LlamaEngine(VLLMEngine):
    """vLLM that lets the model say what it likes."""

    def reply_schema(self, call: Call) -> dict[str, Any] | None:
        return None


def build(shape: str, folder: Path) -> None:
    """The model's folder: settings and tokenizer, no weights."""
    LlamaConfig(
        **SHAPES[shape],
        vocab_size=VOCABULARY,
        max_position_embeddings=MAX_LENGTH,
        rope_parameters={"rope_type": "default", "rope_theta": 500000.0},
        bos_token_id=None,
        eos_token_id=None,
        architectures=["LlamaForCausalLM"],
        dtype=torch.bfloat16,
    ).save_pretrained(folder)
    fast = PreTrainedTokenizerFast(tokenizer_object=_tokenizer(), model_max_length=MAX_LENGTH)
    fast.chat_template = CHAT_TEMPLATE
    fast.save_pretrained(folder)


def _tokenizer() -> Tokenizer:
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    learner.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=LEARNED, initial_alphabet=alphabet, show_progress=False
    )
    learner.train_from_iterator(_texts(), trainer)
    settings = json.loads(learner.to_str())
    vocabulary = settings["model"]["vocab"]
    vocabulary |= {f"Ġ{i:07d}": i for i in range(len(vocabulary), VOCABULARY)}
    return Tokenizer.from_str(json.dumps(settings))


def _texts() -> Iterator[str]:
    for path in sorted(BUNDLED.glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            yield json.loads(line)["text"]
