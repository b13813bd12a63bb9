"""Merge trained models into one: `python -m embedtrain.merge OUT MODEL MODEL … [--method ties]`.

The recipe averages six runs that differ in data mix and hyperparameters (llama-embed-nemotron-8b,
arXiv 2511.07025: best single 68.62, merged 69.46 on MMTEB). A block of rows of one tensor is in
memory at a time (slerp and TIES: one tensor of every model) and one output file, so that six 8B
models merge within a few GB. Models must agree in every tensor's name and shape, in configuration
and in tokenizer.

    average           sum_i w_i theta_i, with the weights scaled to a sum of 1 (Wortsman et al.,
                      arXiv 2203.05482, "uniform soup" with equal weights)
    slerp             along the great circle between two models, by the second's weight (Shoemake,
                      SIGGRAPH 1985); tensor by tensor
    task_arithmetic   base + scale sum_i w_i (theta_i - base) (Ilharco et al., arXiv 2212.04089)
    ties              the same of trimmed differences that agree in sign (Yadav et al., arXiv
                      2306.01708, section 3); trimmed tensor by tensor
"""

import argparse
import json
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from sdg.errors import UserError, entry_point

MAX_FILE_BYTES = 2 * 2**30
BLOCK_NUMBERS = 2**26  # of one tensor that are in memory at a time, where rows can be merged apart
METHODS = ("average", "slerp", "task_arithmetic", "ties")
NEEDS_BASE = ("task_arithmetic", "ties")
# What is copied beside the weights: not the same weights in other formats, of which there are many.
_COPIED = frozenset({".json", ".txt", ".model", ".jinja"})
# Written anew for the merged model, or true of the trained one alone.
_NOT_COPIED = (".index.json", "card.json", "golden.json", "merge.json")
_VOCABULARIES = ("vocab.txt", "vocab.json", "merges.txt", "*.model")  # without a tokenizer.json
# What two runs of one recipe may differ in.
_FREE_CONFIG = frozenset({"_name_or_path", "transformers_version", "dtype", "torch_dtype"})


@dataclass(frozen=True)
class Recipe:
    """How to merge: see this module's text for the methods."""

    method: str = "average"
    weights: tuple[float, ...] = ()  # one a model; empty: equal
    scale: float = 1.0  # lambda of task arithmetic and TIES
    density: float = 0.2  # share of each difference that TIES keeps, the largest

    def check(self, num_models: int, has_base: bool) -> None:
        """Raise `UserError` on settings that do not go together."""
        if self.method not in METHODS:
            raise UserError(f"method '{self.method}': unknown; there are: {', '.join(METHODS)}")
        if num_models < 2:
            raise UserError(f"merging takes two models or more, {num_models} given")
        if self.method == "slerp" and num_models != 2:
            raise UserError(f"slerp goes between two models, {num_models} given; take average")
        if (self.method in NEEDS_BASE) != has_base:
            need = (
                "needs the model that all started from: --base" if not has_base else "has no base"
            )
            raise UserError(f"method {self.method} {need}")
        if self.weights and len(self.weights) != num_models:
            raise UserError(
                f"{len(self.weights)} weights for {num_models} models: give one a model"
            )
        if self.weights and (min(self.weights) < 0 or sum(self.weights) <= 0):
            raise UserError("weights: none may be negative, and one must be above 0")
        if not 0 < self.density <= 1:
            raise UserError(f"density {self.density:g}: must be above 0 and at most 1")

    def shares(self, num_models: int) -> list[float]:
        """The weights, scaled to a sum of 1."""
        weights = self.weights or (1.0,) * num_models
        return [weight / sum(weights) for weight in weights]


