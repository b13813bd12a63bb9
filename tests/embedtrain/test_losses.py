"""Losses and their gradients against sums written from the formulas, and against a peer's."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn.functional import normalize

from embedtrain.losses import LOSSES, cosent, kl_distillation, margin_mse, matryoshka

SIZE, NEGATIVES, DIMS, TEMPERATURE = 5, 3, 6, 0.1
Vector = list[float]


class Plain:
    """A batch as lists of numbers, and the sums of a denominator, term by term."""

    def __init__(self, q: Any, pos: Any, neg: Any, mask: Any, query_ids: Any, doc_ids: Any) -> None:
        self.q, self.pos, self.neg, self.mask = q, pos, neg, mask
        self.query_ids, self.doc_ids = query_ids, doc_ids
        self.temperature = TEMPERATURE

    def E(self, a: Vector, b: Vector) -> float:
        return math.exp(math.fsum(x * y for x, y in zip(a, b, strict=True)) / self.temperature)

    def others(self, i: int) -> list[int]:
        """Queries j != i that are not the same pair in other words."""
        return [
            j
            for j in range(len(self.q))
            if j != i
            and self.query_ids[j] != self.query_ids[i]
            and self.doc_ids[j][0] != self.doc_ids[i][0]
        ]

    def own(self, i: int) -> float:
        return sum(self.E(self.q[i], self.neg[i][k]) for k in range(NEGATIVES) if self.mask[i][k])

    def negatives_of_others(self, i: int, vector: Vector) -> float:
        return sum(
            self.E(vector, self.neg[j][k])
            for j in self.others(i)
            for k in range(NEGATIVES)
            if self.mask[j][k] and self.doc_ids[j][1 + k] != self.doc_ids[i][0]
        )

    def towers(self, i: int, a: list[Vector], b: list[Vector]) -> float:
        return sum(self.E(a[i], b[j]) for j in self.others(i))


def z_hard(p: Plain, i: int) -> float:
    return p.E(p.q[i], p.pos[i]) + p.own(i)


def z_in_batch(p: Plain, i: int) -> float:
    return z_hard(p, i) + p.towers(i, p.q, p.pos) + p.negatives_of_others(i, p.q[i])


def z_same_tower(p: Plain, i: int) -> float:
    return z_in_batch(p, i) + p.towers(i, p.q, p.q) + p.towers(i, p.pos, p.pos)


def z_gecko(p: Plain, i: int) -> float:
    return p.E(p.q[i], p.pos[i]) + p.towers(i, p.q, p.pos) + p.towers(i, p.q, p.q) + p.own(i)


def z_gemini(p: Plain, i: int) -> float:
    return p.E(p.q[i], p.pos[i]) + p.own(i) + p.towers(i, p.q, p.pos)


def z_qwen3(p: Plain, i: int) -> float:
    limit = p.E(p.q[i], p.pos[i]) * math.exp(0.1 / p.temperature)
    terms = [
        p.E(p.q[i], p.neg[i][k])
        for k in range(NEGATIVES)
        if p.mask[i][k] and p.doc_ids[i][1 + k] != p.doc_ids[i][0]
    ]
    for j in p.others(i):
        terms += [p.E(p.q[i], p.q[j]), p.E(p.pos[i], p.pos[j]), p.E(p.q[i], p.pos[j])]
    return p.E(p.q[i], p.pos[i]) + sum(term for term in terms if term <= limit)


def z_gte(p: Plain, i: int) -> float:
    return (
        (z_in_batch(p, i) + p.towers(i, p.q, p.q))  # q_i with documents and queries
        + sum(p.E(p.q[j], p.pos[i]) for j in [i, *p.others(i)])
        + (p.towers(i, p.pos, p.pos) + p.negatives_of_others(i, p.pos[i]))
    )


Z: dict[str, Callable[[Plain, int], float]] = {
    "hard_negatives": z_hard,
    "in_batch": z_in_batch,
    "same_tower": z_same_tower,
    "gecko": z_gecko,
    "gemini": z_gemini,
    "qwen3": z_qwen3,
    "gte": z_gte,
}


def plain_loss(name: str, p: Plain) -> list[float]:
    return [-math.log(p.E(p.q[i], p.pos[i]) / Z[name](p, i)) for i in range(len(p.q))]


def unit(*shape: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return normalize(torch.randn(*shape, generator=generator, dtype=torch.float64), dim=-1)


def vectors() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Queries, positives near them, negatives; some scores are above Qwen3's limit."""
    q_BD = unit(SIZE, DIMS, seed=0)
    pos_BD = normalize(q_BD + 1.5 * unit(SIZE, DIMS, seed=1), dim=-1)
    neg_BKD = normalize(q_BD[:, None] + 1.5 * unit(SIZE, NEGATIVES, DIMS, seed=2), dim=-1)
    return q_BD, pos_BD, neg_BKD


