"""Prompts as files: load them, check them, sample their controls, render them.

`prompts/<family>/<name>.md` holds YAML front matter and a Jinja body; `<name>.<lang>.md` beside it
overrides it for a language. `prompts/README.md` explains the fields. Bodies are rendered in Jinja's
sandbox with undefined names as errors, and corpus text enters as a value, never as template code.
"""

import json
import math
import random
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import jinja2
import yaml
from jinja2 import meta
from jinja2.sandbox import ImmutableSandboxedEnvironment
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from sdg.errors import UserError
from sdg.languages import language
from sdg.schema import Seed
from sdg.text import digest, normalize, rng
from sdg.yaml12 import load_yaml

PROMPTS_DIR = Path(__file__).parent.parent / "prompts"
_FRONT_MATTER = re.compile(r"\A---\n(.*?)\n---\n?(.*)\Z", re.DOTALL)
_NAME = re.compile(r"[a-z0-9_]+/[a-z0-9_]+")

_environment = ImmutableSandboxedEnvironment(undefined=jinja2.StrictUndefined, trim_blocks=True)


@lru_cache(maxsize=256)
def _template(body: str) -> jinja2.Template:
    return _environment.from_string(body)  # compiling takes ten times as long as rendering


class Sampling(BaseModel):
    """Decoding parameters of a prompt's calls."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    temperature: float = Field(default=1.0, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    max_tokens: int = Field(default=256, gt=0)


class Prompt(BaseModel):
    """One prompt, resolved for a language: its front matter, its body and the hash of both."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str  # "<family>/<file name without .md>"
    task: str
    description: str
    instruction: str  # template of the training instruction of every pair made with this prompt
    # What its calls are made from.
    seed: Literal["passage", "idea", "pair", "none", "judged"] = "passage"
    form: str = ""  # which of its task's replies it asks for; "": the first
    controls: dict[str, dict[str, float]] = {}  # control -> value -> weight
    # Language -> weight; "own" is the one that the run asks for. Empty: its own alone.
    query_lang: dict[str, float] = {}
    positive_lang: dict[str, float] = {}
    examples: list[str] = []  # few-shots, and
    note: str = ""  # a rule: what an override most often adds; the body may print both
    extractive: list[str] = []  # strategies that may stand in for an LLM; empty: none can
    sampling: Sampling = Sampling()
    body: str
    sha: str

    @field_validator("controls", mode="before")
    @classmethod
    def _weights(cls, controls: Any) -> Any:
        """A control may be a list (equal weights) or a map of value to weight."""
        if not isinstance(controls, dict):
            return controls
        return {name: _weighted(values) for name, values in controls.items()}

    @field_validator("controls")
    @classmethod
    def _usable(cls, controls: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
        for name, values in controls.items():
            _check_weights(values, f"control '{name}'")
        return controls

    @field_validator("query_lang", "positive_lang", mode="before")
    @classmethod
    def _lang_weights(cls, values: Any) -> Any:
        return _weighted(values)

    @field_validator("query_lang", "positive_lang")
    @classmethod
    def _usable_langs(cls, values: dict[str, float]) -> dict[str, float]:
        if values:
            _check_weights(values, "the list of languages")
        return values

    def takes(self, seed: Seed) -> bool:
        """Whether calls of this prompt can be made from a seed: it is of the kind wanted, and an
        idea is of the prompt's own family and form."""
        if seed.kind != self.seed or seed.kind != "idea":
            return seed.kind == self.seed
        fields = json.loads(seed.fields)
        return fields["family"] == self.task and self.form in ("", fields["form"])

    def sample_controls(self, *key: object) -> dict[str, str]:
        """One value a control, drawn by weight; the same `key` gives the same draw."""
        return {
            name: _draw(values, rng(*key, self.name, name))
            for name, values in self.controls.items()
        }

    def sample_languages(self, own: str, *key: object) -> tuple[str, str]:
        """Languages of the query and of the positive, by `query_lang` and `positive_lang`.

        A side that the front matter says nothing of is in `own`: the passage's language, or the one
        that the run asks for where the seed is an idea or a pair. A language listed is never drawn
        where it is `own`, unless as "own". Where both sides are listed, one of the two is drawn
        from its list, each as often, and the other is in `own`.
        """
        listed = [side for side in ("query_lang", "positive_lang") if getattr(self, side)]
        langs = {"query_lang": own, "positive_lang": own}
        if listed:
            side = rng(*key, self.name, "side").choice(listed)
            values = self.languages_beside(own, side)
            drawn = _draw(values, rng(*key, self.name, side))
            langs[side] = own if drawn == OWN else drawn
        return langs["query_lang"], langs["positive_lang"]

    def languages_beside(self, own: str, side: str) -> dict[str, float]:
        """The weights of `query_lang` or `positive_lang`, without the own language listed by code.

        Raises:
            UserError: nothing is left.
        """
        base, given = language(own).base, getattr(self, side)
        left = {c: w for c, w in given.items() if c == OWN or language(c).base != base}
        if given and not sum(left.values()):
            raise UserError(
                f"prompt {self.name}: {side} names no language beside the run's own, {base}"
            )
        return left

    def record(self, query_lang: str, positive_lang: str) -> dict[str, str]:
        """What a call's controls say beside what was drawn: its form, and languages drawn."""
        langs = {"query_lang": query_lang, "positive_lang": positive_lang}
        drawn = {side: code for side, code in langs.items() if getattr(self, side)}
        return {**({"form": self.form} if self.form else {}), **drawn}

    def render(self, variables: dict[str, Any]) -> str:
        """The prompt's text.

        Raises:
            UserError: the body uses a name that is neither a control nor a variable of its task,
                or does with a value what cannot be done.
        """
        own = {name: getattr(self, name) for name in OWN_VARIABLES}
        return self._rendered(self.body, {**own, **variables})

    def render_instruction(self, variables: dict[str, Any]) -> str:
        """The training instruction; a template as the body is, so that an idea may be one."""
        return normalize(self._rendered(self.instruction, variables))

    def _rendered(self, template: str, variables: dict[str, Any]) -> str:
        try:
            return _template(template).render(variables).strip()
        except (jinja2.TemplateError, TypeError, ValueError, ArithmeticError) as error:
            raise UserError(f"prompt {self.name}: {error}") from None

    def used_variables(self) -> set[str]:
        """Names that the body and the instruction read."""
        names: set[str] = set()
        for template in (self.body, self.instruction):
            names |= meta.find_undeclared_variables(_environment.parse(template))
        return names


OWN_VARIABLES = frozenset({"examples", "note"})  # that a body may use whatever its task
OWN = "own"  # in a list of languages: the one that the run asks for


def _weighted(values: Any) -> Any:
    """A list as equal weights; the keys of a map as strings (YAML reads 4.5 as a number)."""
    if isinstance(values, list):
        return {str(value): 1.0 for value in values}
    return {str(v): weight for v, weight in values.items()} if isinstance(values, dict) else values


def _check_weights(values: dict[str, float], what: str) -> None:
    if not values or min(values.values()) < 0 or not 0 < sum(values.values()) < math.inf:
        raise ValueError(f"{what} needs values with positive weights")


def _draw(values: dict[str, float], choice: random.Random) -> str:
    return choice.choices(list(values), weights=list(values.values()))[0]


_KEYS = sorted(set(Prompt.model_fields) - {"name", "body", "sha"} | {"base_sha"})  # of front matter
_FIXED = ("task", "seed", "form")  # what an override cannot change
# What an override may add without being tied to the text of its base.
_LOOSE = frozenset({"description", "examples", "note", "base_sha"})


@dataclass(frozen=True)
class PromptFile:
    """A prompt file as it stands, before anything is resolved."""

    path: Path
    front: dict[str, Any]
    body: str
    body_line: int  # line of the file that the body begins at, from 1

    def line_of(self, key: str) -> int:
        """Line of a front-matter key or control, 1 where it is not found."""
        lines = self.path.read_text(encoding="utf-8-sig").splitlines()[: self.body_line]
        pattern = re.compile(rf"(?:.*[{{,])?\s*[\"']?{re.escape(key)}[\"']?\s*:")
        return next((n for n, line in enumerate(lines, 1) if pattern.match(line)), 1)

    def line_using(self, name: str) -> int:
        """Line of the file where the body, or else the front matter, first uses a name."""
        nodes = _environment.parse(self.body).find_all(jinja2.nodes.Name)
        lines = sorted(node.lineno for node in nodes if node.name == name)
        return self.body_line + lines[0] - 1 if lines else self.line_of("instruction")


def read_prompt_file(path: Path) -> PromptFile:
    """Read a prompt file.

    Raises:
        UserError: it is missing, not UTF-8, has no front matter or a wrong one, or a template with
            a syntax error.
    """
    try:
        content = path.read_text(encoding="utf-8-sig")  # Windows editors write a BOM
    except FileNotFoundError:
        known = ", ".join(list_prompts(path.parent.parent)) or "none"
        raise UserError(f"{path}: no such prompt; there are: {known}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 ({error.reason} at byte {error.start})") from None
    match = _FRONT_MATTER.match(content.replace("\r\n", "\n"))
    if not match:
        raise UserError(f"{path}: must begin with YAML front matter between two lines of '---'")
    try:
        front = load_yaml(match[1]) or {}
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 2}" if mark else ""
        problem = getattr(error, "problem", None) or error
        raise UserError(f"{path}{line}: front matter is not YAML: {problem}") from None
    if not isinstance(front, dict):
        raise UserError(f"{path}: front matter must be 'key: value' lines")
    found = PromptFile(path, front, match[2], match[0].count("\n", 0, match.start(2)) + 1)
    for key in front:
        if key not in _KEYS:
            at, allowed = found.line_of(str(key)), ", ".join(_KEYS)
            raise UserError(f"{path}:{at}: unknown key '{key}'; allowed: {allowed}")
    _check_syntax(found)
    return found


