"""What a training tells of itself: speed, MFU, memory, padding, loss by task and language.

MFU is the share of a matrix product's measured speed, on the same device in the same precision,
that the model's own arithmetic reaches: 6 operations a weight and token (2 forward, 4 backward; the
embedding table does none) and 12 * width for each layer and pair of tokens of one text
(Chowdhery et al., arXiv 2204.02311, appendix B). What gradient checkpointing or GradCache compute
again does not count.
"""

import resource
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

LISTED = 8  # languages, or tasks, in a line of the console


def matmul_speed(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations a second in a large matrix product, the best of a few."""
    size = 8192 if device.type == "cuda" else 512  # a CPU without bfloat16 is slow in it
    a = torch.ones(size, size, device=device, dtype=dtype)
    best = float("inf")
    for _ in range(5):
        _wait(device)
        start = time.perf_counter()
        a @ a
        _wait(device)
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def flops(model: Any, lengths: Sequence[int]) -> float:
    """Operations of one forward and backward pass over texts of these lengths in tokens."""
    config = model.config
    table = model.backbone.get_input_embeddings()
    embedded = {id(p) for p in table.parameters()}
    weights = [(p.numel(), p.requires_grad) for p in model.parameters() if id(p) not in embedded]
    # Of frozen weights (LoRA) the backward pass needs no gradient.
    per_token = sum(n * (6 if trained else 4) for n, trained in weights)
    heads = config.num_attention_heads
    width = heads * (getattr(config, "head_dim", None) or config.hidden_size // heads)
    pairs = sum(length**2 for length in lengths)
    return float(per_token * sum(lengths) + 12 * config.num_hidden_layers * width * pairs)


def peak_memory(device: torch.device) -> float:
    """GB: the most that tensors took of the GPU, or of the process's own memory without one."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _listed(found: dict[str, float], prefix: str) -> str:
    """The values under a prefix, largest first; TensorBoard has all, whatever their number."""
    values = {name.removeprefix(prefix): v for name, v in found.items() if name.startswith(prefix)}
    names = sorted(values, key=values.__getitem__, reverse=True)
    shown = [f"{name} {values[name]:.4f}" for name in names[:LISTED]]
    return ", ".join(shown) + (f", {len(names) - LISTED} more" if len(names) > LISTED else "")


class Progress:
    """Counts one rank's steps; `report` tells, on rank 0, of those since the last one."""

    def __init__(
        self, folder: Path, device: torch.device, dtype: torch.dtype, say: Callable[[str], None]
    ) -> None:
        from tensorboardX import SummaryWriter

        self._device, self._say = device, say
        self._ceiling = matmul_speed(device, dtype)
        self._writer = SummaryWriter(str(folder))
        self._clear()

    def _clear(self) -> None:
        self._start = time.perf_counter()
        self._tokens = self._slots = self._padded = self._cut = self._texts = 0
        self._flops = 0.0
        self._losses: dict[str, list[float]] = defaultdict(list)

    def count(self, lengths: Sequence[int], num_slots: int, operations: float) -> None:
        """A forward pass over texts of these lengths, in `num_slots` places for tokens."""
        self._tokens += sum(lengths)
        self._slots += num_slots
        self._padded += len(lengths) * max(lengths)
        self._texts += len(lengths)
        self._flops += operations

    def count_cut(self, num_texts: int) -> None:
        """Texts that were cut to the longest length."""
        self._cut += num_texts

    def count_losses(self, losses: Sequence[tuple[str, str, float]]) -> None:
        """(task, language, loss) of each query, of all ranks."""
        for task, lang, loss in losses:
            self._losses["loss"].append(loss)
            self._losses[f"loss_by_task/{task}"].append(loss)
            self._losses[f"loss_by_language/{lang}"].append(loss)

    def report(
        self, step: int, num_steps: int, num_ranks: int, rate: float, norm: float
    ) -> dict[str, float]:
        """Tell of the steps up to `step`; also what was told, by name."""
        seconds = time.perf_counter() - self._start
        found = {name: sum(losses) / len(losses) for name, losses in self._losses.items()}
        found |= {
            "learning_rate": rate,
            "gradient_norm": norm,
            "speed/tokens_per_second": num_ranks * self._tokens / seconds,
            "speed/mfu": self._flops / seconds / self._ceiling,
            "memory_gb": peak_memory(self._device),
            "padding/share": 1 - self._tokens / max(1, self._slots),
            "padding/share_if_padded": 1 - self._tokens / max(1, self._padded),
            "texts_cut/share": self._cut / max(1, self._texts),
        }
        for name, value in found.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()
        by_task, by_language = (_listed(found, f"loss_by_{kind}/") for kind in ("task", "language"))
        self._say(
            f"step {step}/{num_steps}  loss {found.get('loss', float('nan')):.4f} "
            f"({by_task}; {by_language})  "
            f"lr {rate:.2e}  |g| {norm:.2f}  {found['speed/tokens_per_second']:,.0f} tokens/s  "
            f"MFU {found['speed/mfu']:.0%}  {found['memory_gb']:.1f} GB  padding "
            f"{found['padding/share']:.0%} (would be {found['padding/share_if_padded']:.0%})"
        )
        self._clear()
        return found

    def close(self) -> None:
        self._writer.close()