KNOWN: dict[str, dict[str, torch.Tensor]] = {
    "nothing known": {},
    "unlike numbers of negatives": {
        "mask_BK": torch.tensor([[1, 1, 1], [1, 0, 0], [0, 0, 0], [0, 1, 1], [1, 1, 0]]).bool()
    },
    "duplicates": {
        "query_ids_B": torch.tensor([0, 1, 0, 3, 4]),  # queries 0 and 2 are the same
        # Positives 1 and 4 are; positive 3 is a negative of 0, and one of its own query's.
        "doc_ids_BC": torch.tensor(
            [[0, 30, 5, 6], [1, 7, 8, 9], [2, 10, 11, 12], [30, 13, 30, 14], [1, 15, 16, 17]]
        ),
    },
}


def plain(tensors: tuple[torch.Tensor, ...], known: dict[str, torch.Tensor]) -> Plain:
    numbers = torch.arange(SIZE * (1 + NEGATIVES)).reshape(SIZE, -1)
    return Plain(
        *(tensor.tolist() for tensor in tensors),
        known.get("mask_BK", torch.ones(SIZE, NEGATIVES).bool()).tolist(),
        known.get("query_ids_B", torch.arange(SIZE)).tolist(),
        known.get("doc_ids_BC", numbers).tolist(),
    )


def differences(function: Callable[[], float], tensors: tuple[torch.Tensor, ...]) -> list[Any]:
    """The gradient of a sum by its differences, coordinate by coordinate."""
    step, gradients = 1e-5, []
    for tensor in tensors:
        gradient, flat = torch.zeros(tensor.numel(), dtype=torch.float64), tensor.view(-1)
        for n in range(len(flat)):
            kept = float(flat[n])
            ends = []
            for end in (kept + step, kept - step):
                flat[n] = end
                ends.append(function())
            flat[n] = kept
            gradient[n] = (ends[0] - ends[1]) / (2 * step)
        gradients.append(gradient.view_as(tensor))
    return gradients


@pytest.mark.parametrize("known", KNOWN.values(), ids=KNOWN)
@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_and_its_gradient_are_the_formulas(name: str, known: dict[str, Any]) -> None:
    tensors = tuple(tensor.requires_grad_() for tensor in vectors())
    loss_B = LOSSES[name](*tensors, temperature=TEMPERATURE, **known)
    loss_B.sum().backward()
    values = tuple(tensor.detach().clone() for tensor in tensors)
    expected = plain_loss(name, plain(values, known))
    torch.testing.assert_close(loss_B.tolist(), expected, atol=1e-12, rtol=1e-12)
    by_differences = differences(lambda: sum(plain_loss(name, plain(values, known))), values)
    for tensor, gradient in zip(tensors, by_differences, strict=True):
        torch.testing.assert_close(tensor.grad, gradient, atol=1e-7, rtol=1e-7)