def _check_syntax(file: PromptFile) -> None:
    instruction = file.front.get("instruction")
    for template, line in ((file.body, file.body_line), (instruction, None)):
        try:
            _environment.compile(template if isinstance(template, str) else "")
        except jinja2.TemplateSyntaxError as error:
            at = file.line_of("instruction") if line is None else line + (error.lineno or 1) - 1
            raise UserError(f"{file.path}:{at}: {error.message}") from None


def load_base(name: str, folder: Path = PROMPTS_DIR) -> Prompt:
    """A prompt by name, as it is where no override changes it."""
    return _resolve(name, read_prompt_file(_path_of(name, folder)), None)


@lru_cache(maxsize=1024)
def load_prompt(name: str, lang: str, folder: Path = PROMPTS_DIR) -> Prompt:
    """A prompt by name ("retrieval/short_query"), with its override for `lang` where there is one.

    An override's front matter replaces the base's key by key; its body, where it has one, replaces
    the base's body. It cannot change what the prompt is made from or what must be answered.
    """
    path = _path_of(name, folder)
    base, override = read_prompt_file(path), override_path(name, lang, folder)
    prompt = _resolve(name, base, read_prompt_file(override) if override.is_file() else None)
    for side in ("query_lang", "positive_lang"):
        try:
            prompt.languages_beside(lang, side)
        except UserError as error:
            raise UserError(f"{path}: {str(error).removeprefix(f'prompt {name}: ')}") from None
    return prompt


