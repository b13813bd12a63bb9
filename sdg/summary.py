"""What a run made, for people and programs: `summary.json` and the dataset card."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict

from sdg.account import Loss, SliceCount, account, warnings
from sdg.campaign import Outcome
from sdg.languages import Language, language
from sdg.runner import StageReport
from sdg.schema import SCHEMA_VERSION
from sdg.stages.decontaminate import contamination
from sdg.storage import open_parquet, write_text
from sdg.store import write_json

# Licence names that the Hub's card metadata knows; others go in as "other".
_HUB_LICENSES = frozenset(
    {
        *("apache-2.0", "mit", "unlicense", "bsd-3-clause", "gpl-3.0", "gfdl", "unknown"),
        *("odc-by", "odbl", "pddl", "cc", "cc0-1.0", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0"),
        *("cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nd-4.0", "cc-by-nc-2.0"),
        *("cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0"),
        *("cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0"),
    }
)


USAGE = ("calls", "reused", "tokens_in", "tokens_out")


def count_examples(examples: Path) -> dict[str, Counter[str]]:
    """Examples by language, licence, prompt and strategy, read a row group at a time."""
    counts: dict[str, Counter[str]] = {
        key: Counter() for key in ("query_lang", "license", "prompt", "strategy")
    }
    for path in sorted(examples.glob("*.parquet")):
        for batch in open_parquet(path).iter_batches(columns=["query_lang", "provenance"]):
            for row in batch.to_pylist():
                counts["query_lang"][row["query_lang"]] += 1
                for key in ("license", "prompt", "strategy"):
                    counts[key][row["provenance"][key]] += 1
    return counts


def sample_examples(examples: Path, num: int) -> list[dict[str, Any]]:
    """A few examples, as different in strategy and prompt as the first file has them."""
    first = min(examples.glob("*.parquet"))
    rows = next(open_parquet(first).iter_batches(batch_size=512)).to_pylist()
    kinds: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows:
        kinds.setdefault((row["provenance"]["prompt"], row["provenance"]["strategy"]), row)
    different = list(kinds.values())
    return (different + [row for row in rows if row not in different])[:num]


def make_summary(
    run: str, settings: dict[str, Any], outcome: Outcome, examples: Path
) -> dict[str, Any]:
    """The run in numbers; see README for the keys."""
    reports = outcome.reports
    slices = slices_by_stage(outcome)
    files = sorted(examples.glob("*.parquet"))
    counts = count_examples(examples)
    return {
        "run": run,
        "schema_version": SCHEMA_VERSION,
        **settings,
        "examples": sum(counts["query_lang"].values()),
        "by_language": dict(counts["query_lang"].most_common()),
        "by_prompt": dict(counts["prompt"].most_common()),
        "by_strategy": dict(counts["strategy"].most_common()),
        "by_license": dict(counts["license"].most_common()),
        "files": [str(path.relative_to(examples.parent)) for path in files],
        "bytes": sum(path.stat().st_size for path in files),
        # Calls made, of writers and of a judge; those that kept replies answered are `reused`, and
        # have cost no tokens.
        **total_usage(outcome.models),
        "seconds": round(sum(report.seconds for report in reports), 2),
        "stages": [_stage(report) for report in reports],
        "rounds": [
            {"stages": [_stage(done.report) for done in finished.values()]}
            for finished in outcome.rounds
        ],
        "mining": mining_by_language(reports),
        **approximate_recall(reports),
        "unverified": [found.model_dump() for found in unverified_by_language(reports)],
        "models": outcome.models,
        "quota": {name: cell.model_dump() for name, cell in outcome.cells.items()},
        "account": account(slices),
        "warnings": [loss.model_dump() for loss in warnings(slices, settings["lang"].split(","))],
    }


def total_usage(models: Mapping[str, Mapping[str, float]]) -> dict[str, int]:
    """What was asked of all models together."""
    return {name: int(sum(usage.get(name, 0) for usage in models.values())) for name in USAGE}


def mining_by_language(reports: Sequence[StageReport]) -> dict[str, dict[str, int]]:
    """Queries by language that negatives were looked for, and those that got enough."""
    found: dict[str, dict[str, int]] = {}
    for name, num in (item for report in reports for item in report.counters.items()):
        kind, sign, lang = name.partition(":")
        if sign and kind in ("asked", "served"):
            found.setdefault(lang, {"asked": 0, "served": 0})[kind] = num
    return dict(sorted(found.items()))


def approximate_recall(reports: Sequence[StageReport]) -> dict[str, float]:
    """The recall of the approximate search, where there was one: of the nearest passages that exact
    search finds, how many it found."""
    there, found = (
        sum(report.counters.get(f"approximate:{name}", 0) for report in reports)
        for name in ("there", "found")
    )
    return {"approximate_recall": round(found / there, 4)} if there else {}


class Unverified(BaseModel):
    """Pairs of a language that the filters kept though nobody could tell a side's language."""

    model_config = ConfigDict(frozen=True)

    lang: str
    side: str  # query, positive
    num_kept: int
    num_unverified: int
    num_keywords: int = 0  # of these: bags of words, of which the script alone is looked at