def test_the_batch_has_what_tells_losses_apart() -> None:
    values = {}
    for given, known in KNOWN.items():
        for name in LOSSES:
            values[name, given] = tuple(plain_loss(name, plain(vectors(), known)))
    assert len({values[name, "nothing known"] for name in LOSSES}) == len(LOSSES)
    for name in set(LOSSES) - {"hard_negatives"}:
        assert len({values[name, given] for given in KNOWN}) == len(KNOWN), name
    p = plain(vectors(), {})
    limits = [p.E(p.q[i], p.pos[i]) * math.exp(1) for i in range(SIZE)]
    masked = [p.E(p.q[i], p.pos[j]) > limits[i] for i in range(SIZE) for j in range(SIZE)]
    assert any(masked)


@pytest.mark.parametrize("name", LOSSES)
def test_small_temperatures_and_single_precision(name: str) -> None:
    q_BD, pos_BD, neg_BKD = (tensor.float() for tensor in vectors())
    tensors = (q_BD.requires_grad_(), -q_BD.detach(), q_BD.detach()[:, None].clone())
    loss_B = LOSSES[name](*tensors, temperature=0.001)
    assert loss_B.isfinite().all()
    loss_B.sum().backward()
    assert q_BD.grad is not None
    assert q_BD.grad.isfinite().all()
    assert LOSSES[name](q_BD, pos_BD, neg_BKD[:, :0], temperature=0.02).isfinite().all()


def test_matryoshka_is_the_sum_over_cut_vectors() -> None:
    tensors = vectors()
    found_B = matryoshka(LOSSES["qwen3"], [2, 4, 6])(*tensors, temperature=TEMPERATURE)
    expected_B = [0.0] * SIZE
    for dim in (2, 4, 6):
        cut = tuple(x[..., :dim] / x[..., :dim].norm(dim=-1, keepdim=True) for x in tensors)
        parts = plain_loss("qwen3", plain(cut, {}))
        expected_B = [a + b for a, b in zip(expected_B, parts, strict=True)]
    torch.testing.assert_close(found_B.tolist(), expected_B, atol=1e-12, rtol=1e-12)
    masked = matryoshka(LOSSES["in_batch"], [6])(*tensors, temperature=1.0, **KNOWN["duplicates"])
    whole = LOSSES["in_batch"](*tensors, temperature=1.0, **KNOWN["duplicates"])
    torch.testing.assert_close(masked, whole)
    with pytest.raises(ValueError, match="have 6"):
        matryoshka(LOSSES["in_batch"], [8])(*tensors, temperature=1.0)
    with pytest.raises(ValueError, match="above 0"):
        matryoshka(LOSSES["in_batch"], [])


def plain_cosent(first: Any, second: Any, scores: list[float]) -> float:
    cosines = [
        sum(x * y for x, y in zip(a, b, strict=True)) for a, b in zip(first, second, strict=True)
    ]
    total = 1.0
    for a, score_a in zip(cosines, scores, strict=True):
        for b, score_b in zip(cosines, scores, strict=True):
            if score_a > score_b:
                total += math.exp((b - a) / TEMPERATURE)
    return math.log(total)


def test_cosent_is_the_formula() -> None:
    tensors = (unit(7, DIMS, seed=3).requires_grad_(), unit(7, DIMS, seed=4).requires_grad_())
    scores = [0.1, 0.9, 0.9, 0.3, 0.0, 1.0, 0.1]
    loss = cosent(*tensors, torch.tensor(scores), temperature=TEMPERATURE)
    loss.backward()
    values = tuple(tensor.detach().clone() for tensor in tensors)

    def expected() -> float:
        return plain_cosent(values[0].tolist(), values[1].tolist(), scores)

    assert loss.item() == pytest.approx(expected(), abs=1e-12)
    for tensor, gradient in zip(tensors, differences(expected, values), strict=True):
        torch.testing.assert_close(tensor.grad, gradient, atol=1e-7, rtol=1e-7)
    assert cosent(*values, torch.ones(7), temperature=TEMPERATURE).item() == 0


