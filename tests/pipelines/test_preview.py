"""make preview: what prompts say, with no engine, in any script."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines import preview
from sdg.prompting import list_prompts, load_base, load_prompt
from sdg.tasks import ASKED
from sdg.tasks.base import VARIABLES


def shown(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    assert preview.main(args) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("lang", ["sw", "ar", "zh", "am", "ff-Adlm", "nqo", "en"])
def test_every_prompt_is_shown_in_any_language(
    lang: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = shown(capsys, "--lang", lang)
    for name in list_prompts():
        prompt = load_prompt(name, lang.partition("-")[0])
        assert prompt.sha in out
        assert (
            json.dumps(ASKED[prompt.task].reply_model(prompt.seed, prompt.form).model_json_schema())
            in out
        )
    assert "{{" not in out
    assert out.count("estimated by script") == len(list_prompts())
    assert all(f"\n{name} " in out.rpartition("made from")[2] for name in list_prompts())


def test_samples_differ_and_are_the_same_again(capsys: pytest.CaptureFixture[str]) -> None:
    args = ("--lang", "sw", "--prompt", "retrieval/short_query", "--n", "5")
    out = shown(capsys, *args)
    drawn = [line for line in out.splitlines() if line.startswith("controls")]
    assert len(drawn) == 5
    assert len(set(drawn)) > 1
    assert shown(capsys, *args) == out
    assert shown(capsys, *args, "--seed", "1") != out


def test_a_short_name_will_do(capsys: pytest.CaptureFixture[str]) -> None:
    long = shown(capsys, "--lang", "sw", "--prompt", "retrieval/short_query")
    assert shown(capsys, "--lang", "sw", "--prompt", "short_query") == long
    assert "sts/from_idea" in shown(
        capsys, "--lang", "sw", "--prompt", "from_idea", "--task", "sts"
    )


def test_the_overrides_difference_is_a_diff(capsys: pytest.CaptureFixture[str]) -> None:
    out = shown(capsys, "--lang", "yo", "--prompt", "short_query")
    diff = out[out.index("--- retrieval/short_query.md") :].splitlines()
    assert diff[1] == "+++ retrieval/short_query.yo.md"
    added = [line[1:] for line in diff[2:] if line.startswith("+")]
    own, base = load_prompt("retrieval/short_query", "yo"), load_base("retrieval/short_query")
    assert all(f"- {example}" in added for example in own.examples)
    assert any(own.note in line for line in added)
    assert f"-description: {base.description}" in diff
    assert "---" not in shown(capsys, "--lang", "fr", "--prompt", "short_query").replace("────", "")


def test_a_language_without_a_corpus_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    out = shown(capsys, "--lang", "yo", "--prompt", "short_query")
    assert "no corpus in Yoruba comes along: an English passage" in out
    assert "an English passage" not in shown(capsys, "--lang", "ha", "--prompt", "short_query")


def test_tokens_are_the_models_own_where_it_is_at_hand(
    tiny_llm: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = shown(capsys, "--lang", "sw", "--prompt", "short_query", "--model", str(tiny_llm))
    assert f"by the tokenizer of {tiny_llm}" in out
    assert "estimated" not in out


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--lang", "swahili"], "did you mean LANG=sw"),
        (["--lang", "sw", "--prompt", "short_qery"], "did you mean short_query"),
        (
            ["--lang", "sw", "--task", "ranking"],
            "the tasks are: bitext, classification, judge, retrieval",
        ),
        (["--lang", "sw", "--n", "0"], "N=0: must be from 1 to 100"),
        (["--lang", "am,ar"], "a preview is of one language"),
    ],
)
def test_wrong_use_is_one_line(
    args: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert preview.main(args) == 2
    found = capsys.readouterr()
    assert message in found.err
    assert found.out == ""
    assert found.err.count("\n") == 1


def test_it_loads_neither_ray_nor_a_model() -> None:
    code = (
        "import sys; from pipelines import preview; status = preview.main(sys.argv[1:]);"
        "print(*{m.split('.')[0] for m in sys.modules}, file=sys.stderr); sys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "--lang", "sw", "--prompt", "short_query"],
        capture_output=True,
        check=True,
        text=True,
    )
    heavy = {"ray", "vllm", "torch", "transformers", "datasets", "pandas", "openai", "sklearn"}
    assert set(done.stderr.split()) & heavy == set()
    assert "pipelines" in done.stderr.split()


def test_every_kind_of_seed_has_samples() -> None:
    kinds = {load_prompt(name, "sw").seed for name in list_prompts()}
    assert kinds == set(VARIABLES)
