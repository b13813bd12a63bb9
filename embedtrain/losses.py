"""Losses on unit vectors: contrastive ones of published embedders, similarity scores, distillation.

Every contrastive loss is one function with the arguments of `Contrastive`, entered in `LOSSES`, and
gives one number a query:

    loss_i = -log(P_i / Z_i)      P_i = E(s(q_i, d_i+))      E(x) = exp(x / temperature)

with s the cosine and d_ik- the hard negatives of query i; what they differ in is Z_i. A number
divided by the size of the whole batch, not of a part of it, is to be summed over the queries.
Terms with j range over the other queries of the batch, without the pairs that share a query or a
positive with pair i (where their numbers are given), nor documents that are pair i's positive.

Shapes: B queries, K hard negatives of each, M = B * K, C candidates (1 + K, the positive first),
D dimensions, P pairs of texts.
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, Protocol, TypedDict, Unpack

import torch
from torch.nn.functional import normalize

from sdg.errors import UserError

QWEN3_MARGIN = 0.1  # a cosine so much above the positive's is taken for another positive's


class Known(TypedDict, total=False):
    """What may be known of a batch beside its vectors; None is as not given."""

    mask_BK: torch.Tensor | None  # False where a query has fewer negatives than K
    query_ids_B: torch.Tensor | None  # equal numbers for equal queries; None: no two are equal
    doc_ids_BC: torch.Tensor | None  # the same of documents, the positive in the first column


class Contrastive(Protocol):
    """A contrastive loss: unit vectors -> loss_B, one number a query.

    `temperature` is what cosines are divided by (the inverse of a scale). K may be 0.
    """

    def __call__(
        self,
        q_BD: torch.Tensor,
        pos_BD: torch.Tensor,
        neg_BKD: torch.Tensor,
        *,
        temperature: float,
        **known: Unpack[Known],
    ) -> torch.Tensor: ...


def hard_negatives(
    q_BD: torch.Tensor,
    pos_BD: torch.Tensor,
    neg_BKD: torch.Tensor,
    *,
    temperature: float,
    **known: Unpack[Known],
) -> torch.Tensor:
    """Hard negatives only: the recipe's choice (llama-embed-nemotron-8b, arXiv 2511.07025).

        Z_i = P_i + sum_k E(s(q_i, d_ik-))

    A query without negatives has loss 0. No query needs another, so gradients may be accumulated
    over parts of a batch, exactly.
    """
    t = _Terms(q_BD, pos_BD, neg_BKD, **known)
    return t.loss(temperature, t.own_BK)


def in_batch(
    q_BD: torch.Tensor,
    pos_BD: torch.Tensor,
    neg_BKD: torch.Tensor,
    *,
    temperature: float,
    **known: Unpack[Known],
) -> torch.Tensor:
    """Hard negatives and all documents of the other queries (InfoNCE; DPR, arXiv 2004.04906).

    Z_i = P_i + sum_k E(s(q_i, d_ik-)) + sum_{j != i} [E(s(q_i, d_j+)) + sum_k E(s(q_i, d_jk-))]
    """
    t = _Terms(q_BD, pos_BD, neg_BKD, **known)
    return t.loss(temperature, t.own_BK, t.query_positive_BB, t.query_negative_BM)


def same_tower(
    q_BD: torch.Tensor,
    pos_BD: torch.Tensor,
    neg_BKD: torch.Tensor,
    *,
    temperature: float,
    **known: Unpack[Known],
) -> torch.Tensor:
    """`in_batch`, and queries against queries, positives against positives (arXiv 2511.07025).

    Z_i = Z_i of in_batch + sum_{j != i} [E(s(q_i, q_j)) + E(s(d_i+, d_j+))]
    """
    t = _Terms(q_BD, pos_BD, neg_BKD, **known)
    return t.loss(
        temperature,
        t.own_BK,
        t.query_positive_BB,
        t.query_negative_BM,
        t.query_query_BB,
        t.positive_positive_BB,
    )


def gecko(
    q_BD: torch.Tensor,
    pos_BD: torch.Tensor,
    neg_BKD: torch.Tensor,
    *,
    temperature: float,
    **known: Unpack[Known],
) -> torch.Tensor:
    """In-batch positives, other queries, and the query's own negatives (Gecko, arXiv 2403.20327).

        Z_i = sum_j E(s(q_i, d_j+)) + sum_{j != i} E(s(q_i, q_j)) + sum_k E(s(q_i, d_ik-))

    Gecko has one negative a query; the sum over k is ours.
    """
    t = _Terms(q_BD, pos_BD, neg_BKD, **known)
    return t.loss(temperature, t.own_BK, t.query_positive_BB, t.query_query_BB)


def gemini(
    q_BD: torch.Tensor,
    pos_BD: torch.Tensor,
    neg_BKD: torch.Tensor,
    *,
    temperature: float,
    **known: Unpack[Known],
) -> torch.Tensor:
    """In-batch positives and own negatives, no same-tower terms (Gemini, arXiv 2503.07891).

        Z_i = P_i + sum_k E(s(q_i, d_ik-)) + sum_{j != i} mask_ij E(s(q_i, d_j+))

    mask_ij is 0 where q_i = q_j or d_i+ = d_j+. Gemini has one negative a query; the sum over k is
    ours.
    """
    t = _Terms(q_BD, pos_BD, neg_BKD, **known)
    return t.loss(temperature, t.own_BK, t.query_positive_BB)


def qwen3(
    q_BD: torch.Tensor,
    pos_BD: torch.Tensor,
    neg_BKD: torch.Tensor,
    *,
    temperature: float,
    **known: Unpack[Known],
) -> torch.Tensor:
    """All towers, without what looks like a positive (Qwen3 Embedding, arXiv 2506.05176).

        Z_i = P_i + sum_k m_ik E(s(q_i, d_ik-))
            + sum_{j != i} m_ij [E(s(q_i, q_j)) + E(s(d_i+, d_j+)) + E(s(q_i, d_j+))]

    m is 0 where the term's own score is above s(q_i, d_i+) + 0.1, or the document is d_i+. The
    paper leaves open which score masks the document-document term, and whether d_j is more than
    the other positives; this is our reading.
    """
    t = _Terms(q_BD, pos_BD, neg_BKD, **known)
    limit_B1 = t.positive_B1.detach() + QWEN3_MARGIN
    terms = (
        _kept(t.own_BK, t.not_positive_BK),
        t.query_query_BB,
        t.positive_positive_BB,
        t.query_positive_BB,
    )
    return t.loss(temperature, *(_kept(term_BX, term_BX <= limit_B1) for term_BX in terms))


def gte(
    q_BD: torch.Tensor,
    pos_BD: torch.Tensor,
    neg_BKD: torch.Tensor,
    *,
    temperature: float,
    **known: Unpack[Known],
) -> torch.Tensor:
    """Improved contrastive loss: both directions and both towers in one Z (GTE, arXiv 2308.03281).

        Z_i = sum_j E(s(q_i, d_j)) + sum_{j != i} E(s(q_i, q_j))
            + sum_j E(s(q_j, d_i+)) + sum_{j != i} E(s(d_j, d_i+))

    d_j are the positive and the hard negatives of query j, as in sentence-transformers; so the
    positive's own term is there twice.
    """
    t = _Terms(q_BD, pos_BD, neg_BKD, **known)
    return t.loss(
        temperature,
        t.own_BK,
        t.query_positive_BB,
        t.query_negative_BM,
        t.query_query_BB,
        t.positive_B1,
        t.query_positive_BB.T,
        t.positive_positive_BB,
        t.positive_negative_BM,
    )


LOSSES: dict[str, Contrastive] = {
    "hard_negatives": hard_negatives,
    "in_batch": in_batch,
    "same_tower": same_tower,
    "gecko": gecko,
    "gemini": gemini,
    "qwen3": qwen3,
    "gte": gte,
}
# Sums over queries: the parts of a batch may be gone through one after another, without GradCache.
SEPARABLE = frozenset({"hard_negatives"})


def matryoshka(
    loss: Callable[..., torch.Tensor], dims: Sequence[int]
) -> Callable[..., torch.Tensor]:
    """The sum of a loss over vectors cut to their first dimensions (arXiv 2205.13147, eq. 1).

        loss_i = sum_{m in dims} loss_i of the vectors' first m coordinates, scaled to length 1

    All weights are 1, as in the paper. `loss` is any one whose positional arguments are vectors.

    Raises:
        ValueError: no dimensions, or more than the vectors have.
    """
    if not dims or min(dims) < 1:
        raise ValueError(f"Matryoshka dimensions {list(dims)}: give one at least, all above 0")

    def nested(*vectors: torch.Tensor, **settings: Any) -> torch.Tensor:
        size = vectors[0].shape[-1]
        if max(dims) > size:
            raise UserError(f"Matryoshka dimension {max(dims)}: vectors have {size}")
        by_dim = [
            loss(*(normalize(x[..., :dim], dim=-1) for x in vectors), **settings) for dim in dims
        ]
        return torch.stack(by_dim).sum(0)

    return nested


def cosent(
    first_PD: torch.Tensor, second_PD: torch.Tensor, scores_P: torch.Tensor, *, temperature: float
) -> torch.Tensor:
    """Pairs of texts in the order of their scores (CoSENT, Su 2022, kexue.fm/archives/8847).

        loss = log(1 + sum_{a, b: score_a > score_b} exp((s_b - s_a) / temperature))

    s_a is the cosine of pair a. One number for the batch; 0 where all scores are equal. CoSENT
    writes lambda = 20 for 1 / temperature.
    """
    s_P = (first_PD * second_PD).sum(-1) / temperature
    ordered_PP = scores_P[:, None] > scores_P[None, :]
    excess_X = (s_P[None, :] - s_P[:, None])[ordered_PP]
    return torch.logsumexp(torch.cat([excess_X.new_zeros(1), excess_X]), dim=0)


def margin_mse(
    q_BD: torch.Tensor,
    pos_BD: torch.Tensor,
    neg_BKD: torch.Tensor,
    *,
    teacher_BC: torch.Tensor,
    mask_BK: torch.Tensor | None = None,
) -> torch.Tensor:
    """A teacher's margins between positive and negatives (MarginMSE, arXiv 2010.02666) -> loss_B.

        loss_i = mean_k ((s(q_i, d_i+) - s(q_i, d_ik-)) - (t_i+ - t_ik-))^2

    `teacher_BC` has the teacher's scores t, the positive's first, on the scale of cosines. A query
    without negatives has loss 0.
    """
    t = _Terms(q_BD, pos_BD, neg_BKD)
    student_BK = t.positive_B1 - t.own_BK
    error_BK = (student_BK - (teacher_BC[:, :1] - teacher_BC[:, 1:])) ** 2
    there_BK = torch.ones_like(error_BK, dtype=torch.bool) if mask_BK is None else mask_BK
    return torch.where(there_BK, error_BK, 0).sum(-1) / there_BK.sum(-1).clamp(min=1)


def kl_distillation(
    q_BD: torch.Tensor,
    pos_BD: torch.Tensor,
    neg_BKD: torch.Tensor,
    *,
    teacher_BC: torch.Tensor,
    temperature: float,
    teacher_temperature: float = 1.0,
    mask_BK: torch.Tensor | None = None,
) -> torch.Tensor:
    """A teacher's distribution over candidates (Hinton et al., arXiv 1503.02531) -> loss_B.

        loss_i = sum_c p_ic log(p_ic / r_ic)
        p_i = softmax_c(t_ic / teacher_temperature)      r_i = softmax_c(s(q_i, d_ic) / temperature)

    Candidates c are the positive, then the negatives; `teacher_BC` has the teacher's scores t.
    """
    t = _Terms(q_BD, pos_BD, neg_BKD, mask_BK=mask_BK)
    student_BC = torch.cat([t.positive_B1, t.own_BK], dim=1) / temperature
    teacher_BC = torch.cat([teacher_BC[:, :1], _kept(teacher_BC[:, 1:], mask_BK)], dim=1)
    log_r_BC = student_BC.log_softmax(-1)
    log_p_BC = (teacher_BC / teacher_temperature).log_softmax(-1)
    # A candidate that is not there has probability 0 on both sides: no infinity less infinity.
    log_ratio_BC = (log_p_BC - log_r_BC).masked_fill(log_p_BC.isneginf(), 0)
    return (log_p_BC.exp() * log_ratio_BC).sum(-1)


def _kept(scores_BX: torch.Tensor, keep_BX: torch.Tensor | None) -> torch.Tensor:
    """Scores whose exponential is 0 where they are not kept."""
    return scores_BX if keep_BX is None else scores_BX.masked_fill(~keep_BX, -torch.inf)


class _Terms:
    """The scores that denominators are made of, -inf where there is no such term."""

    def __init__(
        self,
        q_BD: torch.Tensor,
        pos_BD: torch.Tensor,
        neg_BKD: torch.Tensor,
        *,
        mask_BK: torch.Tensor | None = None,
        query_ids_B: torch.Tensor | None = None,
        doc_ids_BC: torch.Tensor | None = None,
    ) -> None:
        self.q_BD, self.pos_BD, self.neg_BKD = q_BD, pos_BD, neg_BKD
        self.mask_BK, self.query_ids_B, self.doc_ids_BC = mask_BK, query_ids_B, doc_ids_BC

    @property
    def positive_B1(self) -> torch.Tensor:
        return (self.q_BD * self.pos_BD).sum(-1, keepdim=True)

    @property
    def own_BK(self) -> torch.Tensor:
        return _kept(torch.einsum("bd,bkd->bk", self.q_BD, self.neg_BKD), self.mask_BK)

    @property
    def query_positive_BB(self) -> torch.Tensor:
        return _kept(self.q_BD @ self.pos_BD.T, self._others_BB)

    @property
    def query_query_BB(self) -> torch.Tensor:
        return _kept(self.q_BD @ self.q_BD.T, self._others_BB)

    @property
    def positive_positive_BB(self) -> torch.Tensor:
        return _kept(self.pos_BD @ self.pos_BD.T, self._others_BB)

    @property
    def query_negative_BM(self) -> torch.Tensor:
        return _kept(self.q_BD @ self.neg_BKD.flatten(0, 1).T, self._others_negatives_BM)

    @property
    def positive_negative_BM(self) -> torch.Tensor:
        return _kept(self.pos_BD @ self.neg_BKD.flatten(0, 1).T, self._others_negatives_BM)

    @property
    def not_positive_BK(self) -> torch.Tensor | None:
        """Which hard negatives are not the very positive."""
        return None if self.doc_ids_BC is None else self.doc_ids_BC[:, 1:] != self.doc_ids_BC[:, :1]

    @cached_property
    def _others_BB(self) -> torch.Tensor:
        """Which pairs j share neither query nor positive with pair i."""
        others_BB = ~torch.eye(len(self.q_BD), dtype=torch.bool, device=self.q_BD.device)
        if self.query_ids_B is not None:
            others_BB &= self.query_ids_B[:, None] != self.query_ids_B[None, :]
        if self.doc_ids_BC is not None:
            others_BB &= self.doc_ids_BC[:, :1] != self.doc_ids_BC[None, :, 0]
        return others_BB

    @cached_property
    def _others_negatives_BM(self) -> torch.Tensor:
        """Which hard negatives are such a pair's, and not the positive of query i."""
        keep_BM = self._others_BB.repeat_interleave(self.neg_BKD.shape[1], dim=1)
        if self.mask_BK is not None:
            keep_BM = keep_BM & self.mask_BK.reshape(1, -1)
        if self.doc_ids_BC is not None:
            keep_BM = keep_BM & (self.doc_ids_BC[:, :1] != self.doc_ids_BC[:, 1:].reshape(1, -1))
        return keep_BM

    def loss(self, temperature: float, *terms: torch.Tensor) -> torch.Tensor:
        """-log(P_i / Z_i) -> (B,), with the terms of Z_i beside P_i as scores (B, any)."""
        scores_BX = torch.cat([self.positive_B1, *terms], dim=1) / temperature
        return torch.logsumexp(scores_BX, dim=1) - scores_BX[:, 0]
