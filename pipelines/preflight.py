"""Checks a profile as a whole before anything starts: prompts, models, GPUs, memory, context.

Every problem is one line that says what is wrong, where, and what to do; all are told at once.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pipelines.profile import ModelSection, Profile
from pipelines.samples import sample_seeds
from sdg.engines import ExtractiveEngine, VLLMEngine
from sdg.errors import UserError
from sdg.languages import Language, language
from sdg.prompting import Prompt, load_prompt
from sdg.stages.brainstorm import IDEAS_LANG
from sdg.tasks import check_prompt
from sdg.tasks.base import JUDGED
from sdg.tasks.compose import compose
from sdg.tokens import estimate_tokens

Prompts = Mapping[str, Mapping[str, Prompt]]  # by language and name

BYTES = {"fp8": 1.0, "mxfp4": 0.55, "awq": 0.55, "gptq": 0.55, "bitsandbytes": 0.55}  # a parameter
NOT_WEIGHTS_GB = 3.0  # of a GPU's memory: activations, CUDA graphs
TEMPLATE_TOKENS = 64  # that a chat template may add
_SIZE = re.compile(r"(?<![\w.])(?:(\d+)x)?(\d+(?:\.\d+)?)b(?![a-z])", re.IGNORECASE)
_PACKED = re.compile(r"fp8|mxfp4|awq|gptq", re.IGNORECASE)


def check_profile(profile: Profile, langs: Sequence[Language]) -> None:
    """Refuse a profile that cannot run.

    Raises:
        UserError: one line for one problem, a list for several.
    """
    found = list(dict.fromkeys(_problems(profile, langs)))
    if len(found) == 1:
        raise UserError(found[0])
    if found:
        raise UserError(f"{len(found)} problems:\n" + "\n".join(f"  - {line}" for line in found))


def _problems(profile: Profile, langs: Sequence[Language]) -> Iterator[str]:
    prompts: dict[str, dict[str, Prompt]] = {}
    for lang in langs:
        prompts[lang.code] = {}
        for name in profile.prompts:
            prompt, problem = _loaded(name, lang.base)
            if prompt:
                prompts[lang.code][name] = prompt
            if problem:
                yield problem
    yield from _models(profile.mix, prompts)
    for teacher in profile.stages.mine.teachers:
        yield from _caught(teacher.check)
    if profile.stages.mine.relabel:
        yield from _caught(profile.stages.mine.relabel.check)
    if profile.stages.mine.approximate:
        yield from _caught(profile.stages.mine.approximate.check)
    if any(p.seed == "idea" for found in prompts.values() for p in found.values()):
        yield from _ideas(profile)
    if profile.stages.judge:
        yield from _judge(profile, langs)
    if not os.environ.get("RAY_ADDRESS") or profile.gpus is not None:
        yield from _gpus(profile)
    yield from _context(profile, prompts)


def _loaded(name: str, lang: str) -> tuple[Prompt | None, str]:
    try:
        prompt = load_prompt(name, lang)
        check_prompt(prompt)
    except UserError as error:
        return None, str(error)
    if prompt.seed == "none":
        return None, f"prompts: {name} asks for ideas; it belongs under ideas.prompts"
    if prompt.seed == JUDGED:
        return None, f"prompts: {name} writes no pairs; it belongs under stages.judge.prompt"
    return prompt, ""


def _ideas(profile: Profile) -> Iterator[str]:
    unknown = [
        name
        for name in profile.ideas.models
        if name not in {section.engine.model for section in profile.mix}
    ]
    if unknown:
        yield f"ideas.models: {unknown[0]} is none of the profile's models"
    prompts = {}
    for name in profile.ideas.prompts:
        try:
            prompt = load_prompt(name, IDEAS_LANG)
            check_prompt(prompt)
        except UserError as error:
            yield str(error)
            continue
        if prompt.seed == "none":
            prompts[name] = prompt
        else:
            yield f"ideas.prompts: {name} is made from a {prompt.seed}, and asks for no ideas"
    if profile.idea_models:
        yield from _models(profile.idea_models, {IDEAS_LANG: prompts})


def _judge(profile: Profile, langs: Sequence[Language]) -> Iterator[str]:
    judge = profile.stages.judge
    assert judge
    if isinstance(judge.engine, ExtractiveEngine):
        yield "stages.judge.engine: the extractive engine cannot judge; give one with a model"
        return
    writers = {section.engine.model for section in profile.mix}
    if judge.engine.model in writers and not judge.allow_own:
        yield (
            f"stages.judge.engine: {judge.engine.model} writes pairs in this run, and would judge "
            f"its own; take another model, or --set stages.judge.allow_own=true"
        )
    prompts = []
    for lang in langs:
        try:
            prompts.append(load_prompt(judge.prompt, lang.base))
            check_prompt(prompts[-1])
        except UserError as error:
            yield str(error)
            return
    if prompts[0].seed != JUDGED:
        yield f"stages.judge.prompt: {judge.prompt} is for writing; it cannot judge"
        return
    yield from _caught(judge.engine.check, prompts, langs[0].code)


def _models(sections: Sequence[ModelSection], prompts: Prompts) -> Iterator[str]:
    """Each engine can answer what may come to it, and nothing comes to none."""
    shares = [section.as_share() for section in sections]
    answered: dict[int, list[Prompt]] = {place: [] for place in range(len(sections))}
    for code, found in prompts.items():
        for prompt in found.values():
            writers = [i for i, model in enumerate(shares) if model.weight(code, prompt.task)]
            for place in writers:
                answered[place].append(prompt)
            if not writers:
                yield (
                    f"models: none has a share of {prompt.task} in {language(code).name} ({code}), "
                    f"which prompt {prompt.name} needs; raise one's share, languages or tasks"
                )
    for place, wanted in answered.items():
        if wanted:
            yield from _caught(sections[place].engine.check, wanted, next(iter(prompts)))


def _caught(check: Callable[..., None], *arguments: Any) -> Iterator[str]:
    try:
        check(*arguments)
    except UserError as error:
        yield str(error)


def _gpus(profile: Profile) -> Iterator[str]:
    """Each model finds GPUs enough for one replica, and its weights find room on them."""
    there = [profile.gpu_memory_gb or 0.0] * profile.gpus if profile.gpus else gpu_memories()
    for section in profile.mix:
        engine = section.engine
        if not isinstance(engine, VLLMEngine) or not engine.model:
            continue
        if not (profile.gpus or there):
            continue  # the CPU build; without a GPU the cluster says what is missing
        num = engine.tensor_parallel_size
        if num > len(there):
            yield (
                f"{engine.model}: tensor_parallel_size {num}, but there are {len(there)} GPUs "
                f"(gpus: in the profile, or this machine's); lower it, or take a bigger machine"
            )
            continue
        weights = section.weights_gb or weights_gb(engine.model, engine.quantization)
        each = profile.gpu_memory_gb or min(there)
        room = each * engine.gpu_memory_utilization - NOT_WEIGHTS_GB
        if weights and each and weights / num > room:
            fit = next((n for n in (2, 4, 8, 16) if n > num and weights / n <= room), None)
            advice = f"set tensor_parallel_size: {fit}" if fit else "take a larger machine"
            yield (
                f"{engine.model}: its weights take about {weights:.0f} GB, {weights / num:.0f} GB "
                f"on each of {num} GPUs, and {room:.0f} GB of {each:.0f} are free for them; "
                f"{advice}, or a quantised model (weights_gb: corrects the size)"
            )


def gpu_memories() -> list[float]:
    """GB of each NVIDIA GPU of this machine; none where there is none."""
    if not shutil.which("nvidia-smi"):
        return []
    asked = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    done = subprocess.run(asked, capture_output=True, text=True, timeout=20, check=False)
    sizes = [line.strip() for line in done.stdout.splitlines()] if done.returncode == 0 else []
    return [int(size) * 2**20 / 1e9 for size in sizes if size.isdigit()]


def weights_gb(model: str, quantization: str | None) -> float | None:
    """Size of a model's weights by its name ("Qwen3-32B-FP8"), two bytes a parameter unless it is
    quantised; None where the name does not tell ("8x22B" is eight experts that share layers: rather
    too much than too little)."""
    found = _SIZE.search(model.rpartition("/")[2].replace("_", "-"))
    if not found:
        return None
    packed = _PACKED.search(model)
    kind = (quantization or (packed[0] if packed else "")).lower()
    return float(found[2]) * int(found[1] or 1) * BYTES.get(kind, 2.0)


def _context(profile: Profile, prompts: Prompts) -> Iterator[str]:
    """The longest prompt and its reply fit into each model's context."""
    limited = [
        section
        for section in profile.mix
        if isinstance(section.engine, VLLMEngine) and section.engine.max_model_len
    ]
    for section in limited:
        assert isinstance(section.engine, VLLMEngine)
        context, share = section.engine.max_model_len or 0, section.as_share()
        needs = {
            (code, name): _tokens(prompt, code, profile)
            + TEMPLATE_TOKENS
            + share.sampling.over(prompt.sampling).max_tokens
            for code, found in prompts.items()
            for name, prompt in found.items()
            if share.weight(code, prompt.task)
        }
        if needs and max(needs.values()) > context:
            code, name = max(needs, key=lambda key: needs[key])
            yield (
                f"{section.engine.model}: max_model_len {context}, but prompt {name} in "
                f"{language(code).name} needs up to about {needs[code, name]} tokens with its "
                f"reply; raise it, or lower the prompt's max_tokens or stages.seed.max_chars"
            )


def _tokens(prompt: Prompt, lang: str, profile: Profile) -> int:
    """About how long a prompt gets with the longest passage that the seed stage lets through."""
    (seed,) = sample_seeds(prompt, lang, 1)
    text = compose(check_prompt(prompt), prompt, seed, lang, "preflight").text
    size = estimate_tokens(text)
    if prompt.seed != "passage" or not seed.text:
        return size
    longer = max(0, profile.stages.seed.max_chars - len(seed.text))
    return size + round(longer * estimate_tokens(seed.text) / len(seed.text))
