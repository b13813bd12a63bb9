"""The summary and the dataset card, with names that try to break out of it."""

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from markdown_it import MarkdownIt
from markdown_it.token import Token
from rich.console import Console

from pipelines.view import print_calls, print_unverified
from sdg.account import SliceCount
from sdg.campaign import Outcome
from sdg.languages import language
from sdg.runner import StageReport
from sdg.schema import Example, to_table
from sdg.store import write_table
from sdg.summary import (
    USAGE,
    approximate_recall,
    count_examples,
    make_summary,
    render_card,
    sample_examples,
    unverified_by_language,
    write_summary,
)
from tests.rows import make_example, make_provenance

HOSTILE = [
    "a|b",
    "---",
    "two\nlines",
    "two\r\n\r\n# heading",
    "<script>alert(1)</script>",
    "`code` ```",
    "back\\slash\\",
    "\\|x|",
    "[link](javascript:alert(1))",
    "![image](http://x/y.png)",
    "license: mit\nlanguage: xx",
    "\u2028---\u2028",
    "x" * 5000,
    "",
    "\0\x1b[31m",
    "ኢትዮጵያ",
]
# https://huggingface.co/docs/hub/datasets-cards, beside `configs`
CARD_KEYS = {"pretty_name", "language", "license", "task_categories", "tags", "size_categories"}


def report(name: str, num_in: int, dropped: dict[str, int], **counters: int) -> StageReport:
    kept = num_in - sum(dropped.values())
    of = {"task": "", "model": "", "prompt": ""} if name == "seed" else OF
    slices = (
        SliceCount(
            lang="sw", **of, num_in=num_in, num_kept=kept, num_out=kept, dropped=dict(dropped)
        ),
    )
    return StageReport(name, num_in, kept, kept, dropped, counters, seconds=1.5, slices=slices)


OF = {"task": "retrieval", "model": "m", "prompt": "retrieval/short_query"}


REPORTS = [
    report("seed", 10, {"too_short": 2}),
    report("infer", 32, {"a|b\n---": 1}, calls=33, reused=4, tokens_in=100, tokens_out=50),
    report("mine", 31, {}, negatives=240, **{"asked:sw": 20, "served:sw": 19, "asked:am": 11}),
    report("mix", 31, {}),
]
SETTINGS = {
    "lang": "sw",
    "seed": 7,
    "pairs_wanted": None,
    "corpus": "bundled (sw)",
    "engine": "extractive",
    "model": "",
    "prompts": {"retrieval/short_query": 1.0},
}


LOSS = {"lang": "sw", "stage": "filter", "num_in": 2, "num_lost": 2, "dropped": {"refusal": 2}}


def examples_with(folder: Path, *provenances: dict[str, Any], **changes: Any) -> Path:
    """A folder of examples in two files, one for each of the provenances."""
    examples = [
        make_example(i, provenance=make_provenance(**values), **changes)
        for i, values in enumerate(provenances)
    ]
    for i in range(2):
        write_table(folder / "examples" / f"{i:05d}.parquet", to_table(examples[i::2], Example))
    return folder / "examples"


def summary_of(examples: Path, **settings: Any) -> dict[str, Any]:
    settings = {**SETTINGS, **settings}
    usage = {"calls": 33, "reused": 4, "tokens_in": 100, "tokens_out": 50, "gpu_seconds": 1.5}
    models = {settings["model"] or settings["engine"]: usage}
    return make_summary("run", settings, Outcome(REPORTS, [], {}, models), examples)


def parse(card: str) -> tuple[dict[str, Any], str]:
    """Front matter and body, cut as the Hub cuts them."""
    match = re.match(r"---\n(.*?)\n---\n(.*)", card, re.DOTALL)
    assert match
    return yaml.safe_load(match[1]), match[2]


def tokens_of(body: str) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse(body)


def tables_of(body: str) -> list[list[list[str]]]:
    """Tables, rows and cells as a Markdown reader sees them."""
    tables: list[list[list[str]]] = []
    for token in tokens_of(body):
        if token.type == "table_open":
            tables.append([])
        elif token.type == "tr_open":
            tables[-1].append([])
        elif token.type == "inline" and tables and token.level > 3:
            tables[-1][-1].append(token.content)
    return tables


