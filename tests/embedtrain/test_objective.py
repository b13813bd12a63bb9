"""A step's loss, of a real model's vectors, against its formula written out in float64."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
import torch.distributed as dist

from embedtrain.config import LossConfig
from embedtrain.data import Batch, Item
from embedtrain.feed import Step
from embedtrain.model import Embedder
from embedtrain.objective import Objective
from embedtrain.packing import pack
from embedtrain.ranks import join
from tests.tiny_embedders import backbone, texts

SIZE, CANDIDATES, DIMS = 4, 3, (8, 16, 32)  # 32: the whole vector
IDS = texts([9, 7, 12, 4, 11, 3, 8, 14, 6, 10, 5, 13, 21, 2, 16, 19])
SCORES = [[0.9, 0.5, 0.2], [0.8, 0.7, 0.1], [0.95, 0.4, 0.3], [0.6, 0.55, 0.5]]
GRADES = [[1.0, 0.4, 0.0], [0.8, 0.6, 0.2], [0.9, 0.5, 0.1], [0.7, 0.3, 0.25]]
Vectors = list[list[list[float]]]  # of each query: its own, then its candidates'


@pytest.fixture(autouse=True)
def _group() -> Iterator[None]:
    join()
    yield
    dist.destroy_process_group()


def step_of(grades: Sequence[Sequence[float]]) -> Step:
    items = tuple(
        Item(
            id=str(i),
            source=0,
            task="retrieval",
            lang="sw",
            query=f"q{i}",
            documents=tuple(f"d{i}{c}" for c in range(CANDIDATES)),
            scores=tuple(SCORES[i]),
            grades=tuple(grades[i]) if grades else (),
        )
        for i in range(SIZE)
    )
    rows = 1 + CANDIDATES
    token_ids = tuple(tuple(IDS[i * rows : (i + 1) * rows]) for i in range(SIZE))
    return Step(Batch(0, "retrieval", False, items), items, token_ids, 0, {})


def losses_of(config: dict[str, Any], grades: Sequence[Sequence[float]] = ()) -> list[float]:
    objective = Objective(LossConfig.model_validate(config), CANDIDATES - 1, forward_tokens=1000)
    embedder = Embedder(backbone("bert", torch.float64), None)
    losses_B, _ = objective.backward(embedder, step_of(grades), 2, torch.device("cpu"))
    found: list[float] = losses_B.tolist()
    return found


def cut_vectors(dim: int) -> Vectors:
    """The first coordinates of the model's vectors, scaled to length 1."""
    embedder = Embedder(backbone("bert", torch.float64), None)
    with torch.no_grad():
        vectors = embedder(pack(IDS)).tolist()
    cut = [[x / math.hypot(*v[:dim]) for x in v[:dim]] for v in vectors]
    rows = 1 + CANDIDATES
    return [cut[i * rows : (i + 1) * rows] for i in range(SIZE)]


def cosines(row: list[list[float]]) -> list[float]:
    query, *documents = row
    return [math.fsum(x * y for x, y in zip(query, d, strict=True)) for d in documents]


def softmax(values: Sequence[float]) -> list[float]:
    total = math.fsum(map(math.exp, values))
    return [math.exp(value) / total for value in values]


def hard_negatives(found: list[float]) -> float:
    return -math.log(softmax([s / 0.1 for s in found])[0])


def kl(found: list[float], scores: list[float]) -> float:
    p, r = softmax([s / 0.5 for s in scores]), softmax([s / 0.1 for s in found])
    return math.fsum(a * math.log(a / b) for a, b in zip(p, r, strict=True))


def margin_mse(found: list[float], scores: list[float]) -> float:
    errors = [(found[0] - found[k]) - (scores[0] - scores[k]) for k in range(1, CANDIDATES)]
    return math.fsum(e * e for e in errors) / len(errors)


def cosent(vectors: Vectors) -> float:
    pairs = [
        (grade, cosine)
        for row, grades in zip(vectors, GRADES, strict=True)
        for grade, cosine in zip(grades, cosines(row), strict=True)
    ]
    return math.log(
        1 + math.fsum(math.exp((s_b - s_a) / 0.2) for a, s_a in pairs for b, s_b in pairs if a > b)
    )


@pytest.mark.parametrize("distill", ["kl", "margin_mse"])
def test_a_teacher_is_learned_from_in_every_dimension(distill: str) -> None:
    config = {
        "temperature": 0.1,
        "matryoshka": DIMS[:-1],
        "distill": distill,
        "distill_weight": 0.7,
        "teacher_temperature": 0.5,
    }
    taught = {"kl": kl, "margin_mse": margin_mse}[distill]
    wanted = [0.0] * SIZE
    for dim in DIMS:
        for i, row in enumerate(cut_vectors(dim)):
            wanted[i] += hard_negatives(cosines(row)) + 0.7 * taught(cosines(row), SCORES[i])
    # The teacher's scores are kept in float32.
    assert losses_of(config) == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("dims", [DIMS, DIMS[-1:]])
def test_grades_are_learned_in_every_dimension(dims: tuple[int, ...]) -> None:
    config = {"temperature": 0.1, "matryoshka": dims[:-1], "cosent_temperature": 0.2}
    wanted = math.fsum(cosent(cut_vectors(dim)) for dim in dims)
    assert losses_of(config, GRADES) == pytest.approx([wanted] * SIZE, rel=1e-6)
