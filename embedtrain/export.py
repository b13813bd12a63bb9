"""Write a trained embedder as a folder that sentence-transformers and vLLM load, and prove it.

    python -m embedtrain.export FOLDER [--engine vllm]

compares what an engine makes of a folder's golden texts with the vectors that the trained model
itself made of them (`golden.json`). A decoder whose `is_causal` got lost, another pooling, a module
left out: all of them change vectors without a word, and this shows it.
"""

import argparse
import json
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from embedtrain.card import model_card
from embedtrain.model import Embedder
from embedtrain.packing import pack
from sdg.errors import UserError, entry_point

ENGINES = ("sentence-transformers", "vllm")
TOLERANCE = 1e-5  # of a coordinate, computed in fp32
# Names under which sentence-transformers and mteb look for a task's prompt.
PROMPT_NAMES = {
    "retrieval": "query",
    "sts": "STS",
    "classification": "Classification",
    "bitext": "BitextMining",
}
GOLDEN_TEXTS = (
    "Mbegu bora huleta mavuno mengi.",
    "Where does the river Nile begin?",
    "ስንዴ በደጋ ይበቅላል።",
    "القهوة تُزرع في المرتفعات.",
    "बारिश के बाद खेत हरे हो गए।",
    "茶树喜欢温暖湿润的山坡。",
    "ฝนตกหนักเมื่อคืนนี้",
    "Дети идут в школу пешком, потому что автобуса сегодня нет.",
)


