"""What a run's report shows, computed from its summary, its manifests and samples of its rows.

`report_of` gives plain data; pipelines/report.py puts it into a page. Counts are the summary's.
Lengths, scores and the language map are of at most `MAX_ROWS` examples from files spread over the
run, and the data has room for so many texts that a page stays light whatever the run's size.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from math import log2
from pathlib import Path
from typing import Any

from sdg import langid
from sdg.account import Loss
from sdg.errors import UserError
from sdg.languages import language
from sdg.samples import dropped_samples, spread
from sdg.storage import open_parquet
from sdg.summary import say
from sdg.text import digest

MAX_ROWS = 20_000  # examples looked at
MAX_FILES = 64
MAX_CHECKED = 200  # queries of a language whose language is looked at
TEXT_BYTES = 2_400_000  # of examples shown
LONGEST, LONGEST_NEGATIVE = 1_200, 300  # characters shown of a text
MOST_NEGATIVES = 4
BIN = 0.05  # of scores
_WRONG = ("query_wrong_language", "query_wrong_script")

Counts = dict[int, int]  # number of a bin -> how many are in it


def report_of(run_dir: Path, text_bytes: int = TEXT_BYTES) -> dict[str, Any]:
    """All that a page shows of a run, as plain data.

    Raises:
        UserError: the folder holds no finished run.
    """
    summary = _read_summary(run_dir)
    examples = _Examples()
    for row in _rows(run_dir):
        examples.add(row)
    dropped = dropped_samples(run_dir)
    langs = sorted({*summary["lang"].split(","), *(row["lang"] for row in summary["account"])})
    return {
        "run": summary["run"],
        "languages": {code: _language(code) for code in langs if code},
        "asked": summary["lang"].split(","),
        "settings": {
            key: summary[key]
            for key in ("corpus", "engine", "model", "seed", "pairs_wanted", "seconds", "bytes")
        },
        "examples": summary["examples"],
        "stages": summary["stages"],
        "num_rounds": len(summary["rounds"]),
        "slices": [_slice(row) for row in summary["account"]],
        "warnings": [say(Loss(**loss)) for loss in summary["warnings"]],
        "quota": summary["quota"],
        "mining": summary.get("mining", {}),
        "models": _models(summary),
        "reasons": _reasons(summary, dropped),
        "by_strategy": summary["by_strategy"],
        "by_license": summary["by_license"],
        **examples.distributions(),
        "max_share": _max_share(run_dir),
        "map": _language_map(summary, examples.queries, dropped),
        "rows": examples.shown(text_bytes),
        "num_looked_at": examples.num,
    }


def _read_summary(run_dir: Path) -> dict[str, Any]:
    path = run_dir / "summary.json"
    try:
        summary: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"{path}: no such file; RUN= names a run that is finished (make generate … RUN=<name>)"
        ) from None
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error}); finish the run again") from None
    if "account" not in summary:
        raise UserError(f"{path}: of an older Mbegu; give the command that made the run again")
    return summary


def _language(code: str) -> dict[str, str]:
    found = language(code)
    return {"name": found.name, "autonym": found.autonym, "dir": found.direction}


def _slice(row: dict[str, Any]) -> dict[str, Any]:
    """A row of the account, with what it lost by stage and reason."""
    lost = {name: stage["dropped"] for name, stage in row["stages"].items() if stage["dropped"]}
    return {key: row[key] for key in ("lang", "task", "model", "prompt", "candidates", "kept")} | {
        "lost": lost
    }


def _models(summary: dict[str, Any]) -> dict[str, dict[str, float]]:
    """What each model was asked for and cost, and the examples that it wrote."""
    written: Counter[str] = Counter()
    for row in summary["account"]:
        if row["task"]:
            written[row["model"]] += row["kept"]
    prices = summary.get("prices", {})
    found = {}
    for name, usage in summary["models"].items():
        used = {key: usage.get(key, 0) for key in ("calls", "reused", "tokens_in", "tokens_out")}
        found[name] = {**used, "gpu_hours": usage.get("gpu_seconds", 0) / 3600}
        found[name]["examples"] = written[name]
        if name in prices:
            price = prices[name]
            cost = price["in"] * used["tokens_in"] + price["out"] * used["tokens_out"]
            found[name]["cost"] = cost / 1e6
    return found


def _reasons(summary: dict[str, Any], dropped: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each stage's reasons, the commonest first, by language, with samples."""
    by_lang: dict[tuple[str, str], Counter[str]] = {}
    for row in summary["account"]:
        for stage, counts in row["stages"].items():
            for reason, num in counts["dropped"].items():
                by_lang.setdefault((stage, reason), Counter())[row["lang"]] += num
    samples: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for sample in dropped:
        samples.setdefault((sample["stage"], sample["reason"]), []).append(sample)
    return [
        {
            "stage": stage["name"],
            "reason": reason,
            "num": num,
            "by_lang": dict(by_lang.get((stage["name"], reason), {})),
            "samples": samples.get((stage["name"], reason), []),
        }
        for stage in summary["stages"]
        for reason, num in stage["dropped"].items()
    ]


