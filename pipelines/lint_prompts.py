"""Checks every prompt in every language: `make lint-prompts [ARGS=--renew]`.

All findings at once, as `file:line: message`; exit status 1 where there is one. `--renew` writes
into every override the hash of its base as it is now: give it once you have read what changed in
the base (`git log -p`) and carried it over.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_origin

from pipelines.samples import sample_seeds
from sdg.errors import UserError, entry_point
from sdg.languages import language
from sdg.prompting import (
    PROMPTS_DIR,
    Prompt,
    PromptFile,
    drift,
    list_prompts,
    load_base,
    load_prompt,
    read_prompt_file,
)
from sdg.tasks import ASKED, faults
from sdg.tasks.base import IDEA, JUDGED, PAIR, PASSAGE
from sdg.tasks.compose import compose

# Beside the languages that have overrides: scripts of all kinds, a language with two of them, one
# that no detector knows, and those that cross-lingual prompts list themselves.
LANGUAGES = ("en", "fr", "am", "th", "my", "ff-Adlm", "nqo", "qu", "sr")
# What a prompt must show of its seed, or it asks for something at random.
NEEDED = {
    PASSAGE: ("document",),
    IDEA: ("idea",),
    PAIR: ("query", "positive", "negatives"),
    JUDGED: ("instruction", "query", "texts"),
}
_KEYS = ("controls", "form", "instruction", "seed")  # of front matter, as `faults` begins with
_PREFIX = re.compile(r"(?P<path>.+?\.md)(?P<line>:\d+)?: (?P<message>.*)", re.DOTALL)


@dataclass(frozen=True, order=True)
class Finding:
    """Something to mend in a prompt file."""

    path: Path
    line: int
    message: str

    def __str__(self) -> str:
        here = Path.cwd()
        path = self.path.relative_to(here) if self.path.is_relative_to(here) else self.path
        return f"{path}:{self.line}: {self.message}"


def lint(folder: Path = PROMPTS_DIR) -> list[Finding]:
    """All findings in a folder of prompts, sorted."""
    bases = {folder / f"{name}.md": name for name in list_prompts(folder)}
    found: set[Finding] = set()
    overrides: dict[str, dict[str, Path]] = {name: {} for name in bases.values()}
    for path in sorted(folder.glob("*/*.md")):
        if path in bases:
            continue
        base, dot, lang = path.stem.partition(".")
        name = f"{path.parent.name}/{base}"
        if name not in overrides:
            found.add(Finding(path, 1, _stray(name, dot, folder)))
        elif problem := _lang_problem(lang):
            found.add(Finding(path, 1, problem))
        else:
            overrides[name][lang] = path
    langs = sorted({*LANGUAGES, *(lang for own in overrides.values() for lang in own)})
    for path, name in bases.items():
        found.update(_lint_prompt(name, path, overrides[name], langs, folder))
    return sorted(found)


def _stray(name: str, dot: str, folder: Path) -> str:
    if not dot:
        return "no prompt: a name is <family>/<prompt>, in a-z, 0-9 and _"
    return f"overrides nothing: there is no {folder / name}.md"


def _lang_problem(lang: str) -> str | None:
    """Why no run would take an override of this language."""
    try:
        base = language(lang).base
    except UserError as error:
        return str(error)
    return None if base == lang else f"no run looks for '{lang}'; name the file for '{base}'"


def _lint_prompt(
    name: str, path: Path, overrides: dict[str, Path], langs: Sequence[str], folder: Path
) -> Iterator[Finding]:
    try:
        base = read_prompt_file(path)
        prompt = load_base(name, folder)
    except UserError as error:
        yield _finding(error, path)
        return
    yield from _lint_resolved(prompt, base, base)
    yield from _lint_names(prompt, base)
    for lang, own_path in overrides.items():
        try:
            own = read_prompt_file(own_path)
            resolved = load_prompt(name, lang, folder)
        except UserError as error:
            yield _finding(error, own_path)
            continue
        yield from _lint_resolved(resolved, own, base)
        yield from _lint_override(name, own, prompt, folder)
    if prompt.task in ASKED and not faults(prompt):
        yield from _lint_rendering(name, path, overrides, langs, folder)


def _finding(error: UserError, path: Path) -> Finding:
    """An error of loading, which says where in its own words, as a finding."""
    if match := _PREFIX.fullmatch(str(error)):
        line = int((match["line"] or ":1")[1:])
        return Finding(Path(match["path"]), line, " ".join(match["message"].split()))
    return Finding(path, 1, str(error))


def _lint_resolved(prompt: Prompt, file: PromptFile, base: PromptFile) -> Iterator[Finding]:
    """Variables, controls and the reply's shape of a prompt as `file` leaves it; what stands in the
    base alone is found there, not in each of its overrides."""
    own_body = file if file.body.strip() else base
    used = prompt.used_variables()
    for fault in faults(prompt):
        unknown = re.match(r"unknown variable '(.+?)'", fault)
        key = next((key for key in _KEYS if key in fault.partition(":")[0]), "task")
        source = own_body if unknown else file if key in file.front else base
        line = source.line_using(unknown[1]) if unknown else source.line_of(key)
        yield Finding(source.path, line, fault)
    source = file if "controls" in file.front else base
    for name in prompt.controls:
        if name not in used:
            line, message = source.line_of(name), f"control '{name}' is drawn but never used"
            yield Finding(source.path, line, message)
    for name in NEEDED.get(prompt.seed, ()):
        if name not in used:
            message = f"never uses '{name}': the model would not see what it is asked about"
            yield Finding(own_body.path, own_body.body_line, message)
    for name in ("examples", "note"):
        if getattr(prompt, name) and name not in used:
            message = f"{name}: given, but the prompt's text does not print {{{{ {name} }}}}"
            yield Finding(file.path, file.line_of(name), message)
    yield from _lint_reply(prompt, own_body)


def _lint_reply(prompt: Prompt, file: PromptFile) -> Iterator[Finding]:
    """The JSON that the prompt asks for has the keys of the reply model."""
    if prompt.task not in ASKED or faults(prompt):
        return
    model = ASKED[prompt.task].reply_model(prompt.seed, prompt.form)
    wanted = {
        name: get_origin(field.annotation) is list for name, field in model.model_fields.items()
    }
    lines = file.body.splitlines()
    places = [place for place, line in enumerate(lines) if '{"' in line]
    if not places:
        end = file.body_line + max(0, len(file.body.rstrip().splitlines()) - 1)
        yield Finding(file.path, end, f"shows no JSON reply; wanted the keys {', '.join(wanted)}")
        return
    line, text = file.body_line + places[-1], lines[places[-1]]
    try:
        asked: Any = json.loads(text[text.index('{"') : text.rindex("}") + 1])
    except ValueError:
        yield Finding(file.path, line, "the reply that the prompt shows is not one JSON object")
        return
    found = {name: isinstance(value, list) for name, value in asked.items()}
    if found != wanted:
        yield Finding(
            file.path, line, f"asks for {_shape(found)}, but a reply has {_shape(wanted)}"
        )


def _shape(keys: dict[str, bool]) -> str:
    return ", ".join(f"{name}[]" if is_list else name for name, is_list in keys.items())


def _lint_names(prompt: Prompt, file: PromptFile) -> Iterator[Finding]:
    """A base names a language in English, by its own name and by its script."""
    used = prompt.used_variables()
    for prefix in ("", "positive_"):
        wanted = [f"{prefix}{name}" for name in ("language", "autonym", "script")]
        missing = [name for name in wanted if name not in used]
        if wanted[0] in used and missing:
            message = f"names {wanted[0]} without {' and '.join(missing)}"
            yield Finding(file.path, file.line_using(wanted[0]), message)


def _lint_override(
    name: str, override: PromptFile, base: Prompt, folder: Path
) -> Iterator[Finding]:
    controls = override.front.get("controls")
    for control in controls if isinstance(controls, dict) else ():
        if control not in base.controls:
            known = ", ".join(base.controls) or "none"
            message = f"unknown control '{control}'; the base has: {known}"
            yield Finding(override.path, override.line_of(str(control)), message)
    if problem := drift(name, override, folder):
        line = override.line_of("base_sha")
        message = f"{problem}; carry over what changed, then make lint-prompts ARGS=--renew"
        yield Finding(override.path, line, message)


def _lint_rendering(
    name: str, path: Path, overrides: dict[str, Path], langs: Sequence[str], folder: Path
) -> Iterator[Finding]:
    """Renders the prompt in every language."""
    for lang in langs:
        where = overrides.get(lang, path)
        try:
            prompt = load_prompt(name, language(lang).base, folder)
            for seed in sample_seeds(prompt, lang, 2):
                compose(ASKED[prompt.task], prompt, seed, lang, "lint")
        except UserError as error:
            yield _finding(error, where)


def renew(folder: Path = PROMPTS_DIR) -> list[Path]:
    """Write the base's present hash into each override that is tied to its base; those changed."""
    changed = []
    for path in sorted(folder.glob("*/*.*.md")):
        name = f"{path.parent.name}/{path.stem.partition('.')[0]}"
        override = read_prompt_file(path)
        if not drift(name, override, folder):
            continue
        entry = f"base_sha: {load_base(name, folder).sha!r}".replace("'", '"')
        content = path.read_text(encoding="utf-8")
        if "base_sha" in override.front:
            content = re.sub(r"(?m)^base_sha:.*$", entry, content, count=1)
        else:
            content = content.replace("---\n", f"---\n{entry}\n", 1)
        path.write_text(content, encoding="utf-8")
        changed.append(path)
    return changed


@entry_point
def main(argv: Sequence[str]) -> int:
    """Exit status: 0 all well, 1 findings, 2 wrong use."""
    parser = argparse.ArgumentParser(prog="lint-prompts", description="Check all prompts.")
    parser.add_argument("--renew", action="store_true", help="tie overrides to their bases anew")
    parser.add_argument("--folder", type=Path, default=PROMPTS_DIR, help="prompts to check")
    args = parser.parse_args(argv)
    if args.renew:
        for path in renew(args.folder):
            print(f"{path}: base_sha is the base's present hash now")
    found = lint(args.folder)
    for finding in found:
        print(finding)
    if not found:
        print(f"{len(list_prompts(args.folder))} prompts: nothing to mend")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