@dataclass(frozen=True)
class Card:
    """What an exported model says of itself."""

    base: str  # the model that training began with
    max_tokens: int
    prompts: dict[str, str] = field(default_factory=dict)  # task -> what stands before its texts
    dtype: str = "fp32"  # "fp32" or "bf16"
    settings: dict[str, Any] = field(default_factory=dict)
    sources: list[dict[str, Any]] = field(default_factory=list)  # `about` of the prepared sources

    @property
    def named_prompts(self) -> dict[str, str]:
        """The prompts by the names that sentence-transformers and mteb use."""
        named = {name: self.prompts[t] for t, name in PROMPT_NAMES.items() if t in self.prompts}
        return {**named, "query": named.get("query", ""), "document": ""}

    @classmethod
    def read(cls, folder: Path) -> "Card":
        """That of an exported folder.

        Raises:
            UserError: the folder has none.
        """
        try:
            return cls(**json.loads((folder / "card.json").read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise UserError(f"{folder}/card.json: no card of an export ({error})") from None


def export(embedder: Embedder, folder: Path, card: Card) -> float:
    """Write the folder, which appears whole or not at all, and check it with sentence-transformers.

    The embedder's weights are rounded to the card's dtype.

    Returns:
        The largest difference of a coordinate to the golden vectors.

    Raises:
        UserError: `folder` exists, or sentence-transformers makes other vectors of it.
    """
    if folder.exists():
        raise UserError(f"{folder}: exists already; name another folder or remove it")
    fresh = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(fresh, ignore_errors=True)
    backbone = embedder.plain_backbone()
    for weight in backbone.parameters():  # not buffers: whoever loads it makes his own, in fp32
        weight.data = weight.data.to(torch.bfloat16 if card.dtype == "bf16" else torch.float32)
    backbone.save_pretrained(fresh / "backbone")
    embedder.tokenizer.save_pretrained(fresh / "backbone")
    _write_modules(fresh, embedder, card)
    shutil.rmtree(fresh / "backbone")
    plain = Embedder(backbone.float(), embedder.tokenizer, pooling=embedder.pooling).eval()
    golden = {"max_tokens": card.max_tokens, "vectors": _golden(plain, card)}
    _write_json(fresh / "golden.json", golden)
    _write_json(fresh / "card.json", asdict(card))
    (fresh / "README.md").write_text(
        model_card(
            folder.name,
            base=card.base,
            dimensions=plain.config.hidden_size,
            max_tokens=card.max_tokens,
            prompts=card.named_prompts,
            settings=card.settings,
            sources=card.sources,
        ),
        encoding="utf-8",
    )
    difference = check_golden(fresh)
    fresh.rename(folder)
    return difference


def _write_modules(fresh: Path, embedder: Embedder, card: Card) -> None:
    """What sentence-transformers needs beside the weights, and what vLLM needs besides."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

    mode = {"last": "lasttoken"}.get(embedder.pooling, embedder.pooling)
    modules = [
        Transformer(str(fresh / "backbone"), max_seq_length=card.max_tokens),
        Pooling(embedder.config.hidden_size, mode),
        Normalize(),
    ]
    model = SentenceTransformer(
        modules=modules,
        prompts=card.named_prompts,
        similarity_fn_name="cosine",
        device="cpu",
        trust_remote_code=False,
    )
    model.save_pretrained(str(fresh), create_model_card=False)
    # vLLM reads its length limit here, where sentence-transformers 6.2 doesn't write it.
    path = fresh / "sentence_bert_config.json"
    _write_json(path, {**json.loads(path.read_text("utf-8")), "max_seq_length": card.max_tokens})


@torch.no_grad()
def _golden(plain: Embedder, card: Card) -> list[dict[str, Any]]:
    """Texts, with the prompts they are read with in front, and their vectors."""
    prompt = card.named_prompts["query"]
    texts = list(dict.fromkeys([*GOLDEN_TEXTS, *(prompt + text for text in GOLDEN_TEXTS)]))
    every = dict(zip(texts, plain.tokenizer(texts)["input_ids"], strict=True))
    # vLLM refuses what the others cut.
    whole = {text: ids for text, ids in every.items() if len(ids) < card.max_tokens}
    if not whole:
        raise UserError(f"max_tokens {card.max_tokens}: cuts even the texts of an export's check")
    vectors_ND = plain(pack(list(whole.values())).to(next(plain.parameters()).device)).cpu()
    return [
        {"text": text, "vector": vector}
        for text, vector in zip(whole, vectors_ND.tolist(), strict=True)
    ]


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False) + "\n", encoding="utf-8")


def check_golden(folder: Path, engine: str = "sentence-transformers") -> float:
    """The largest difference of a coordinate between golden vectors and an engine's, in fp32.

    Raises:
        UserError: it is above `TOLERANCE`, or the folder has no golden vectors.
    """
    try:
        golden = json.loads((folder / "golden.json").read_text(encoding="utf-8"))
        texts = [row["text"] for row in golden["vectors"]]
        wanted_ND = np.array([row["vector"] for row in golden["vectors"]])
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{folder}/golden.json: no golden vectors to read ({error})") from None
    found_ND = (_by_vllm if engine == "vllm" else _by_sentence_transformers)(folder, texts)
    if found_ND.shape != wanted_ND.shape:
        raise UserError(f"{folder}: {engine} makes {found_ND.shape}, golden are {wanted_ND.shape}")
    difference = float(np.abs(found_ND - wanted_ND).max())
    if not difference <= TOLERANCE:
        raise UserError(
            f"{folder}: {engine} makes other vectors than the trained model (a coordinate differs "
            f"by {difference:.2g}); is is_causal, the pooling or a module changed?"
        )
    return difference


def _by_sentence_transformers(folder: Path, texts: list[str]) -> np.ndarray:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(
        str(folder),
        device="cpu",
        local_files_only=True,
        trust_remote_code=False,
        model_kwargs={"dtype": torch.float32},
    )
    return np.asarray(model.encode(texts, show_progress_bar=False))


def _by_vllm(folder: Path, texts: list[str]) -> np.ndarray:
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    from vllm import LLM

    model = LLM(
        str(folder),
        runner="pooling",
        dtype="float32",
        enforce_eager=True,
        trust_remote_code=False,
        tensor_parallel_size=1,
    )
    return np.array([out.outputs.embedding for out in model.embed(texts, use_tqdm=False)])


@entry_point
def main(argv: Sequence[str]) -> int:
    """Exit status: 0 the same vectors, 2 others or wrong use."""
    parser = argparse.ArgumentParser(prog="export", description="Check a folder's golden vectors.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--engine", choices=ENGINES, default=ENGINES[0])
    args = parser.parse_args(argv)
    difference = check_golden(args.folder, args.engine)
    print(f"{args.folder}: {args.engine} gives the golden vectors, to {difference:.1e}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