def _rows(run_dir: Path) -> Iterator[dict[str, Any]]:
    """Examples from files spread over the run, a row group at a time."""
    files = spread(sorted(run_dir.glob("examples/*.parquet")), MAX_FILES)
    each = -(-MAX_ROWS // max(1, len(files)))
    for path in files:
        left = each
        for batch in open_parquet(path).iter_batches(batch_size=min(1024, each)):
            yield from batch.slice(0, left).to_pylist()
            left -= batch.num_rows
            if left <= 0:
                break


class _Examples:
    """What is gathered from examples, one after the other."""

    def __init__(self) -> None:
        self.num = 0
        self.lengths: dict[str, dict[str, Counts]] = {}  # language -> text -> bins of 2^(1/2)
        self.scores: dict[str, Counts] = {"positive": {}, "negative": {}}
        self.hardness: dict[str, Counts] = {}  # language -> negative's score / positive's
        self.judged: dict[str, Counts] = {}
        self.queries: dict[str, list[tuple[str, bool]]] = {}  # and whether they are unverified
        self._strata: dict[tuple[str, ...], list[tuple[str, dict[str, Any]]]] = {}

    def add(self, row: dict[str, Any]) -> None:
        """Take one example in."""
        self.num += 1
        positive = row["positive_scores"][0] if row["positive_scores"] else 0.0
        for name, lang, texts in (
            ("query", row["query_lang"], [row["query"]]),
            ("positive", row["positive_lang"], row["positives"][:1]),
            ("negative", row["positive_lang"], row["negatives"]),
        ):
            bins = self.lengths.setdefault(lang, {}).setdefault(name, {})
            for text in texts:
                _count(bins, round(2 * log2(max(1, len(text)))))
        _count(self.scores["positive"], round(positive / BIN))
        for score in row["negative_scores"]:
            _count(self.scores["negative"], round(score / BIN))
            if positive > 0 and score > 0:
                ratio = self.hardness.setdefault(row["positive_lang"], {})
                _count(ratio, round(score / positive / BIN))
        for name, grade in _grades(row["provenance"]).items():
            _count(self.judged.setdefault(name, {}), round(grade))
        queries = self.queries.setdefault(row["query_lang"], [])
        if len(queries) < MAX_CHECKED:
            queries.append((row["query"], "query" in row["unverified"]))
        self._keep(row)

    def _keep(self, row: dict[str, Any]) -> None:
        """Keep some of every language, prompt and strategy: those of lowest hash."""
        made = row["provenance"]
        key = (row["query_lang"], row["task"], made["prompt"], made["strategy"], made["model"])
        kept = self._strata.setdefault(key, [])
        kept.append((digest("report", row["id"]), row))
        if len(kept) > 128:
            kept[:] = sorted(kept, key=lambda pair: pair[0])[:64]

    def shown(self, text_bytes: int) -> list[dict[str, Any]]:
        """Examples for the page, in turns from every stratum, as many as there is room for."""
        # By prompt, strategy and model before language, so that languages take turns.
        keys = sorted(self._strata, key=lambda key: (*key[1:], key[0]))
        strata = [sorted(self._strata[key], key=lambda pair: pair[0])[:64] for key in keys]
        found: list[dict[str, Any]] = []
        size = 0
        for turn in range(max(map(len, strata), default=0)):
            for kept in strata:
                if turn < len(kept):
                    row = _shown(kept[turn][1])
                    size += len(json.dumps(row, ensure_ascii=False).encode())
                    if size > text_bytes:
                        return found
                    found.append(row)
        return found

    def distributions(self) -> dict[str, Any]:
        """The counts, by the number of the bin."""
        return {
            "lengths": self.lengths,
            "scores": self.scores,
            "hardness": self.hardness,
            "judged": self.judged,
        }


def _count(bins: Counts, number: int) -> None:
    bins[number] = bins.get(number, 0) + 1


def _grades(provenance: dict[str, Any]) -> dict[str, float]:
    """What a judge gave, where one was asked."""
    given = json.loads(provenance.get("judged") or "{}")
    return {key: given[key] for key in ("relevance", "language", "answerable") if key in given}


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    made = row["provenance"]
    negatives = zip(row["negatives"], row["negative_scores"], strict=False)
    return {
        "id": row["id"],
        "task": row["task"],
        "instruction": row["instruction"][:LONGEST_NEGATIVE],
        "lang": row["query_lang"],
        "positive_lang": row["positive_lang"],
        "query": row["query"][:LONGEST],
        "positive": row["positives"][0][:LONGEST],
        "score": round(row["positive_scores"][0], 3) if row["positive_scores"] else None,
        "negatives": [[text[:LONGEST_NEGATIVE], round(score, 3)] for text, score in negatives][
            :MOST_NEGATIVES
        ],
        "num_negatives": len(row["negatives"]),
        "unverified": row["unverified"],
        "grades": _grades(made),
        **{key: made[key][:200] for key in ("prompt", "strategy", "source", "license")},
        "model": (made["model"] or made["engine"])[:200],
    }


def _max_share(run_dir: Path) -> float | None:
    """The share of the positive's score that a negative had to stay below."""
    for path in sorted(run_dir.glob("stages/*-mine/stage.json")):
        share = json.loads(path.read_text(encoding="utf-8"))["made_of"].get("max_share")
        return float(share) if share else None
    return None


def _language_map(
    summary: dict[str, Any],
    queries: dict[str, list[tuple[str, bool]]],
    dropped: Sequence[dict[str, Any]],
) -> list[dict[str, Any]]:
    """For each language asked for, in which the queries came: by a look at some that were kept,
    and at some that were dropped for their language, each scaled up to their number."""
    wrong: dict[str, Counter[str]] = {}
    for row in summary["account"]:
        for stage in row["stages"].values():
            for reason in _WRONG:
                wrong.setdefault(row["lang"], Counter())[reason] += stage["dropped"].get(reason, 0)
    found = []
    for lang in summary["lang"].split(","):
        came: dict[str, float] = {}
        kept = [_came(text, lang, "?" if doubt else "") for text, doubt in queries.get(lang, [])]
        _scale(came, kept, summary["by_language"].get(lang, 0))
        strange = [
            _came(sample["query"], lang, "?")
            for sample in dropped
            if sample["reason"] in _WRONG and sample["lang"] == lang
        ]
        _scale(came, strange, wrong.get(lang, Counter()).total())
        found.append({"lang": lang, "came": {k: round(n, 1) for k, n in came.items()}})
    return found


def _scale(came: dict[str, float], labels: Sequence[str], total: int) -> None:
    for label, num in Counter(labels or ["?"] * bool(total)).items():
        came[label] = came.get(label, 0.0) + num * total / max(1, len(labels))


def _came(text: str, lang: str, otherwise: str) -> str:
    """The language that a query plainly came in, where it is another than the one asked for;
    `otherwise` is "" for that, or "?" where nobody can tell."""
    return langid.dominant_other([text], lang) or otherwise
