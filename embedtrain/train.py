"""The training loop: batches -> passes -> gradients -> AdamW, on one process or many.

    train(config, Path("runs/sw-minilm"), print)

leaves in the folder `data/` (sources laid out), `checkpoints/`, `events/` (for TensorBoard) and at
the end `settings.json` and `model/`, which sentence-transformers and vLLM load. Called again on a
folder it goes on from the last whole checkpoint: on a CPU bit for bit as if it had never stopped.
"""

import json
import math
import shutil
import signal
import threading
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

from embedtrain.checkpoint import Checkpoints
from embedtrain.config import OptimConfig, TrainConfig
from embedtrain.data import Batches, common_instructions, open_sources
from embedtrain.export import Card, export
from embedtrain.feed import Step, feed
from embedtrain.model import Embedder, LoraSettings
from embedtrain.objective import Objective
from embedtrain.prepared import Source
from embedtrain.progress import Progress, flops
from embedtrain.ranks import compile_layers, join, largest, spread
from sdg.errors import UserError
from sdg.schema import instructed

Say = Callable[[str], None]


def train(config: TrainConfig, folder: Path, say: Say = print) -> Path | None:
    """Train, or go on with it.

    Args:
        folder: of the run.
        say: told of progress, on rank 0 alone.

    Returns:
        The folder of the finished model; None if a signal asked to stop.

    Raises:
        UserError: settings, data or model are wrong, memory or disk are too small, or the training
            diverged. The last whole checkpoint stays.
    """
    joined = dist.is_initialized()
    device = join()
    if dist.get_rank():
        say = _silent
    try:
        found = _Training(config, folder, device, say).run()
        if not joined:
            dist.destroy_process_group()
        return found
    except torch.OutOfMemoryError as error:
        raise UserError(
            f"the GPU's memory is too small: lower forward_tokens (now {config.forward_tokens}), "
            f"or set gradient_checkpointing=true (now {config.gradient_checkpointing}); the last "
            f"checkpoint stays ({str(error).splitlines()[0]})"
        ) from error


def _silent(text: str) -> None:
    """What ranks other than 0 say."""


class _Stop:
    """SIGTERM and SIGINT, remembered until the step is done; in a thread they stay as they are.

    Only while steps are made: what goes before and after begins anew, and may be broken off.
    """

    def __init__(self) -> None:
        self.asked = False

    def __enter__(self) -> "_Stop":
        self._before = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._ask)
        return self

    def _ask(self, number: int, frame: Any) -> None:
        self.asked = True

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


