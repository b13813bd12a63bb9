"""A batch in parts, and on two ranks, has the loss and the gradients of the batch in one."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from embedtrain.gradcache import cached_step, gather_with_grad
from embedtrain.losses import LOSSES
from embedtrain.model import Embedder
from embedtrain.packing import pack
from tests.tiny_embedders import backbone, texts

SIZE, NEGATIVES = 4, 2
GROUP = 2 + NEGATIVES  # texts of a query: itself, its positive, its negatives
LENGTHS = [3, 17, 9, 30, 5, 12, 2, 8, 21, 4, 4, 16, 7, 1, 11, 6]
MASK_BK = torch.tensor([[1, 1], [1, 0], [1, 1], [0, 1]]).bool()
DOC_IDS_BC = torch.tensor(
    [[0, 4, 5], [1, 6, 7], [0, 8, 9], [3, 10, 11]]
)  # 0 and 2 share a positive

LossOfVectors = Callable[[torch.Tensor], torch.Tensor]


def embedder(family: str) -> Embedder:
    return Embedder(backbone(family, torch.float64), None)


def gradients(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def loss_of(name: str, mask_BK: torch.Tensor, doc_ids_BC: torch.Tensor) -> LossOfVectors:
    def loss(vectors_ND: torch.Tensor) -> torch.Tensor:
        groups_BGD = gather_with_grad(vectors_ND).unflatten(0, (-1, GROUP))
        known = {"mask_BK": gather_with_grad(mask_BK), "doc_ids_BC": gather_with_grad(doc_ids_BC)}
        parts = (groups_BGD[:, 0], groups_BGD[:, 1], groups_BGD[:, 2:])
        return LOSSES[name](*parts, temperature=0.1, **known).mean()

    return loss


def one_shot(family: str, name: str) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    model = embedder(family)
    loss = loss_of(name, MASK_BK, DOC_IDS_BC)(model(pack(texts(LENGTHS))))
    loss.backward()
    return loss.detach(), gradients(model)


def assert_same(
    found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], tolerance: float
) -> None:
    assert found.keys() == expected.keys()
    assert max(gradient.abs().max() for gradient in expected.values()) > 1e-2
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, atol=tolerance, rtol=tolerance, msg=name)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("family", ["llama", "bert"])
def test_gradcache_is_one_shot(family: str, name: str) -> None:
    expected_loss, expected = one_shot(family, name)
    batch = texts(LENGTHS)
    for cuts in ([0, 5, 6, 16], [0, 16]):
        model = embedder(family)
        chunks = [pack(batch[a:b]) for a, b in pairwise(cuts)]
        loss = cached_step(model, chunks, loss_of(name, MASK_BK, DOC_IDS_BC))
        assert not loss.requires_grad
        torch.testing.assert_close(loss, expected_loss, atol=1e-12, rtol=1e-12)
        assert_same(gradients(model), expected, 1e-12)


def test_gradients_are_added_to_what_is_there() -> None:
    chunks = [pack(texts(LENGTHS)[:8]), pack(texts(LENGTHS)[8:])]
    model = embedder("llama")
    for _ in range(2):
        cached_step(model, chunks, loss_of("in_batch", MASK_BK, DOC_IDS_BC))
    _, once = one_shot("llama", "in_batch")
    assert_same(gradients(model), {name: 2 * gradient for name, gradient in once.items()}, 1e-12)


def _rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    half = SIZE // 2
    mine = slice(rank * half, (rank + 1) * half)
    batch = texts(LENGTHS)[rank * half * GROUP : (rank + 1) * half * GROUP]
    found = {}
    for name in ("in_batch", "gte"):
        model = embedder("llama")
        chunks = [pack(batch[: 3 + rank]), pack(batch[3 + rank :])]
        loss = cached_step(model, chunks, loss_of(name, MASK_BK[mine], DOC_IDS_BC[mine]))
        for gradient in gradients(model).values():  # as FSDP and DDP do
            dist.all_reduce(gradient)
            gradient /= 2
        found[name] = (loss, gradients(model))
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_ranks_are_one(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(_rank, (str(tmp_path),), nprocs=2)
    for rank in (0, 1):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        for name, (loss, of_rank) in found.items():
            expected_loss, expected = one_shot("llama", name)
            torch.testing.assert_close(loss, expected_loss, atol=1e-9, rtol=0)
            assert_same(of_rank, expected, 1e-9)
