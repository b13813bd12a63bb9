"""YAML whose `no` is Norwegian."""

import pytest
import yaml

from sdg.yaml12 import load_yaml


@pytest.mark.parametrize(
    "word", ["no", "No", "NO", "yes", "Yes", "on", "On", "OFF", "off", "y", "n", "Y", "N"]
)
def test_words_are_strings(word: str) -> None:
    assert load_yaml(word) == word
    assert load_yaml(f"lang: {word}") == {"lang": word}
    assert load_yaml(f"{word}: 1") == {word: 1}
    assert load_yaml(f"[{word}, en]") == [word, "en"]


@pytest.mark.parametrize("word", ["true", "True", "TRUE", "false", "False", "FALSE"])
def test_true_and_false_are_booleans(word: str) -> None:
    assert load_yaml(word) is (word.lower() == "true")
    assert load_yaml(f"'{word}'") == word
    assert load_yaml(f"{word}s") == f"{word}s"  # not a prefix match


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("-1", -1),
        ("0.5", 0.5),
        ("1e3", "1e3"),
        ("1.0e+3", 1000.0),
        ("~", None),
        ("", None),
    ],
)
def test_other_scalars_are_as_ever(text: str, value: object) -> None:
    found = load_yaml(text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: 1\nb: 2\na: 3", 3),
        ("a:\n  b: 1\n  b: 1", 3),
        ("- {x: 1, x: 2}", 1),
        ("no: 1\n'no': 2", 2),
    ],
)
def test_a_key_that_stands_twice_is_an_error_with_its_line(text: str, line: int) -> None:
    with pytest.raises(yaml.YAMLError, match="twice") as caught:
        load_yaml(text)
    assert caught.value.problem_mark.line + 1 == line


def test_the_same_key_in_two_maps_is_none() -> None:
    assert load_yaml("a: {x: 1}\nb: {x: 2}") == {"a": {"x": 1}, "b": {"x": 2}}


def test_no_python_object_is_made() -> None:
    with pytest.raises(yaml.YAMLError):
        load_yaml("!!python/object/apply:os.getcwd []")


def test_the_loader_of_others_is_left_alone() -> None:
    assert yaml.safe_load("no") is False