class Weights:
    """The safetensors files of one model folder, read a tensor at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if not folder.is_dir():
            raise UserError(f"{folder}: no such model folder")
        paths = sorted(folder.glob("*.safetensors"))
        if not paths:
            raise UserError(f"{folder}: no *.safetensors file, so no model that can be merged")
        self.modules = _modules(folder)
        try:
            self._files = [safe_open(path, framework="pt") for path in paths]
        except (SafetensorError, OSError) as error:
            raise UserError(f"{folder}: a weights file is cut or no safetensors: {error}") from None
        self._file_of = {
            name: file
            for file in self._files
            for name in file.keys()  # noqa: SIM118 - of safetensors: it cannot be looped over
        }

    @property
    def names(self) -> list[str]:
        """Names of all tensors, in order."""
        return sorted(self._file_of)

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._file_of[name].get_slice(name).get_shape())

    def rows(self, name: str, first: int = 0, stop: int | None = None) -> torch.Tensor:
        """Rows `first` to `stop` of a tensor (all of one without rows), as they are stored."""
        loaded: torch.Tensor = (
            self._file_of[name].get_slice(name)[first:stop]
            if self.shape(name)
            else self._file_of[name].get_tensor(name)
        )
        return loaded


def merge(
    models: Sequence[Path],
    out: Path,
    recipe: Recipe = Recipe(),
    base: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """Merge model folders into `out`, which appears whole or not at all.

    Everything beside the weights (tokenizer, pooling, prompts) is the first model's. The dtype of
    each tensor is the first model's; sums are taken in float32.

    Raises:
        UserError: models that do not match, settings that do not go together, or `out` exists.
    """
    recipe.check(len(models), base is not None)
    if out.exists():
        raise UserError(f"{out}: exists already; name another folder or remove it")
    sources = [Weights(folder) for folder in models]
    start = Weights(base) if base else None
    for other in [*sources[1:], *([start] if start else [])]:
        check_match(sources[0], other)
    fresh = out.with_name(f".{out.name}.tmp")
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        _copy_the_rest(sources[0], fresh)
        _write_merged(sources, start, recipe, fresh, progress)
        _write_origin(models, recipe, base, fresh)
        fresh.rename(out)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return out


def _write_origin(models: Sequence[Path], recipe: Recipe, base: Path | None, folder: Path) -> None:
    origin = {
        "method": recipe.method,
        "models": [str(folder) for folder in models],
        "weights": recipe.shares(len(models)),
        **({"base": str(base), "scale": recipe.scale} if base else {}),
        **({"density": recipe.density} if recipe.method == "ties" else {}),
    }
    text = json.dumps(origin, ensure_ascii=False, indent=2) + "\n"
    (folder / "merge.json").write_text(text, encoding="utf-8")


def _modules(folder: Path) -> list[Path]:
    """The subfolders that the modules of sentence-transformers have (pooling, normalising).

    Raises:
        UserError: one has weights of its own, or is outside of the folder.
    """
    modules = _config(folder / "modules.json").get("content", [])
    found = []
    for name in [str(m.get("path", "")) for m in modules if isinstance(m, dict)]:
        place = (folder / name).resolve()
        if not place.is_relative_to(folder.resolve()):
            raise UserError(f"{folder}/modules.json: a path leads out of the folder")
        if place == folder.resolve() or not place.is_dir():
            continue
        if other := [file.name for file in place.iterdir() if file.suffix not in _COPIED]:
            raise UserError(
                f"{place}: has {other[0]}, and a module with weights of its own is not merged"
            )
        found.append(place.relative_to(folder.resolve()))
    return found


def _copy_the_rest(model: Weights, out: Path) -> None:
    """Configuration, tokenizer and modules without weights."""
    for place in (Path(), *model.modules):
        (out / place).mkdir(parents=True, exist_ok=True)
        for file in sorted((model.folder / place).iterdir()):
            kept = file.suffix in _COPIED or file.stem in ("LICENSE", "NOTICE")
            if kept and file.is_file() and not file.name.endswith(_NOT_COPIED):
                shutil.copyfile(file, out / place / file.name)


def check_match(first: Weights, other: Weights) -> None:
    """Raise `UserError` unless two models can be merged."""
    where = f"{other.folder} does not match {first.folder}"
    odd = sorted(set(first.names) ^ set(other.names))
    if odd:
        only = first.folder if odd[0] in first.names else other.folder
        raise UserError(f"{where}: tensor {odd[0]} is in {only} alone ({len(odd)} differ)")
    for name in first.names:
        if first.shape(name) != other.shape(name):
            raise UserError(f"{where}: {name} is {first.shape(name)} and {other.shape(name)}")
    files = [Path("config.json"), Path("modules.json")]
    for file in [*files, *(place / "config.json" for place in first.modules)]:
        mine, theirs = _config(first.folder / file), _config(other.folder / file)
        keys = [key for key in {**mine, **theirs} if mine.get(key) != theirs.get(key)]
        if keys := [key for key in keys if key not in _FREE_CONFIG]:
            key = keys[0]
            raise UserError(f"{where}: {file} has {key} {mine.get(key)} and {theirs.get(key)}")
    if _vocabulary(first.folder) != _vocabulary(other.folder):
        raise UserError(f"{where}: their tokenizers differ, so one id means two things")


def _config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: not readable as JSON: {error}") from None
    return content if isinstance(content, dict) else {"content": content}


def _vocabulary(folder: Path) -> Any:
    """What turns text into ids; padding and truncation are a run's own and don't count."""
    if content := _config(folder / "tokenizer.json"):
        return {key: content.get(key) for key in ("model", "normalizer", "pre_tokenizer")}
    files = sorted(file for pattern in _VOCABULARIES for file in folder.glob(pattern))
    if not files:
        raise UserError(f"{folder}: has no tokenizer (tokenizer.json, vocab.txt or *.model)")
    return {file.name: file.read_bytes() for file in files}


def _write_merged(
    sources: Sequence[Weights],
    start: Weights | None,
    recipe: Recipe,
    folder: Path,
    progress: Callable[[int, int], None],
) -> None:
    names = sources[0].names
    files: list[list[str]] = []
    held: dict[str, torch.Tensor] = {}
    total = 0

    def flush() -> None:
        if held:
            files.append(list(held))
            save_file(held, folder / f"part-{len(files)}", metadata={"format": "pt"})
            held.clear()

    for number, name in enumerate(names, 1):
        merged = merge_tensor(name, sources, start, recipe)
        size = merged.numel() * merged.element_size()
        if sum(t.numel() * t.element_size() for t in held.values()) + size > MAX_FILE_BYTES:
            flush()
        held[name] = merged
        total += size
        progress(number, len(names))
    flush()
    _name_files(folder, files, total)


def _name_files(folder: Path, files: Sequence[Sequence[str]], total: int) -> None:
    """Name the parts as transformers looks for them, with an index where there are several."""
    if len(files) == 1:
        (folder / "part-1").rename(folder / "model.safetensors")
        return
    weight_map: dict[str, str] = {}
    for number, names in enumerate(files, 1):
        file = f"model-{number:05d}-of-{len(files):05d}.safetensors"
        (folder / f"part-{number}").rename(folder / file)
        weight_map |= dict.fromkeys(names, file)
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    text = json.dumps(index, indent=2) + "\n"
    (folder / "model.safetensors.index.json").write_text(text, encoding="utf-8")


def merge_tensor(
    name: str, sources: Sequence[Weights], start: Weights | None, recipe: Recipe
) -> torch.Tensor:
    """The merged tensor, in the first model's dtype."""
    if not sources[0].rows(name, 0, 1).is_floating_point():  # position ids: the same in all
        return sources[0].rows(name)
    shares = recipe.shares(len(sources))
    if recipe.method == "slerp":
        a, b = (source.rows(name) for source in sources)
        return slerp(a.float(), b.float(), shares[1]).to(a.dtype)
    if recipe.method == "ties":
        assert start is not None, "Recipe.check has seen to it"
        base = start.rows(name)
        deltas = [source.rows(name).float() - base.float() for source in sources]
        delta = ties(deltas, shares, recipe.density)
        return (base.float() + recipe.scale * delta).to(sources[0].rows(name, 0, 1).dtype)
    return _weighted_sum(name, sources, start, shares, recipe.scale)