class _Training:
    """What a run has in memory."""

    def __init__(self, config: TrainConfig, folder: Path, device: torch.device, say: Say) -> None:
        self.config, self.folder, self.device, self.say = config, folder, device, say
        self.rank, self.num_ranks = dist.get_rank(), dist.get_world_size()
        if config.batch_size % self.num_ranks:
            raise UserError(
                f"batch_size {config.batch_size}: not a multiple of the {self.num_ranks} ranks"
            )
        if not config.model:
            raise UserError("which model? Give a folder or a hub id: MODEL=<model>")
        self.sources = self._open_sources()
        in_batch = Objective.is_in_batch(config.loss)
        by_grade = config.loss.graded == "cosent"
        self.batches = Batches(
            config.data, self.sources, config.batch_size, config.seed, in_batch, by_grade
        )
        self.num_steps = config.num_steps(self.batches.num_rows)
        self.embedder = load(config)
        self.model = spread(self.embedder, device, config.precision)
        if config.compile:
            compile_layers(self.model)
        self.optimizer = make_optimizer(self.model, config.optim)
        self.objective = Objective(config.loss, config.data.negatives, config.forward_tokens)
        self.checkpoints = Checkpoints(folder / "checkpoints", config.keep_checkpoints)

    def _open_sources(self) -> list[Source]:
        """Rank 0 lays the data out, then all open it."""
        if self.rank == 0:
            open_sources(self.config.data, self.folder / "data", self.say)
        dist.barrier()
        return open_sources(self.config.data, self.folder / "data")

    def run(self) -> Path | None:
        """The folder of the finished model; None if a signal asked to stop."""
        self._resume()
        first = self.batches.step
        with _Stop() as stop:
            if not self._steps(stop):
                return None
        return self._finished(first)

    def _steps(self, stop: _Stop) -> bool:
        """Make the steps that are left; whether all are made."""
        dtype = torch.bfloat16 if self.config.precision == "bf16" else torch.float32
        progress = Progress(self.folder / "events", self.device, dtype, self.say)
        first = self.batches.step
        self.say(
            f"{self.num_steps - first} steps of {self.config.batch_size} queries, of "
            f"{self.batches.num_rows:,} rows, on {self.num_ranks} × {self.device.type}"
        )
        steps = feed(
            self.batches,
            self.num_steps,
            self.embedder.tokenizer,
            self.config.max_tokens,
            self.rank,
            self.num_ranks,
        )
        state = self.batches.state()
        try:
            for step in steps:
                asked, passes = largest(int(stop.asked), self.objective.needed_passes(step))
                if asked:
                    self._leave(state)
                    return False
                self._step(step, passes, progress)
                state = step.state
                done = step.batch.step + 1
                if done % self.config.checkpoint_steps == 0 and done < self.num_steps:
                    self._save(state)
        finally:
            steps.close()
            progress.close()
        self._save(state)
        self.checkpoints.wait()
        return True

    def _step(self, step: Step, passes: int, progress: Progress) -> None:
        config, number = self.config, step.batch.step
        rate = learning_rate(config.optim, number, self.num_steps)
        losses_B, packs = self.objective.backward(self.model, step, passes, self.device)
        norm = update(self.model, self.optimizer, rate, config.optim.clip)
        if not math.isfinite(norm):
            raise self._diverged(step, losses_B)
        for packed in packs:
            padded = packed.max_len * len(packed.lengths)
            slots = padded if config.attention == "padded" else sum(packed.lengths)
            progress.count(packed.lengths, slots, flops(self.embedder, packed.lengths))
        progress.count_cut(step.num_cut)
        dealt = [
            i for rank in range(self.num_ranks) for i in step.batch.share(rank, self.num_ranks)
        ]
        values = losses_B.tolist()
        progress.count_losses(
            [(i.task, i.lang, value) for i, value in zip(dealt, values, strict=True)]
        )
        done = number + 1
        if self.rank == 0 and (done % config.log_steps == 0 or done == self.num_steps):
            progress.report(done, self.num_steps, self.num_ranks, rate, norm)

    def _diverged(self, step: Step, losses_B: torch.Tensor) -> UserError:
        """Keep the batch that did it aside."""
        self.checkpoints.wait()
        path = self.folder / "stopped" / f"step-{step.batch.step:08d}-rank-{self.rank}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        content = {"losses": [str(x) for x in losses_B.tolist()], **asdict(step.batch)}
        path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
        last = self.checkpoints.last()
        return UserError(
            f"step {step.batch.step}: the gradient is not finite, so training stopped; its batch "
            f"is in {path}, the last good checkpoint {last or 'does not exist yet'}. Lower "
            f"optim.learning_rate, or look at the batch"
        )

    def _identity(self) -> dict[str, Any]:
        """What a checkpoint belongs to."""
        return {
            "settings": self.config.fingerprint(),
            "data": [source.name for source in self.sources],
            "steps": self.num_steps,
        }

    def _save(self, state: dict[str, Any]) -> None:
        kept = {**self._identity(), "state": state}
        self.checkpoints.save(state["step"], self.model, self.optimizer, kept)

    def _resume(self) -> None:
        last = self.checkpoints.last()
        if last is None:
            return
        kept = self.checkpoints.read_state(last)
        for key, value in self._identity().items():
            if kept.get(key) != value:
                raise UserError(
                    f"{last}: was trained with other {key}; give this training another RUN, or "
                    f"remove {self.checkpoints.folder} to begin anew"
                )
        self.checkpoints.load(last, self.model, self.optimizer)
        self.batches.restore(kept["state"])
        self.say(f"goes on from {last}")

    def _leave(self, state: dict[str, Any]) -> None:
        """Keep what is done, and stop."""
        self._save(state)
        self.checkpoints.wait()
        self.say(f"stopped after step {state['step']}; the same command goes on from there")

    def _finished(self, first: int) -> Path:
        """The model's folder, written unless it was when the training was finished before."""
        out = self.folder / "model"
        last = self.checkpoints.last()
        # Of which checkpoint the model is; it goes with the checkpoints.
        exported = self.checkpoints.folder / "exported"
        there = last and out.is_dir() and exported.exists() and exported.read_text() == last.name
        (done,) = largest(int(self.rank == 0 and first == self.num_steps and bool(there)))
        if done:
            self.say(f"finished already: {out}")
            return out
        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        weights = get_model_state_dict(self.model, options=options)
        if self.rank == 0:
            self._export(weights, out)
            exported.write_text(last.name if last else "")
        dist.barrier()
        return out

    def _export(self, weights: dict[str, Any], out: Path) -> None:
        """Write the model beside the one that may be there, then put it in its place."""
        whole = load(self.config)
        whole.load_state_dict(weights)
        fresh = out.parent / ".fresh" / out.name
        shutil.rmtree(fresh.parent, ignore_errors=True)
        fresh.parent.mkdir()
        export(whole, fresh, self._card())
        settings = self.config.model_dump_json(indent=1) + "\n"
        (self.folder / "settings.json").write_text(settings, encoding="utf-8")
        shutil.rmtree(out, ignore_errors=True)
        fresh.rename(out)
        fresh.parent.rmdir()

    def _card(self) -> Card:
        """What the exported model says of itself."""
        config = self.config
        found = common_instructions(config.data, self.sources) if config.data.instruct else {}
        return Card(
            base=config.model,
            prompts={task: instructed(text, "") for task, text in found.items()},
            max_tokens=config.max_tokens,
            dtype=config.save_dtype,
            settings=config.model_dump(mode="json"),
            sources=[source.about for source in self.sources],
        )


