"""make lint-prompts: the prompts that come along are well; each fault is found where it stands."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines import lint_prompts
from pipelines.lint_prompts import lint, renew
from sdg.prompting import PROMPTS_DIR, load_base

GOOD = """---
task: retrieval
description: a test
instruction: Find it
controls:
  length: [short, long]
  kind: {a: 1}
---
Write a {{ length }} {{ kind }} query in {{ language }} ({{ autonym }}, {{ script }})
for: {{ document }}

Answer with JSON: {"query": "..."}
"""
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """`write(content, name)`: a prompt file; returns the folder."""

    def write(content: str, name: str = "family/query.md") -> Path:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content, encoding="utf-8")
        return tmp_path

    return write


def found(folder: Path) -> list[str]:
    return [str(finding).removeprefix(f"{folder}/") for finding in lint(folder)]


def test_the_prompts_that_come_along_are_well() -> None:
    assert [str(finding) for finding in lint()] == []


def test_a_good_prompt_gives_no_finding(write: Write) -> None:
    assert found(write(GOOD)) == []


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("{{ document }}", "{{ document }} {{ documnet }}", "10: unknown variable 'documnet'"),
        ("{{ document }}", "it", "9: never uses 'document'"),
        (" {{ kind }}", "", "7: control 'kind' is drawn but never used"),
        (" {{ length }}", "", "6: control 'length' is drawn but never used"),
        ("instruction: Find it\n", "", "1: no instruction"),
        ("Find it", '"Find {{ it }}"', "4: unknown variable 'it'"),
        ('{"query": "..."}', "{}", "12: shows no JSON reply; wanted the keys query"),
        ('{"query": "..."}', '{"question": "..."}', "12: asks for question, but a reply has query"),
        ('{"query": "..."}', '{"query": ["..."]}', "12: asks for query[], but a reply has query"),
        ('{"query": "..."}', '{"query": ...}', "12: the reply that the prompt shows is not one"),
        (", {{ script }}", "", "9: names language without script"),
        ("task: retrieval", "task: retrieving", "2: unknown task 'retrieving'"),
        ("task: retrieval", "task: retrieval\nform: wide", "3: form: no 'wide'"),
        ("task: retrieval", "task: retrieval\nseed: pair", "3: seed: retrieval takes no 'pair'"),
        ("task: retrieval", "task: retrieval\ntaks: x", "3: unknown key 'taks'"),
        ("task: retrieval", "task: retrieval\ntask: sts", "3: front matter is not YAML: 'task'"),
        ("task: retrieval", "task: retrieval\nnote: Briefly.", "3: note: given, but the prompt's text"),
        ("{{ document }}", "{{ document", "12: "),
        ("{{ document }}", "{{ document + 1 }}", "1: prompt family/query: "),
    ],
)  # fmt: skip
def test_a_fault_is_found_with_its_line(old: str, new: str, expected: str, write: Write) -> None:
    findings = found(write(GOOD.replace(old, new)))
    assert findings
    assert any(finding.startswith(f"family/query.md:{expected}") for finding in findings), findings


def test_all_findings_come_at_once(write: Write) -> None:
    bad = GOOD.replace("{{ kind }}", "{{ kin }}").replace('"query"', '"q"')
    write(GOOD.replace("Find it", '""'), "family/other.md")
    findings = found(write(bad))
    assert len(findings) == 3
    assert findings == sorted(findings)
    assert "family/other.md:4: no instruction: pairs need one to be trained with" in findings


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("family/Query.md", "no prompt: a name is <family>/<prompt>, in a-z, 0-9 and _"),
        ("family/query.xx.md", "unknown language 'xx'; near ones"),
        ("family/query.swa.md", "no run looks for 'swa'; name the file for 'sw'"),
        ("family/query.zh-Hant.md", "no run looks for 'zh-Hant'; name the file for 'zh'"),
        ("family/qery.sw.md", "overrides nothing: there is no "),
    ],
)
def test_a_file_that_nobody_reads_is_found(name: str, expected: str, write: Write) -> None:
    write("---\nnote: x\n---\n", name)
    findings = found(write(GOOD))
    assert any(finding.startswith(f"{name}:1: {expected}") for finding in findings), findings


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("---\nexamples: [a]\n---\n", "2: examples: given, but the prompt's text does not print"),
        ("---\ncontrols: {lenght: [a]}\n---\n", "2: unknown control 'lenght'; the base has: length, kind"),
        ("---\ncontrols: {length: [a]}\n---\n", "1: replaces text of its base, so it needs base_sha"),
        ("---\nnote: x\n---\nAndika {{ documnet }}", "4: unknown variable 'documnet'"),
        ("---\nbase_sha: '000000000000'\ninstruction: Tafuta\n---\n", "2: base_sha is 000000000000, but"),
        ("---\ntask: sts\n---\n", "2: an override cannot change the task"),
    ],
)  # fmt: skip
def test_a_fault_of_an_override_is_found_there(override: str, expected: str, write: Write) -> None:
    write(override, "family/query.sw.md")
    findings = found(write(GOOD))
    assert any(f.startswith(f"family/query.sw.md:{expected}") for f in findings), findings


def test_drift_is_found_and_renewed(write: Write) -> None:
    own = GOOD.replace("task: retrieval\n", "").replace("Write a", "Andika")
    folder = write(GOOD)
    write(own, "family/query.sw.md")
    assert renew(folder) == [folder / "family/query.sw.md"]
    assert found(folder) == []
    first = load_base("family/query", folder).sha
    assert f'base_sha: "{first}"\n' in (folder / "family/query.sw.md").read_text(encoding="utf-8")
    write(GOOD.replace("Write a", "Write one"))
    (finding,) = found(folder)
    second = load_base("family/query", folder).sha
    assert f"base_sha is {first}, but the base is now {second}" in finding
    assert "make lint-prompts ARGS=--renew" in finding
    assert renew(folder) == [folder / "family/query.sw.md"]
    assert found(folder) == []
    assert renew(folder) == []


def test_the_command_prints_and_fails(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write(GOOD)
    assert lint_prompts.main(["--folder", str(folder)]) == 0
    assert capsys.readouterr().out == "1 prompts: nothing to mend\n"
    write(GOOD.replace("{{ document }}", "it"))
    assert lint_prompts.main(["--folder", str(folder)]) == 1
    assert capsys.readouterr().out.startswith(f"{folder}/family/query.md:9: never uses 'document'")


def test_a_typo_in_any_prompt_is_found(tmp_path: Path) -> None:
    """Whichever of the prompts that come along is spoilt, the finding names it."""
    for path in sorted(PROMPTS_DIR.glob("*/*.md")):
        if path.stem.count("."):
            continue
        folder = tmp_path / path.stem / path.parent.name
        folder.mkdir(parents=True)
        shutil.copy(path, folder)
        copy = folder / path.name
        copy.write_text(copy.read_text(encoding="utf-8").replace('{"', '{{ typo }} {"'), "utf-8")
        findings = lint(folder.parent)
        lines = copy.read_text(encoding="utf-8").splitlines()
        spoilt = next(number for number, line in enumerate(lines, 1) if "typo" in line)
        assert spoilt in [f.line for f in findings if "unknown variable 'typo'" in f.message]
        shutil.rmtree(folder.parent)
