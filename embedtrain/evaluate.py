"""Measure embedding models: the numbers behind `make evaluate`.

Tasks are those of the `mteb` package by name, one of its benchmarks ("MTEB(Multilingual, v2)"), or
folders (see `embedtrain.local_tasks`), which need no network. Each finished task is kept in
`MODEL/evaluation/`, under a hash of the model's files, and not measured again. Two models or more
are compared by Borda count; two, by a paired bootstrap over the queries they share as well.
"""

import hashlib
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import mteb
import numpy as np
import pytrec_eval
from mteb.abstasks import AbsTask, AbsTaskRetrieval
from sentence_transformers import SentenceTransformer

from embedtrain.compare import borda, paired_bootstrap
from embedtrain.local_tasks import FolderRetrieval, local_task, read_qrels
from sdg.errors import UserError

K_VALUES = (1, 3, 5, 10, 20, 100)
METRICS = ("ndcg_at_10", "recall_at_10", "recall_at_100", "mrr_at_10", "accuracy", "f1")


@dataclass(frozen=True)
class Measured:
    """One model on one task."""

    task: str
    type: str  # as mteb names it: "Retrieval", "STS", ...
    languages: list[str]
    metric: str  # the task's main one
    score: float  # of the main metric, in [-1, 1]
    by_subset: dict[str, float]  # the main metric by the task's subsets
    metrics: dict[str, float]  # others, mean over subsets
    by_query: dict[str, float] = field(default_factory=dict)  # nDCG@10, of folders in BEIR layout
    # The main metric by mteb's codes of languages, mean over their subsets.
    by_language: dict[str, float] = field(default_factory=dict)


def find_tasks(folders: Sequence[Path], names: Sequence[str]) -> list[AbsTask]:
    """The tasks asked for.

    Raises:
        UserError: a folder is no evaluation set, or mteb has no such task or benchmark.
    """
    tasks = [local_task(folder) for folder in folders]
    benchmarks = {benchmark.name for benchmark in mteb.get_benchmarks()}
    for name in names:
        if name in benchmarks:
            tasks.extend(mteb.get_benchmark(name).tasks)
            continue
        try:
            tasks.append(mteb.get_task(name))
        except KeyError as error:
            raise UserError(f"TASKS: mteb has no task or benchmark '{name}': {error}") from None
    seen = [task.metadata.name for task in tasks]
    if double := [name for name in seen if seen.count(name) > 1]:
        raise UserError(f"two tasks are called {double[0]}: rename a folder, or name it once")
    if not tasks:
        raise UserError("nothing to measure on: give DATA=<folder> or TASKS=<mteb name>")
    return tasks


def evaluate(folder: Path, tasks: Sequence[AbsTask], say: Callable[[str], None]) -> list[Measured]:
    """Measure a model on tasks; what its `evaluation/` folder has of these very files is read.

    `say` is told of each task before it is measured.

    Raises:
        UserError: no model, one that cannot be loaded, or a task whose data cannot.
    """
    if not (folder / "config.json").is_file() and not (folder / "modules.json").is_file():
        raise UserError(f"{folder}: no model folder (neither modules.json nor config.json there)")
    (folder / "evaluation").mkdir(exist_ok=True)  # not to measure for hours what cannot be kept
    fingerprint = model_fingerprint(folder)
    model: SentenceTransformer | None = None
    results = []
    for number, task in enumerate(tasks, 1):
        name = task.metadata.name
        data = str(task.metadata.dataset["path"])
        kept = folder / "evaluation" / f"{name}.json"
        found = _read_kept(kept, fingerprint, data)
        if found is None:
            say(f"{folder.name}: {name} ({number} of {len(tasks)}) …")
            model = model or _load(folder)
            found = _measure(model, task)
            keep(kept, {"fingerprint": fingerprint, "data": data, "result": asdict(found)})
        results.append(found)
    return results


def _load(folder: Path) -> SentenceTransformer:
    try:
        return SentenceTransformer(str(folder), local_files_only=True, trust_remote_code=False)
    except Exception as error:  # whatever transformers, safetensors and tokenizers raise
        reason = next(iter(str(error).strip().splitlines()), "")[:300]
        raise UserError(
            f"{folder}: sentence-transformers cannot load it ({type(error).__name__}: {reason})"
        ) from error


def model_fingerprint(folder: Path) -> str:
    """Hash of the files that decide a model's vectors."""
    total = hashlib.blake2b(digest_size=16)
    kinds = (".json", ".safetensors", ".bin", ".pt", ".model", ".txt")
    for path in sorted(p for p in folder.rglob("*") if p.suffix in kinds):
        inside = path.relative_to(folder)
        if inside.parts[0] != "evaluation" and path.is_file():
            with path.open("rb") as file:
                total.update(str(inside).encode())
                total.update(hashlib.file_digest(file, "blake2b").digest())
    return total.hexdigest()