def test_counts_are_those_of_the_files(tmp_path: Path) -> None:
    examples = examples_with(
        tmp_path,
        {"license": "mit", "strategy": "title"},
        {"license": "mit", "prompt": "retrieval/other"},
        {"license": "cc-by-4.0", "strategy": "title"},
    )
    counts = count_examples(examples)
    assert counts["license"] == {"mit": 2, "cc-by-4.0": 1}
    assert counts["strategy"] == {"title": 2, "written": 1}
    assert counts["prompt"] == {"retrieval/short_query": 2, "retrieval/other": 1}
    assert counts["query_lang"] == {"sw": 3}
    summary = summary_of(examples)
    for key in ("by_language", "by_prompt", "by_strategy", "by_license"):
        assert sum(summary[key].values()) == summary["examples"] == 3
    assert list(summary["by_license"]) == ["mit", "cc-by-4.0"]  # most first
    assert [summary[n] for n in ("calls", "reused", "tokens_in", "tokens_out")] == [33, 4, 100, 50]
    assert summary["seconds"] == 6.0
    assert summary["files"] == ["examples/00000.parquet", "examples/00001.parquet"]
    assert summary["bytes"] == sum(path.stat().st_size for path in examples.iterdir())
    assert summary["mining"] == {
        "am": {"asked": 11, "served": 0},
        "sw": {"asked": 20, "served": 19},
    }
    assert [stage["num_in"] for stage in summary["stages"]] == [10, 32, 31, 31]
    assert json.loads(json.dumps(summary)) == summary


def test_the_card_says_what_the_summary_says(tmp_path: Path) -> None:
    examples = examples_with(tmp_path, {"license": "mit"}, {"license": "CC-BY-4.0"})
    write_summary(tmp_path, summary_of(examples), [language("sw")])
    front, body = parse((tmp_path / "README.md").read_text(encoding="utf-8"))
    assert front["language"] == ["sw"]
    assert front["license"] == ["cc-by-4.0", "mit"]
    assert front["size_categories"] == ["n<1K"]
    stages, account, prompts, _, languages, licenses = tables_of(body)
    assert account[1:] == [["Swahili (sw)", "32", "31", "too_short 2, a|b\\n--- 1"]]
    assert stages[1] == ["seed", "10", "8", "8", "too_short 2"]
    assert [row[0] for row in stages] == ["stage", "seed", "infer", "mine", "mix"]
    assert stages[4][-1] == "0"
    assert prompts[1:] == [["retrieval/short_query", "2"]]
    assert languages[1:] == [["sw", "2"]]
    assert sorted(licenses[1:]) == [["CC-BY-4.0", "1"], ["mit", "1"]]
    saved = json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))
    assert saved["examples"] == 2


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_no_name_breaks_the_card(name: str, tmp_path: Path) -> None:
    examples = examples_with(
        tmp_path, {"license": name}, {"license": "mit", "prompt": name, "strategy": name}
    )
    summary = summary_of(examples, corpus=name or "x", model=name, engine="vllm")
    summary["stages"][0]["dropped"] = {name: 2}
    summary["account"][0] |= {"lang": "sw", "prompt": name, "model": name}
    summary["account"][0]["stages"]["seed"]["dropped"] = {name: 2}
    summary["warnings"] = [{**LOSS, "dropped": {name: 2}, "stage": name or "x"}]
    card = render_card(summary, [language("sw")])
    plain_summary = {**summary_of(examples, engine="vllm", model="m"), "warnings": [LOSS]}
    plain = render_card(plain_summary, [language("sw")])
    front, body = parse(card)
    assert set(front) <= CARD_KEYS | {"configs"}
    assert front["license"] == ["mit", "other"]
    assert front["language"] == ["sw"]
    stages, account, calls, *counts = tables_of(body)
    assert [row[1:3] for row in account[1:]] == [["32", "31"]]
    assert calls[1][1:] == ["33", "4", "100", "50"]
    assert stages[1][:4] == ["seed", "10", "8", "8"]
    assert stages[1][4].split(" ")[-1] == "2"
    assert [sum(int(row[-1]) for row in table[1:]) for table in counts] == [2, 2, 2, 2]
    tokens, plain_tokens = tokens_of(body), tokens_of(parse(plain)[1])
    assert [t.type for t in tokens] == [t.type for t in plain_tokens]  # no block more or less
    inline = [child.type for token in tokens for child in token.children or []]
    assert inline.count("code_inline") == 1  # the corpus
    assert set(inline) <= {
        "text",
        "text_special",
        "softbreak",
        "em_open",
        "em_close",
        "code_inline",
    }
    assert "\0" not in card
    assert "\x1b" not in card


