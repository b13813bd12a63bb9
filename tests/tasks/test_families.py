"""Every task family: good and bad replies, as models write them, in several languages."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.samples import sample_seeds
from sdg.errors import UserError
from sdg.languages import language
from sdg.prompting import Prompt, list_prompts, load_prompt
from sdg.replies import Rejected
from sdg.schema import Call, Pair, Seed
from sdg.stages import ParseStage
from sdg.tasks import TASKS, check_prompt, get_task
from sdg.tasks.compose import compose
from sdg.text import canonical, digest, normalize
from tests.rows import kept_rows, make_call, make_seed, reasons, run_stage, sharded

PASSAGE = make_seed()
IDEA = make_seed("Classify the mood of a letter", lang="en", kind="idea")
PAIR = make_seed(
    "A honey bee that has found flowers dances on the comb.",
    lang="en",
    kind="pair",
    fields=json.dumps(
        {
            "instruction": "Given a question, retrieve passages",
            "query": "why do bees dance",
            "negatives": ["Bees store honey.", "Ants lay trails."],
            "positive_grade": 1.0,
            "negative_grades": [0.5, 0.25],
        }
    ),
)
KEYS = ("query", "positive", "negatives", "positive_grade", "negative_grades")
GRADES = {"high": "4.5", "low": "2.5"}


def triple(query: str, positive: str, negative: str) -> dict[str, Any]:
    return {"query": query, "positive": positive, "negative": negative}


# (family, seed, controls, language of the query, of the positive, reply, what KEYS become)
GOOD: list[tuple[str, Seed, dict[str, str], str, str, dict[str, Any], tuple[Any, ...]]] = [
    (
        "retrieval", PASSAGE, {}, "sw", "sw",
        {"query": "mji mkuu wa Kenya ni upi"},
        ("mji mkuu wa Kenya ni upi", PASSAGE.text, [], None, []),
    ),
    (
        "retrieval", PASSAGE, {"form": "long-long"}, "ha", "sw",
        {"query": "Ina so in koma birnin Nairobi domin neman aiki. Waɗanne ayyuka ake yi a can?"},
        (
            "Ina so in koma birnin Nairobi domin neman aiki. Waɗanne ayyuka ake yi a can?",
            PASSAGE.text, [], None, [],
        ),
    ),
    (
        "retrieval", PASSAGE, {"form": "short-short"}, "hi", "hi",
        triple("केन्या की राजधानी क्या है", "केन्या का मुख्य शहर कौन-सा है", "केन्या की मुद्रा क्या है"),
        ("केन्या की राजधानी क्या है", "केन्या का मुख्य शहर कौन-सा है", ["केन्या की मुद्रा क्या है"], None, []),
    ),
    *(
        (
            "retrieval", IDEA, {"form": form}, "ar", "ar",
            triple("علاج صدأ القمح", "يعالج صدأ القمح بالرش المبكر.", "صدأ الحديد يزال بالخل."),
            ("علاج صدأ القمح", "يعالج صدأ القمح بالرش المبكر.", ["صدأ الحديد يزال بالخل."], None, []),
        )
        for form in ("short-long", "long-long", "short-short")
    ),
    (
        "classification", PASSAGE, {}, "sw", "en",
        {"label": "cities", "misleading_labels": ["rivers", "farming", "rivers"]},
        (PASSAGE.text, "cities", ["rivers", "farming"], None, []),
    ),
    (
        "classification", IDEA, {}, "zh", "zh",
        {"text": "你们的报纸又把球赛比分印错了。", "label": "不满", "misleading_labels": ["高兴", "好奇"]},
        ("你们的报纸又把球赛比分印错了。", "不满", ["高兴", "好奇"], None, []),
    ),
    *(
        (
            "sts", seed, GRADES, "yo", "yo",
            {
                "text": "Òjò rọ̀ púpọ̀ ní alẹ́ àná.",
                "similar": "Ní alẹ́ àná, òjò ńlá rọ̀.",
                "less_similar": "Òjò kò rọ̀ ní àárọ̀ òní.",
            },
            (
                "Òjò rọ̀ púpọ̀ ní alẹ́ àná.", "Ní alẹ́ àná, òjò ńlá rọ̀.",
                ["Òjò kò rọ̀ ní àárọ̀ òní."], 0.9, [0.5],
            ),
        )
        for seed in (PASSAGE, IDEA)
    ),
    *(
        (
            "bitext", seed, {"low": "2"}, "am", "en",
            {
                "source": "ክሊኒኩ ከጠዋቱ ሁለት ሰዓት ይከፈታል።",
                "translation": "The clinic opens at eight in the morning.",
                "near_miss": "The clinic closes at eight in the morning.",
            },
            (
                "ክሊኒኩ ከጠዋቱ ሁለት ሰዓት ይከፈታል።", "The clinic opens at eight in the morning.",
                ["The clinic closes at eight in the morning."], 1.0, [0.4],
            ),
        )
        for seed in (PASSAGE, IDEA)
    ),
    (
        "translate", PAIR, {}, "sw", "sw",
        {
            "query": "kwa nini nyuki hucheza",
            "positive": "Nyuki aliyepata maua hucheza juu ya sega.",
            "negatives": ["Nyuki huhifadhi asali.", "Siafu huacha njia ya harufu."],
        },
        (
            "kwa nini nyuki hucheza", "Nyuki aliyepata maua hucheza juu ya sega.",
            ["Nyuki huhifadhi asali.", "Siafu huacha njia ya harufu."], 1.0, [0.5, 0.25],
        ),
    ),
]  # fmt: skip
IDEAS = ["Given a proverb, retrieve proverbs with the same lesson", "Given a name, retrieve songs."]


def answered(reply: Any, family: str, seed: Seed, controls: dict[str, str], **more: Any) -> Call:
    text = reply if isinstance(reply, str) else json.dumps(reply, ensure_ascii=False)
    return make_call(seed, reply=text, task=family, controls=json.dumps(controls), **more)


def outcome(call: Call) -> list[Pair] | str:
    """The pairs of one call, or the reason why there are none."""
    results = run_stage(ParseStage(), sharded([call], Call))
    pairs = kept_rows(results, Pair)
    assert results["00000"].num_kept == bool(pairs)
    return pairs or reasons(results)[0]


EVERY_GOOD = pytest.mark.parametrize(
    ("family", "seed", "controls", "lang", "positive_lang", "reply", "expected"),
    GOOD,
    ids=[f"{case[0]}-{case[1].kind}-{case[2].get('form', '')}" for case in GOOD],
)


def test_every_family_kind_and_form_has_a_good_reply() -> None:
    wanted = {(t.name, *key) for t in TASKS.values() for key in t.replies if key[0] != "none"}
    there = {(family, seed.kind, c.get("form", "")) for family, seed, c, *_ in GOOD}
    plain = {("retrieval", "passage", "short-long"): ("retrieval", "passage", "")}
    assert {plain.get(key, key) for key in wanted} == there


@EVERY_GOOD
def test_a_good_reply_gives_its_pair(
    family: str, seed: Seed, controls: Any, lang: str, positive_lang: str, reply: Any, expected: Any
) -> None:
    call = answered(reply, family, seed, controls, lang=lang, positive_lang=positive_lang)
    (pair,) = outcome(call)
    assert isinstance(pair, Pair)
    got = tuple(getattr(pair, key) for key in KEYS)
    assert got[:3] == expected[:3]
    assert got[3] == (None if expected[3] is None else pytest.approx(expected[3]))
    assert got[4] == pytest.approx(expected[4])
    assert (pair.id, pair.task) == (digest(call.id, 0), family)
    assert (pair.query_lang, pair.positive_lang) == (lang, positive_lang)
    assert (pair.instruction, pair.provenance.seed_id) == (call.instruction, seed.id)
    assert (pair.provenance.strategy, pair.provenance.controls) == ("written", call.controls)


@EVERY_GOOD
@pytest.mark.parametrize("change", ["missing", "null", "number", "empty", "extra"])
def test_every_field_is_needed_and_a_text(
    family: str, seed: Seed, controls: Any, lang: str, positive_lang: str, reply: Any,
    expected: Any, change: str,
) -> None:  # fmt: skip
    for key, value in reply.items():
        bad = dict(reply)
        is_list = isinstance(value, list)
        if change == "missing":
            del bad[key]
        elif change == "extra":
            bad[f"{key}_2"] = value
        else:
            wrong = {"null": None, "number": 7, "empty": ""}[change]
            bad[key] = [wrong] if is_list else wrong
        assert outcome(answered(bad, family, seed, controls)) == "wrong_schema"
    looped = {k: ["x", "ha ha " * 30] if isinstance(v, list) else v for k, v in reply.items()}
    looped[next(iter(reply))] = "maji ni uhai " * 9 if change == "extra" else "ja " * 60
    assert outcome(answered(looped, family, seed, controls)) == "repetition"


@EVERY_GOOD
def test_a_negative_that_says_what_the_positive_says_is_refused(
    family: str, seed: Seed, controls: Any, lang: str, positive_lang: str, reply: Any, expected: Any
) -> None:
    negatives = {"negative", "misleading_labels", "less_similar", "near_miss", "negatives"} & set(
        reply
    )
    for key in negatives:
        same = f" {expected[1].upper()}! "
        bad = {**reply, key: [same, *reply[key][1:]] if isinstance(reply[key], list) else same}
        assert outcome(answered(bad, family, seed, controls)) == "negative_equals_positive"
    assert negatives or expected[2] == []


@EVERY_GOOD
def test_the_schema_asks_for_the_reply(
    family: str, seed: Seed, controls: Any, lang: str, positive_lang: str, reply: Any, expected: Any
) -> None:
    schema = TASKS[family].json_schema(answered("", family, seed, controls))
    assert set(schema["properties"]) == set(schema["required"]) == set(reply)
    assert schema["additionalProperties"] is False


def test_a_translation_has_all_negatives_in_order() -> None:
    reply = {"query": "swali", "positive": "jibu", "negatives": ["moja"]}
    assert outcome(answered(reply, "translate", PAIR, {})) == "negatives_missing"
    schema = TASKS["translate"].json_schema(answered("", "translate", PAIR, {}))["properties"]
    assert (schema["negatives"]["minItems"], schema["negatives"]["maxItems"]) == (2, 2)
    bare = make_seed("Bees dance.", lang="en", kind="pair", fields='{"query": "bees"}')
    (pair,) = outcome(answered({**reply, "negatives": []}, "translate", bare, {}))
    assert isinstance(pair, Pair)
    assert (pair.negatives, pair.positive_grade, pair.negative_grades) == ([], None, [])


@pytest.mark.parametrize("family", TASKS)
@pytest.mark.parametrize("kind", ["passage", "idea", "pair", "none"])
def test_a_family_refuses_seeds_that_it_has_no_reply_for(family: str, kind: str) -> None:
    task = TASKS[family]
    call = answered("{}", family, make_seed(kind=kind), {"form": "?"})
    with pytest.raises(UserError, match=f"task {family}: no reply of form '\\?'"):
        task.json_schema(call)


def test_mined_families_are_those_without_negatives_of_their_own() -> None:
    assert {name for name, task in TASKS.items() if not task.mined} == {
        "classification",
        "sts",
        "bitext",
    }


# Ideas

BRAINSTORMERS = [n for n in list_prompts() if load_prompt(n, "qu").seed == "none"]


def brainstormed(name: str, reply: Any) -> Call:
    prompt = load_prompt(name, "en")
    (seed,) = sample_seeds(prompt, "en", 1)
    controls = compose(check_prompt(prompt), prompt, seed, "en", 0).controls
    more = {"prompt": name, "model": "author/model", "engine": "vllm"}
    return answered(reply, prompt.task, seed, controls, **more)


@pytest.mark.parametrize("name", BRAINSTORMERS)
def test_ideas_become_seeds(name: str) -> None:
    prompt = load_prompt(name, "en")
    task = get_task(prompt.task, name)
    call = brainstormed(name, {"ideas": [IDEAS[0], f" {IDEAS[1]} ", IDEAS[0].upper()]})
    seeds = task.parse_ideas(call)
    assert [seed.text for seed in seeds] == [IDEAS[0], IDEAS[1].rstrip(".")]
    for seed in seeds:
        fields = json.loads(seed.fields)
        assert (seed.kind, seed.lang, fields["family"]) == ("idea", "en", prompt.task)
        assert (fields["model"], fields["engine"]) == ("author/model", "vllm")
        assert fields["prompt"] == name
        writers = [load_prompt(n, "sw") for n in list_prompts()]
        takers = [p for p in writers if p.takes(seed)]
        assert takers  # somebody writes samples for it
        assert {p.task for p in takers} == {prompt.task}
        assert {p.form for p in takers} == {prompt.form}
    again = task.parse_ideas(call.model_copy(update={"model": "another", "id": "2"}))
    assert [seed.id for seed in again] == [seed.id for seed in seeds]  # by content


@pytest.mark.parametrize("name", BRAINSTORMERS)
@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ({"ideas": []}, "wrong_schema"),
        ({"ideas": ["x"]}, "wrong_schema"),
        ({"ideas": "Given a proverb, retrieve"}, "wrong_schema"),
        ({"ideas": [". . . . . . . ."]}, "empty_reply"),
        ("1. Given a proverb, retrieve proverbs", "not_json"),
    ],
)
def test_bad_ideas_have_a_reason(name: str, reply: Any, reason: str) -> None:
    call = brainstormed(name, reply)
    with pytest.raises(Rejected) as caught:
        TASKS[call.task].parse_ideas(call)
    assert caught.value.reason == reason


def test_every_form_of_ideas_has_prompts_that_ask_for_and_use_it() -> None:
    prompts = [load_prompt(name, "sw") for name in list_prompts()]
    for task in TASKS.values():
        for form in task.forms("none"):
            assert any((p.task, p.seed, p.form) == (task.name, "none", form) for p in prompts)
            assert any((p.task, p.seed, p.form) == (task.name, "idea", form) for p in prompts)


# What is composed

LANGUAGES = ["sw", "ar", "zh", "ff-Adlm", "en"]


def composed(name: str, lang: str, num: int) -> list[tuple[Prompt, Seed, Any]]:
    prompt = load_prompt(name, language(lang).base)
    task = check_prompt(prompt)
    seeds = sample_seeds(prompt, lang, num)
    return [(prompt, s, compose(task, prompt, s, lang, "k", i)) for i, s in enumerate(seeds)]


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("name", list_prompts())
def test_a_call_says_its_languages_by_three_names(name: str, lang: str) -> None:
    for prompt, _, made in composed(name, lang, 8):
        used = prompt.used_variables()
        for side, code in (("", made.lang), ("positive_", made.positive_lang)):
            found = language(code)
            if f"{side}language" in used and prompt.seed != "none":
                assert all(n in made.text for n in (found.name, found.autonym, found.script))
        drawn = {key: made.controls[key] for key in prompt.controls}
        assert all(value in prompt.controls[key] for key, value in drawn.items())
        assert made.controls.get("form", "") == prompt.form
        if prompt.seed == "none":
            assert made.instruction == ""
        else:
            assert made.instruction == normalize(made.instruction) != ""
            assert "{{" not in made.instruction


@pytest.mark.parametrize("name", list_prompts())
def test_the_same_key_composes_the_same(name: str) -> None:
    first, again = composed(name, "sw", 30), composed(name, "sw", 30)
    assert [made for *_, made in first] == [made for *_, made in again]
    if load_prompt(name, "sw").controls:
        assert len({json.dumps(made.controls) for *_, made in first}) > 1


def test_an_idea_becomes_the_training_instruction() -> None:
    for name in ("retrieval/from_idea", "classification/from_idea"):
        assert all(made.instruction == seed.text for _, seed, made in composed(name, "sw", 4))


def test_sts_has_the_instruction_of_the_recipe() -> None:
    for name in ("sts/from_idea", "sts/passage"):
        assert {made.instruction for _, _, made in composed(name, "sw", 4)} == {
            "Retrieve semantically similar text."
        }


@pytest.mark.parametrize("name", ["bitext/from_idea", "bitext/passage"])
@pytest.mark.parametrize("lang", LANGUAGES)
def test_bitext_never_translates_a_language_into_itself(name: str, lang: str) -> None:
    sides = [(made.lang, made.positive_lang) for _, _, made in composed(name, lang, 60)]
    assert all(a != b and lang in (a, b) for a, b in sides)
    assert {a == lang for a, _ in sides} == {True, False}  # in both directions


# Whatever comes

VALUES: st.SearchStrategy[Any] = st.text(max_size=20) | st.lists(st.text(max_size=20), max_size=3)


@pytest.mark.parametrize("family", TASKS)
@given(data=st.data())
@settings(max_examples=60)
def test_no_reply_of_the_right_shape_stops_a_run(family: str, data: st.DataObject) -> None:
    task = TASKS[family]
    kind, form = data.draw(st.sampled_from([k for k in task.replies if k[0] != "none"]))
    seed = {"passage": PASSAGE, "idea": IDEA, "pair": PAIR}[kind]
    keys = list(task.reply_model(kind, form).model_fields)
    reply = data.draw(st.fixed_dictionaries({key: VALUES for key in keys}))
    call = answered(json.dumps(reply), family, seed, {**GRADES, "form": form})
    try:
        pairs = task.parse(call, 0)
    except Rejected:
        return
    for pair in pairs:
        texts = [pair.query, pair.positive, *pair.negatives]
        assert texts == [normalize(text) for text in texts]
        assert all(texts)
        assert canonical(pair.positive) not in {canonical(text) for text in pair.negatives}
