"""What a training says of itself."""

import re
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from embedtrain.model import Embedder
from embedtrain.packing import pack
from embedtrain.progress import Progress, flops
from tests import tiny_embedders


def told(folder: Path, losses: list[tuple[str, str, float]]) -> str:
    said: list[str] = []
    progress = Progress(folder, torch.device("cpu"), torch.float32, said.append)
    progress.count([3, 5], 8, 1e6)
    progress.count_losses(losses)
    progress.report(10, 20, 1, 1e-3, 0.5)
    progress.close()
    (line,) = said
    return line


def test_the_console_has_the_loss_by_task_and_by_language(tmp_path: Path) -> None:
    losses = [("retrieval", "sw", 0.5), ("sts", "ha", 2.0), ("retrieval", "ha", 1.0)]
    line = told(tmp_path, losses)
    assert "loss 1.1667 (sts 2.0000, retrieval 0.7500; ha 1.5000, sw 0.5000)" in line
    assert re.search(r"  [\d,]+ tokens/s  MFU", line)  # a speed, not the count of eight


def test_a_line_has_room_for_the_languages_that_are_worst(tmp_path: Path) -> None:
    line = told(tmp_path, [("retrieval", f"q{i:02}", float(i)) for i in range(20)])
    assert "(retrieval 9.5000; q19 19.0000, q18 18.0000" in line
    assert "q12 12.0000, 12 more)" in line


@pytest.mark.parametrize("length", [3, 128])
def test_operations_are_those_that_pytorch_counts(length: int) -> None:
    """Matrix products, attention's too, forward and backward, of one text."""
    llama = tiny_embedders.backbone("llama")
    model = Embedder(llama, None, attention="padded").train()
    llama.set_attn_implementation("eager")
    with FlopCounterMode(display=False) as counter:
        model(pack(tiny_embedders.texts([length]))).sum().backward()
    # Ours take the weights of norms for matrices: 1 % in a model of this size.
    assert flops(model, [length]) == pytest.approx(counter.get_total_flops(), rel=0.015)
    assert flops(model, [length, 5]) == flops(model, [length]) + flops(model, [5])
