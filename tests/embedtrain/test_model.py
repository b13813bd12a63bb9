"""Vectors of packed texts: as those of each text alone, in every model family."""

import json
from pathlib import Path
from typing import Any, get_args

import pytest
import torch

from embedtrain.model import Embedder, LoraSettings, Pooling
from embedtrain.packing import pack
from sdg.errors import UserError
from tests import tiny_embedders
from tests.tiny_embedders import FAMILIES, MAX_TOKENS, texts

LENGTHS = [7, 30, 1, 7, 19, 2, 30, 7, MAX_TOKENS]
TOLERANCE = {"atol": 1e-5, "rtol": 0.0}


def embedder(family: str = "llama", **settings: Any) -> Embedder:
    return Embedder(tiny_embedders.backbone(family), None, **settings)


def pooled_by_hand(hidden_LD: torch.Tensor, pooling: Pooling) -> torch.Tensor:
    vector_D = {"mean": sum(hidden_LD) / len(hidden_LD), "last": hidden_LD[-1], "cls": hidden_LD[0]}
    return vector_D[pooling] / vector_D[pooling].square().sum().sqrt()


@pytest.mark.parametrize("pooling", get_args(Pooling))
@pytest.mark.parametrize("family", FAMILIES)
def test_packed_is_padded_is_alone(family: str, pooling: Pooling) -> None:
    batch = texts(LENGTHS)
    packed_ND = embedder(family, pooling=pooling)(pack(batch))
    padded_ND = embedder(family, pooling=pooling, attention="padded")(pack(batch))
    # The stock model, which is given each text by itself, without position ids or mask.
    stock = tiny_embedders.backbone(family).eval()
    stock.config.is_causal = False
    stock.set_attn_implementation("eager")
    alone = [stock(torch.tensor([text])).last_hidden_state[0] for text in batch]
    alone_ND = torch.stack([pooled_by_hand(hidden_LD, pooling) for hidden_LD in alone])
    assert packed_ND.dtype == torch.float32
    torch.testing.assert_close(packed_ND, alone_ND, **TOLERANCE)
    torch.testing.assert_close(padded_ND, alone_ND, **TOLERANCE)


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_of_packed_are_those_of_padded(family: str) -> None:
    weights_ND = torch.randn(len(LENGTHS), 32, generator=torch.Generator().manual_seed(1)).double()
    found = []
    for attention in ("packed", "padded"):
        model = Embedder(tiny_embedders.backbone(family, torch.float64), None, attention=attention)
        (model.train()(pack(texts(LENGTHS))) * weights_ND).sum().backward()
        found.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    packed, padded = found
    assert packed.keys() == padded.keys()
    assert len(packed) > 10
    for name, gradient in packed.items():
        torch.testing.assert_close(gradient, padded[name], atol=1e-10, rtol=1e-10, msg=name)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_vector_depends_on_its_own_text_alone(family: str) -> None:
    model = embedder(family)
    batch = texts(LENGTHS)
    others = texts([n + 3 for n in LENGTHS[:-1]] + [5], seed=9)
    before_D = model(pack(batch))[3]
    after_D = model(pack([*others, batch[3], batch[3]]))[-1]
    torch.testing.assert_close(before_D, after_D, **TOLERANCE)
    # And it does depend on every token of its text, in both directions.
    hidden_TD = model._packed(pack([batch[1]]))
    for position in (0, 4):
        changed = [*batch[1]]
        changed[position] = 3 + (changed[position] - 2) % 256
        moved_T = (model._packed(pack([changed])) - hidden_TD).abs().amax(-1)
        near = slice(max(0, position - 4), position + 5)
        assert (moved_T[near] > 1e-4).all()


def test_the_order_of_a_batch_does_not_matter() -> None:
    model, batch = embedder(), texts(LENGTHS)
    order = [4, 0, 8, 2, 7, 1, 3, 6, 5]
    shuffled_ND = model(pack([batch[n] for n in order]))
    torch.testing.assert_close(model(pack(batch))[order], shuffled_ND, **TOLERANCE)


def test_packing_by_hand() -> None:
    packed = pack([[5, 6, 7], [8], [9, 10, 11], [12]])
    assert packed.input_ids_T.tolist() == [8, 12, 5, 6, 7, 9, 10, 11]
    assert packed.position_ids_T.tolist() == [0, 0, 0, 1, 2, 0, 1, 2]
    assert packed.cu_seqlens.tolist() == [0, 1, 2, 5, 8]
    assert packed.cu_seqlens.dtype == torch.int32  # as varlen_attn wants it
    assert packed.places_N.tolist() == [2, 0, 3, 1]
    assert packed.groups == ((2, 1), (2, 3))
    assert packed.max_len == 3
    with pytest.raises(ValueError, match="a token or more"):
        pack([[1], []])


def test_training_drops_nothing_out_and_checkpointing_changes_nothing() -> None:
    batch = pack(texts(LENGTHS))
    plain = embedder("bert").train()
    assert plain.config.hidden_dropout_prob > 0  # or this test shows nothing
    checkpointed = embedder("bert", gradient_checkpointing=True).train()
    gradients = []
    for model in (plain, checkpointed):
        out_ND = model(batch)
        assert torch.equal(out_ND, model(batch))
        out_ND[0, 0].backward()
        gradients.append(model.backbone.embeddings.word_embeddings.weight.grad)
    torch.testing.assert_close(*gradients)


