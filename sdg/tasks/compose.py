"""A prompt and a seed -> what a call says: languages, controls, instruction and text."""

from dataclasses import dataclass

from sdg.languages import language
from sdg.prompting import Prompt
from sdg.schema import Seed
from sdg.tasks.base import Family


@dataclass(frozen=True)
class Composed:
    """A call's content, drawn and rendered."""

    lang: str  # of the query
    positive_lang: str
    controls: dict[str, str]  # all that was drawn, and the prompt's form
    instruction: str
    text: str


def compose(family: Family, prompt: Prompt, seed: Seed, own: str, *key: object) -> Composed:
    """Draw and render a call; the same `key` gives the same.

    Args:
        own: the language of the cell: a passage's, or the one that the run asks for.

    Raises:
        UserError: the prompt cannot be rendered.
    """
    drawn = prompt.sample_controls(*key)
    lang, positive_lang = prompt.sample_languages(own, *key)
    variables = {**family.prompt_variables(seed, lang, positive_lang), **drawn}
    return Composed(
        lang=language(lang).code,
        positive_lang=language(positive_lang).code,
        controls={**drawn, **prompt.record(lang, positive_lang)},
        instruction=prompt.render_instruction(variables),
        text=prompt.render(variables),
    )
