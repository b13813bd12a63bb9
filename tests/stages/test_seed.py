"""The first stage: what becomes a seed, what is dropped and why, and what stops a run."""

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pydantic import ValidationError

from sdg import langid
from sdg.corpora import CorpusConfig
from sdg.errors import UserError
from sdg.schema import Document, Seed, check_schema
from sdg.stage import Context, Inputs, Result, Shard
from sdg.stages.seed import SeedStage

NO_INPUT = Inputs((), lambda shard, columns: pa.table({}))
TEXT = "Mji wa Mombasa una bandari kubwa ambayo meli za nchi nyingi hufika kila siku."
OTHER = "Wakulima wa milimani hupanda viazi, mahindi na maharage wakati wa mvua ndefu."
ENGLISH = "The farmers of the highlands plant potatoes, maize and beans in the long rains."


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def run(
    tmp_path: Path, rows: list[dict[str, Any]], lang: str = "sw", **settings: Any
) -> list[Result]:
    """Prepare and run the stage over a JSONL corpus of `rows`; one result a shard."""
    corpus = CorpusConfig(path=str(write(tmp_path / "corpus.jsonl", rows)))
    stage = SeedStage(corpus=corpus, **settings)
    ctx = Context(langs=tuple(lang.split(",")), seed=0, dir=tmp_path / "prepared")
    ctx.dir.mkdir(exist_ok=True)
    stage.prepare(NO_INPUT, ctx)
    state = stage.open(ctx)
    results = []
    for name in stage.shards(NO_INPUT, ctx):
        table = stage.load(name, NO_INPUT, ctx)
        check_schema(table.schema, Document, name)
        result = stage.run(Shard(name, table), ctx, state)
        assert result.num_kept + result.dropped.num_rows == table.num_rows
        check_schema(result.kept.schema, Seed, name)
        results.append(result)
    return results


def seeds(results: list[Result]) -> list[dict[str, Any]]:
    return [row for result in results for row in result.kept.to_pylist()]


def dropped(results: list[Result]) -> dict[int, str]:
    """Reason by corpus row."""
    rows = [row for result in results for row in result.dropped.to_pylist()]
    return {row["row"]: row["reason"] for row in rows}


