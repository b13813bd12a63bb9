"""The training loop: what it computes, and that nothing that stops it loses what was done."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from safetensors import SafetensorError
from sentence_transformers import SentenceTransformer

from embedtrain.config import OptimConfig, TrainConfig
from embedtrain.data import Batches, open_sources
from embedtrain.model import Embedder
from embedtrain.packing import pack
from embedtrain.train import learning_rate, train
from sdg.errors import UserError
from tests import tiny_training
from tests.tiny_training import difference, make

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the data and models of this module's trainings are."""
    return tmp_path_factory.mktemp("training")


def run(config: TrainConfig, folder: Path, at: dict[str, Any] | None = None) -> Path | None:
    """Train; `at` has what to do once a line of progress begins with a text."""

    def say(text: str) -> None:
        for start, action in (at or {}).items():
            if text.startswith(start):
                action()

    return train(config, folder, say)


def stop() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture(scope="module")
def undisturbed(place: Path) -> Path:
    """The model of a training that nothing stopped."""
    torch.set_num_threads(1)
    model = run(make(place), place / "undisturbed")
    assert model
    return model


def test_the_learning_rate_goes_up_and_down_in_lines() -> None:
    config = OptimConfig(learning_rate=1.0, warmup_steps=4)
    rates = [learning_rate(config, step, 14) for step in range(14)]
    assert rates[:5] == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])
    assert rates[5:] == pytest.approx([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1])
    assert learning_rate(config, 0, 1) == 1.0  # a single step still learns


def test_it_is_the_plain_loop(place: Path, undisturbed: Path) -> None:
    """Padded batches, one pass, the recipe's formula and AdamW, written out."""
    config = make(place)
    model = Embedder.load(config.model, attention="padded").double().train()
    sources = open_sources(config.data, place / "plain")
    batches = Batches(config.data, sources, config.batch_size, config.seed, in_batch=False)
    matrices = [p for p in model.parameters() if p.ndim == 2]
    vectors = [p for p in model.parameters() if p.ndim == 1]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.01}, {"params": vectors, "weight_decay": 0.0}],
        betas=(0.9, 0.999),
        eps=1e-3,
    )
    for step in range(12):
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * ((step + 1) / 2 if step < 2 else (12 - step) / 10)
        total = torch.tensor(0.0, dtype=torch.float64)
        for item in next(batches).items:
            ids = model.tokenizer([item.query, *item.documents], truncation=True, max_length=64)
            q_D, *docs = model(pack(ids["input_ids"]))
            scores = [(q_D * d_D).sum() / 0.1 for d_D in docs]
            total = total - (scores[0] - torch.logsumexp(torch.stack(scores), 0)) / 4
        optimizer.zero_grad()
        total.backward()
        norm = math.sqrt(sum(float((p.grad**2).sum()) for p in model.parameters()))
        for p in model.parameters():
            p.grad *= min(1.0, 1.0 / (norm + 1e-6))
        optimizer.step()
    plain = {name: p.float() for name, p in model.backbone.state_dict().items()}
    trained = tiny_training.weights(undisturbed)
    before = Embedder.load(config.model).backbone.state_dict()
    for name, weight in trained.items():
        torch.testing.assert_close(weight, plain[name], atol=2e-6, rtol=0, msg=name)
        assert (weight - before[name]).abs().max() > 1e-4, name


def test_a_stopped_training_goes_on_bit_for_bit(place: Path, undisturbed: Path) -> None:
    folder = place / "stopped"
    assert run(make(place), folder, {"step 6/": stop}) is None
    assert (folder / "checkpoints" / "last").read_text() == "step-00000006\n"
    model = run(make(place), folder)
    assert model
    assert difference(model, undisturbed) == 0.0


