"""The whole road with replies as models write them, and what a second run pays for: a server counts.

Each of six languages has ten passages, and for each a reply that is good, or bad in a way of its
own; see `model_replies`.
"""

import json
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from pipelines.profile import load_profile
from sdg.campaign import Campaign, Outcome
from sdg.cluster import Cluster
from sdg.languages import language
from sdg.runner import Runner
from sdg.schema import Call, Example, read_rows, rows_of
from sdg.summary import total_usage
from tests.engines.scripted_server import Handler, ScriptedServer, ok, serving
from tests.pipelines.model_replies import (
    ACCEPTED,
    KINDS,
    LATIN,
    QUERIES,
    REPAIRED,
    UNREAD,
    passages,
    reply_to,
)
from tests.pipelines.test_generate import ROOT, generate
from tests.test_runner import Silent

LANGS = list(QUERIES)
NUM_CALLS = len(LANGS) * len(KINDS)
JUDGE, UNLOVED = "judge-1", next(kind for kind in KINDS if kind in ACCEPTED)


class Model:
    """Plays a model: knows the passage in a prompt again, and says what is planned for it."""

    def __init__(self) -> None:
        self.places = {
            text: (lang, kind)
            for lang, texts in passages().items()
            for (_, text), kind in zip(texts, KINDS, strict=True)
        }
        self.asked: list[tuple[str, str, str]] = []  # prompt's text, language, kind

    def __call__(self, handler: Handler) -> None:
        prompt = handler.body["messages"][-1]["content"]
        if handler.body["model"] == JUDGE:
            ok(json.dumps(self.judge(prompt)))(handler)
            return
        lang, kind = next(place for text, place in self.places.items() if text in prompt)
        self.asked.append((prompt, lang, kind))
        ok(*reply_to(lang, kind))(handler)

    def judge(self, prompt: str) -> dict[str, Any]:
        """An honest judge, whom one kind of query doesn't please."""
        query = re.findall(r"<query>\n(.*?)\n</query>", prompt, re.DOTALL)[-1]
        texts = re.findall(r'<text number="\d+">\n(.*?)\n</text>', prompt, re.DOTALL)
        places = [self.places[text] for text in texts]
        grades = [5 * (QUERIES[lang].get(kind) == query) for lang, kind in places]
        return {
            "relevance": grades,
            "language": 5 * all(query != queries[UNLOVED] for queries in QUERIES.values()),
            "answerable": 5,
        }


@pytest.fixture(scope="module")
def model() -> Model:
    return Model()


@pytest.fixture(scope="module")
def server(model: Model) -> Iterator[ScriptedServer]:
    with serving() as server:
        server.default = model
        yield server