def unverified_by_language(reports: Sequence[StageReport]) -> list[Unverified]:
    """What nobody could verify, by language and side; those of which all was verified are left
    out."""
    kept, doubtful, keywords = (Counter[tuple[str, str]]() for _ in range(3))
    for name, num in (item for report in reports for item in report.counters.items()):
        kind, _, lang = name.partition(":")
        verdict, _, side = kind.partition("_")
        if lang and verdict in ("verified", "unverified"):
            kept[lang, side] += num
            doubtful[lang, side] += num if verdict == "unverified" else 0
        elif lang and verdict == "keywords":
            keywords[lang, side] += num
    return [
        Unverified(
            lang=lang,
            side=side,
            num_kept=kept[lang, side],
            num_unverified=num,
            num_keywords=keywords[lang, side],
        )
        for (lang, side), num in sorted(doubtful.items())
        if num
    ]


def say_unverified(found: Unverified) -> str:
    """What nobody could verify, in a sentence."""
    lang = language(found.lang)
    what = "queries" if found.side == "query" else "positives"
    of_keywords = f" ({found.num_keywords:,} are keywords, no sentences)"
    return (
        f"{lang.name} ({lang.code}): the language of {found.num_unverified:,} of "
        f"{found.num_kept:,} {what} could not be verified{of_keywords * bool(found.num_keywords)}; "
        f"they are kept, marked unverified"
    )


def slices_by_stage(outcome: Outcome) -> dict[str, Sequence[SliceCount]]:
    """What each stage did, by slice, in the order of rows."""
    return {report.name: report.slices for report in outcome.reports}


def _stage(report: StageReport) -> dict[str, Any]:
    return {key: value for key, value in vars(report).items() if key != "slices"}


def write_summary(run_dir: Path, summary: dict[str, Any], langs: Sequence[Language]) -> None:
    """Write `summary.json` and the card `README.md` into a run's folder, and where evaluation sets
    were named what they hold of it."""
    write_json(run_dir / "summary.json", summary)
    if hits := contamination(run_dir):
        write_json(run_dir / "contamination.json", hits)
    write_text(run_dir / "README.md", render_card(summary, langs))


def render_card(summary: dict[str, Any], langs: Sequence[Language]) -> str:
    """The dataset card: front matter as the Hugging Face Hub reads it, then the account."""
    codes = [lang.code for lang in langs]
    names = ", ".join(lang.name for lang in langs)
    licenses = [name.lower() for name in summary["by_license"]]
    known = sorted({name if name in _HUB_LICENSES else "other" for name in licenses}) or ["unknown"]
    front = {
        "pretty_name": f"Mbegu: {names} training pairs",
        "language": sorted({code.split("-")[0] for code in [*codes, *summary["by_language"]]}),
        "license": known if len(known) > 1 else known[0],
        "task_categories": ["sentence-similarity", "text-retrieval"],
        "tags": ["synthetic", "embeddings", "mbegu"],
        "size_categories": [_size_category(summary["examples"])],
        "configs": [{"config_name": "default", "data_files": "examples/*.parquet"}],
    }
    engine = summary["engine"] + (f", model {_code(summary['model'])}" if summary["model"] else "")
    sections = [
        f"---\n{yaml.safe_dump(front, allow_unicode=True, sort_keys=False)}---",
        f"# {names}{f' ({langs[0].autonym})' if len(langs) == 1 else ''} training pairs",
        f"{summary['examples']:,} examples for a text embedder: a query, the passage that answers "
        f"it, hard negatives, an instruction and provenance. Made by Mbegu with the {engine} "
        f"engine from `{_code(summary['corpus'])}`, seed {summary['seed']}.",
        _origin(summary["engine"]),
        "## Where every row went",
        _stage_table(summary["stages"]),
        *_warnings(summary["warnings"]),
        *_unverified(summary["unverified"]),
        "## By language",
        _language_table(summary["account"]),
        *_account_of_calls(summary),
        "## What is inside",
        *(
            _count_table(title, summary[key])
            for title, key in (
                ("Prompt", "by_prompt"),
                ("Strategy", "by_strategy"),
                ("Query language", "by_language"),
                ("Licence of the source", "by_license"),
            )
        ),
        "## Reading it",
        '```python\nfrom datasets import load_dataset\n\nload_dataset("parquet", '
        'data_dir="examples", split="train")\n```',
    ]
    return "\n\n".join(sections) + "\n"