def test_a_killed_training_goes_on_bit_for_bit(place: Path, undisturbed: Path) -> None:
    config = make(place)
    code = f"""
import os, signal, torch
from pathlib import Path
from embedtrain.config import TrainConfig
from embedtrain.train import train

def say(text):
    if text.startswith("step 10/"):
        os.kill(os.getpid(), signal.SIGKILL)

torch.set_num_threads(1)
train(TrainConfig.model_validate_json({config.model_dump_json()!r}), Path({str(place / "killed")!r}), say)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    said: list[str] = []
    model = train(config, place / "killed", said.append)
    assert model
    assert [text for text in said if text.startswith("goes on from")]
    assert difference(model, undisturbed) == 0.0


def _rank(rank: int, folder: str, config: str) -> None:
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), WORLD_SIZE="2", LOCAL_RANK=str(rank))
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    at = {"step 6/": stop} if rank == 0 else {}
    assert run(TrainConfig.model_validate_json(config), Path(folder) / "run", at) is None
    dist.destroy_process_group()


def test_two_ranks_are_one_and_one_goes_on_for_two(place: Path, tmp_path: Path) -> None:
    config = make(place, loss={"name": "in_batch", "temperature": 0.1})
    torch.multiprocessing.spawn(_rank, (str(tmp_path), config.model_dump_json()), nprocs=2)
    assert (tmp_path / "run/checkpoints/last").read_text() == "step-00000006\n"
    model, alone = run(config, tmp_path / "run"), run(config, tmp_path / "alone")
    assert model
    assert alone
    assert difference(model, alone) < 1e-6
    assert difference(alone, tmp_path / "run" / "model") < 1e-6


def test_a_full_disk_leaves_the_last_checkpoint(place: Path, undisturbed: Path) -> None:
    folder = place / "full"

    def fill_disk() -> None:
        whole = folder / "checkpoints" / "step-00000004" / ".metadata"  # comes last, in one move
        for _ in range(600):  # it is written while the next steps are made
            if whole.exists():
                break
            time.sleep(0.1)
        tiny_training.limit_files(100_000)

    try:
        with pytest.raises(UserError, match=r"(?s)the disk is full.*step-00000004: the same"):
            run(make(place), folder, {"step 6/": fill_disk})
    finally:
        tiny_training.limit_files(-1)
    assert (folder / "checkpoints" / "last").read_text() == "step-00000004\n"
    model = run(make(place), folder)
    assert model
    assert difference(model, undisturbed) == 0.0


def test_a_finished_training_given_again_keeps_its_checkpoint(place: Path, tmp_path: Path) -> None:
    config = make(place)
    assert run(config, tmp_path)
    (last,) = (tmp_path / "checkpoints").glob("step-*8")
    written = {path: path.stat().st_mtime_ns for path in last.iterdir()}
    assert written
    assert run(config, tmp_path)
    assert {path: path.stat().st_mtime_ns for path in last.iterdir()} == written


def test_a_model_is_written_once_and_replaced_whole(place: Path, tmp_path: Path) -> None:
    config = make(place, steps=2)
    model = run(config, tmp_path)
    assert model
    (model / "evaluation").mkdir()
    before = {path: path.stat().st_mtime_ns for path in model.rglob("*")}
    assert run(config, tmp_path) == model
    assert {path: path.stat().st_mtime_ns for path in model.rglob("*")} == before
    (tmp_path / "checkpoints" / "exported").unlink()  # as if it had been killed while exporting
    try:
        with pytest.raises(SafetensorError, match="os error"):
            run(config, tmp_path, {"0 steps": lambda: tiny_training.limit_files(30_000)})
    finally:
        tiny_training.limit_files(-1)
    assert {path: path.stat().st_mtime_ns for path in model.rglob("*")} == before
    assert run(config, tmp_path) == model
    assert not (model / "evaluation").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "checkpoints", "data", "events", "model", "settings.json",
    ]  # fmt: skip


def test_a_signal_while_data_is_laid_out_stops_it(place: Path, tmp_path: Path) -> None:
    def interrupt() -> None:
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell may withhold
    try:
        with pytest.raises(KeyboardInterrupt):
            run(make(place), tmp_path, {"laying out": interrupt})
    finally:
        signal.signal(signal.SIGINT, before)
    assert not (tmp_path / "checkpoints" / "last").exists()
    assert run(make(place, steps=1), tmp_path)


def test_a_gradient_that_is_not_finite_stops_it(place: Path, tmp_path: Path) -> None:
    config = make(place, optim={"learning_rate": 1e30, "warmup_steps": 0}, checkpoint_steps=1)
    with pytest.raises(UserError, match=r"gradient is not finite.*optim.learning_rate") as caught:
        run(config, tmp_path)
    (batch,) = (tmp_path / "stopped").iterdir()
    assert str(batch) in str(caught.value)
    content = json.loads(batch.read_text())
    assert len(content["items"]) == 4
    assert (tmp_path / "checkpoints" / "last").read_text().strip() in str(caught.value)


def test_memory_that_is_too_small_names_the_setting(place: Path, tmp_path: Path) -> None:
    def full() -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB.")

    with pytest.raises(UserError, match=r"lower forward_tokens \(now 400\), or set gradient_check"):
        run(make(place), tmp_path, {"step 2/": full})


def test_what_does_not_go_together_is_refused(
    place: Path, undisturbed: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="was trained with other settings; give .* another RUN"):
        run(make(place, seed=1), undisturbed.parent)
    with pytest.raises(UserError, match="was trained with other settings"):
        run(make(place, "bert"), undisturbed.parent)
    with pytest.raises(UserError, match=r"max_tokens 200: .* reads 128 at most"):
        run(make(place, max_tokens=200), tmp_path)
    with pytest.raises(UserError, match="which model"):
        run(make(place, model=""), tmp_path)
    with pytest.raises(UserError, match="no data"):
        run(make(place, data={}), tmp_path)
    with pytest.raises(ValueError, match="a pass must hold one text"):
        make(place, forward_tokens=20)


def test_a_damaged_checkpoint_is_named(place: Path, tmp_path: Path) -> None:
    assert run(make(place), tmp_path, {"step 6/": stop}) is None
    (tensors,) = (tmp_path / "checkpoints/step-00000006").glob("*.distcp")
    tensors.write_bytes(tensors.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"step-00000006: not a checkpoint of this model, or dam"):
        run(make(place), tmp_path)


def test_the_model_learns_and_says_what_it_is(place: Path, undisturbed: Path) -> None:
    model = SentenceTransformer(str(undisturbed), device="cpu")
    instruction = "Instruct: Given a query, retrieve passages\nQuery: "
    assert model.prompts == {"query": instruction, "document": ""}
    assert model.max_seq_length == 64
    card = (undisturbed / "README.md").read_text(encoding="utf-8")
    assert "| retrieval | ha | 16 |" in card
    assert "CC0-1.0 (48)" in card
    (events,) = (undisturbed.parent / "events").iterdir()
    for tag in (b"loss_by_task/retrieval", b"loss_by_language/ha", b"speed/mfu", b"padding/share"):
        assert tag in events.read_bytes()


@pytest.mark.parametrize(
    "settings",
    [
        {"lora": {"rank": 4}, "loss": {"name": "qwen3", "matryoshka": [8, 16]}},
        {"loss": {"name": "gte", "distill": "kl"}, "precision": "bf16", "save_dtype": "bf16"},
        {"loss": {"distill": "margin_mse"}, "attention": "padded", "gradient_checkpointing": True},
    ],
)
def test_every_option_trains(place: Path, tmp_path: Path, settings: dict[str, Any]) -> None:
    model = run(make(place, steps=4, **settings), tmp_path)
    assert model
    assert (model / "golden.json").exists()
