"""What prompts say to a model: `make preview LANG=sw [TASK=] [PROMPT=] [N=] [MODEL=] [SEED=]`.

Renders prompts with sampled controls on sample seeds, with token counts, the JSON schema that the
reply is held to, and what a language's override changes. Starts no engine and no Ray.
"""

import argparse
import difflib
import json
import sys
from collections.abc import Iterator, Sequence

import yaml
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipelines.samples import sample_seeds
from sdg.errors import UserError, entry_point
from sdg.languages import Language, language
from sdg.prompting import Prompt, list_prompts, load_base, load_prompt, override_path
from sdg.tasks import check_prompt
from sdg.tasks.base import PASSAGE
from sdg.tasks.compose import compose
from sdg.tokens import TokenCounter, token_counter

_COLOURS = {"+": "green", "-": "red", "@": "cyan"}


def parse_args(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="preview", description="Show what prompts say.")
    add = parser.add_argument
    add("--lang", required=True, help="language wanted, a BCP 47 code: sw, ha, zh …")
    add("--task", default="", help="prompts of one task family only: retrieval, sts …")
    add("--prompt", default="", help="one prompt: retrieval/short_query, or short_query")
    add("--n", type=int, default=1, help="samples of each prompt (default 1)")
    add("--model", default="", help="count tokens with this model's tokenizer, a folder or hub id")
    add("--seed", type=int, default=0, help="random seed of what is sampled (default 0)")
    return parser.parse_args(argv)


def chosen(task: str, wanted: str, lang: str) -> list[Prompt]:
    """The prompts asked for, resolved for a language.

    Raises:
        UserError: there is none such; or one of them is wrong.
    """
    known = list_prompts()
    names = [name for name in known if wanted in ("", name, name.partition("/")[2])]
    if not names:
        near = difflib.get_close_matches(wanted, [*known, *(n.split("/")[1] for n in known)], n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UserError(f"PROMPT={wanted}: no such prompt; {hint}there are: {', '.join(known)}")
    prompts = [load_prompt(name, lang) for name in names]
    tasks = sorted({prompt.task for prompt in prompts})
    if task and task not in tasks:
        raise UserError(f"TASK={task}: no such prompt; the tasks are: {', '.join(tasks)}")
    return [prompt for prompt in prompts if task in ("", prompt.task)]


def show(console: Console, prompt: Prompt, lang: Language, args: argparse.Namespace) -> list[int]:
    """Print a prompt's samples, its schema and its override; returns the samples' token counts."""
    counter, task = token_counter(args.model), check_prompt(prompt)
    console.rule(f"[bold]{prompt.name}[/bold]", align="left")
    _fact(console, "about", prompt.description)
    made_of = prompt.seed + (f", {prompt.form}" if prompt.form else "")
    _fact(console, "made from", f"{made_of} · hash {prompt.sha} · {_sampling(prompt)}")
    counts = []
    for number, seed in enumerate(sample_seeds(prompt, lang.base, args.n)):
        made = compose(task, prompt, seed, lang.code, args.seed, number)
        if args.n > 1:
            console.print(f"[bold]sample {number + 1}[/bold]")
        if prompt.seed == PASSAGE and seed.lang != lang.base:
            _fact(console, "note", f"no corpus in {lang.name} comes along: an English passage")
        _fact(console, "controls", json.dumps(made.controls, ensure_ascii=False))
        _fact(console, "languages", f"query {made.lang}, positive {made.positive_lang}")
        _fact(console, "instruction", made.instruction or "(none: it asks for ideas)")
        console.print()
        console.print(Text(made.text), soft_wrap=True)
        console.print()
        counts.append(counter.count(made.text))
        _fact(console, "tokens", _tokens(counts[-1], made.text, counter))
    schema = task.reply_model(prompt.seed, prompt.form).model_json_schema()
    _fact(console, "schema", json.dumps(schema, ensure_ascii=False))
    for line in override_diff(prompt, lang.base):
        console.print(Text(line, style=_COLOURS.get(line[:1], "")), soft_wrap=True)
    return counts


def _fact(console: Console, label: str, text: str) -> None:
    console.print(Text.assemble((f"{label:<12}", "dim"), text), soft_wrap=True)


def _sampling(prompt: Prompt) -> str:
    sampling = prompt.sampling
    return (
        f"temperature {sampling.temperature:g}, top_p {sampling.top_p:g}, at most "
        f"{sampling.max_tokens:,} tokens of reply"
    )


def _tokens(count: int, text: str, counter: TokenCounter) -> str:
    return f"{count:,} for {len(text):,} characters ({counter.how})"


def override_diff(prompt: Prompt, lang: str) -> Iterator[str]:
    """What a language's override changes, as a unified diff of the resolved prompts."""
    path = override_path(prompt.name, lang)
    if not path.is_file():
        return
    base = _source(load_base(prompt.name))
    own, base_name = _source(prompt), f"{prompt.name}.md"
    for line in difflib.unified_diff(base, own, base_name, f"{prompt.name}.{lang}.md", n=1):
        yield line.rstrip("\n")


def _source(prompt: Prompt) -> list[str]:
    """A resolved prompt as its file could read."""
    front = prompt.model_dump(exclude={"name", "sha", "body"})
    text = yaml.safe_dump(front, sort_keys=False, allow_unicode=True, width=10_000)
    return f"{text}---\n{prompt.body}\n".splitlines(keepends=True)


def overview(rows: Sequence[tuple[Prompt, list[int]]], lang: Language) -> Table:
    """One line a prompt."""
    table = Table(box=None, pad_edge=False)
    for name in ("prompt", "made from", "override"):
        table.add_column(name, no_wrap=True)
    for name in ("tokens", "reply, at most"):
        table.add_column(name, justify="right", no_wrap=True)
    for prompt, counts in rows:
        few, many = min(counts), max(counts)
        tokens = f"{few:,}" if few == many else f"{few:,}-{many:,}"
        own = lang.base if override_path(prompt.name, lang.base).is_file() else ""
        table.add_row(prompt.name, prompt.seed, own, tokens, f"{prompt.sampling.max_tokens:,}")
    return table


@entry_point
def main(argv: Sequence[str]) -> int:
    """Exit status: 0 done, 1 the system refused, 2 wrong use."""
    args = parse_args(argv)
    console = Console(highlight=False)
    if not 1 <= args.n <= 100:
        raise UserError(f"N={args.n}: must be from 1 to 100")
    if "," in args.lang:
        raise UserError(f"LANG={args.lang}: a preview is of one language; give one code")
    lang = language(args.lang)
    prompts = chosen(args.task, args.prompt, lang.base)
    rows = []
    for prompt in prompts:
        rows.append((prompt, show(console, prompt, lang, args)))
        console.print()
    if len(rows) > 1:
        console.print(overview(rows, lang))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
