"""A run's profile: one YAML file, then what the command line overrides; checked as a whole.

`pipelines/configs/*.yaml` are profiles. Keys: `corpus`, `engine` (or `models`, for several),
`languages`, `prompts`, `ideas`, `translate`, `pairs`, `budget`, `replies`, `runs`, `seed`,
`workers`, `memory_gb`, and `stages`, where each section is the stage of that name.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from pipelines.settings import find_config, parse_sets, read_settings
from sdg.corpora import CorpusConfig
from sdg.engines import AnyEngine, ExtractiveEngine
from sdg.errors import UserError
from sdg.kept import RepliesConfig
from sdg.languages import Language, language
from sdg.models import ModelShare, SamplingOverride, Weight
from sdg.pipeline import Pipeline
from sdg.planning import Budget
from sdg.prompting import load_prompt
from sdg.stage import Stage
from sdg.stages import (
    BrainstormStage,
    DecontaminateStage,
    DedupeStage,
    FilterStage,
    InferStage,
    JudgeStage,
    MineStage,
    MixStage,
    PairsConfig,
    PairsStage,
    ParseIdeasStage,
    ParseStage,
    ReadIdeasStage,
    RenderStage,
    SeedStage,
    SelectIdeasStage,
)
from sdg.stages.brainstorm import IDEAS_LANG

DEFAULT_PROFILE = {"extractive": "embedded", "vllm": "laptop", "openai": "laptop"}
MACHINES_REPLIES = "~/.cache/mbegu/replies"  # where runs are in an object store
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
    decontaminate: DecontaminateStage | None = None  # there is one where sets are named
    judge: JudgeStage | None = None  # there is one where its engine is given
    mine: MineStage = MineStage()
    mix: MixStage = MixStage()


class ModelSection(BaseModel):
    """One of several models: its engine, and its share of the calls by language and task."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    engine: AnyEngine
    share: Weight = 1.0
    languages: dict[str, Weight] = {}  # language -> factor on the share, where it is not 1
    tasks: dict[str, Weight] = {}  # task family -> factor on the share, where it is not 1
    sampling: SamplingOverride = SamplingOverride()
    weights_gb: float | None = Field(None, gt=0)  # of the model, where its name does not tell
    # What --dry-run reckons with: prices of a million tokens, and output tokens/s of one replica.
    price_in: float = Field(0, ge=0)
    price_out: float = Field(0, ge=0)
    tokens_per_s: float | None = Field(None, gt=0)

    def as_share(self) -> ModelShare:
        """What the calls are shared out by."""
        return ModelShare(
            engine=self.engine.name,
            model=self.engine.model,
            revision=self.engine.revision,
            share=self.share,
            languages=self.languages,
            tasks=self.tasks,
            sampling=self.sampling,
        )