def _weighted_sum(
    name: str,
    sources: Sequence[Weights],
    start: Weights | None,
    shares: Sequence[float],
    scale: float,
) -> torch.Tensor:
    """The average, or the base and the scaled average difference to it, some rows at a time."""
    shape = sources[0].shape(name)
    merged = torch.empty(shape, dtype=sources[0].rows(name, 0, 1).dtype)
    num_rows = shape[0] if shape else 1
    step = max(1, BLOCK_NUMBERS * num_rows // max(1, merged.numel()))
    for first in range(0, num_rows, step):
        blocks = (source.rows(name, first, first + step).float() for source in sources)
        total = sum(share * block for share, block in zip(shares, blocks, strict=True))
        if start is not None:  # the shares add up to 1, so the base goes off once
            base = start.rows(name, first, first + step).float()
            total = base + scale * (total - base)
        merged[slice(first, first + step) if shape else ...] = total
    return merged


def slerp(a: torch.Tensor, b: torch.Tensor, share: float) -> torch.Tensor:
    """sin((1-t) o)/sin(o) a + sin(t o)/sin(o) b, with o the angle between them and t = `share`;
    the straight line where they are (nearly) parallel or one is zero."""
    norms = a.norm() * b.norm()
    if norms == 0:
        return torch.lerp(a, b, share)
    cosine = (torch.dot(a.flatten().double(), b.flatten().double()) / norms.double()).clamp(-1, 1)
    angle = torch.arccos(cosine)
    if torch.sin(angle) < 1e-6:
        return torch.lerp(a, b, share)
    to_a = torch.sin((1 - share) * angle) / torch.sin(angle)
    to_b = torch.sin(share * angle) / torch.sin(angle)
    return to_a.float() * a + to_b.float() * b


def ties(deltas: Sequence[torch.Tensor], shares: Sequence[float], density: float) -> torch.Tensor:
    """Trim each difference to its largest `density` share, elect each weight's sign by the larger
    weighted sum, and average the differences that have that sign."""
    trimmed = [share * _trim(delta, density) for share, delta in zip(shares, deltas, strict=True)]
    elected = torch.sign(sum(trimmed, torch.zeros_like(trimmed[0])))
    total, weight = torch.zeros_like(trimmed[0]), torch.zeros_like(trimmed[0])
    for share, delta in zip(shares, trimmed, strict=True):
        agrees = (torch.sign(delta) == elected) & (delta != 0)
        total += torch.where(agrees, delta, 0.0)
        weight += torch.where(agrees, share, 0.0)
    return torch.where(weight > 0, total / weight.clamp_min(1e-12), 0.0)


def _trim(delta: torch.Tensor, density: float) -> torch.Tensor:
    num_kept = max(1, round(density * delta.numel()))
    if num_kept >= delta.numel():
        return delta
    threshold = delta.abs().flatten().kthvalue(delta.numel() - num_kept + 1).values
    return torch.where(delta.abs() >= threshold, delta, 0.0)


@entry_point
def main(argv: Sequence[str]) -> int:
    """Exit status: 0 merged, 1 the system refused (a full disk), 2 wrong use."""
    parser = argparse.ArgumentParser(prog="merge", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--method", default="average", choices=METHODS)
    parser.add_argument("--weights", type=float, nargs="+", default=[], help="one a model")
    parser.add_argument("--base", type=Path, help="the model that all started from")
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--density", type=float, default=0.2)
    args = parser.parse_args(argv)
    recipe = Recipe(args.method, tuple(args.weights), args.scale, args.density)
    merge(args.models, args.out, recipe, args.base)
    print(f"{len(args.models)} models merged by {args.method} into {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
