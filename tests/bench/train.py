"""Training speed beside sentence-transformers' trainer: real tokens a second, padding not counted.

    make bench BENCH=train [DATA=<corpus>] [ARGS="--batch 32 --steps 20 --repeats 2"]
    make bench BENCH=train [DATA=<corpus>] ARGS="--gpu 8b --batch 64 --compile --steps 6 --repeats 1"

Both train the same model on the same batches in the same order by the same loss (in-batch
negatives; sentence-transformers has none that takes hard negatives alone), with AdamW, clipping,
linear decay, the same number of threads and no dropout, and they take turns. The texts are a
corpus' documents in all its languages: the first sentence of one asks for the rest of it. Ours are
the very steps of `make train`: its feed, objective, optimizer and schedule.

On a CPU it is all-MiniLM-L6-v2 in float32, and that the losses agree, step by step, is checked.
With --gpu it is a Llama of random weights (tests/bench/llama_shapes.py): layers in bfloat16,
weights and what AdamW keeps in float32, layers computed again in the backward pass;
tests/bench/gpu.md has what that gave.
"""

import argparse
import gc
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer
from transformers.utils.logging import disable_progress_bar

from embedtrain.config import LossConfig, OptimConfig
from embedtrain.data import Batch, Item
from embedtrain.feed import feed
from embedtrain.model import Embedder
from embedtrain.objective import Objective
from embedtrain.ranks import compile_layers, join, spread
from embedtrain.train import learning_rate, make_optimizer, update
from sdg.corpora import CorpusConfig, bundled_languages, read_documents
from sdg.text import rng, sentences
from tests.bench import llama_shapes
from tests.minilm_gain import minilm_path

TEMPERATURE, LEARNING_RATE, SEED = 0.05, 2e-5, 0
ONE_PASS = 2**30  # tokens: both sides take a batch as a whole

Pair = tuple[str, str]


