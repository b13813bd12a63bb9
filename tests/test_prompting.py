"""Prompt files: loading, overrides, the sandbox, controls; and every prompt that comes along."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.samples import sample_seeds
from sdg import langid
from sdg.errors import UserError
from sdg.prompting import (
    PROMPTS_DIR,
    Prompt,
    Sampling,
    drift,
    list_prompts,
    load_base,
    load_prompt,
    read_prompt_file,
)
from sdg.schema import Seed
from sdg.tasks import check_prompt, faults
from sdg.text import normalize
from tests.rows import make_seed

BASE = """---
task: retrieval
description: a test
instruction: Find it
controls:
  length: [short, long]
sampling: {temperature: 0.5, top_p: 0.9, max_tokens: 64}
---
Write a {{ length }} query in {{ language }} for: {{ document }}
"""
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """`write(content, name)`: a prompt file; returns the folder to load from."""

    def write(content: str, name: str = "family/query.md") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode())
        load_prompt.cache_clear()
        return tmp_path

    return write


def load(folder: Path, lang: str = "sw") -> Prompt:
    return load_prompt("family/query", lang, folder)


def body(template: str) -> str:
    return f"---\ntask: retrieval\n---\n{template}"


# Front matter


def test_front_matter_is_read(write: Write) -> None:
    prompt = load(write(BASE))
    assert (prompt.name, prompt.task, prompt.instruction) == (
        "family/query",
        "retrieval",
        "Find it",
    )
    assert prompt.controls == {"length": {"short": 1.0, "long": 1.0}}
    assert prompt.sampling == Sampling(temperature=0.5, top_p=0.9, max_tokens=64)
    assert prompt.body == "Write a {{ length }} query in {{ language }} for: {{ document }}"
    assert prompt.used_variables() == {"length", "language", "document"}


@pytest.mark.parametrize("change", [("\n", "\r\n"), ("---\ntask", "\ufeff---\ntask")])
def test_windows_files_are_the_same_prompt(change: tuple[str, str], write: Write) -> None:
    plain = load(write(BASE))
    assert load(write(BASE.replace(*change))) == plain


def test_no_is_norwegian(write: Write) -> None:
    folder = write(BASE.replace("controls:", "query_lang: [no, sw]\ncontrols:"))
    assert load(folder).query_lang == {"no": 1, "sw": 1}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("Write a query.", "must begin with YAML front matter"),
        ("---\ntask: retrieval\nWrite a query.", "must begin with YAML front matter"),
        ("---\n- a\n- b\n---\nx", "must be 'key: value' lines"),
        ("---\ntask: [\n---\nx", "front matter is not YAML"),
        ("---\ntask: retrieval\nseed: page\n---\nx", "seed: Input should be 'passage', 'idea'"),
        ("---\ntask: retrieval\nbase_sha: a\n---\nx", "base_sha: is for overrides"),
        ("---\ntask: retrieval\npositive_lang: {en: -1}\n---\nx", "positive_lang: .*weights"),
        ("---\ntask: retrieval\npositive_lang: [xx]\n---\nx", "unknown language 'xx'"),
        ("---\ntask: a\ntask: b\n---\nx", "'task' stands here twice"),
        ("---\ndescription: d\n---\nx", "task: Field required"),
        ("---\ntask: retrieval\ninstruction:\n---\nx", "instruction: .*valid string"),
        ("---\ntask: retrieval\nsampling: {temperature: -1}\n---\nx", "sampling.temperature"),
        ("---\ntask: retrieval\nsampling: {heat: 1}\n---\nx", "sampling.heat"),
        ("---\ntask: retrieval\nquery_lang: [sw]\n---\nx", "query_lang names no language beside"),
    ],
)
def test_a_wrong_file_is_named_with_the_fault(content: str, message: str, write: Write) -> None:
    folder = write(content)
    with pytest.raises(UserError, match=rf"family/query\.md(:\d+)?: (?s:.*){message}"):
        load(folder)


@pytest.mark.parametrize("key", ["tsak: x", "name: x", "body: x", "sha: x", "1: x"])
@pytest.mark.parametrize("file", ["family/query.md", "family/query.sw.md"])
def test_an_unknown_key_names_its_file_and_what_is_allowed(
    file: str, key: str, write: Write
) -> None:
    write(BASE, "family/query.md")
    write("---\ndescription: mine\n---\n", "family/query.sw.md")
    folder = write(f"---\ntask: retrieval\n{key}\n---\nx", file)
    allowed = (
        "base_sha, controls, description, examples, extractive, form, instruction, note, "
        "positive_lang, query_lang, sampling, seed, task"
    )
    with pytest.raises(UserError) as caught:
        load(folder)
    name = key.partition(":")[0]
    assert str(caught.value) == f"{folder / file}:3: unknown key '{name}'; allowed: {allowed}"


@pytest.mark.parametrize(
    "values", ["[]", "{}", "{a: 0}", "{a: -1, b: 2}", "{a: .nan}", "{a: .inf}", "{a: many}", "3"]
)
def test_controls_without_usable_weights_are_refused(values: str, write: Write) -> None:
    folder = write(f"---\ntask: retrieval\ncontrols: {{length: {values}}}\n---\n{{{{ length }}}}")
    with pytest.raises(UserError, match=r"query\.md:3: controls"):
        load(folder)


@pytest.mark.parametrize("before", ["", "\n\n"])
@pytest.mark.parametrize(
    "template", ["{% if %}", "{{ document", "{{ document|shout }}", "{% endif %}"]
)
def test_a_syntax_error_gives_file_and_line(template: str, before: str, write: Write) -> None:
    content = body(f"{before}first\nsecond\n{template}\n")
    folder = write(content)
    line = content[: content.index(template)].count("\n") + 1
    with pytest.raises(UserError, match=rf"family/query\.md:{line}: \S"):
        load(folder)


def test_a_missing_prompt_lists_those_there_are(write: Write) -> None:
    folder = write(BASE)
    with pytest.raises(UserError, match=r"family/other\.md: no such prompt; .* family/query"):
        load_prompt("family/other", "sw", folder)


def test_a_file_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    (tmp_path / "family").mkdir()
    (tmp_path / "family" / "latin.md").write_bytes(
        BASE.replace("test", "t\xeast").encode("latin-1")
    )
    with pytest.raises(UserError, match=r"latin\.md: not UTF-8"):
        load_prompt("family/latin", "sw", tmp_path)


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "query", "a/b/c", "family/query.sw", "a/..", ""]
)
def test_a_name_cannot_lead_elsewhere(name: str, write: Write) -> None:
    folder = write(BASE)
    with pytest.raises(UserError, match="a name is <family>/<prompt>"):
        load_prompt(name, "sw", folder)


def test_overrides_and_readmes_are_no_prompts_of_their_own(write: Write) -> None:
    write(BASE, "family/query.sw.md")
    write("x", "README.md")
    folder = write(BASE)
    assert list_prompts(folder) == ["family/query"]


# Overrides


def test_an_override_replaces_front_matter_key_by_key(write: Write) -> None:
    write(BASE)
    folder = write(
        "---\ninstruction: Tafuta\nsampling: {max_tokens: 9}\n---\n", "family/query.sw.md"
    )
    base, own = load(folder, "ha"), load(folder, "sw")
    assert own.instruction == "Tafuta"
    assert own.sampling == Sampling(max_tokens=9)  # the key as a whole, not merged inside
    kept = ("task", "description", "controls", "body")
    assert [getattr(own, key) for key in kept] == [getattr(base, key) for key in kept]


def test_an_overrides_body_replaces_the_base(write: Write) -> None:
    write(BASE)
    folder = write("---\ndescription: yangu\n---\nAndika: {{ document }}\n", "family/query.sw.md")
    assert load(folder, "sw").body == "Andika: {{ document }}"
    assert load(folder, "sw").instruction == "Find it"
    assert load(folder, "ha").body.startswith("Write a")


@pytest.mark.parametrize(
    ("key", "value"), [("task", "retrieval"), ("seed", "idea"), ("form", "long-long")]
)
def test_an_override_cannot_change_what_is_asked_for(key: str, value: str, write: Write) -> None:
    write(BASE)
    folder = write(f"---\n{key}: {value}\n---\n", "family/query.sw.md")
    with pytest.raises(UserError, match=rf"query\.sw\.md:2: an override cannot change the {key}"):
        load(folder)


def test_an_override_that_only_adds_is_tied_to_nothing(write: Write) -> None:
    write(BASE)
    folder = write("---\nexamples: [moja]\nnote: Fupi.\n---\n", "family/query.sw.md")
    override = read_prompt_file(folder / "family/query.sw.md")
    assert drift("family/query", override, folder) is None
    assert load(folder).examples == ["moja"]


@pytest.mark.parametrize("front", ["instruction: Tafuta", "controls: {length: [a]}"])
def test_an_override_that_replaces_text_says_what_it_was_written_against(
    front: str, write: Write
) -> None:
    folder = write(BASE)
    sha = load_base("family/query", folder).sha
    path = folder / "family/query.sw.md"
    write(f"---\n{front}\n---\n", "family/query.sw.md")
    assert f"base_sha: {sha}" in (drift("family/query", read_prompt_file(path), folder) or "")
    write(f"---\nbase_sha: {sha}\n{front}\n---\n", "family/query.sw.md")
    assert drift("family/query", read_prompt_file(path), folder) is None
    before = load(folder)
    write(BASE.replace("Write a", "Write one"))
    problem = drift("family/query", read_prompt_file(path), folder)
    assert (
        problem == f"base_sha is {sha}, but the base is now {load_base('family/query', folder).sha}"
    )
    assert before.sha == load(write(BASE)).sha  # the line is no part of what the prompt says


# The hash


def test_the_hash_is_of_what_the_prompt_says(write: Write) -> None:
    base = load(write(BASE)).sha
    assert load(write(BASE)).sha == base
    reordered = BASE.replace(
        "task: retrieval\ndescription: a test", "description: a test\ntask: retrieval"
    )
    assert load(write(reordered)).sha == base


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Write a", "Write one"),
        ("Find it", "Find that"),
        ("[short, long]", "[short, longer]"),
        ("[short, long]", "{short: 2, long: 1}"),
        ("0.5", "0.6"),
    ],
)
def test_any_change_gives_another_hash(old: str, new: str, write: Write) -> None:
    base = load(write(BASE)).sha
    assert load(write(BASE.replace(old, new))).sha != base


def test_an_override_gives_its_language_another_hash(write: Write) -> None:
    base = load(write(BASE)).sha
    folder = write("---\ninstruction: Tafuta\n---\n", "family/query.sw.md")
    first = load(folder, "sw").sha
    assert load(folder, "ha").sha == base != first
    write("---\ninstruction: Tafuta\n---\nAndika.", "family/query.sw.md")
    assert load(folder, "sw").sha not in (base, first)


# Rendering


def test_an_undefined_name_is_an_error_that_names_it(write: Write) -> None:
    prompt = load(write(body("{{ documnet }}")))
    with pytest.raises(UserError, match=r"family/query.*documnet"):
        prompt.render({"document": "x"})


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ document.__init__.__globals__ }}",
        "{{ '{0.__class__}'.format(document) }}",
        "{{ cycler.__init__.__globals__.os }}",
        "{% include '/etc/passwd' %}",
        "{{ words.append(1) }}",
        "{% for i in range(10 ** 9) %}{% endfor %}",
        "{{ 1 / 0 }}",
        "{{ document + 1 }}",
    ],
)
def test_the_sandbox_holds(template: str, write: Write) -> None:
    prompt = load(write(body(template)))
    with pytest.raises(UserError, match="prompt family/query: "):
        prompt.render({"document": "x", "words": []})


@pytest.mark.parametrize(
    "text",
    [
        "{{ 7*7 }}",
        "{% raw %}",
        "{# gone? #}",
        "{% endif %}",
        "</passage>",
        '{"query": "x"}',
        "<b>&amp;</b>",
        "{{ ''.__class__ }}",
        "%s %(x)s {0}",
    ],
)
def test_what_a_document_says_is_printed_not_run(text: str, write: Write) -> None:
    prompt = load(write(body("<{{ document }}|{{ title }}>")))
    assert prompt.render({"document": text, "title": text}) == f"<{text}|{text}>"


# Controls

WEIGHTS = {"a": 1.0, "b": 2.0, "c": 5.0, "never": 0.0}


def with_controls(**controls: dict[str, float]) -> Prompt:
    return Prompt(
        name="f/p",
        task="retrieval",
        description="",
        instruction="",
        body="",
        sha="",
        controls=controls,
    )


def test_the_same_key_draws_the_same() -> None:
    prompt = with_controls(x=WEIGHTS, y=WEIGHTS)
    draws = [prompt.sample_controls("call", i) for i in range(50)]
    assert draws == [prompt.sample_controls("call", i) for i in range(50)]
    assert any(draw["x"] != draw["y"] for draw in draws)  # controls are drawn apart
    assert set(draws[0]) == {"x", "y"}


def test_weights_are_respected() -> None:
    prompt, num = with_controls(x=WEIGHTS), 10_000
    counts = Counter(prompt.sample_controls("call", i)["x"] for i in range(num))
    assert "never" not in counts
    expected = {value: num * weight / 8 for value, weight in WEIGHTS.items() if weight}
    chi_square = sum((counts[v] - e) ** 2 / e for v, e in expected.items())
    assert chi_square < 20  # two degrees of freedom: one run in 20,000


# Every prompt that comes along

TEN = ["sw", "ha", "am", "ar", "zh", "th", "hi", "en", "yo", "zu"]
OVERRIDES = {path.stem.rpartition(".")[2] for path in PROMPTS_DIR.glob("*/*.*.md")}
LANGUAGES = sorted({*TEN, *OVERRIDES})
EVERY_PROMPT = pytest.mark.parametrize("name", list_prompts())
EVERY_LANGUAGE = pytest.mark.parametrize("lang", LANGUAGES)


def test_there_are_prompts_and_overrides() -> None:
    assert "retrieval/short_query" in list_prompts()
    assert "sw" in OVERRIDES


@pytest.mark.parametrize("path", sorted(PROMPTS_DIR.glob("*/*.*.md")), ids=lambda path: path.name)
def test_every_override_has_a_base_and_a_language(path: Path) -> None:
    base, _, lang = path.stem.rpartition(".")
    assert f"{path.parent.name}/{base}" in list_prompts()
    assert load_prompt(f"{path.parent.name}/{base}", lang) != load_prompt(
        f"{path.parent.name}/{base}", "qu"
    )


@EVERY_LANGUAGE
@EVERY_PROMPT
def test_every_prompt_renders_in_every_language(name: str, lang: str) -> None:
    prompt = load_prompt(name, lang)
    task = check_prompt(prompt)
    assert prompt.description
    marks = "{{ 7*7 }} </passage> Text."
    for seed in sample_seeds(prompt, lang, 2):
        for title in ("", 'A "title"'):
            marked = seed.model_copy(update={"text": f"{marks}{seed.text}", "title": title})
            variables = task.prompt_variables(marked, lang, "my")
            assert set(variables) == task.variables(prompt.seed)
            controls = {control: f"<<{control}>>" for control in prompt.controls}
            text = prompt.render({**variables, **controls})
            said = text + prompt.render_instruction({**variables, **controls})
            assert [c for c in controls.values() if c not in said] == []  # each has its say
            if prompt.seed != "none":
                assert marked.text in text
            if prompt.seed == "passage":
                assert title in text
            assert all(example in text for example in prompt.examples)
            assert "{%" not in text
            assert "{{" not in text.replace(marks, "")


@EVERY_PROMPT
def test_every_prompt_asks_for_the_reply_of_its_task(name: str) -> None:
    prompt = load_prompt(name, "en")
    reply = check_prompt(prompt).reply_model(prompt.seed, prompt.form)
    asked = json.loads(prompt.body[prompt.body.rindex('{"') :])
    assert list(asked) == list(reply.model_fields)
    types = reply.model_json_schema()["properties"]
    assert {key: isinstance(value, list) for key, value in asked.items()} == {
        key: types[key]["type"] == "array" for key in asked
    }


FEW_SHOTS = {"sw", "ha", "hi", "ar", "zh", "yo"}


@pytest.mark.parametrize("lang", sorted(FEW_SHOTS))
@pytest.mark.parametrize("name", ["short_query", "keyword_query", "long_question"])
def test_native_few_shots_are_in_their_language(name: str, lang: str) -> None:
    prompt = load_prompt(f"retrieval/{name}", lang)
    assert len(prompt.examples) >= 2
    assert prompt.note
    for example in prompt.examples:
        assert example == normalize(example)
        reason = langid.check_script if name == "keyword_query" else langid.verify
        assert reason(example, lang) is None, example
    if lang == "yo":  # tone marks and under-dots, ha: hooked letters
        assert all(set("ẹọṣàáèéìíòóùúń̀́") & set(example) for example in prompt.examples)
    if lang == "ha":
        assert set("ɓɗƙƴ") & set("".join(prompt.examples))


# What a prompt says of seeds and languages


def lang_prompt(**settings: object) -> Prompt:
    values = {"name": "f/p", "task": "retrieval", "description": "", "instruction": "x", "body": ""}
    return Prompt.model_validate({**values, "sha": "", **settings})


def draws(prompt: Prompt, own: str, num: int = 2000) -> Counter[tuple[str, str]]:
    return Counter(prompt.sample_languages(own, "call", i) for i in range(num))


def test_without_lists_both_sides_are_in_the_own_language() -> None:
    assert set(draws(lang_prompt(), "sw")) == {("sw", "sw")}


def test_a_listed_side_is_drawn_by_weight_and_never_own_by_code() -> None:
    found = draws(lang_prompt(query_lang={"en": 3, "fr": 1, "sw": 9}), "sw")
    assert set(found) == {("en", "sw"), ("fr", "sw")}
    assert 0.71 < found["en", "sw"] / 2000 < 0.79
    assert set(draws(lang_prompt(positive_lang=["en", "zh-Hant"]), "zh")) == {("zh", "en")}


def test_own_is_the_language_of_the_run() -> None:
    prompt = lang_prompt(positive_lang={"own": 2, "en": 1})
    found = draws(prompt, "sw")
    assert set(found) == {("sw", "sw"), ("sw", "en")}
    assert 0.62 < found["sw", "sw"] / 2000 < 0.71
    assert set(draws(prompt, "en")) == {("en", "en")}


def test_with_both_lists_one_side_is_foreign_each_as_often() -> None:
    found = draws(lang_prompt(query_lang=["en"], positive_lang=["fr", "sw"]), "sw")
    assert set(found) == {("en", "sw"), ("sw", "fr")}
    assert 0.46 < found["en", "sw"] / 2000 < 0.54


def test_what_was_drawn_is_recorded() -> None:
    prompt = lang_prompt(query_lang=["en"], form="long-long")
    assert prompt.record("en", "sw") == {"form": "long-long", "query_lang": "en"}
    assert lang_prompt().record("sw", "sw") == {}


def idea(family: str, form: str) -> Seed:
    fields = json.dumps({"family": family, "form": form})
    return make_seed("Find it", kind="idea", fields=fields)


def test_a_prompt_takes_seeds_of_its_kind_and_ideas_of_its_family_and_form() -> None:
    passages = lang_prompt()
    assert passages.takes(make_seed())
    assert not passages.takes(idea("retrieval", "short-long"))
    ideas = lang_prompt(seed="idea", form="long-long")
    assert ideas.takes(idea("retrieval", "long-long"))
    assert not ideas.takes(idea("retrieval", "short-long"))
    assert not ideas.takes(idea("sts", "long-long"))
    assert not ideas.takes(make_seed())
    assert lang_prompt(task="sts", seed="idea").takes(idea("sts", ""))


def test_an_instruction_is_a_template() -> None:
    prompt = lang_prompt(instruction="{{ idea }}, in {{ positive_language }}")
    values = {"idea": "Find {{ 7*7 }}", "positive_language": "Hausa"}
    assert prompt.render_instruction(values) == "Find {{ 7*7 }}, in Hausa"
    assert prompt.used_variables() == {"idea", "positive_language"}


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"task": "x"}, "unknown task 'x'"),
        ({"seed": "pair"}, "retrieval takes no 'pair'; it takes: passage, idea, none"),
        ({"form": "wide"}, "no 'wide'; there are: short-long"),
        ({"instruction": ""}, "no instruction"),
        ({"body": "{{ documnet }}"}, "unknown variable 'documnet'"),
        ({"instruction": "{{ idea }}"}, "unknown variable 'idea'"),
        ({"task": "sts"}, "'high' must be there"),
        ({"task": "sts", "controls": {"high": [5], "low": ["few"]}}, "'low' must be there"),
        (
            {"task": "bitext", "controls": {"low": [6]}},
            "'low' must be there, with grades from 0 to 5",
        ),
    ],
)
def test_what_a_prompt_and_its_task_do_not_agree_on(
    settings: dict[str, object], fault: str
) -> None:
    prompt = lang_prompt(**settings)
    assert any(fault in found for found in faults(prompt))
    with pytest.raises(UserError, match="prompt f/p: "):
        check_prompt(prompt)
