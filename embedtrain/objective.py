"""One step's loss and gradients, over passes and ranks.

A loss that is a sum over queries goes through a batch pass by pass; one that compares queries with
each other (in-batch negatives, CoSENT) takes GradCache and the vectors of all ranks. Both give the
gradient of the whole batch on one rank, whatever the passes and ranks.

Shapes: B queries of this rank, C candidates of each (the positive first), K = C - 1, D dimensions,
X texts of a pass (the queries first, then candidates, query by query).
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.distributed as dist

from embedtrain.config import LossConfig
from embedtrain.data import Item
from embedtrain.feed import Step, num_passes, split
from embedtrain.gradcache import cached_step, gather_with_grad
from embedtrain.losses import LOSSES, SEPARABLE, cosent, kl_distillation, margin_mse, matryoshka
from embedtrain.packing import Packed, pack
from sdg.errors import UserError


@dataclass(frozen=True)
class Targets:
    """What the loss knows of some queries beside their vectors."""

    mask_BC: torch.Tensor  # which candidates there are
    query_ids_B: torch.Tensor  # equal for equal texts
    doc_ids_BC: torch.Tensor
    scores_BC: torch.Tensor  # the teacher's; NaN where there is none
    grades_BC: torch.Tensor  # in [0, 1]; NaN where there is none

    def gathered(self) -> "Targets":
        """Those of all ranks."""
        return Targets(*(gather_with_grad(tensor) for tensor in vars(self).values()))


def targets_of(items: Sequence[Item], num_candidates: int, device: torch.device) -> Targets:
    """The targets of items; C is the same for all ranks."""
    nan = float("nan")

    def padded(rows: list[list[Any]], filler: Any, dtype: torch.dtype) -> torch.Tensor:
        full = [[*row, *[filler] * (num_candidates - len(row))] for row in rows]
        return torch.tensor(full, dtype=dtype, device=device)

    return Targets(
        padded([[True] * len(i.documents) for i in items], False, torch.bool),
        torch.tensor([_number(i.query) for i in items], device=device),
        padded([[_number(text) for text in i.documents] for i in items], 0, torch.long),
        padded([list(i.scores) for i in items], nan, torch.float32),
        padded([list(i.grades) for i in items], nan, torch.float32),
    )


def _number(text: str) -> int:
    """A number that two texts share only if they are equal."""
    digest = hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


class Objective:
    """The loss that the settings name."""

    def __init__(self, config: LossConfig, num_negatives: int, forward_tokens: int) -> None:
        self._config, self._num_candidates = config, 1 + num_negatives
        self._forward_tokens = forward_tokens

    @staticmethod
    def is_in_batch(config: LossConfig) -> bool:
        """Whether the loss takes other queries' documents."""
        return config.name not in SEPARABLE

    def needed_passes(self, step: Step) -> int:
        """How many passes this rank needs; all ranks make as many as the most that one needs."""
        return num_passes([_num_tokens(ids) for ids in step.token_ids], self._forward_tokens)

    def backward(
        self, embedder: Any, step: Step, passes: int, device: torch.device
    ) -> tuple[torch.Tensor, list[Packed]]:
        """Add the step's gradients to the weights'.

        Returns:
            The loss of each of the batch's queries, those of all ranks, and what was computed on.
        """
        parts = split([_num_tokens(ids) for ids in step.token_ids], passes)
        packs = [self._packed(step, part).to(device) for part in parts]
        graded = any(item.grades for item in step.batch.items) and self._config.graded == "cosent"
        if step.batch.in_batch or graded:
            losses_B = self._whole(embedder, step, parts, packs, device)
        else:
            losses_B = self._part_by_part(embedder, step, parts, packs, device)
        return losses_B, packs

    def _packed(self, step: Step, part: Sequence[int]) -> Packed:
        queries = [step.token_ids[i][0] for i in part]
        documents = [ids for i in part for ids in step.token_ids[i][1:]]
        return pack(queries + documents)

    def _part_by_part(
        self,
        embedder: Any,
        step: Step,
        parts: Sequence[Sequence[int]],
        packs: Sequence[Packed],
        device: torch.device,
    ) -> torch.Tensor:
        total = len(step.batch.items)
        ranks = dist.get_world_size()
        losses_B = torch.zeros(len(step.items), device=device)
        for part, packed in zip(parts, packs, strict=True):
            items = [step.items[i] for i in part]
            vectors = self._arranged(embedder(packed), items)
            targets = targets_of(items, self._num_candidates, device)
            part_B = self._contrast(*vectors, targets, "hard_negatives")
            (part_B.sum() * (ranks / total)).backward()  # FSDP takes the mean over ranks
            losses_B[torch.tensor(part, device=device)] = part_B.detach().to(losses_B.dtype)
        return gather_with_grad(losses_B)

    def _whole(
        self,
        embedder: Any,
        step: Step,
        parts: Sequence[Sequence[int]],
        packs: Sequence[Packed],
        device: torch.device,
    ) -> torch.Tensor:
        items = [step.items[i] for part in parts for i in part]
        targets = targets_of(items, self._num_candidates, device).gathered()
        sizes = [[len(part), sum(len(step.items[i].documents) for i in part)] for part in parts]
        kept: list[torch.Tensor] = []

        def loss_of(vectors_XD: torch.Tensor) -> torch.Tensor:
            found = vectors_XD.split([size for pair in sizes for size in pair])
            ordered_XD = torch.cat([*found[0::2], *found[1::2]])  # queries of all parts first
            q_BD, docs_BCD = self._arranged(ordered_XD, items)
            every = gather_with_grad(q_BD), gather_with_grad(docs_BCD)
            losses_B = self._losses(*every, targets, step.batch.in_batch)
            kept[:] = [losses_B.detach()]
            return losses_B.mean()

        cached_step(embedder, packs, loss_of)
        (losses_B,) = kept
        # Back into the order of each rank's items.
        order = [place for part in parts for place in part]
        back = torch.empty(len(order), dtype=torch.long, device=device)
        back[torch.tensor(order, device=device)] = torch.arange(len(order), device=device)
        offsets = gather_with_grad(back).unflatten(0, (-1, len(order)))
        return losses_B.unflatten(0, (-1, len(order))).gather(1, offsets).flatten()

    def _arranged(
        self, vectors_XD: torch.Tensor, items: Sequence[Item]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Queries (B, D) and candidates (B, C, D) of a pass; zeros where there is no candidate."""
        q_BD, flat = vectors_XD[: len(items)], vectors_XD[len(items) :]
        rows = [i for i, item in enumerate(items) for _ in item.documents]
        columns = [k for item in items for k in range(len(item.documents))]
        docs_BCD = vectors_XD.new_zeros(len(items), self._num_candidates, vectors_XD.shape[1])
        return q_BD, docs_BCD.index_put((_index(rows, flat), _index(columns, flat)), flat)

    def _over_dims(self, loss: Callable[..., torch.Tensor], *vectors: torch.Tensor) -> torch.Tensor:
        """A loss of vectors; with Matryoshka, the sum of it over their first dimensions."""
        if not self._config.matryoshka:
            return loss(*vectors)
        return matryoshka(loss, (*self._config.matryoshka, vectors[0].shape[-1]))(*vectors)

    def _losses(
        self, q_BD: torch.Tensor, docs_BCD: torch.Tensor, targets: Targets, in_batch: bool
    ) -> torch.Tensor:
        """The loss of each query of the whole batch."""
        name = self._config.name if in_batch else "hard_negatives"
        if self._config.graded != "cosent":
            return self._contrast(q_BD, docs_BCD, targets, name)
        graded_B = ~targets.grades_BC[:, 0].isnan()
        if not graded_B.any():
            return self._contrast(q_BD, docs_BCD, targets, name)
        plain_B = self._contrast(q_BD, docs_BCD, targets, "hard_negatives")
        there_BC = ~targets.grades_BC.isnan()
        loss = self._over_dims(
            partial(
                cosent,
                scores_P=targets.grades_BC[there_BC],
                temperature=self._config.cosent_temperature,
            ),
            q_BD[:, None].expand_as(docs_BCD)[there_BC],
            docs_BCD[there_BC],
        )
        return torch.where(graded_B, loss, plain_B)

    def _contrast(
        self, q_BD: torch.Tensor, docs_BCD: torch.Tensor, targets: Targets, name: str
    ) -> torch.Tensor:
        """The loss `name` of each query, with what it has to learn of a teacher."""
        if self._config.distill != "none" and (targets.scores_BC.isnan() & targets.mask_BC).any():
            raise UserError(
                f"loss.distill={self._config.distill}: a row has no teacher's scores; leave its "
                f"source out, or take loss.distill=none"
            )
        return self._over_dims(partial(self._of_whole, targets, name), q_BD, docs_BCD)

    def _of_whole(
        self, targets: Targets, name: str, q_BD: torch.Tensor, docs_BCD: torch.Tensor
    ) -> torch.Tensor:
        config = self._config
        pos_BD, neg_BKD, mask_BK = docs_BCD[:, 0], docs_BCD[:, 1:], targets.mask_BC[:, 1:]
        loss_B = LOSSES[name](
            q_BD,
            pos_BD,
            neg_BKD,
            temperature=config.temperature,
            mask_BK=mask_BK,
            query_ids_B=targets.query_ids_B,
            doc_ids_BC=targets.doc_ids_BC,
        )
        if config.distill == "none":
            return loss_B
        teacher_BC = targets.scores_BC.nan_to_num(0.0)
        if config.distill == "margin_mse":
            taught_B = margin_mse(q_BD, pos_BD, neg_BKD, teacher_BC=teacher_BC, mask_BK=mask_BK)
        else:
            taught_B = kl_distillation(
                q_BD,
                pos_BD,
                neg_BKD,
                teacher_BC=teacher_BC,
                temperature=config.temperature,
                teacher_temperature=config.teacher_temperature,
                mask_BK=mask_BK,
            )
        return loss_B + config.distill_weight * taught_B


def _index(places: list[int], like: torch.Tensor) -> torch.Tensor:
    return torch.tensor(places, dtype=torch.long, device=like.device)


def _num_tokens(ids: Sequence[Sequence[int]]) -> int:
    return sum(map(len, ids))