def refusal(tmp_path: Path, rows: list[dict[str, Any]], **settings: Any) -> str:
    with pytest.raises(UserError) as caught:
        run(tmp_path, rows, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def hashed(*parts: str) -> str:
    """The digest of `sdg.text`, written out."""
    data = b"".join(len(part.encode()).to_bytes(8, "little") + part.encode() for part in parts)
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def test_a_document_becomes_a_seed(tmp_path: Path) -> None:
    row = {
        "id": "k1",
        "title": " Bandari\nya  Mombasa ",
        "text": f"\n {TEXT[:10]}\u200b{TEXT[10:]}\t",
    }
    (result,) = run(tmp_path, [{**row, "license": "CC0-1.0", "lang": "sw-TZ"}])
    assert result.kept.to_pylist() == [
        {
            "id": hashed("seed", TEXT, "Bandari ya Mombasa"),
            "text": TEXT,
            "title": "Bandari ya Mombasa",
            "lang": "sw",
            "source": "corpus.jsonl#k1",
            "license": "CC0-1.0",
            "kind": "passage",
            "fields": "{}",
        }
    ]
    assert result.counters == {"chunks": 1, "short_chunks_left_out": 0}


def test_id_depends_on_content_alone(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (one,) = seeds(run(tmp_path / "a", [{"id": 1, "text": TEXT, "license": "MIT"}]))
    _, two = seeds(run(tmp_path / "b", [{"id": 8, "text": OTHER}, {"id": 9, "text": TEXT}]))
    assert one["id"] == two["id"]
    assert two["license"] == "unknown"


def test_reasons(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"text": TEXT},
        {"text": None},
        {"text": " \u200b\n "},
        {"text": "Mji wa Mombasa."},
        {"text": "*** --- ***" * 20},
        {"text": OTHER, "lang": "en"},
        {"text": TEXT.upper().replace(",", " !")},  # a copy but for case and punctuation
        {"text": OTHER, "lang": "swh"},  # the first usable one: no copy of row 5
        {"text": OTHER, "lang": "not a language"},
    ]
    results = run(tmp_path, rows)
    assert dropped(results) == {
        **{1: "no_text", 2: "empty_text", 3: "too_short", 4: "too_short"},
        **{5: "other_language", 6: "duplicate_document", 8: "duplicate_document"},
    }
    assert [seed["text"] for seed in seeds(results)] == [TEXT, OTHER]
    table = results[0].dropped
    assert table.schema.names == [*Document.model_fields, "reason", "detail"]
    assert table.to_pylist()[0]["error"] == "no_text"


def test_duplicates_over_shards(tmp_path: Path) -> None:
    """Against a plain count: of each text, only its first row lives."""
    rows = [{"text": f"{OTHER} {n * n % 37}", "title": str(n)} for n in range(300)]
    results = run(tmp_path, rows, shard_rows=7)
    assert len(results) == 43  # 300 rows, 7 a shard
    first: dict[str, int] = {}
    for index, row in enumerate(rows):
        first.setdefault(row["text"], index)
    assert dropped(results) == {
        index: "duplicate_document" for index in range(300) if index not in first.values()
    }
    assert [seed["title"] for seed in seeds(results)] == [str(index) for index in first.values()]
    assert sum(result.num_kept for result in results) == len(first)


def test_shards_are_in_order(tmp_path: Path) -> None:
    rows = [{"text": f"{TEXT} {n}"} for n in range(25)]
    results = run(tmp_path, rows, shard_rows=2)
    assert [seed["text"] for seed in seeds(results)] == [row["text"] for row in rows]
    assert sorted(path.name for path in (tmp_path / "prepared").rglob("*") if path.is_file()) == [
        *(f"{n:05d}.parquet" for n in range(13)),
        "duplicates.npy",
    ]


def test_limit(tmp_path: Path) -> None:
    rows = [{"text": f"{TEXT} {n}"} for n in range(25)]
    results = run(tmp_path, rows, limit=10, shard_rows=4)
    assert [result.num_kept for result in results] == [4, 4, 2]


def test_long_documents_are_cut(tmp_path: Path) -> None:
    sentences = [
        f"Hadithi namba {n} inasimulia jinsi watu walivyosafiri baharini." for n in range(60)
    ]
    (result,) = run(tmp_path, [{"text": " ".join(sentences), "title": "Safari"}], max_chars=500)
    parts = [row["text"] for row in result.kept.to_pylist()]
    assert len(parts) > 1
    assert " ".join(parts) == " ".join(sentences)
    assert all(len(part) <= 500 and part.endswith(".") for part in parts)
    assert {row["title"] for row in result.kept.to_pylist()} == {"Safari"}
    assert result.num_kept == 1
    assert result.counters["chunks"] == len(parts)
    assert len({row["id"] for row in result.kept.to_pylist()}) == len(parts)


def test_min_chars_weighs_scripts(tmp_path: Path) -> None:
    rows = [
        {"text": "长城是中国古代的防御工程之一"},  # 14 Han characters say as much as 42 letters
        {"text": "长城是古代的防御工程之一。"},  # 12: 36
        {"text": "a" * 39},
        {"text": "b" * 40},
    ]
    assert dropped(run(tmp_path, rows, lang="zh")) == {1: "too_short", 2: "too_short"}


def test_a_title_of_a_page_is_no_title(tmp_path: Path) -> None:
    (seed,) = seeds(run(tmp_path, [{"text": TEXT, "title": "neno " * 100}]))
    assert seed["title"] == ""


def test_half_surrogates_do_no_harm(tmp_path: Path) -> None:
    (tmp_path / "corpus.jsonl").write_text("", encoding="utf-8")
    (seed,) = seeds(run(tmp_path, [{"text": TEXT + " \ud83d", "title": "\udc00a", "id": "\ud800"}]))
    assert (seed["text"], seed["title"], seed["source"]) == (TEXT, "a", "corpus.jsonl")


# What stops a run


def test_nothing_usable(tmp_path: Path) -> None:
    message = refusal(tmp_path, [{"text": None}, {"text": None}, {"text": "a"}])
    assert "none of its 3 documents can be used (no_text 2, too_short 1)" in message
    assert "--set corpus.text=<column>" in message
    assert "stages.seed.min_chars" in refusal(tmp_path, [{"text": "Mji."}])
    message = refusal(tmp_path, [{"text": ENGLISH, "lang": "en"}])
    assert "says en, not sw: give LANG=en" in message


def test_no_documents(tmp_path: Path) -> None:
    (tmp_path / "corpus.txt").write_text("\n \n", encoding="utf-8")
    stage = SeedStage(corpus=CorpusConfig(path=str(tmp_path / "corpus.txt")))
    with pytest.raises(UserError, match="holds no documents"):
        stage.prepare(NO_INPUT, Context(langs=("sw",), seed=0, dir=tmp_path))


def test_a_corpus_in_another_language(tmp_path: Path) -> None:
    rows = [{"text": f"{ENGLISH} {n}"} for n in range(20)]
    message = refusal(tmp_path, rows)
    assert message.endswith(
        "corpus.jsonl looks English (en), not Swahili (sw): give LANG=en, or a Swahili corpus. "
        "(--set stages.seed.check_language=false to go on regardless)"
    )
    assert len(seeds(run(tmp_path, rows, check_language=False))) == 20
    assert len(seeds(run(tmp_path, rows, lang="en"))) == 20


def test_check_language_off_takes_wrong_labels_too(tmp_path: Path) -> None:
    assert len(seeds(run(tmp_path, [{"text": TEXT, "lang": "en"}], check_language=False))) == 1


def test_the_language_is_judged_once_by_a_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def spy(texts: list[str], lang: str) -> str | None:
        asked.append(len(texts))
        return "en" if len(texts) == 7 else None

    monkeypatch.setattr(langid, "dominant_other", spy)
    run(tmp_path, [{"text": f"{TEXT} {n}"} for n in range(450)])
    assert asked == [200]
    assert "looks English" in refusal(tmp_path, [{"text": f"{TEXT} {n}"} for n in range(7)])


# Settings


@pytest.mark.parametrize(
    "settings",
    [
        {"min_chars": 0},
        {"max_chars": 10},
        {"limit": 0},
        {"shard_rows": 0},
        {"corpus": {"txt": "a"}},
    ],
)
def test_bad_settings(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        SeedStage.model_validate(settings)


def test_rows_in_other_languages_are_none_of_the_limit(tmp_path: Path) -> None:
    rows = [{"text": f"{i} {ENGLISH}", "lang": "en"} for i in range(10)]
    rows += [{"text": f"{i} {TEXT}", "lang": "sw"} for i in range(8)]
    found = run(tmp_path, rows, limit=5, check_language=True)
    assert [row["text"] for row in seeds(found)] == [f"{i} {TEXT}" for i in range(5)]


def test_fingerprint_knows_settings_and_corpus(tmp_path: Path) -> None:
    path = write(tmp_path / "c.jsonl", [{"text": TEXT}])
    stage = SeedStage(corpus=CorpusConfig(path=str(path)))
    before = stage.fingerprint()
    assert before["shard_rows"] == 128
    write(path, [{"text": TEXT[::-1]}])  # as many bytes
    changed = {key for key, value in stage.fingerprint().items() if before[key] != value}
    assert changed == {"corpus_files"}
    assert "corpus_files" not in SeedStage().fingerprint()


def test_the_same_corpus_gives_the_same_bytes(tmp_path: Path) -> None:
    rows = [{"text": f"{TEXT} {n % 40}", "title": str(n)} for n in range(100)]
    once, again = (run(tmp_path, rows, shard_rows=9) for _ in range(2))
    assert [result.kept for result in once] == [result.kept for result in again]
    assert Counter(dropped(once).values()) == {"duplicate_document": 60}


# Several languages


def labelled(lang: str, text: str, num: int) -> list[dict[str, Any]]:
    return [{"text": f"{text} {chr(97 + i)}{chr(97 + i)}.", "lang": lang} for i in range(num)]


def test_a_corpus_is_parted_by_its_language_column(tmp_path: Path) -> None:
    rows = [*labelled("swh", TEXT, 3), *labelled("en", ENGLISH, 2), *labelled("fr", "Le " * 20, 1)]
    results = run(tmp_path, [*rows, {"text": OTHER}], lang="en,sw", check_language=False)
    assert Counter(row["lang"] for row in seeds(results)) == {"sw": 3, "en": 2}
    assert all((row["lang"] == "en") == ("farmers" in row["text"]) for row in seeds(results))
    assert dropped(results) == {5: "other_language", 6: "no_language"}


def test_the_limit_is_of_each_language(tmp_path: Path) -> None:
    rows = [*labelled("sw", TEXT, 9), *labelled("en", ENGLISH, 9)]
    results = run(tmp_path, rows, lang="sw,en", limit=4)
    assert Counter(row["lang"] for row in seeds(results)) == {"sw": 4, "en": 4}


def test_several_languages_without_a_language_column_are_refused(tmp_path: Path) -> None:
    said = refusal(tmp_path, [{"text": TEXT}, {"text": OTHER}], lang="sw,ha")
    assert "no language column" in said
    assert "corpus.lang=" in said


def test_a_language_that_the_corpus_lacks_is_named(tmp_path: Path) -> None:
    assert "Hausa (ha)" in refusal(tmp_path, labelled("sw", TEXT, 3), lang="sw,ha")


def test_a_language_that_is_labelled_wrong_is_refused(tmp_path: Path) -> None:
    rows = [*labelled("en", ENGLISH, 9), *labelled("sw", ENGLISH, 9)]
    said = refusal(tmp_path, rows, lang="en,sw")
    assert "what it has as sw looks English (en)" in said


def test_bundled_corpora_of_all_languages_are_read(tmp_path: Path) -> None:
    stage, ctx = SeedStage(), Context(("sw", "am", "zh"), 0, tmp_path)
    stage.prepare(NO_INPUT, ctx)
    state = stage.open(ctx)
    kept = [
        stage.run(Shard(name, stage.load(name, NO_INPUT, ctx)), ctx, state).kept
        for name in stage.shards(NO_INPUT, ctx)
    ]
    assert Counter(row["lang"] for table in kept for row in table.to_pylist()) == {
        "sw": 40,
        "am": 40,
        "zh": 40,
    }
