"""An embedder: a bidirectional transformer, pooling, and vectors of length 1.

Decoders of the Llama, Mistral and Qwen3 families see in both directions once `config.is_causal` is
False (as the recipe has it, arXiv 2511.07025, section 2); saved models keep that. Encoders are
BERT, RoBERTa, XLM-R and ModernBERT. Nothing is dropped out in training: the recipe's decoders have
no dropout, and what is computed again for lack of memory is then the same.

Shapes: N texts, T tokens in all, L tokens of the longest text, D dimensions.
"""

import copy
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch.nn.functional import normalize
from transformers import AutoConfig, AutoModel, AutoTokenizer

from embedtrain import packing
from embedtrain.packing import Packed
from sdg.errors import UserError

Pooling = Literal["mean", "last", "cls"]
Attention = Literal["packed", "padded"]

DECODERS = frozenset({"llama", "mistral", "qwen3"})
ENCODERS = frozenset({"bert", "modernbert", "roberta", "xlm-roberta"})
# Their positions are counted from the one after the padding token's number.
_OFFSET_POSITIONS = frozenset({"roberta", "xlm-roberta"})
# Never a pickle, never code.
_FILES = ["*.json", "*.safetensors", "*.model", "*.txt", "*/config.json"]


@dataclass(frozen=True)
class LoraSettings:
    """Train low-rank additions to the weights alone (Hu et al., arXiv 2106.09685)."""

    rank: int = 16
    alpha: float = 32.0  # additions are scaled by alpha / rank
    # Names of the layers that get one; "all-linear": every linear layer.
    targets: str | tuple[str, ...] = "all-linear"


class Embedder(torch.nn.Module):
    """Token ids -> unit vectors. `load` reads one from a folder."""

    def __init__(
        self,
        backbone: Any,
        tokenizer: Any,
        *,
        pooling: Pooling = "mean",
        attention: Attention = "packed",
        lora: LoraSettings | None = None,
        gradient_checkpointing: bool = False,
    ) -> None:
        """Wrap a transformers model; it is changed to see in both directions, without dropout."""
        super().__init__()
        self.tokenizer = tokenizer
        self.config = backbone.config
        self.pooling = pooling
        self.attention = attention
        if self.config.model_type in DECODERS:
            self.config.is_causal = False
        backbone.set_attn_implementation(packing.NAME if attention == "packed" else "sdpa")
        if gradient_checkpointing:
            backbone.gradient_checkpointing_enable({"use_reentrant": False})
        if getattr(backbone, "pooler", None) is not None:
            backbone.pooler.requires_grad_(False)  # it has no part in the vectors
        _without_dropout(backbone)
        self.backbone = backbone if lora is None else _with_lora(backbone, lora)

    @classmethod
    def load(
        cls,
        folder_or_id: str,
        *,
        pooling: Pooling | None = None,
        dtype: torch.dtype = torch.float32,
        lora: LoraSettings | None = None,
        attention: Attention = "packed",
        gradient_checkpointing: bool = False,
    ) -> "Embedder":
        """Read a model from a folder or from the Hugging Face Hub.

        Args:
            pooling: None takes what the folder's sentence-transformers modules say, or "mean".
            dtype: of the weights.

        Raises:
            UserError: no such model, one of a family that is not trained here, or one whose
                vectors are made in a way that is not.
        """
        folder = _folder(folder_or_id)
        _check_family(folder)
        pooling = pooling or _pooling_of(folder)
        local = {"local_files_only": True, "trust_remote_code": False}
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, **local)
            backbone, report = AutoModel.from_pretrained(
                folder, dtype=dtype, use_safetensors=True, output_loading_info=True, **local
            )
        except (OSError, ValueError) as error:
            raise UserError(f"{folder}: cannot be loaded as a model: {error}") from None
        # transformers fills what is missing with random numbers, without stopping.
        missing = sorted(key for key in report["missing_keys"] if not key.startswith("pooler."))
        if missing:
            more = f" and {len(missing) - 1} more" if missing[1:] else ""
            raise UserError(f"{folder}: weights are missing: {missing[0]}{more}")
        if report["missing_keys"]:
            backbone.pooler = None
        return cls(
            backbone,
            tokenizer,
            pooling=pooling,
            attention=attention,
            lora=lora,
            gradient_checkpointing=gradient_checkpointing,
        )

    @property
    def max_tokens(self) -> int:
        """How many tokens of a text the model can take."""
        return int(self.config.max_position_embeddings) - self._first_position

    @property
    def _first_position(self) -> int:
        offset = self.config.model_type in _OFFSET_POSITIONS
        return int(self.config.pad_token_id) + 1 if offset else 0

    def forward(self, packed: Packed) -> torch.Tensor:
        """Unit vectors (N, D) in float32, or finer if the weights are, in the texts' order.

        Raises:
            UserError: a text is longer than the model can take.
        """
        if packed.max_len > self.max_tokens:
            raise UserError(
                f"a text has {packed.max_len} tokens, and the model takes {self.max_tokens}: "
                f"lower the length that texts are cut to"
            )
        hidden_TD = self._padded(packed) if self.attention == "padded" else self._packed(packed)
        hidden_TD = hidden_TD.to(torch.promote_types(hidden_TD.dtype, torch.float32))
        pooled_ND = _pool(hidden_TD, packed.cu_seqlens, self.pooling)
        return normalize(pooled_ND, dim=-1)[packed.places_N]

    @property
    def _no_cache(self) -> dict[str, bool]:
        """Decoders would keep keys and values for tokens to come."""
        return {"use_cache": False} if self.config.model_type in DECODERS else {}

    def _packed(self, packed: Packed) -> torch.Tensor:
        """Last hidden states (T, D) of the row."""
        return self.backbone(
            input_ids=packed.input_ids_T[None],
            position_ids=packed.position_ids_T[None] + self._first_position,
            packed=packed,
            **self._no_cache,
        ).last_hidden_state[0]

    def _padded(self, packed: Packed) -> torch.Tensor:
        """The same by stock attention, each text padded to the longest."""
        lengths_N = packed.cu_seqlens.diff()
        mask_NL = torch.arange(packed.max_len, device=lengths_N.device) < lengths_N[:, None]
        ids_NL = torch.full_like(mask_NL, self.config.pad_token_id or 0, dtype=torch.long)
        ids_NL[mask_NL] = packed.input_ids_T
        positions_NL = torch.zeros_like(ids_NL)
        positions_NL[mask_NL] = packed.position_ids_T
        hidden_NLD = self.backbone(
            input_ids=ids_NL,
            attention_mask=mask_NL.long(),
            position_ids=positions_NL + self._first_position,
            **self._no_cache,
        ).last_hidden_state
        return hidden_NLD[mask_NL]

    def plain_backbone(self) -> Any:
        """The transformers model to save; of one with LoRA, a copy with the additions merged in."""
        if not hasattr(self.backbone, "merge_and_unload"):
            return self.backbone
        return copy.deepcopy(self.backbone).merge_and_unload()


