"""A finished run's folder, made of real rows by the real stores, without Ray."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sdg.account import count_slices, slices_of
from sdg.campaign import Outcome
from sdg.languages import language
from sdg.runner import StageReport
from sdg.schema import Example, Pair, Row, to_table
from sdg.stage import split
from sdg.store import StageStore, write_json, write_table
from sdg.summary import make_summary, write_summary
from tests.rows import bundled_seeds, make_example, make_pair, make_provenance

LANGS = ("am", "ar", "bn", "en", "es", "fr", "ha", "hi", "ru", "sw", "th", "zh")
HOSTILE = '</script><script>window.hacked = 1</script><img src=x onerror="window.hacked = 2"><!--'
REASONS = ("query_wrong_language", "refusal", "copied", None, None)
CALLS = {"calls": 100, "tokens_in": 5_000, "tokens_out": 900, "gpu_seconds": 36.0}


def examples_of(lang: str, num: int) -> list[Example]:
    """A title as the query of each passage, the next ones its negatives."""
    seeds = bundled_seeds(lang)
    return [
        make_example(
            i,
            id=f"{lang}-{i}",
            query=seeds[i % len(seeds)].title,
            query_lang=lang,
            positives=[seeds[i % len(seeds)].text],
            positive_lang=lang,
            positive_scores=[0.5],
            negatives=[seeds[(i + j) % len(seeds)].text for j in (1, 2)],
            negative_scores=[0.4, 0.25],
            provenance=make_provenance(strategy=("written", "title")[i % 2]),
        )
        for i in range(num)
    ]


def dropped_pairs(lang: str, num: int) -> list[Pair]:
    seeds = bundled_seeds(lang)[:num]
    return [make_pair(seed.title, seed.text, query_lang=lang, positive_lang=lang) for seed in seeds]


def finished_run(
    run_dir: Path,
    langs: Sequence[str] = LANGS,
    num: int = 8,
    extra: Sequence[Example] = (),
    **settings: Any,
) -> dict[str, Any]:
    """Write the folder; returns its summary. `filter` drops three of five pairs of a language, and
    `mine` keeps what it is given."""
    examples = [row for lang in langs for row in examples_of(lang, num)] + list(extra)
    write_table(run_dir / "examples" / "00000.parquet", to_table(examples, Example))
    pairs = [pair for lang in langs for pair in dropped_pairs(lang, 5)]
    reports = [
        _stage(run_dir, "4-infer", pairs, Pair, [None] * len(pairs)),
        _stage(run_dir, "5-filter", pairs, Pair, [*REASONS] * len(langs)),
        _stage(run_dir, "7-mine", examples, Example, [None] * len(examples)),
    ]
    made = {
        "lang": ",".join(langs),
        "seed": 7,
        "pairs_wanted": None,
        "corpus": "bundled",
        "engine": "openai",
        "model": "some-model",
        "prompts": {"retrieval/short_query": 1.0},
        "prices": {"some-model": {"in": 2.0, "out": 10.0}},
        **settings,
    }
    outcome = Outcome(reports, [{}], {}, {"some-model": CALLS})
    summary = make_summary(run_dir.name, made, outcome, run_dir / "examples")
    write_summary(run_dir, summary, [language(code) for code in langs])
    write_json(run_dir / "stages" / "7-mine" / "stage.json", {"made_of": {"max_share": 0.95}})
    return summary


def _stage(
    run_dir: Path, folder: str, rows: Sequence[Row], model: type[Row], reasons: list[str | None]
) -> StageReport:
    store, table = StageStore(run_dir / "stages" / folder), to_table(rows, model)
    result = split(table, reasons)
    columns = (slices_of(part) for part in (table, result.kept, result.dropped))
    slices = count_slices(*columns, result.dropped["reason"], result.num_kept)
    done = store.write("00000", table.num_rows, result, 1.0, slices)
    store.append(done)
    return StageReport.of(folder.partition("-")[2], [done], store.slices())