def _path_of(name: str, folder: Path) -> Path:
    if not _NAME.fullmatch(name):
        raise UserError(f"prompt '{name}': a name is <family>/<prompt>, in a-z, 0-9 and _")
    return folder / f"{name}.md"


def override_path(name: str, lang: str, folder: Path = PROMPTS_DIR) -> Path:
    """Where the override of a prompt for a language is, if there is one."""
    return folder / f"{name}.{lang}.md"


def _resolve(name: str, base: PromptFile, override: PromptFile | None) -> Prompt:
    front, body = dict(base.front), base.body.strip()
    if "base_sha" in front:
        line = base.line_of("base_sha")
        raise UserError(f"{base.path}:{line}: base_sha: is for overrides; this is a base")
    if override:
        for key in _FIXED:
            if key in override.front:
                line = override.line_of(key)
                raise UserError(f"{override.path}:{line}: an override cannot change the {key}")
        changed = {key: value for key, value in override.front.items() if key != "base_sha"}
        front, body = {**front, **changed}, override.body.strip() or body
    front = {"description": "", "instruction": "", **front}
    if isinstance(front["instruction"], str):
        front["instruction"] = normalize(front["instruction"])
    try:
        sha = digest(yaml.safe_dump(front, sort_keys=True, allow_unicode=True), body)[:12]
        return Prompt(name=name, body=body, sha=sha, **front)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        own = override if override and first["loc"][0] in override.front else base
        line = own.line_of(str(first["loc"][0]))
        raise UserError(f"{own.path}:{line}: {key}: {first['msg']}") from None


def drift(name: str, override: PromptFile, folder: Path = PROMPTS_DIR) -> str | None:
    """Why an override may no longer suit its base: the base has changed since, or nobody can tell.

    An override that replaces text of its base names the base's hash (`base_sha`); one that only
    adds examples, a note or a description is tied to nothing.
    """
    if not override.body.strip() and set(override.front) <= _LOOSE:
        return None
    now, then = load_base(name, folder).sha, override.front.get("base_sha")
    if then is None:
        return f"replaces text of its base, so it needs base_sha: {now}"
    return None if str(then) == now else f"base_sha is {then}, but the base is now {now}"


def list_prompts(folder: Path = PROMPTS_DIR) -> list[str]:
    """Names of all prompts, overrides and README left out."""
    return sorted(
        f"{path.parent.name}/{path.stem}"
        for path in folder.glob("*/*.md")
        if _NAME.fullmatch(f"{path.parent.name}/{path.stem}")
    )