def _read_kept(path: Path, fingerprint: str, data: str) -> Measured | None:
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        # A folder's texts may have been edited since; they are quick to measure again.
        same = (
            kept["fingerprint"] == fingerprint and kept["data"] == data and not Path(data).exists()
        )
        return Measured(**kept["result"]) if same and "by_language" in kept["result"] else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def keep(path: Path, content: dict[str, Any]) -> None:
    """Write JSON at once: a reader sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(content, ensure_ascii=False) + "\n", encoding="utf-8")
    temporary.replace(path)


def _measure(model: SentenceTransformer, task: AbsTask) -> Measured:
    if isinstance(task, AbsTaskRetrieval):
        task.k_values, task._top_k = K_VALUES, max(K_VALUES)
    with tempfile.TemporaryDirectory() as predictions:
        try:
            (result,) = mteb.evaluate(
                model,
                [task],
                cache=None,
                encode_kwargs={"batch_size": 32},
                prediction_folder=predictions if isinstance(task, AbsTaskRetrieval) else None,
                show_progress_bar=False,
            ).task_results
        except (ConnectionError, FileNotFoundError) as error:
            raise UserError(
                f"{task.metadata.name}: its data cannot be loaded here ({error}); where there is "
                f"no hub, give DATA=<folder>"
            ) from None
        by_query = _by_query(task, Path(predictions))
    subsets = [row for split in result.scores.values() for row in split]
    return Measured(
        task=task.metadata.name,
        type=task.metadata.type,
        languages=sorted(task.metadata.languages),
        metric=task.metadata.main_score,
        score=float(np.mean([row["main_score"] for row in subsets])),
        by_subset={row["hf_subset"]: float(row["main_score"]) for row in subsets},
        by_language=_by_language(subsets),
        metrics={
            name: float(np.mean([row[name] for row in subsets]))
            for name in METRICS
            if all(name in row for row in subsets)
        },
        by_query=by_query,
    )


def _by_language(subsets: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for row in subsets:
        for lang in dict.fromkeys(code.partition("-")[0] for code in row["languages"]):
            found.setdefault(lang, []).append(float(row["main_score"]))
    return {lang: float(np.mean(scores)) for lang, scores in sorted(found.items())}


def _by_query(task: AbsTask, folder: Path) -> dict[str, float]:
    """nDCG@10 of each query of a folder in BEIR's layout."""
    path = folder / task.prediction_file_name
    if not isinstance(task, FolderRetrieval) or not path.exists():
        return {}
    ranked = json.loads(path.read_text(encoding="utf-8")).get("default", {})
    scores: dict[str, float] = {}
    for run in ranked.values():
        evaluator = pytrec_eval.RelevanceEvaluator(read_qrels(task.folder), {"ndcg_cut.10"})
        scores |= {query: row["ndcg_cut_10"] for query, row in evaluator.evaluate(run).items()}
    return scores


def compare(results: dict[str, list[Measured]], seed: int = 0) -> dict[str, Any]:
    """Means, Borda votes and, for two models, the bootstrap; see `embedtrain.compare`."""
    scores = {model: {m.task: m.score for m in found} for model, found in results.items()}
    summary: dict[str, Any] = {
        "mean_task": {model: float(np.mean(list(s.values()))) for model, s in scores.items()},
        "mean_type": {model: _mean_by_type(found) for model, found in results.items()},
        "mean_language": {model: _mean_by_language(found) for model, found in results.items()},
        "borda": borda(scores),
        "bootstrap": {},
    }
    if len(results) == 2:
        first, second = results.values()
        by_query: dict[str, list[tuple[float, float]]] = {}
        for a, b in zip(first, second, strict=True):
            if shared := sorted(a.by_query.keys() & b.by_query.keys()):
                by_query[a.task] = [(a.by_query[q], b.by_query[q]) for q in shared]
        if len(by_query) > 1:
            by_query["all queries"] = [pair for pairs in by_query.values() for pair in pairs]
        for task, pairs in by_query.items():
            first_Q, second_Q = np.array(pairs).T
            names = ("difference", "low", "high", "p_value")
            found = paired_bootstrap(first_Q, second_Q, seed)
            summary["bootstrap"][task] = dict(zip(names, found, strict=True))
    return summary


def _mean_by_type(found: Sequence[Measured]) -> dict[str, float]:
    types = sorted({m.type for m in found})
    return {t: float(np.mean([m.score for m in found if m.type == t])) for t in types}


def _mean_by_language(found: Sequence[Measured]) -> dict[str, float]:
    """Mean over the tasks that have a language."""
    languages = sorted({lang for m in found for lang in m.by_language})
    return {
        lang: float(np.mean([m.by_language[lang] for m in found if lang in m.by_language]))
        for lang in languages
    }