class IdeasSection(BaseModel):
    """The task list, for prompts that are made from ideas: what makes it, and what is there."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str = ""  # a list to take over: another run's ideas.parquet
    prompts: dict[str, Annotated[float, Field(gt=0)]] = {}  # that ask for ideas -> weight
    calls: int = Field(50, ge=1)  # about 20 ideas each
    models: tuple[str, ...] = ()  # of `models:`, that are asked; none: all, by their shares


class Profile(BaseModel):
    """All that decides what a run makes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    corpus: CorpusConfig = CorpusConfig()
    engine: AnyEngine | None = None  # of a run with one model; None: `models`, or else extractive
    models: tuple[ModelSection, ...] = ()  # of a run with several
    languages: dict[str, Annotated[float, Field(gt=0)]] = {}  # code -> weight; LANG= goes before
    prompts: dict[str, Annotated[float, Field(gt=0)]] = Field(min_length=1)  # name -> weight
    ideas: IdeasSection = IdeasSection()
    translate: PairsConfig = PairsConfig()  # a dataset of pairs, for prompts that translate
    pairs: int | None = Field(None, ge=1)  # accepted examples wanted; None: all the corpus gives
    budget: Budget = Budget()  # with `pairs`: what the rounds' writers and judge may spend
    replies: RepliesConfig = RepliesConfig()  # that models give are kept for all runs
    runs: str = "runs"  # the folder of all runs, which every machine of a cluster must see
    seed: int = 0
    workers: int | None = Field(None, ge=1)  # None: one a processor
    memory_gb: float | None = Field(None, gt=0)  # needed at least; None: by workers
    gpus: int | None = Field(None, ge=0)  # there are for the models; None: those of this machine
    gpu_memory_gb: float | None = Field(None, gt=0)  # of one of them
    stages: StageSettings = StageSettings()

    @model_validator(mode="after")
    def _one_or_several(self) -> "Profile":
        if self.engine and self.models:
            raise ValueError(
                "engine: and models: are both given (ENGINE= and MODEL= set engine:); give the "
                "one model as engine:, or each of several in models:"
            )
        ids = [section.as_share().id for section in self.models]
        twice = next((one for one in ids if ids.count(one) > 1), None)
        if twice:
            raise ValueError(
                f"models: '{twice[1]}' is there twice; give it once, with the sum of the shares"
            )
        return self

    @property
    def mix(self) -> tuple[ModelSection, ...]:
        """The models of the run, at least one."""
        return self.models or (ModelSection(engine=self.engine or ExtractiveEngine()),)

    @property
    def kept_replies(self) -> RepliesConfig:
        """Where this run keeps replies."""
        folder = self.replies.folder
        if not folder:  # a store of objects is none of replies, which are added one by one
            folder = MACHINES_REPLIES if "://" in self.runs else f"{self.runs}/.replies"
        if not folder.startswith("~"):  # a worker's home may be another
            folder = str(Path(folder).absolute())
        return self.replies.model_copy(update={"folder": folder})

    @property
    def idea_models(self) -> tuple[ModelSection, ...]:
        """The models that are asked for ideas."""
        named = self.ideas.models
        return tuple(s for s in self.mix if not named or s.engine.model in named)

    def languages_of(self, codes: str | None) -> list[Language]:
        """The run's languages: those given, or the profile's.

        Raises:
            UserError: there are none, one is no language, or one is there twice.
        """
        given = [code.strip() for code in (codes or "").split(",") if code.strip()]
        langs = [language(code) for code in given or self.languages]
        if not langs:
            raise UserError(
                "which language? Give its code, LANG=sw, or several, LANG=sw,ha; or languages: in "
                "the profile"
            )
        twice = [one.code for i, one in enumerate(langs) if one in langs[:i]]
        if twice:
            raise UserError(f"LANG={codes or ','.join(self.languages)}: {twice[0]} is there twice")
        return langs

    def build(self, langs: Sequence[Language]) -> Pipeline:
        """The run's stages, wired.

        Raises:
            UserError: a prompt is missing or wrong, or a source is. pipelines/preflight.py finds
                all that is wrong at once.
        """
        prompts = {
            lang.code: {name: load_prompt(name, lang.base) for name in self.prompts}
            for lang in langs
        }
        shares = tuple(section.as_share() for section in self.mix)
        weights = {language(code).code: weight for code, weight in self.languages.items()}
        stages = self.stages
        render = stages.render.model_copy(
            update={
                "prompts": dict(self.prompts),
                "shas": {
                    name: {code: found[name].sha for code, found in prompts.items()}
                    for name in self.prompts
                },
                "languages": {lang.code: weights.get(lang.code, 1.0) for lang in langs},
                "models": shares,
                "pairs": self.pairs,
                "budget": self.budget,
                "judged": stages.judge is not None,
            }
        )
        limit = stages.seed.limit
        if limit is None and self.pairs is not None:
            limit = max(POOL_DOCUMENTS, round(self.pairs * render.oversample))
        quotas = render.quotas([lang.code for lang in langs]) if self.pairs else None
        wired = {
            "seed": stages.seed.model_copy(update={"corpus": self.corpus, "limit": limit}),
            "render": render,
            "infer": stages.infer.model_copy(
                update={
                    "engines": tuple(section.engine for section in self.mix),
                    "replies": self.kept_replies,
                }
            ),
            "mix": stages.mix.model_copy(update={"quotas": quotas}),
        }
        if stages.judge:
            name = stages.judge.prompt
            shas = {lang.base: load_prompt(name, lang.base).sha for lang in langs}
            wired["judge"] = stages.judge.model_copy(
                update={"shas": shas, "replies": self.kept_replies}
            )
        chain = [wired.get(name, getattr(stages, name)) for name in StageSettings.model_fields]
        seed, *rounds, mix = [stage for stage in chain if stage]
        kinds = {prompt.seed for found in prompts.values() for prompt in found.values()}
        return Pipeline(
            rounds=tuple(rounds),
            mix=mix,
            seed=seed if "passage" in kinds or self.corpus.path else None,
            pairs=self._pairs() if "pair" in kinds else None,
            **(self._ideas() if "idea" in kinds else {}),
        )

    def _pairs(self) -> Stage:
        """What reads the dataset to translate."""
        if not self.translate.path:
            raise UserError(
                "the profile's prompts translate pairs, and there are none: give "
                "--set translate.path=<file, folder or dataset id>"
            )
        return PairsStage(source=self.translate)

    def _ideas(self) -> dict[str, Any]:
        """What makes or reads the task list."""
        given = self.ideas
        if not given.path and not given.prompts:
            raise UserError(
                "the profile's prompts are made from ideas, and there are none: give ideas.prompts "
                "that list them, or --set ideas.path=<a run's ideas.parquet>"
            )
        made: dict[str, Any] = {"select_ideas": SelectIdeasStage()}
        if given.path:
            made["listed_ideas"] = ReadIdeasStage(path=given.path)
        if not given.prompts:
            return made
        prompts = {name: load_prompt(name, IDEAS_LANG) for name in given.prompts}
        shares = tuple(section.as_share() for section in self.idea_models)
        brainstorm = BrainstormStage(
            prompts=dict(given.prompts),
            shas={name: prompt.sha for name, prompt in prompts.items()},
            models=shares,
            calls=given.calls,
        )
        engines = tuple(section.engine for section in self.idea_models)
        infer = self.stages.infer.model_copy(
            update={"engines": engines, "replies": self.kept_replies}
        )
        return {**made, "ideas": (brainstorm, infer, ParseIdeasStage())}


def load_profile(config: str, overrides: dict[str, Any], sets: Sequence[str]) -> Profile:
    """Read a profile and apply what the command line says.

    Args:
        config: a name in `pipelines/configs`, a path, or "" for the engine's default profile.
        overrides: dotted key -> value, from flags.
        sets: "key=value" strings of --set, values in YAML; they win over everything.

    Raises:
        UserError: the file, the key and what is allowed there.
    """
    changes = {**overrides, **parse_sets(sets)}
    engine = str(changes.get("engine.name", "extractive"))
    path = find_config(config or DEFAULT_PROFILE.get(engine, "embedded"))
    return read_settings(Profile, path, changes)
