"""Seeds to show and test a prompt with, where no corpus, task list or dataset is given."""

import json
from functools import lru_cache

from sdg.corpora import BUNDLED
from sdg.languages import language
from sdg.prompting import Prompt
from sdg.schema import Seed
from sdg.tasks.base import IDEA, JUDGED, NONE, PAIR, PASSAGE
from sdg.text import digest, normalize

_IDEAS = {
    ("retrieval", "short-long"): (
        "Given a question about a disease of crops, retrieve advice on how to treat it",
        "Given the name of a public office, retrieve texts that say what papers it asks for",
    ),
    ("retrieval", "long-long"): (
        "Given an account of a quarrel of neighbours, retrieve accounts of how a like one ended",
        "Given a report on a failed harvest, retrieve reports on harvests that failed likewise",
    ),
    ("retrieval", "short-short"): (
        "Given a proverb, retrieve proverbs with the same lesson",
        "Given a question to a clinic, retrieve questions that ask the same in other words",
    ),
    ("classification", ""): (
        "Classify the mood of a given letter to a newspaper",
        "Identify the trade that a given tool description belongs to",
    ),
    ("sts", ""): (
        "a notice of a water company about a burst pipe",
        "a sentence from a story about a fishing boat",
    ),
    ("bitext", ""): (
        "a notice about opening hours on the door of a clinic",
        "a step in the manual of a water pump",
    ),
}
_PAIRS = {
    "en": (
        "why do bees dance",
        "A honey bee that has found flowers dances on the comb. The angle and the length of the "
        "dance tell the other bees which way to fly, and how far.",
        ["Honey bees store honey in wax cells that they seal once the honey is thick enough."],
    ),
    "sw": (
        "kwa nini nyuki hucheza",
        "Nyuki aliyepata maua hucheza juu ya sega. Mwelekeo na urefu wa mchezo wake huwaambia "
        "nyuki wengine waruke upande gani na umbali gani.",
        ["Nyuki huhifadhi asali katika vyumba vya nta na kuvifunga asali ikishakuwa nzito."],
    ),
}


@lru_cache(maxsize=8)
def _bundled(lang: str) -> tuple[Seed, ...]:
    base = language(lang).base
    known = base if (BUNDLED / f"{base}.jsonl").is_file() else "en"
    lines = (BUNDLED / f"{known}.jsonl").read_text(encoding="utf-8").splitlines()
    return tuple(_passage(json.loads(line), known) for line in lines)


def _passage(document: dict[str, str], lang: str) -> Seed:
    text, title = normalize(document["text"]), normalize(document["title"])
    return _seed(PASSAGE, text, lang, title=title, source=f"bundled ({lang})", license="CC0-1.0")


def _seed(kind: str, text: str, lang: str, **more: str) -> Seed:
    values = {"title": "", "source": "sample", "license": "CC0-1.0", "fields": "{}", **more}
    return Seed(id=digest("sample", kind, text), text=text, lang=lang, kind=kind, **values)


def sample_seeds(prompt: Prompt, lang: str, num: int) -> list[Seed]:
    """`num` seeds that a prompt takes, over and over again where there are fewer; passages are of
    the corpus that comes along in the language, or else in English."""
    if prompt.seed == PASSAGE:
        found = list(_bundled(lang))
    elif prompt.seed == IDEA:
        found = [
            _seed(IDEA, text, "en", fields=json.dumps({"family": family, "form": form}))
            for (family, form), texts in _IDEAS.items()
            if family == prompt.task and prompt.form in ("", form)
            for text in texts
        ]
    elif prompt.seed == PAIR:
        found = [_pair("sw" if language(lang).base == "en" else "en")]
    elif prompt.seed == JUDGED:
        found = [_judged("sw" if language(lang).base == "sw" else "en")]
    else:
        found = [_seed(NONE, "", "en")]
    return [found[place % len(found)] for place in range(num)]


def _judged(lang: str) -> Seed:
    query, positive, negatives = _PAIRS[lang]
    fields = {
        "instruction": "Given a question, retrieve passages that answer it",
        "query": query,
        "others": negatives,
        "place": len(negatives),
    }
    return _seed(JUDGED, positive, lang, fields=json.dumps(fields, ensure_ascii=False))


def _pair(lang: str) -> Seed:
    query, positive, negatives = _PAIRS[lang]
    fields = {
        "instruction": "Given a question, retrieve passages that answer it",
        "query": query,
        "negatives": negatives,
    }
    return _seed(PAIR, positive, lang, fields=json.dumps(fields, ensure_ascii=False))