def load(config: TrainConfig) -> Embedder:
    """The model to train, its weights in fp32."""
    lora = LoraSettings(**config.lora.model_dump()) if config.lora else None
    embedder = Embedder.load(
        config.model,
        pooling=config.pooling,
        dtype=torch.float32,
        lora=lora,
        attention=config.attention,
        gradient_checkpointing=config.gradient_checkpointing,
    )
    if config.max_tokens > embedder.max_tokens:
        raise UserError(
            f"max_tokens {config.max_tokens}: {config.model} reads {embedder.max_tokens} at most"
        )
    return embedder.train()


def learning_rate(config: OptimConfig, step: int, num_steps: int) -> float:
    """Of a step, from 0: up in a line over the warm-up, then down in a line to 0 after the last."""
    warmup = min(config.warmup_steps, num_steps - 1)
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    return config.learning_rate * (num_steps - step) / (num_steps - warmup)


def update(
    model: torch.nn.Module, optimizer: torch.optim.Optimizer, rate: float, clip: float
) -> float:
    """Change the weights by their gradients, unless these are not finite; returns their norm."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    parameters = [p for p in model.parameters() if p.grad is not None]
    clipped = torch.nn.utils.clip_grad_norm_(parameters, clip)
    norm = float(clipped.full_tensor() if hasattr(clipped, "full_tensor") else clipped)
    if math.isfinite(norm):
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return norm


def make_optimizer(model: torch.nn.Module, config: OptimConfig) -> torch.optim.AdamW:
    """AdamW over the weights that are trained, matrices alone decaying."""
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=config.learning_rate,
        betas=(config.beta1, config.beta2),
        eps=config.eps,
        fused=True,
    )