@pytest.fixture(scope="module")
def folder(server: ScriptedServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the corpus, and a profile."""
    folder = tmp_path_factory.mktemp("kept")
    rows = [
        {"text": text, "title": title, "lang": lang, "license": "CC0-1.0"}
        for lang, texts in passages().items()
        for title, text in texts
    ]
    (folder / "corpus.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    engine = {"name": "openai", "model": "model-1", "base_url": server.url}
    profile = {
        "corpus": {"path": str(folder / "corpus.jsonl")},
        "models": [{"engine": engine, "price_out": 1.0, "sampling": {"max_tokens": 200}}],
        "prompts": {"retrieval/short_query": 1, "retrieval/long_question": 1},
        "replies": {"folder": str(folder / "replies")},
        "stages": {"seed": {"shard_rows": 7}, "render": {"calls_per_seed": 1}},
    }
    (folder / "profile.yaml").write_text(yaml.safe_dump(profile), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    cluster = Cluster(2)
    yield cluster
    cluster.close()


class Runs:
    """Runs of the profile in this process; each tells how many requests the server saw."""

    def __init__(self, folder: Path, cluster: Cluster, server: ScriptedServer) -> None:
        self.folder, self.cluster, self.server = folder, cluster, server

    def run(self, name: str, *sets: str) -> tuple[Outcome, int]:
        profile = load_profile(str(self.folder / "profile.yaml"), {}, sets)
        pipeline = profile.build([language(code) for code in LANGS])
        campaign = Campaign(pipeline, Runner(self.folder / name, LANGS, profile.seed, Silent()))
        campaign.check()
        campaign.read_sources()
        before = len(self.server.requests)
        outcome = campaign.run(self.cluster, lambda number, calls: None)
        return outcome, len(self.server.requests) - before

    def examples(self, name: str) -> list[Example]:
        files = sorted((self.folder / name).glob("stages/8-mix/kept/*.parquet"))
        return rows_of(read_rows(files, Example), Example)


@pytest.fixture(scope="module")
def runs(folder: Path, cluster: Cluster, server: ScriptedServer) -> Runs:
    return Runs(folder, cluster, server)


@pytest.fixture(scope="module")
def first(runs: Runs) -> Outcome:
    """A first run, which makes every call."""
    outcome, asked = runs.run("first")
    assert asked == NUM_CALLS
    return outcome


def usage(outcome: Outcome) -> tuple[float, float]:
    """Calls made and reused, as the summary has them."""
    (found,) = outcome.models.values()
    return found["calls"], found["reused"]


def rows_at(folder: Path, pattern: str) -> list[dict[str, Any]]:
    return [row for path in sorted(folder.glob(pattern)) for row in pq.read_table(path).to_pylist()]


def test_every_reply_comes_to_what_is_planned_for_it(first: Outcome, runs: Runs) -> None:
    assert usage(first) == (NUM_CALLS, 0)
    accepted = {(row.query_lang, row.query) for row in runs.examples("first")}
    assert accepted == {(lang, QUERIES[lang][kind]) for lang in LANGS for kind in ACCEPTED}
    assert len(runs.examples("first")) == len(accepted)
    reports = {report.name: report for report in first.reports}
    assert reports["parse"].dropped == dict.fromkeys(UNREAD.values(), len(LANGS))
    english = {"query_wrong_language": len(LATIN), "query_wrong_script": len(LANGS) - len(LATIN)}
    assert reports["filter"].dropped == english
    for stage in ("infer", "dedupe", "mine", "mix"):
        assert reports[stage].dropped == {}
    for repair in REPAIRED:
        assert reports["parse"].counters[f"repaired_{repair}"] == len(LANGS)


def test_each_language_loses_the_same(first: Outcome, runs: Runs) -> None:
    dropped = rows_at(runs.folder / "first", "stages/4-parse/dropped/*.parquet")
    for lang in LANGS:
        found = sorted(row["reason"] for row in dropped if row["lang"] == lang)
        assert found == sorted(UNREAD.values())
    filtered = rows_at(runs.folder / "first", "stages/5-filter/dropped/*.parquet")
    assert Counter(row["query_lang"] for row in filtered) == dict.fromkeys(LANGS, 1)


def test_a_changed_filter_makes_no_call(first: Outcome, runs: Runs) -> None:
    outcome, asked = runs.run("strict", "stages.filter.filters={length: {max_query: 30}}")
    assert (asked, usage(outcome)) == (0, (0, NUM_CALLS))
    assert outcome.models["model-1"]["tokens_out"] == 0
    report = next(report for report in outcome.reports if report.name == "filter")
    assert report.dropped["query_too_long"] > 0
    calls = rows_at(runs.folder / "first", "stages/3-infer/kept/*.parquet")
    again = rows_at(runs.folder / "strict", "stages/3-infer/kept/*.parquet")
    assert [{**row, "attempts": 0} for row in calls] == again


def judging(server: ScriptedServer) -> str:
    engine = {"name": "openai", "model": JUDGE, "base_url": server.url}
    return f"stages.judge.engine={json.dumps(engine)}"


def test_a_judge_is_asked_about_the_pairs_that_come_to_it(first: Outcome, runs: Runs) -> None:
    outcome, asked = runs.run("judged", judging(runs.server))
    report = next(report for report in outcome.reports if report.name == "judge")
    assert report.num_in == len(runs.examples("first"))
    assert report.dropped == {"judged_bad_language": len(LANGS)}
    assert (asked, outcome.models[JUDGE]["calls"]) == (report.num_in, report.num_in)
    assert outcome.models["model-1"]["calls"] == 0  # the writer's replies are kept ones
    total = total_usage(outcome.models)
    assert (total["calls"], total["reused"]) == (asked, NUM_CALLS)
    kept = rows_at(runs.folder / "judged", "stages/9-mix/kept/*.parquet")
    grades = {json.loads(row["provenance"]["judged"])["language"] for row in kept}
    assert (len(kept), grades) == (report.num_kept, {5.0})
    again, asked = runs.run("judged-again", judging(runs.server))
    assert (asked, again.models[JUDGE]["reused"]) == (0, report.num_in)


def test_a_budget_pays_for_the_judge(first: Outcome, runs: Runs) -> None:
    sets = ("pairs=60", "budget.calls=61", "replies.keep=false", "stages.render.oversample=1")
    outcome, asked = runs.run("poor", judging(runs.server), *sets)
    made = {model: found["calls"] for model, found in outcome.models.items()}
    assert made["model-1"] > 30 and made[JUDGE] > 10  # of the first round alone: 30 each at most
    assert sum(made.values()) == asked <= 61
    assert "budget" in {cell.short for cell in outcome.cells.values()}


def test_more_tokens_are_given_to_what_was_cut_alone(
    first: Outcome, runs: Runs, model: Model
) -> None:
    text = (runs.folder / "profile.yaml").read_text("utf-8").replace("tokens: 200", "tokens: 400")
    (runs.folder / "longer").mkdir()
    (runs.folder / "longer" / "profile.yaml").write_text(text, encoding="utf-8")
    more = Runs(runs.folder / "longer", runs.cluster, runs.server)
    num_before = len(model.asked)
    outcome, asked = more.run("r")
    cut = [kind for kind in KINDS if reply_to("sw", kind)[1] == "length"]
    assert Counter(kind for _, _, kind in model.asked[num_before:]) == dict.fromkeys(
        cut, len(LANGS)
    )
    assert usage(outcome) == (asked, NUM_CALLS - asked)
    assert runs.run("shorter")[1] == 0  # with 200 tokens they are cut still


def test_an_edited_prompt_makes_its_own_calls_alone(
    first: Outcome, runs: Runs, model: Model, tmp_path: Path
) -> None:
    """Edited in a copy of the code, as a prompt writer would; told by --dry-run before."""
    calls = rows_of(
        read_rows(sorted((runs.folder / "first").glob("stages/2-render/kept/*")), Call), Call
    )
    prompt = "retrieval/long_question"
    own = [call for call in calls if call.prompt == prompt and call.lang == "sw"]
    assert 0 < len(own) < len(KINDS)
    for name in ("sdg", "pipelines", "prompts"):
        shutil.copytree(ROOT / name, tmp_path / name)
    file = tmp_path / "prompts" / f"{prompt}.sw.md"
    edited = file.read_text("utf-8").replace('note: "', 'note: "Andika kwa ufupi. ')
    assert edited != file.read_text("utf-8")
    file.write_text(edited, encoding="utf-8")
    command = ("--lang", ",".join(LANGS), "--config", str(runs.folder / "profile.yaml"))
    num_before = len(model.asked)
    told = generate(tmp_path, *command, "--dry-run", PYTHONPATH=str(tmp_path))
    assert told.returncode == 0, told.stderr
    assert len(model.asked) == num_before
    lines = [[cell.strip() for cell in line.split("│")] for line in told.stdout.splitlines()]
    cells = {line[1]: line[2:4] for line in lines if len(line) > 3}
    kept = len(KINDS) - len(own)
    assert cells["sw"] == [str(len(own)), str(kept)]
    assert cells["yo"] == ["0", str(len(KINDS))]
    done = generate(tmp_path, *command, "--run", "edited", PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    asked = model.asked[num_before:]
    assert len(asked) == len(own)
    assert all("Andika kwa ufupi." in text and lang == "sw" for text, lang, _ in asked)
    assert re.search(rf"model-1\W+{len(own)}\W+{NUM_CALLS - len(own)}\W", done.stdout)
    summary = json.loads((tmp_path / "runs/edited/summary.json").read_text("utf-8"))
    assert (summary["calls"], summary["reused"]) == (len(own), NUM_CALLS - len(own))
    card = (tmp_path / "runs/edited/README.md").read_text("utf-8")
    assert f"| model-1 | {len(own)} | {NUM_CALLS - len(own)} |" in card
