"""For tests.bench.train: Llama shapes with random weights, and what share of a GPU's
matrix multiplication they reach.

Model FLOPs are 6 for each weight of a layer's matrices and token (2 forward, 4 backward), and 12
for each pair of tokens that see each other, each attention dimension and layer; what is computed
again for lack of memory does not count (PaLM, arXiv 2204.02311, appendix B). The ceiling is what
bfloat16 matrices of 8192 x 8192 reach on the same GPU.
"""

import time
from pathlib import Path

import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaModel

from tests.minilm_gain import minilm_path

SHAPES: dict[str, dict[str, int]] = {
    # Of Llama 3.2 1B and Llama 3.1 8B.
    "1b": {
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
    },
    "8b": {
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
    },
}


def _config(shape: str, **changes: int) -> LlamaConfig:
    return LlamaConfig(
        **{**SHAPES[shape], "vocab_size": 128256, **changes},
        max_position_embeddings=8192,
        rope_parameters={"rope_type": "default", "rope_theta": 500000.0},
        pad_token_id=0,
        is_causal=False,
    )


def backbone(shape: str) -> LlamaModel:
    """A Llama of a shape, its random weights (always the same) made on the GPU, in float32."""
    torch.manual_seed(0)
    with torch.device("cuda"):
        return LlamaModel(_config(shape))


def build(shape: str, folder: Path) -> None:
    """A model's folder that is quick to load: one layer of the shape, to be replaced by `backbone`.

    The tokenizer is MiniLM's, for natural lengths.
    """
    tokenizer = AutoTokenizer.from_pretrained(minilm_path(), local_files_only=True)
    tokenizer.save_pretrained(folder)
    config = _config(shape, num_hidden_layers=1, vocab_size=len(tokenizer))
    LlamaModel(config).to(torch.bfloat16).save_pretrained(folder)


def model_flops(shape: str, lengths: list[int]) -> float:
    """Of a forward and a backward pass over texts of these lengths."""
    sizes = SHAPES[shape]
    width = sizes["hidden_size"]
    keys = width * sizes["num_key_value_heads"] // sizes["num_attention_heads"]
    weights = width * (2 * width + 2 * keys + 3 * sizes["intermediate_size"])
    seen = sum(length * length for length in lengths)
    return sizes["num_hidden_layers"] * (6.0 * weights * sum(lengths) + 12.0 * width * seen)


def ceiling(size: int = 8192, repeats: int = 50) -> float:
    """FLOP/s of bfloat16 matrix multiplication."""
    a, b = (torch.randn(size, size, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    for _ in range(5):
        a @ b
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(repeats):
        a @ b
    torch.cuda.synchronize()
    return 2.0 * size**3 * repeats / (time.perf_counter() - start)