def test_a_judges_calls_are_in_the_totals(tmp_path: Path) -> None:
    """Beside a writer that is no model, too: on the screen, in the summary and on the card."""
    writer = {"calls": 160, "reused": 0}
    judge = {"calls": 100, "reused": 276, "tokens_in": 1_500, "tokens_out": 20}
    models = {"extractive": writer, "judge-1": judge}
    examples = examples_with(tmp_path, {})
    summary = make_summary("run", SETTINGS, Outcome(REPORTS, [], {}, models), examples)
    assert [summary[name] for name in USAGE] == [260, 276, 1_500, 20]
    assert "| judge-1 | 100 | 276 | 1500 | 20 |" in render_card(summary, [language("sw")])
    console = Console(record=True, width=80, file=io.StringIO())
    print_calls(console, {"extractive": writer})
    assert console.export_text() == ""
    print_calls(console, models)
    lines = [re.findall(r"[\w,-]+", line) for line in console.export_text().splitlines()]
    assert ["judge-1", "100", "276", "1,500", "20"] in lines
    assert ["all", "260", "276", "1,500", "20"] in lines


def test_query_languages_are_listed_without_region(tmp_path: Path) -> None:
    summary = summary_of(examples_with(tmp_path, {}, query_lang="zh-Hant"))
    front, _ = parse(render_card(summary, [language("sw")]))
    assert front["language"] == ["sw", "zh"]


@pytest.mark.parametrize(
    ("num", "category"),
    [
        (0, "n<1K"),
        (999, "n<1K"),
        (1_000, "1K<n<10K"),
        (123_456, "100K<n<1M"),
        (1_000_000, "1M<n<10M"),
        (10_000_000, "10M<n<100M"),
        (100_000_000, "100M<n<1B"),
    ],
)
def test_size_categories_are_the_hubs(num: int, category: str, tmp_path: Path) -> None:
    summary = {**summary_of(examples_with(tmp_path, {})), "examples": num}
    front, _ = parse(render_card(summary, [language("sw")]))
    assert front["size_categories"] == [category]


def test_samples_show_each_prompt_and_strategy_first(tmp_path: Path) -> None:
    kinds = ["title", "title", "title", "title", "crop", "crop"]
    examples = examples_with(tmp_path, *({"strategy": kind} for kind in kinds))
    found = [row["provenance"]["strategy"] for row in sample_examples(examples, 3)]
    assert found == ["title", "crop", "title"]


@pytest.mark.parametrize("engine", ["extractive", "vllm"])
def test_the_card_says_who_wrote_the_queries(engine: str, tmp_path: Path) -> None:
    card = render_card(summary_of(examples_with(tmp_path, {}), engine=engine), [language("sw")])
    assert ("no language model wrote them" in card) == (engine == "extractive")


def test_the_recall_of_an_approximate_search_is_told() -> None:
    counts = {"approximate:there": 200, "approximate:found": 190}
    mined = [report("mine", 10, {}, **counts), report("mine", 5, {}, **counts)]
    assert approximate_recall(mined) == {"approximate_recall": 0.95}
    assert approximate_recall([report("mine", 10, {}, negatives=3)]) == {}


def test_what_nobody_could_verify_is_told_by_language(tmp_path: Path) -> None:
    counters = {"verified_query:sw": 8, "unverified_query:sw": 2, "verified_positive:sw": 10}
    counters |= {"unverified_query:nus": 3, "unverified_positive:nus": 3, "masked": 1}
    counters |= {"keywords_query:nus": 2}
    found = unverified_by_language([report("filter", 13, {}, **counters), *REPORTS])
    assert [tuple(one.model_dump().values()) for one in found] == [
        ("nus", "positive", 3, 3, 0),
        ("nus", "query", 3, 3, 2),
        ("sw", "query", 10, 2, 0),
    ]
    console = Console(record=True, width=200, file=io.StringIO())
    print_unverified(console, found)
    said = "Swahili (sw): the language of 2 of 10 queries could not be verified"
    text = console.export_text()
    assert f"warning: {said};" in text
    assert "3 of 3 queries could not be verified (2 are keywords, no sentences); they" in text
    summary = summary_of(examples_with(tmp_path, {}))
    assert summary["unverified"] == []
    summary["unverified"] = [one.model_dump() for one in found]
    assert said in render_card(summary, [language("sw")])