def _origin(engine: str) -> str:
    if engine == "extractive":
        return (
            "The queries are taken out of the passages (titles, crops, sentences, key words); "
            "no language model wrote them, and nobody has checked them by hand."
        )
    return "The queries were written by a language model; nobody has checked them by hand."


def _stage_table(stages: Sequence[dict[str, Any]]) -> str:
    lines = ["| stage | in | kept | out | dropped |", "|---|--:|--:|--:|---|"]
    for stage in stages:
        dropped = (
            ", ".join(f"{_code(reason)} {num}" for reason, num in stage["dropped"].items()) or "0"
        )
        lines.append(
            f"| {stage['name']} | {stage['num_in']} | {stage['num_kept']} | {stage['num_out']} "
            f"| {dropped} |"
        )
    return "\n".join(lines)


def _language_table(rows: Sequence[dict[str, Any]]) -> str:
    """Candidates and what was kept of them, by language, and the reasons that took most."""
    calls, kept, dropped = Counter[str](), Counter[str](), dict[str, Counter[str]]()
    for row in rows:
        if row["task"] and row["lang"]:
            calls[row["lang"]] += row["candidates"]
            kept[row["lang"]] += row["kept"]
        why = dropped.setdefault(row["lang"], Counter())
        for stage in row["stages"].values():
            why.update(stage["dropped"])
    lines = ["| language | calls | examples | dropped most for |", "|---|--:|--:|---|"]
    for lang in sorted(dropped):
        most = ", ".join(f"{_code(why)} {num}" for why, num in dropped[lang].most_common(3))
        name = f"{language(lang).name} ({lang})" if lang else "any or other"
        lines.append(f"| {name} | {calls[lang]} | {kept[lang]} | {most or '0'} |")
    return "\n".join(lines)


def _warnings(found: Sequence[dict[str, Any]]) -> list[str]:
    """The account's warnings as a list, where there are any."""
    lines = [f"- {_code(say(Loss(**loss)), 400)}" for loss in found]
    return ["\n".join(["Languages that lost most:", "", *lines])] if lines else []


def _unverified(found: Sequence[dict[str, Any]]) -> list[str]:
    lines = [f"- {_code(say_unverified(Unverified(**one)), 400)}" for one in found]
    return ["\n".join(["Languages that nobody could verify:", "", *lines])] if lines else []


def say(loss: Loss) -> str:
    """A loss in a sentence."""
    lang = language(loss.lang)
    name = f"{lang.name} ({lang.code})"
    if not loss.stage:
        return f"{name}: nothing came in"
    why = ", ".join(f"{reason} {num:,}" for reason, num in list(loss.dropped.items())[:3])
    lost = f"{loss.stage} dropped {loss.num_lost:,} of {loss.num_in:,}" + (f": {why}" * bool(why))
    return f"{name}: nothing is left; {lost}" if loss.emptied else f"{name}: {lost}"


def _account_of_calls(summary: dict[str, Any]) -> list[str]:
    """What was asked of each model; nothing where there is none, of writers or judges."""
    if list(summary["models"]) == ["extractive"]:
        return []
    lines = [
        "| model | calls made | answered by kept replies | tokens in | tokens out |",
        "|---|--:|--:|--:|--:|",
    ]
    for model, usage in summary["models"].items():
        numbers = " | ".join(str(int(usage.get(name, 0))) for name in USAGE)
        lines.append(f"| {_code(model)} | {numbers} |")
    return ["## Who was asked", "\n".join(lines)]


def _count_table(title: str, counts: dict[str, int]) -> str:
    rows = [f"| {_code(name)} | {count} |" for name, count in counts.items()]
    return "\n".join([f"| {title} | examples |", "|---|--:|", *rows])


_MARKUP: dict[str, str | int | None] = {"|": "\\|", "`": "'", "<": "&lt;", "[": "\\["}


def _code(text: str, most: int = 120) -> str:
    """Untrusted text in a Markdown cell: one line, no markup that could break out."""
    return json.dumps(str(text)[:most], ensure_ascii=False)[1:-1].translate(str.maketrans(_MARKUP))


def _size_category(num: int) -> str:
    limits = [(1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K")]
    limits += [(1_000_000, "100K<n<1M"), (10_000_000, "1M<n<10M"), (100_000_000, "10M<n<100M")]
    return next((name for limit, name in limits if num < limit), "100M<n<1B")
