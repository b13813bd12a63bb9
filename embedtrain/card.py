"""The model card of an exported embedder: what it was made from, down to licences and engines."""

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import yaml

_LINEAGE = {
    "corpus": "corpora",
    "license": "licences of the data",
    "engine": "written by",
    "model": "models that wrote",
    "strategy": "how",
}
_USAGE = """```python
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("<this folder>")
queries = model.encode_query(["..."])  # with the prompt "query"
documents = model.encode_document(["..."])
scores = model.similarity(queries, documents)
```"""


def model_card(
    name: str,
    *,
    base: str,
    dimensions: int,
    max_tokens: int,
    prompts: dict[str, str],
    settings: dict[str, Any],
    sources: Sequence[dict[str, Any]],
) -> str:
    """README.md of a model folder; `sources` are `about` of `embedtrain.prepared.Source`."""
    languages = sorted({group["lang"] for source in sources for group in source["groups"]})
    front = {
        "library_name": "sentence-transformers",
        "pipeline_tag": "sentence-similarity",
        "tags": ["sentence-transformers", "feature-extraction", "mbegu"],
        "language": [code for code in languages if code != "und"],
        "base_model": base,
    }
    parts = [
        f"---\n{yaml.safe_dump(front, allow_unicode=True, sort_keys=False)}---\n",
        f"# {_plain(name)}",
        f"A text embedder trained with Mbegu from `{_plain(base)}`: {dimensions} dimensions, "
        f"cosine similarity, {max_tokens} tokens of a text at most.",
        _USAGE,
        "## Prompts\n\n"
        + _table(("prompt", "text"), [(k, _quoted(v)) for k, v in prompts.items()]),
        "## Data\n\n" + _data(sources),
    ]
    if settings:
        shown = json.dumps(settings, ensure_ascii=False, indent=1).replace("```", "` ` `")
        parts.append(f"## Settings\n\n```json\n{shown}\n```")
    parts.append(
        "## Check\n\n`golden.json` has texts and the vectors that the trained model made of them; "
        "`python -m embedtrain.export <this folder>` compares."
    )
    return "\n\n".join(parts) + "\n"


def _data(sources: Sequence[dict[str, Any]]) -> str:
    if not sources:
        return "Not recorded."
    groups: Counter[tuple[str, str]] = Counter()
    lineage: dict[str, Counter[str]] = {name: Counter() for name in _LINEAGE}
    dropped: Counter[str] = Counter()
    for source in sources:
        for group in source["groups"]:
            groups[group["task"], group["lang"]] += group["count"]
        for name in _LINEAGE:
            lineage[name].update(source["lineage"].get(name, {}))
        dropped.update(source["dropped"])
    rows = [(task, lang, f"{count:,}") for (task, lang), count in sorted(groups.items())]
    counted = [
        (title, ", ".join(f"{k or '?'} ({n:,})" for k, n in lineage[name].most_common(20)))
        for name, title in _LINEAGE.items()
    ]
    left_out = ", ".join(f"{reason} {n:,}" for reason, n in sorted(dropped.items())) or "none"
    return (
        _table(("task", "language", "rows"), rows)
        + "\n\n"
        + _table(("lineage", "rows"), [*counted, ("left out", left_out)])
    )


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(map(_plain, line)) + " |" for line in lines)


def _quoted(text: str) -> str:
    return f"`{json.dumps(text, ensure_ascii=False)}`"


def _plain(text: str) -> str:
    """One line that no cell of a table is broken by, nor HTML made of."""
    line = " ".join(text.split())[:300]
    return line.replace("|", "\\|").replace("<", "&lt;").replace(">", "&gt;")