def _pool(hidden_TD: torch.Tensor, cu_seqlens: torch.Tensor, pooling: Pooling) -> torch.Tensor:
    """One vector (N, D) for each text of a packed row."""
    if pooling == "last":
        return hidden_TD[cu_seqlens[1:].long() - 1]
    if pooling == "cls":
        return hidden_TD[cu_seqlens[:-1].long()]
    return torch.segment_reduce(hidden_TD, "mean", lengths=cu_seqlens.diff().long(), axis=0)


def _without_dropout(backbone: torch.nn.Module) -> None:
    for module in backbone.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if hasattr(module, "attention_dropout"):
            module.attention_dropout = 0.0


def _with_lora(backbone: Any, lora: LoraSettings) -> Any:
    from peft import LoraConfig, TaskType, get_peft_model

    targets = lora.targets if isinstance(lora.targets, str) else list(lora.targets)
    settings = LoraConfig(
        task_type=TaskType.FEATURE_EXTRACTION,
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=0.0,
        target_modules=targets,
    )
    try:
        return get_peft_model(backbone, settings)
    except ValueError as error:
        raise UserError(f"LoRA targets {targets}: {error}") from None


def _folder(folder_or_id: str) -> Path:
    if Path(folder_or_id).is_dir():
        return Path(folder_or_id)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(folder_or_id, allow_patterns=_FILES))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"MODEL '{folder_or_id}': no such folder, nor a model that can be fetched: {reason}"
        ) from None


def _check_family(folder: Path) -> None:
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{folder}: no model that transformers knows: {reason}") from None
    if config.model_type not in DECODERS | ENCODERS:
        known = ", ".join(sorted(DECODERS | ENCODERS))
        raise UserError(f"{folder}: a {config.model_type} model; those trained here are: {known}")


def _pooling_of(folder: Path) -> Pooling:
    """What the modules of sentence-transformers in a folder say; "mean" where there are none."""
    if not (folder / "modules.json").is_file():
        return "mean"
    pooling: Pooling = "mean"
    for module in _read_json(folder / "modules.json"):
        kind = str(module["type"]).rpartition(".")[2]
        if kind == "Pooling":
            path = (folder / module["path"] / "config.json").resolve()
            if not path.is_relative_to(folder.resolve()):
                raise UserError(f"{folder}/modules.json: a path leads out of the folder")
            pooling = _pooling_mode(_read_json(path), path)
        elif kind not in ("Transformer", "Normalize"):
            raise UserError(f"{folder}/modules.json: a {kind} module, which is not trained here")
    return pooling


def _pooling_mode(config: dict[str, Any], path: Path) -> Pooling:
    """Of a Pooling module's settings, as sentence-transformers 6 or an earlier one writes them."""
    # A mode's name in old files and in new ones, and ours.
    names: tuple[tuple[str, str, Pooling], ...] = (
        ("pooling_mode_mean_tokens", "mean", "mean"),
        ("pooling_mode_cls_token", "cls", "cls"),
        ("pooling_mode_lasttoken", "lasttoken", "last"),
    )
    said = config.get("pooling_mode")
    if said is None:
        said = [key for key, on in config.items() if key.startswith("pooling_mode_") and on]
    modes = said if isinstance(said, list) else [said]
    found = [ours for old, new, ours in names if modes in ([old], [new])]
    if not found:
        listed = ", ".join(map(str, modes)) or "none"
        raise UserError(f"{path}: pooling {listed}; what can be trained is mean, last or cls")
    return found[0]


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not readable as JSON: {error}") from None
