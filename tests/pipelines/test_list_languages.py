"""make languages: every language with what is there for it, as a table and as JSON."""

import json

import pytest
from rich.cells import cell_len

from pipelines import languages
from pipelines.languages import COLUMNS, Entry, entries, matching, row
from sdg import langid
from sdg.corpora import BUNDLED
from sdg.languages import language
from sdg.prompting import PROMPTS_DIR

ALL = entries()
BY_CODE = {entry.code: entry for entry in ALL}


def test_there_are_more_than_250() -> None:
    assert len(ALL) > 650
    assert [entry.code for entry in ALL] == sorted(BY_CODE)
    assert len({entry.script for entry in ALL}) > 40


def test_what_is_said_is_so() -> None:
    for entry in ALL:
        found = language(entry.code)
        assert (entry.name, entry.autonym, entry.scripts) == (
            found.name,
            found.autonym,
            found.scripts,
        )
        assert entry.detectors == langid.detectors_for(entry.code)
    assert {e.code for e in ALL if e.corpus} == {path.stem for path in BUNDLED.glob("*.jsonl")}
    overrides = {path.stem.partition(".")[2] for path in PROMPTS_DIR.glob("*/*.*.md")}
    assert {e.code for e in ALL if e.overrides} == overrides >= {"sw", "ha", "hi", "ar", "zh", "yo"}


def test_some_by_hand() -> None:
    swahili, arabic = BY_CODE["sw"], BY_CODE["ar"]
    assert (swahili.name, swahili.autonym, swahili.script) == ("Swahili", "Kiswahili", "Latin")
    assert swahili.speakers > 50_000_000
    assert (arabic.direction, arabic.scripts) == ("rtl", ("Arab",))
    assert BY_CODE["nqo"].script == "N’Ko"
    assert BY_CODE["zh"].script == "Simplified Han"


def test_columns_stand_under_each_other_in_cells() -> None:
    starts = {}
    for entry in ALL:
        line = row(entry).replace("\u2068", "").replace("\u2069", "")
        at = line.rindex(f"{entry.speakers:,}") + len(f"{entry.speakers:,}")
        starts[entry.code] = cell_len(line[:at])
    expected = sum(list(COLUMNS.values())[:5]) + 5 + 13
    assert set(starts.values()) == {expected}


@pytest.mark.parametrize(
    ("words", "codes"),
    [
        (["sw"], {"sw"}),
        (["kiswahili"], {"sw"}),
        (["HAUSA", "yo"], {"ha", "yo"}),
        (["ethiopic"], {e.code for e in ALL if e.scripts[0] == "Ethi"}),
        (["no such"], set()),
    ],
)
def test_words_choose(words: list[str], codes: set[str]) -> None:
    assert {entry.code for entry in matching(ALL, words)} == codes
    assert matching(ALL, []) == ALL


def test_json_holds_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    assert languages.main(["--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [
        Entry(**{**r, "scripts": tuple(r["scripts"]), "detectors": tuple(r["detectors"])})
        for r in rows
    ] == ALL


def test_the_table_has_a_line_each_and_no_match_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert languages.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1 : len(ALL) + 1]] == list(BY_CODE)
    assert lines[-1].startswith(f"{len(ALL)} languages in ")
    assert languages.main(["klingonese"]) == 1
    assert "no language matches klingonese" in capsys.readouterr().err
