"""Losses over batches larger than memory, and over all ranks (GradCache, Gao et al., 2101.06983).

A loss whose queries need each other's documents needs the vectors of the whole batch, but the
activations of a part of it alone: the vectors are computed without activations, the loss and its
gradient by them from the vectors, and then each part once more, with activations, to carry that
gradient on to the weights. The sum of the parts' gradients is the gradient of the whole.

Shapes: N texts of this rank, W ranks, D dimensions.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.fsdp import FSDPModule

from embedtrain.packing import Packed


def cached_step(
    embedder: torch.nn.Module,
    chunks: Sequence[Packed],
    loss_from_embeddings: Callable[[torch.Tensor], torch.Tensor],
) -> torch.Tensor:
    """Add a whole batch's gradients to the weights', a chunk of it in memory at a time.

    `loss_from_embeddings` makes one number of the vectors (N, D) of all chunks, in their order.
    Under FSDP2, gradients are exchanged once, with the last chunk.

    Returns:
        The loss, detached.
    """
    if len(chunks) == 1:  # nothing to be saved by computing it twice
        loss = loss_from_embeddings(embedder(chunks[0]))
        loss.backward()
        return loss.detach()
    with torch.no_grad():
        vectors_ND = torch.cat([embedder(chunk) for chunk in chunks])
    vectors_ND.requires_grad_()
    loss = loss_from_embeddings(vectors_ND)
    loss.backward()
    assert vectors_ND.grad is not None
    gradients = vectors_ND.grad.split([len(chunk.lengths) for chunk in chunks])
    for chunk, gradient_ND in zip(chunks, gradients, strict=True):
        if isinstance(embedder, FSDPModule):
            embedder.set_requires_gradient_sync(chunk is chunks[-1])
        embedder(chunk).backward(gradient_ND)
    return loss.detach()


def gather_with_grad(rows_ND: torch.Tensor) -> torch.Tensor:
    """The rows of all ranks (W * N, D), in the order of the ranks; without ranks, the same rows.

    Every rank must have as many. Rows that are no floating-point numbers have no gradient. If each
    rank computes the same loss of the gathered rows, the mean of the weights' gradients over ranks,
    which FSDP and DDP take, is that loss's gradient on one rank: each rank adds W times the part
    that goes through its own rows.
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return rows_ND
    gathered: torch.Tensor = _Gather.apply(rows_ND)
    return gathered


class _Gather(torch.autograd.Function):
    """Rows of all ranks; the gradients that the ranks have by a row are summed where it is from."""

    @staticmethod
    def forward(ctx: Any, rows_ND: torch.Tensor) -> torch.Tensor:
        every = rows_ND.new_empty((dist.get_world_size() * len(rows_ND), *rows_ND.shape[1:]))
        dist.all_gather_into_tensor(every, rows_ND.contiguous())
        return every

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        summed = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(summed)
        return summed.chunk(dist.get_world_size())[dist.get_rank()]
