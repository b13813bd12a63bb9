"""Rows to look at: a few of those that a run dropped, for every stage, reason and language.

The manifests say which shards hold a row of which kind, so that only those are read.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from sdg.storage import open_parquet
from sdg.text import digest

PER_REASON = 4  # samples of a stage, reason and language
MAX_SAMPLES = 1_200
MAX_SHARDS = 48  # of a stage that are read
LONGEST = 320  # characters shown of a text

Item = TypeVar("Item")
Kind = tuple[str, str]  # reason, language


def spread(items: Sequence[Item], most: int) -> list[Item]:
    """At most so many of the items, evenly over all of them."""
    if len(items) <= most:
        return list(items)
    return [items[i * len(items) // most] for i in range(most)]


def dropped_samples(run_dir: Path) -> list[dict[str, Any]]:
    """Samples of dropped rows: `stage`, `reason`, `lang`, and texts by what the row has."""
    found: dict[tuple[str, Kind], list[dict[str, Any]]] = {}
    for folder in sorted(run_dir.glob("stages/*")):
        stage = folder.name.partition("-")[2].partition(".")[0]
        for shard in _shards(folder):
            for row in _read(folder / "dropped" / f"{shard}.parquet"):
                kept = found.setdefault((stage, (row["reason"], row["lang"])), [])
                kept.append({"stage": stage, **row})
                if len(kept) > 64:
                    kept[:] = _chosen(kept)
    chosen = [_chosen(kept) for _, kept in sorted(found.items())]
    in_turns = [kept[turn] for turn in range(PER_REASON) for kept in chosen if turn < len(kept)]
    return in_turns[:MAX_SAMPLES]


def _chosen(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of lowest hash, which depend on no order; each text once."""
    ranked = {digest("sample", json.dumps(row, sort_keys=True)): row for row in rows}
    return [ranked[key] for key in sorted(ranked)[:PER_REASON]]


def _shards(folder: Path) -> list[str]:
    """Shards that together hold rows of every kind dropped, two of each where there are."""
    manifest = folder / "manifest.jsonl"
    if not manifest.exists():
        return []
    times: dict[Kind, int] = {}
    shards: list[str] = []
    with manifest.open(encoding="utf-8") as file:
        for line in file:
            done = json.loads(line)
            kinds = {(reason, s["lang"]) for s in done["slices"] for reason in s["dropped"]}
            if any(times.get(kind, 0) < 2 for kind in kinds):
                shards.append(done["shard"])
                for kind in kinds:
                    times[kind] = times.get(kind, 0) + 1
    return spread(shards, MAX_SHARDS)


def _read(path: Path) -> Iterator[dict[str, Any]]:
    if not path.exists():
        return
    for batch in open_parquet(path).iter_batches(batch_size=256):
        for row in batch.to_pylist():
            yield _sample(row)


def _sample(row: dict[str, Any]) -> dict[str, Any]:
    """What there is to see of a dropped row, whatever stage it was dropped by."""
    texts: dict[str, str] = {}
    if "messages" in row:  # a call
        texts["reply"] = row["reply"] or row["error"] or ""
        texts["passage"] = row["seed"]["text"]
    else:
        for name in ("title", "query", "positive", "text"):
            if row.get(name):
                texts[name] = row[name]
        if row.get("positives"):
            texts["positive"] = row["positives"][0]
    made = row.get("provenance") or row
    return {
        "reason": row["reason"],
        "lang": row.get("query_lang") or row.get("lang") or "",
        "positive_lang": row.get("positive_lang") or row.get("lang") or "",
        **{name: (made.get(name) or "")[:200] for name in ("prompt", "model", "source")},
        **{name: text[:LONGEST] for name, text in texts.items()},
    }
