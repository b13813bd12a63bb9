"""A run's profile: one YAML file, then what the command line overrides; checked as a whole.

`pipelines/configs/*.yaml` are profiles. Keys: `corpus`, `engine`, `prompts`, `pairs`, `seed`,
`workers`, `memory_gb`, and `stages`, where each section is the stage of that name.
"""

import difflib
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sdg.corpora import CorpusConfig
from sdg.engines import AnyEngine, ExtractiveEngine
from sdg.errors import UserError
from sdg.languages import Language
from sdg.prompting import load_prompt
from sdg.stage import Stage
from sdg.stages import (
    DedupeStage,
    FilterStage,
    InferStage,
    MineStage,
    MixStage,
    ParseStage,
    RenderStage,
    SeedStage,
)
from sdg.tasks import check_prompt
from sdg.yaml12 import load_yaml

CONFIGS_DIR = Path(__file__).parent / "configs"
DEFAULT_PROFILE = {"extractive": "embedded", "vllm": "laptop", "openai": "laptop"}
POOL_DOCUMENTS = 5_000  # read at least so many for mining, however few pairs are wanted


class StageSettings(BaseModel):
    """The stages' sections, in the order that rows take. Wiring (which corpus, engine, prompts) is
    filled in from the profile's own keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: SeedStage = SeedStage()
    render: RenderStage = RenderStage()
    infer: InferStage = InferStage()
    parse: ParseStage = ParseStage()
    filter: FilterStage = FilterStage()
    dedupe: DedupeStage = DedupeStage()
    mine: MineStage = MineStage()
    mix: MixStage = MixStage()


class Profile(BaseModel):
    """All that decides what a run makes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    corpus: CorpusConfig = CorpusConfig()
    engine: AnyEngine = ExtractiveEngine()
    prompts: dict[str, Annotated[float, Field(gt=0)]] = Field(min_length=1)  # name -> weight
    pairs: int | None = Field(None, ge=1)  # accepted examples wanted; None: all the corpus gives
    seed: int = 0
    workers: int | None = Field(None, ge=1)  # None: one a processor
    memory_gb: float | None = Field(None, gt=0)  # needed at least; None: by workers
    stages: StageSettings = StageSettings()

    def build(self, lang: Language) -> list[Stage]:
        """The run's stages, wired; prompts are loaded and checked on the way.

        Raises:
            UserError: a prompt is missing or wrong, or the engine cannot answer it.
        """
        prompts = [load_prompt(name, lang.base) for name in self.prompts]
        for prompt in prompts:
            check_prompt(prompt)
        self.engine.check(prompts, lang.code)
        shas = {prompt.name: prompt.sha for prompt in prompts}
        stages = self.stages
        limit = stages.seed.limit
        if limit is None and self.pairs is not None:
            limit = max(POOL_DOCUMENTS, round(self.pairs * stages.render.oversample))
        wired: dict[str, Stage] = {
            **{name: getattr(stages, name) for name in StageSettings.model_fields},
            "seed": stages.seed.model_copy(update={"corpus": self.corpus, "limit": limit}),
            "render": stages.render.model_copy(
                update={
                    "prompts": dict(self.prompts),
                    "shas": shas,
                    "engine": self.engine.name,
                    "model": self.engine.model,
                    "revision": self.engine.revision,
                    "pairs": self.pairs,
                }
            ),
            "infer": stages.infer.model_copy(update={"engine": self.engine}),
            "mix": stages.mix.model_copy(update={"pairs": self.pairs}),
        }
        return list(wired.values())


def load_profile(config: str, overrides: dict[str, Any], sets: Sequence[str]) -> Profile:
    """Read a profile and apply what the command line says.

    Args:
        config: a name in `pipelines/configs`, a path, or "" for the engine's default profile.
        overrides: dotted key -> value, from flags.
        sets: "key=value" strings of --set, values in YAML; they win over everything.

    Raises:
        UserError: the file, the key and what is allowed there.
    """
    changes: dict[str, Any] = dict(overrides)
    for item in sets:
        key, sign, value = item.partition("=")
        if not sign or not key:
            raise UserError(f"--set {item}: must be key=value, such as --set corpus.text=body")
        changes[key.strip()] = _parse_yaml(value, f"--set {item}")
    engine = str(changes.get("engine.name", "extractive"))
    path = _find(config or DEFAULT_PROFILE.get(engine, "embedded"))
    try:
        values = _parse_yaml(path.read_text(encoding="utf-8"), str(path)) or {}
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: must be 'key: value' lines")
    for key, value in changes.items():
        _put(values, key, value)
    try:
        return Profile.model_validate(values)
    except ValidationError as error:
        raise UserError(_explain(error, path, changes)) from None


def _find(config: str) -> Path:
    named = CONFIGS_DIR / f"{config}.yaml"
    path = named if "/" not in config and named.is_file() else Path(config)
    if not path.is_file():
        names = ", ".join(sorted(p.stem for p in CONFIGS_DIR.glob("*.yaml")))
        raise UserError(f"CONFIG={config}: no such file; profiles that come along: {names}")
    return path


def _parse_yaml(text: str, where: str) -> Any:
    try:
        return load_yaml(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark and "\n" in text else ""
        problem = getattr(error, "problem", None) or "not YAML"
        raise UserError(f"{where}{line}: {problem}") from None


def _put(values: dict[str, Any], dotted: str, value: Any) -> None:
    *parents, last = dotted.split(".")
    for parent in parents:
        inner = values.setdefault(parent, {})
        if not isinstance(inner, dict):
            raise UserError(f"--set {dotted}: '{parent}' is a value, not a section")
        values = inner
    values[last] = value


def _explain(error: ValidationError, path: Path, changes: dict[str, Any]) -> str:
    """One line: the file (or flag), the key, what is wrong, what is allowed."""
    first = error.errors()[0]
    loc = [str(part) for part in first["loc"]]
    if len(loc) > 1 and loc[0] == "engine" and loc[1] in DEFAULT_PROFILE:
        loc.pop(1)  # the tag of the union is no key of the file
    key = ".".join(loc)
    where = f"--set {key}" if key in changes else f"{path}: {key}"
    if first["type"] == "extra_forbidden":
        allowed = _keys_beside(Profile, first["loc"])
        near = difflib.get_close_matches(loc[-1], allowed, n=1)
        hint = f"did you mean '{near[0]}'? " if near else ""
        return f"{where}: unknown key; {hint}allowed: {', '.join(allowed)}"
    given = f" (given: {first['input']!r})" if not isinstance(first["input"], dict) else ""
    return f"{where}: {first['msg']}{given}"


def _keys_beside(model: type[BaseModel], loc: Sequence[int | str]) -> list[str]:
    """Keys allowed where the last part of `loc` stands."""
    for part in loc[:-1]:
        if part in model.model_fields:
            models = _models(model.model_fields[str(part)].annotation)
            if len(models) == 1:
                model = models[0]
        else:  # the tag of a union
            engines = _models(Profile.model_fields["engine"].annotation)
            model = next((m for m in engines if m.model_fields["name"].default == part), model)
    return list(model.model_fields)


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in (Annotated, Union, types.UnionType):
        return [model for inner in get_args(annotation) for model in _models(inner)]
    return []
