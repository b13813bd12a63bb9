"""Tiny random models of every family that is trained, in memory or as a folder."""

from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModel,
    BertConfig,
    LlamaConfig,
    MistralConfig,
    ModernBertConfig,
    PretrainedConfig,
    Qwen3Config,
    XLMRobertaConfig,
)

from tests.tiny_model import build_tokenizer

MAX_TOKENS = 128
# Large random weights: attention is far from uniform, so that a wrong mask shows.
_SHARED: dict[str, Any] = {
    "vocab_size": 259,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "initializer_range": 0.3,
    "pad_token_id": 2,
    "bos_token_id": 0,
    "eos_token_id": 1,
}
_DECODER: dict[str, Any] = {
    **_SHARED,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": MAX_TOKENS,
}


def configurations(head_dim: int = 8) -> dict[str, PretrainedConfig]:
    """By family; two of them twice, with and without windows that are shorter than the texts."""
    shared = {**_SHARED, "hidden_size": 4 * head_dim}
    decoder = {**_DECODER, "hidden_size": 4 * head_dim, "head_dim": head_dim}
    modernbert = ModernBertConfig(
        **shared,
        max_position_embeddings=MAX_TOKENS,
        local_attention=8,
        global_attn_every_n_layers=3,
        cls_token_id=0,
        sep_token_id=1,
    )
    return {
        "llama": LlamaConfig(**decoder),
        "mistral": MistralConfig(**decoder, sliding_window=None),
        "mistral window": MistralConfig(**decoder, sliding_window=5),
        "qwen3": Qwen3Config(**decoder),
        "bert": BertConfig(**shared, max_position_embeddings=MAX_TOKENS),
        "xlm-roberta": XLMRobertaConfig(**shared, max_position_embeddings=MAX_TOKENS + 3),
        "modernbert": modernbert,
    }


FAMILIES = tuple(configurations())


def backbone(family: str, dtype: torch.dtype = torch.float32, head_dim: int = 8) -> Any:
    """A model with the same random weights every time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return AutoModel.from_config(configurations(head_dim)[family]).to(dtype)


def build(folder: Path, family: str, head_dim: int = 8) -> Path:
    """Write one with a tokenizer of bytes into `folder`, which is returned."""
    backbone(family, head_dim=head_dim).save_pretrained(folder)
    build_tokenizer(chat_template=None).save_pretrained(folder)
    return folder


def texts(lengths: list[int], seed: int = 0) -> list[list[int]]:
    """Random token ids of the given lengths, none of them special."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(3, 259, (n,), generator=generator).tolist() for n in lengths]
