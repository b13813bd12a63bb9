"""Merging, against each method's formula in float64, on the files of real models."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from embedtrain import merge as merging
from embedtrain.merge import Recipe, merge, slerp, ties
from sdg.errors import UserError
from tests.tiny_training import limit_files

SHAPES = {"embed.weight": (50, 8), "layer.bias": (8,), "scale": ()}
Tensors = dict[str, np.ndarray]


def model(folder: Path, seed: int, vocabulary: str = "a b", **config: Any) -> tuple[Path, Tensors]:
    """A model folder of random weights, and these."""
    random = np.random.default_rng(seed)
    tensors = {
        name: np.asarray(random.normal(size=shape), dtype=np.float32)
        for name, shape in SHAPES.items()
    }
    tensors["position_ids"] = np.arange(8)
    folder.mkdir(parents=True)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps({"hidden_size": 8, **config}))
    (folder / "tokenizer.json").write_text(json.dumps({"model": vocabulary, "padding": seed}))
    (folder / "golden.json").write_text("{}")
    return folder, tensors


@pytest.fixture
def three(tmp_path: Path) -> tuple[list[Path], list[Tensors]]:
    made = [model(tmp_path / f"m{seed}", seed) for seed in range(3)]
    return [folder for folder, _ in made], [tensors for _, tensors in made]


def in_float64(tensors: list[Tensors], name: str) -> list[np.ndarray]:
    return [t[name].astype(np.float64) for t in tensors]


@pytest.mark.parametrize(
    ("weights", "shares"), [((), [1 / 3] * 3), ((1, 2, 5), [1 / 8, 2 / 8, 5 / 8])]
)
def test_average(
    three: Any, tmp_path: Path, weights: tuple[float, ...], shares: list[float]
) -> None:
    folders, tensors = three
    merged = load_file(
        merge(folders, tmp_path / "out", Recipe(weights=weights)) / "model.safetensors"
    )
    for name in SHAPES:
        wanted = sum(s * t for s, t in zip(shares, in_float64(tensors, name), strict=True))
        np.testing.assert_allclose(merged[name], wanted, atol=1e-6)
    np.testing.assert_array_equal(merged["position_ids"], np.arange(8))


def test_task_arithmetic(three: Any, tmp_path: Path) -> None:
    folders, tensors = three
    base, start = model(tmp_path / "base", 9)
    recipe = Recipe("task_arithmetic", weights=(1, 1, 2), scale=0.7)
    merged = load_file(merge(folders, tmp_path / "out", recipe, base) / "model.safetensors")
    for name in SHAPES:
        a, b, c = (t - start[name] for t in in_float64(tensors, name))
        np.testing.assert_allclose(
            merged[name], start[name] + 0.7 * (a / 4 + b / 4 + c / 2), atol=1e-6
        )


def test_ties_by_hand() -> None:
    # Trimmed to the two largest of four: a keeps 4 and -3, b keeps -5 and 2, c keeps 6 and -1.
    a, b, c = [4.0, 1.0, -3.0, 0.5], [-5.0, 0.1, 0.2, 2.0], [6.0, 0.0, -1.0, 0.5]
    merged = ties([torch.tensor(v) for v in (a, b, c)], [1 / 3] * 3, density=0.5)
    # Signs elected: + (4 - 5 + 6), none, - (-3 - 1), + (2).
    assert merged.tolist() == pytest.approx([5.0, 0.0, -2.0, 2.0])


def test_ties_of_equal_models_is_that_model(tmp_path: Path) -> None:
    one, tensors = model(tmp_path / "one", 1)
    same = shutil.copytree(one, tmp_path / "same")
    base, _ = model(tmp_path / "base", 2)
    out = merge([one, same], tmp_path / "out", Recipe("ties", density=1.0), base)
    for name, merged in load_file(out / "model.safetensors").items():
        np.testing.assert_allclose(merged, tensors[name], atol=1e-6)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_slerp_of_a_right_angle(share: float) -> None:
    a, b = torch.tensor([2.0, 0.0]), torch.tensor([0.0, 2.0])
    wanted = [2 * np.cos(share * np.pi / 2), 2 * np.sin(share * np.pi / 2)]
    assert slerp(a, b, share).tolist() == pytest.approx(wanted, abs=1e-6)


def test_slerp_of_parallel_and_of_zero_is_the_straight_line() -> None:
    a = torch.tensor([1.0, 1.0])
    assert slerp(a, 3 * a, 0.5).tolist() == [2.0, 2.0]
    assert slerp(a, 0 * a, 0.25).tolist() == [0.75, 0.75]


def test_rows_in_blocks_and_files_in_parts_change_nothing(
    three: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders, _ = three
    whole = load_file(merge(folders, tmp_path / "whole") / "model.safetensors")
    monkeypatch.setattr(merging, "BLOCK_NUMBERS", 24)  # three rows of the embedding
    monkeypatch.setattr(merging, "MAX_FILE_BYTES", 100)
    parts = merge(folders, tmp_path / "parts")
    index = json.loads((parts / "model.safetensors.index.json").read_text())["weight_map"]
    assert len(set(index.values())) > 1
    assert set(index) == set(whole)
    for name, file in index.items():
        np.testing.assert_array_equal(load_file(parts / file)[name], whole[name])


def test_a_real_bert_merges_and_loads(tmp_path: Path) -> None:
    from transformers import AutoModel, BertConfig, BertModel

    config = BertConfig(
        vocab_size=40, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=32,
    )  # fmt: skip
    states = []
    for seed in range(2):
        torch.manual_seed(seed)
        bert = BertModel(config)
        bert.save_pretrained(tmp_path / f"bert{seed}")
        (tmp_path / f"bert{seed}" / "tokenizer.json").write_text('{"model": "x"}')
        states.append(bert.state_dict())
    merge([tmp_path / "bert0", tmp_path / "bert1"], tmp_path / "out")
    for name, tensor in AutoModel.from_pretrained(tmp_path / "out").state_dict().items():
        torch.testing.assert_close(tensor, (states[0][name] + states[1][name]) / 2)


def test_what_is_not_the_merged_models_is_not_copied(three: Any, tmp_path: Path) -> None:
    out = merge(three[0], tmp_path / "out")
    assert sorted(path.name for path in out.iterdir()) == [
        "config.json", "merge.json", "model.safetensors", "tokenizer.json",
    ]  # fmt: skip
    assert json.loads((out / "merge.json").read_text())["weights"] == pytest.approx([1 / 3] * 3)


def test_other_formats_of_the_weights_are_not_copied(three: Any, tmp_path: Path) -> None:
    first = three[0][0]
    files = {
        "modules.json": '[{"path": ""}, {"path": "1_Pooling"}]',
        "1_Pooling/config.json": '{"pooling_mode": "mean"}',
        "vocab.txt": "a",
        "LICENSE": "Apache-2.0",
        "pytorch_model.bin": "old weights",
        "pytorch_model.bin.index.json": "{}",
        "onnx/model.onnx": "old weights",
        "evaluation/news-sw.json": "{}",
        "code.py": "",
    }
    for folder in three[0]:
        for name, text in files.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(text)
    out = merge(three[0], tmp_path / "out")
    assert {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()} == {
        *("config.json", "modules.json", "1_Pooling/config.json", "tokenizer.json", "vocab.txt"),
        *("LICENSE", "merge.json", "model.safetensors"),
    }
    (first / "1_Pooling/config.json").write_text('{"pooling_mode": "cls"}')
    with pytest.raises(UserError, match="1_Pooling/config.json has pooling_mode cls and mean"):
        merge(three[0], tmp_path / "other")


@pytest.mark.parametrize("weights", ["model.safetensors", "pytorch_model.bin"])
def test_a_module_with_weights_of_its_own_is_refused(
    three: Any, tmp_path: Path, weights: str
) -> None:
    for folder in three[0]:
        (folder / "modules.json").write_text('[{"path": ""}, {"path": "2_Dense"}]')
        (folder / "2_Dense").mkdir()
        (folder / "2_Dense" / "config.json").write_text("{}")
        (folder / "2_Dense" / weights).write_bytes(b"weights")
    with pytest.raises(UserError, match=f"2_Dense: has {weights}, and a module with weights of"):
        merge(three[0], tmp_path / "out")
    (three[0][0] / "modules.json").write_text('[{"path": "../m1"}]')
    with pytest.raises(UserError, match="a path leads out of the folder"):
        merge(three[0], tmp_path / "out")


def test_vocabularies_without_a_tokenizer_file_are_compared(three: Any, tmp_path: Path) -> None:
    (one, two, _), _ = three
    for folder in (one, two):
        (folder / "tokenizer.json").unlink()
    with pytest.raises(UserError, match=f"{re.escape(str(one))}: has no tokenizer"):
        merge([one, two], tmp_path / "out")
    (one / "vocab.txt").write_text("a\nb\n")
    (two / "vocab.txt").write_text("b\na\n")
    with pytest.raises(UserError, match="their tokenizers differ"):
        merge([one, two], tmp_path / "out")
    (two / "vocab.txt").write_text("a\nb\n")
    assert merge([one, two], tmp_path / "out").is_dir()


def test_what_fails_leaves_nothing(three: Any, tmp_path: Path) -> None:
    (three[0][0] / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"m0/config.json: not readable as JSON"):
        merge(three[0], tmp_path / "out")
    (three[0][0] / "config.json").write_text((three[0][1] / "config.json").read_text())
    before = sorted(tmp_path.iterdir())
    try:
        limit_files(1000)  # less than the weights
        with pytest.raises(SafetensorError, match="os error"):
            merge(three[0], tmp_path / "out")
    finally:
        limit_files(-1)
    assert sorted(tmp_path.iterdir()) == before


def test_models_that_do_not_match_are_refused(three: Any, tmp_path: Path) -> None:
    (one, two, _), tensors = three
    other_words, _ = model(tmp_path / "words", 4, vocabulary="b a")
    causal, _ = model(tmp_path / "causal", 5, is_causal=True)
    small = tmp_path / "small"
    shutil.copytree(two, small)
    save_file({**tensors[1], "layer.bias": np.zeros(4, np.float32)}, small / "model.safetensors")
    lacking = tmp_path / "lacking"
    shutil.copytree(two, lacking)
    save_file({"scale": tensors[1]["scale"]}, lacking / "model.safetensors")
    for other, message in (
        (other_words, "tokenizers differ"),
        (causal, "config.json has is_causal None and True"),
        (small, r"layer.bias is \(8,\) and \(4,\)"),
        (lacking, r"tensor embed.weight is in .*m0 alone \(3 differ\)"),
    ):
        with pytest.raises(UserError, match=message):
            merge([one, other], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_cut_file_and_a_missing_folder_are_named(three: Any, tmp_path: Path) -> None:
    one, two, _ = three[0]
    content = (two / "model.safetensors").read_bytes()
    (two / "model.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=f"{re.escape(str(two))}: a weights file is cut"):
        merge([one, two], tmp_path / "out")
    with pytest.raises(UserError, match="no such model folder"):
        merge([one, tmp_path / "none"], tmp_path / "out")


@pytest.mark.parametrize(
    ("recipe", "num", "message"),
    [
        (Recipe(), 1, "two models or more"),
        (Recipe("slerp"), 3, "between two models"),
        (Recipe("ties"), 2, "needs the model that all started from"),
        (Recipe("soup"), 2, "there are: average, slerp"),
        (Recipe(weights=(1,)), 2, "1 weights for 2 models"),
        (Recipe(weights=(-1, 2)), 2, "none may be negative"),
        (Recipe(density=0), 2, "density 0"),
    ],
)
def test_settings_that_do_not_go_together(recipe: Recipe, num: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        recipe.check(num, has_base=False)


def test_a_folder_that_exists_is_not_written_over(three: Any, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match="exists already"):
        merge(three[0], tmp_path / "out")


def test_the_command(three: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [str(folder) for folder in three[0]]
    assert merging.main([str(tmp_path / "out"), *folders]) == 0
    assert "3 models merged by average" in capsys.readouterr().out
    assert merging.main([str(tmp_path / "out"), *folders]) == 2
    assert "exists already" in capsys.readouterr().err