@dataclass(frozen=True)
class Setting:
    """What both sides train, and on what."""

    model: str
    batch: int
    max_tokens: int
    device: str  # "cpu" or "cuda"
    warmup: int  # steps before those that are measured
    shape: str = ""  # of the random Llama that takes the model's place on a GPU
    compiled: bool = False

    @property
    def cuda(self) -> bool:
        return self.device == "cuda"

    def in_batches(self, pairs: list[Pair]) -> Iterator[list[Pair]]:
        for start in range(0, len(pairs), self.batch):
            yield pairs[start : start + self.batch]

    def token_ids(self, tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
        found = tokenizer(list(texts), truncation=True, max_length=self.max_tokens)
        ids: list[list[int]] = found["input_ids"]
        return ids


@dataclass(frozen=True)
class Run:
    """What one side did."""

    seconds: float
    cpu_seconds: float  # of all threads: what load beside the measurement leaves alone
    losses: list[float]  # of each step
    peak_gib: float  # of the GPU's memory


class Meter:
    """Measures the steps after the warm-up, tokenizing included."""

    def __init__(self, setting: Setting) -> None:
        self._cuda, self._left = setting.cuda, setting.warmup

    def step_begins(self) -> None:
        if self._left == 0:
            if self._cuda:
                torch.cuda.synchronize()
                torch.cuda.reset_peak_memory_stats()
            self._start, self._cpu_start = time.perf_counter(), time.process_time()
        self._left -= 1

    def run(self, losses: list[float]) -> Run:
        if self._cuda:
            torch.cuda.synchronize()
        return Run(
            seconds=time.perf_counter() - self._start,
            cpu_seconds=time.process_time() - self._cpu_start,
            losses=losses,
            peak_gib=torch.cuda.max_memory_allocated() / 2**30 if self._cuda else 0.0,
        )


def read_pairs(corpus: str, count: int) -> list[Pair]:
    """Pairs in random order, languages mixed."""
    langs = bundled_languages()
    pairs = []
    for document in read_documents(CorpusConfig(path=corpus), [] if corpus else langs):
        parts = sentences(document.text, document.lang or "en")
        if not document.error and len(parts) > 1:
            pairs.append((parts[0], " ".join(parts[1:])))
    random = rng(SEED, "bench", "train")
    random.shuffle(pairs)
    while pairs and len(pairs) < count:  # a small corpus goes round
        pairs += pairs
    return pairs[:count]


class InOrder:
    """The pairs' batches as they stand, in the way that `feed` takes a training's."""

    def __init__(self, setting: Setting, pairs: list[Pair]) -> None:
        self.content, self.step = list(setting.in_batches(pairs)), 0

    def __next__(self) -> Batch:
        items = [
            Item(str(place), 0, "retrieval", "", query, (positive,), (), ())
            for place, (query, positive) in enumerate(self.content[self.step])
        ]
        self.step += 1
        return Batch(self.step - 1, "retrieval", in_batch=True, items=tuple(items))

    def state(self) -> dict[str, Any]:
        return {}


def ours(setting: Setting, pairs: list[Pair]) -> Run:
    if setting.shape:
        tokenizer = AutoTokenizer.from_pretrained(setting.model, local_files_only=True)
        llama = llama_shapes.backbone(setting.shape)
        embedder = Embedder(llama, tokenizer, gradient_checkpointing=True).train()
        spread(embedder, join(), "bf16")
        if setting.compiled:
            compile_layers(embedder)
    else:
        embedder = Embedder.load(setting.model).train()
    optim = OptimConfig(learning_rate=LEARNING_RATE, weight_decay=0.0, warmup_steps=0)
    optimizer = make_optimizer(embedder, optim)
    loss = LossConfig(name="in_batch", temperature=TEMPERATURE)
    objective = Objective(loss, num_negatives=0, forward_tokens=ONE_PASS)
    batches: Any = InOrder(setting, pairs)
    num_steps = len(batches.content)
    steps = feed(batches, num_steps, embedder.tokenizer, setting.max_tokens, 0, 1)
    losses = []
    meter = Meter(setting)
    for number in range(num_steps):
        meter.step_begins()
        step, rate = next(steps), learning_rate(optim, number, num_steps)
        losses_B, _ = objective.backward(embedder, step, 1, torch.device(setting.device))
        update(embedder, optimizer, rate, optim.clip)
        losses.append(losses_B.mean().item())
    return meter.run(losses)


def theirs(setting: Setting, pairs: list[Pair]) -> Run:
    from datasets import Dataset
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.base.sampler import DefaultBatchSampler
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
    from torch.utils.data import SequentialSampler
    from transformers import PrinterCallback, TrainerCallback

    meter = Meter(setting)

    class Metered(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            meter.step_begins()

    def in_order(dataset: Any, **settings: Any) -> DefaultBatchSampler:
        kept = ("batch_size", "drop_last")
        return DefaultBatchSampler(
            SequentialSampler(dataset), **{name: settings[name] for name in kept}
        )

    embedder = SentenceTransformer(
        setting.model,
        device=setting.device,
        model_kwargs={"dtype": torch.float32},
        config_kwargs={"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
    )
    if setting.shape:
        embedder[0].model = llama_shapes.backbone(setting.shape)
    embedder.max_seq_length = setting.max_tokens
    queries, positives = zip(*pairs, strict=True)
    with tempfile.TemporaryDirectory() as folder:
        arguments = SentenceTransformerTrainingArguments(
            output_dir=folder,
            num_train_epochs=1,
            per_device_train_batch_size=setting.batch,
            learning_rate=LEARNING_RATE,
            weight_decay=0.0,
            max_grad_norm=1.0,
            use_cpu=not setting.cuda,
            bf16=setting.cuda,
            gradient_checkpointing=setting.cuda,
            batch_sampler=in_order,
            logging_steps=1,
            logging_first_step=True,
            report_to=[],
            save_strategy="no",
            disable_tqdm=True,
        )
        trainer = SentenceTransformerTrainer(
            model=embedder,
            args=arguments,
            train_dataset=Dataset.from_dict({"query": queries, "positive": positives}),
            loss=MultipleNegativesRankingLoss(embedder, scale=1 / TEMPERATURE),
            callbacks=[Metered()],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.remove_callback(
            trainer.model_card_callback_class
        )  # its sample texts are no training
        trainer.train()
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    return meter.run(losses)


def lengths(setting: Setting, pairs: list[Pair]) -> tuple[list[int], int]:
    """Tokens of each text, and how many all batches have when each column is padded."""
    tokenizer = AutoTokenizer.from_pretrained(setting.model, local_files_only=True)
    real: list[int] = []
    padded = 0
    for batch in setting.in_batches(pairs):
        for column in zip(*batch, strict=True):
            found = [len(ids) for ids in setting.token_ids(tokenizer, column)]
            real += found
            padded += len(found) * max(found)
    return real, padded


def compare(setting: Setting, pairs: list[Pair], repeats: int) -> dict[str, list[Run]]:
    """Runs of both sides, by turns; none where a side does not fit into memory."""
    sides = {"embedtrain": ours, "sentence-transformers": theirs}
    runs: dict[str, list[Run]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, side in sides.items():
            try:
                runs[name].append(side(setting, pairs))
            except torch.OutOfMemoryError:
                print(f"{name}: does not fit into the GPU's memory")
            gc.collect()
            torch.cuda.empty_cache()
    for pair in zip(*runs.values(), strict=False):
        largest = max(abs(a - b) for a, b in zip(*(run.losses for run in pair), strict=True))
        print(f"largest difference of a step's loss: {largest:.1e}")
        if largest > 1e-2 and not setting.cuda:
            raise SystemExit("the two did not do the same work")
    return runs


def report(runs: dict[str, list[Run]], tokens: int, flops: float, ceiling: float) -> None:
    """Print speeds, on a GPU also MFU and memory, and the ratio of the medians."""
    speeds = {}
    for name, found in runs.items():
        if not found:
            continue
        seconds = statistics.median(run.seconds for run in found)
        speeds[name] = tokens / seconds
        times = ", ".join(f"{run.seconds:.1f} s ({run.cpu_seconds:.1f} CPU s)" for run in found)
        print(f"{name}: {speeds[name]:.0f} real tokens/s; {times}", end="")
        if ceiling:
            share, peak = flops / seconds / ceiling, max(run.peak_gib for run in found)
            print(f"; MFU {share:.1%} of {ceiling / 1e12:.0f} TFLOP/s, {peak:.1f} GiB", end="")
        print()
    our_speed, *rest = speeds.values()
    print(f"ratio={our_speed / rest[0]:.2f}" if rest else "ratio=nan")


def main() -> None:
    disable_progress_bar()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="", help="a corpus; default: those that come with Mbegu")
    parser.add_argument("--batch", type=int, default=32, help="pairs a step")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--warmup", type=int, default=2, help="steps before those measured")
    parser.add_argument("--gpu", choices=llama_shapes.SHAPES, help="a Llama shape, on a GPU")
    parser.add_argument("--compile", action="store_true", help="our layers, on a GPU")
    options = parser.parse_args()
    if options.gpu and not torch.cuda.is_available():
        parser.error("--gpu: there is no GPU here")
    pairs = read_pairs(options.data, options.batch * (options.warmup + options.steps))
    with tempfile.TemporaryDirectory() as folder:
        if options.gpu:
            llama_shapes.build(options.gpu, Path(folder))
        setting = Setting(
            model=folder if options.gpu else str(minilm_path()),
            batch=options.batch,
            max_tokens=512 if options.gpu else 256,
            device="cuda" if options.gpu else "cpu",
            warmup=options.warmup,
            shape=options.gpu or "",
            compiled=options.compile,
        )
        measured = pairs[options.batch * options.warmup :]
        texts, padded = lengths(setting, measured)
        packages = ("torch", "transformers", "sentence-transformers")
        on = torch.cuda.get_device_name() if options.gpu else f"{torch.get_num_threads()} threads"
        print(f"{len(measured)} pairs, {sum(texts)} tokens, {1 - sum(texts) / padded:.0%} padding")
        print(f"{on}, {', '.join(f'{name} {version(name)}' for name in packages)}")
        runs = compare(setting, pairs, options.repeats)
        ceiling = llama_shapes.ceiling() if options.gpu else 0.0
        flops = llama_shapes.model_flops(options.gpu, texts) if options.gpu else 0.0
        report(runs, sum(texts), flops, ceiling)


if __name__ == "__main__":
    main()