def teacher() -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.rand(SIZE, 1 + NEGATIVES, generator=generator, dtype=torch.float64) * 2 - 0.5


def plain_margin_mse(p: Plain) -> list[float]:
    losses = []
    for i, (t_pos, *t_neg) in enumerate(teacher().tolist()):
        cosine = [p.temperature * math.log(p.E(p.q[i], d)) for d in [p.pos[i], *p.neg[i]]]
        there = [k for k in range(NEGATIVES) if p.mask[i][k]]
        errors = [((cosine[0] - cosine[1 + k]) - (t_pos - t_neg[k])) ** 2 for k in there]
        losses.append(sum(errors) / len(errors) if errors else 0.0)
    return losses


def plain_kl(p: Plain) -> list[float]:
    losses = []
    for i, scores in enumerate(teacher().tolist()):
        there = [0, *(1 + k for k in range(NEGATIVES) if p.mask[i][k])]
        documents = [p.pos[i], *p.neg[i]]
        student = {c: p.E(p.q[i], documents[c]) for c in there}
        wanted = {c: math.exp(scores[c] / 0.5) for c in there}
        r = {c: value / sum(student.values()) for c, value in student.items()}
        w = {c: value / sum(wanted.values()) for c, value in wanted.items()}
        losses.append(sum(w[c] * math.log(w[c] / r[c]) for c in there))
    return losses


@pytest.mark.parametrize("given", ["nothing known", "unlike numbers of negatives"])
@pytest.mark.parametrize("kind", ["margin_mse", "kl"])
def test_distillation_is_the_formula(kind: str, given: str) -> None:
    tensors = tuple(tensor.requires_grad_() for tensor in vectors())
    mask_BK = KNOWN[given].get("mask_BK")
    if kind == "kl":
        loss_B = kl_distillation(
            *tensors,
            teacher_BC=teacher(),
            temperature=TEMPERATURE,
            teacher_temperature=0.5,
            mask_BK=mask_BK,
        )
    else:
        loss_B = margin_mse(*tensors, teacher_BC=teacher(), mask_BK=mask_BK)
    loss_B.sum().backward()
    values = tuple(tensor.detach().clone() for tensor in tensors)
    reference = plain_kl if kind == "kl" else plain_margin_mse
    torch.testing.assert_close(
        loss_B.tolist(), reference(plain(values, KNOWN[given])), atol=1e-12, rtol=1e-12
    )
    by_differences = differences(lambda: sum(reference(plain(values, KNOWN[given]))), values)
    for tensor, gradient in zip(tensors, by_differences, strict=True):
        torch.testing.assert_close(tensor.grad, gradient, atol=1e-7, rtol=1e-7)


def test_losses_that_sentence_transformers_has_agree() -> None:
    from sentence_transformers.sentence_transformer import losses as theirs

    q_BD, pos_BD, neg_BKD = vectors()
    columns = [q_BD, pos_BD, *neg_BKD.unbind(1)]
    every = ("query_to_doc", "query_to_query", "doc_to_query", "doc_to_doc")
    for name, directions in (("in_batch", every[:1]), ("gte", every)):
        peer = theirs.MultipleNegativesRankingLoss(None, scale=50.0, directions=directions)
        expected = peer.compute_loss_from_embeddings(columns, torch.empty(0))
        found = LOSSES[name](q_BD, pos_BD, neg_BKD, temperature=0.02).mean()
        torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-12)
    scores_P = torch.tensor([0.1, 0.5, 0.3, 1.0, 0.3], dtype=torch.float64)
    expected = theirs.CoSENTLoss(None, scale=20.0).compute_loss_from_embeddings(
        [q_BD, pos_BD], scores_P
    )
    found = cosent(q_BD, pos_BD, scores_P, temperature=0.05)
    torch.testing.assert_close(found, expected, atol=1e-9, rtol=1e-9)