def test_lora_trains_its_additions_and_merges(tmp_path: Path) -> None:
    folder = tiny_embedders.build(tmp_path / "model", "qwen3")
    batch = pack(texts(LENGTHS))
    model = Embedder.load(str(folder), lora=LoraSettings(rank=4, alpha=8), dtype=torch.float64)
    before_ND = model(batch)
    torch.testing.assert_close(before_ND, Embedder.load(str(folder), dtype=torch.float64)(batch))
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trained
    assert all("lora_" in name for name in trained)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
    for _ in range(3):  # the first step moves but one factor of each addition
        (model(batch) ** 3).sum().backward()
        optimizer.step()
    after_ND = model(batch)
    assert (after_ND - before_ND).abs().max() > 1e-3
    model.plain_backbone().save_pretrained(tmp_path / "merged")
    model.tokenizer.save_pretrained(tmp_path / "merged")
    names = {path.name for path in (tmp_path / "merged").iterdir()}
    assert "adapter_config.json" not in names
    merged = Embedder.load(str(tmp_path / "merged"), dtype=torch.float64)
    torch.testing.assert_close(merged(batch), after_ND, atol=1e-10, rtol=0)
    torch.testing.assert_close(model(batch), after_ND)  # the one in training stays as it was


def test_a_saved_decoder_stays_bidirectional(tmp_path: Path) -> None:
    model = Embedder.load(str(tiny_embedders.build(tmp_path / "model", "mistral")))
    model.plain_backbone().save_pretrained(tmp_path / "saved")
    assert json.loads((tmp_path / "saved/config.json").read_text())["is_causal"] is False


def test_minilm_is_what_sentence_transformers_makes_of_it(minilm: Path) -> None:
    from sentence_transformers import SentenceTransformer

    sentences = ["Mbegu ni mbegu.", "A seed.", "一粒种子", "The seed is small, the tree is tall."]
    model = Embedder.load(str(minilm))
    assert model.pooling == "mean"
    ours_ND = model(pack(model.tokenizer(sentences)["input_ids"]))
    theirs_ND = torch.tensor(SentenceTransformer(str(minilm), device="cpu").encode(sentences))
    torch.testing.assert_close(ours_ND, theirs_ND, **TOLERANCE)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode_lasttoken": True}, "last"),
        ({"pooling_mode": "lasttoken"}, "last"),
        ({"pooling_mode": "mean"}, "mean"),
        ({"pooling_mode": ["mean"]}, "mean"),
        ({"pooling_mode": ["mean", "max"]}, None),
        ({"pooling_mode_max_tokens": True}, None),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}, None),
    ],
)
def test_pooling_is_what_the_folder_says(
    settings: dict[str, Any], expected: str | None, tmp_path: Path
) -> None:
    folder = tiny_embedders.build(tmp_path / "model", "bert")
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling/config.json").write_text(json.dumps(settings))
    modules = [{"type": "a.Transformer", "path": ""}, {"type": "a.Pooling", "path": "1_Pooling"}]
    (folder / "modules.json").write_text(json.dumps(modules))
    if expected:
        assert Embedder.load(str(folder)).pooling == expected
        assert Embedder.load(str(folder), pooling="mean").pooling == "mean"
    else:
        with pytest.raises(UserError, match="mean, last or cls"):
            Embedder.load(str(folder))


def test_what_cannot_be_loaded_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        Embedder.load(str(tmp_path / "nothing"))
    with pytest.raises(UserError, match="no model that transformers knows"):
        Embedder.load(str(tmp_path))
    folder = tiny_embedders.build(tmp_path / "model", "bert")
    (folder / "modules.json").write_text('[{"type": "a.Dense", "path": "2_Dense"}]')
    with pytest.raises(UserError, match="a Dense module"):
        Embedder.load(str(folder))
    (folder / "modules.json").write_text('[{"type": "a.Pooling", "path": "../outside"}]')
    with pytest.raises(UserError, match="leads out"):
        Embedder.load(str(folder))
    (folder / "modules.json").unlink()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 4}))
    with pytest.raises(UserError, match="weights are missing"):
        Embedder.load(str(folder))
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "gpt2"}))
    with pytest.raises(UserError, match="a gpt2 model"):
        Embedder.load(str(folder))
    with pytest.raises(UserError, match="linear|target"):
        embedder(lora=LoraSettings(targets=("no_such_layer",)))


def test_a_text_too_long_is_said() -> None:
    for family in ("xlm-roberta", "llama"):
        model = embedder(family)
        assert model.max_tokens == MAX_TOKENS
        with pytest.raises(UserError, match=f"129 tokens, and the model takes {MAX_TOKENS}"):
            model(pack(texts([129])))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("family", FAMILIES)
def test_the_gpu_kernel_is_the_cpus_attention(family: str) -> None:
    batch = pack(texts(LENGTHS))
    expected_ND = embedder(family)(batch)
    model = Embedder(tiny_embedders.backbone(family, torch.bfloat16), None).cuda()
    found_ND = model(batch.to("cuda")).cpu()
    assert ((found_ND * expected_ND).sum(-1) > 0.99).all()  # cosines, in bfloat16
