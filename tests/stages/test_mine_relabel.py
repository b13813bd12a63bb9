"""mine: a real cross-encoder, of random weights, judges candidates; its verdicts are recomputed."""

from pathlib import Path

import numpy as np
import pytest

from sdg.errors import UserError
from sdg.schema import Example, Pair, Seed
from sdg.stages import MineStage
from sdg.teachers import Relabel
from tests.rows import bundled_seeds, kept_rows, make_pair, run_stage, sharded
from tests.tiny_model import build_tokenizer


def build_judge(folder: Path, num_labels: int = 1) -> Path:
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    tokenizer = build_tokenizer(None)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=512,
        num_labels=num_labels,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=1.0,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer.model_max_length = 512
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_judge(tmp_path_factory.mktemp("judge"))


def logits(folder: Path, queries: list[str], passages: list[str]) -> np.ndarray:
    """By transformers alone, a pair at a time."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    found = []
    for query, passage in zip(queries, passages, strict=True):
        tokens = tokenizer(query, passage, truncation=True, max_length=512, return_tensors="pt")
        with torch.no_grad():
            found.append(model(**tokens).logits.item())
    return np.array(found)


def mined(seeds: list[Seed], pairs: list[Pair], **stage: object) -> list[Example]:
    settings = MineStage.model_validate(stage)
    results = run_stage(settings, sharded(pairs, Pair), earlier={"seed": sharded(seeds, Seed)})
    return kept_rows(results, Example)


def test_what_the_judge_says_answers_becomes_a_positive(judge: Path) -> None:
    seeds = [
        *bundled_seeds("sw")[:14],
        *(
            s.model_copy(update={"lang": "en", "source": "other"})
            for s in bundled_seeds("sw")[14:22]
        ),
    ]
    lang_of = {seed.text: seed.lang for seed in seeds}
    pairs = [make_pair(seed.title, seed.text) for seed in seeds[:8]]
    pairs[7] = pairs[7].model_copy(update={"positive_grade": 1.0})
    plain = mined(seeds, pairs, num_negatives=12)
    top = 6
    candidates = [(e.query, text) for e in plain for text in e.negatives[:top]]
    scores = 1 / (1 + np.exp(-logits(judge, *map(list, zip(*candidates, strict=True)))))
    threshold = float(np.quantile(scores, 0.6))
    threshold += float(np.min(scores[scores > threshold]) - threshold) / 2
    answers = {c: s > threshold for c, s in zip(candidates, scores, strict=True)}
    relabel = {"model": str(judge), "threshold": threshold, "top": top}
    found = mined(seeds, pairs, num_negatives=5, relabel=relabel)
    num_moved = 0
    for before, after in zip(plain, found, strict=True):
        true = [text for text in before.negatives[:top] if answers[before.query, text]]
        same = [text for text in true if lang_of[text] == "sw"]
        moved = [] if before.positive_grades else same
        num_moved += len(moved)
        assert after.positives == [before.positives[0], *moved]
        assert len(after.positive_scores) == len(after.positives)
        assert after.negatives == [text for text in before.negatives if text not in true][:5]
        score_of = dict(zip(before.negatives, before.negative_scores, strict=True))
        assert after.positive_scores[1:] == pytest.approx([score_of[text] for text in moved])
    assert num_moved > 5
    assert any(text for text, answer in answers.items() if answer and lang_of[text[1]] == "en")


def test_a_judge_that_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"stages.mine.relabel: /nowhere: no such folder"):
        Relabel(model="/nowhere").check()
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="cannot be loaded"):
        Relabel(model=str(tmp_path / "empty")).open()
    with pytest.raises(UserError, match="gives 3 labels"):
        Relabel(model=str(build_judge(tmp_path / "three", 3))).open()
