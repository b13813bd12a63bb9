"""Language verification on real texts, and its speed beside py3langid's: `make bench BENCH=verify`.

For each language a verifier is fitted on its own corpus alone, as in a run of one language. Accepted
should be genuine passages, sentences and questions; refused, texts of every other language (the
others' own kin left out), texts half of which was left in English, by halves and by turns of a
sentence each, and questions with half of their words in English.

Documents are parted in three, whole, and alike in all languages: two fifths are the corpora that
the verifiers are fitted on, one fifth is for choosing the verifier's thresholds (`--part tune`), and
two fifths are held out: what is reported is of those. So are questions.

DATA is a folder with tico19/<lang>.parquet (id, url, text, sentences; row-parallel), and optionally
xquad/xquad.<lang>.json and afriqa/queries/*.json; without it the bundled corpus, whose titles stand
in for questions. `--together` fits one verifier on all languages' corpora; `--plain` fits none.
"""

import argparse
import json
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean

import pyarrow.parquet as pq
from py3langid.langid import MODEL_FILE, LanguageIdentifier

from sdg.corpora import bundled_languages
from sdg.langid import Verifier
from sdg.langid.policy import policy
from sdg.text import normalize, rng, sentences, word_spans
from tests.rows import bundled_seeds

FIT, TUNE, REPORT = "fit", "tune", "report"
SHARES = {FIT: 2, TUNE: 1, REPORT: 2}
AFRIQA = {"hau": "ha", "kin": "rw", "twi": "tw", "yor": "yo", "zul": "zu"}
MOST = 600  # texts of a kind in a language
OTHERS = 20  # texts of a kind, of every other language, for every language
ENOUGH = 100  # passages, for a language to count by itself


@dataclass
class Texts:
    """The texts of one language."""

    corpus: list[str] = field(default_factory=list)  # fitted on
    passage: list[str] = field(default_factory=list)
    sentence: list[str] = field(default_factory=list)
    question: list[str] = field(default_factory=list)
    half_passage: list[str] = field(default_factory=list)
    by_turns: list[str] = field(default_factory=list)
    half_question: list[str] = field(default_factory=list)


Documents = dict[str, dict[str, list[str]]]  # language -> document -> sentences
# language -> group, question, and what it is in English
Questions = dict[str, list[tuple[str, str, str]]]


def parts_of(groups: Iterable[str], shares: dict[str, int]) -> dict[str, str]:
    """A part for each group, so that the parts hold about these shares of what is in the groups."""
    parts: dict[str, str] = {}
    sizes = dict.fromkeys(shares, 0)
    for name, size in sorted(Counter(groups).items(), key=lambda item: (-item[1], item[0])):
        part = min(shares, key=lambda one: sizes[one] / shares[one])
        sizes[part] += size
        parts[name] = part
    return parts


def assemble(
    documents: Documents, questions: Questions, groups: dict[str, str], part: str
) -> dict[str, Texts]:
    """Texts of a part by language; a document is of its group's part, in all languages alike."""
    found: dict[str, Texts] = defaultdict(Texts)
    parts = parts_of(groups.values(), SHARES)
    for lang, own in documents.items():
        texts = found[lang]
        for name, given in own.items():
            english = documents["en"].get(name, [])
            if parts[groups[name]] == FIT:
                texts.corpus.append(" ".join(given))
            elif parts[groups[name]] == part:
                add_passage(texts, given, english if lang != "en" else [])
    for lang, asked in questions.items():
        texts = found[lang]
        # Where there are no documents, questions are the corpus.
        shares = {one: n for one, n in SHARES.items() if one != FIT or not texts.corpus}
        parts = parts_of((group for group, _, _ in asked), shares)
        texts.corpus += [own for group, own, _ in asked if parts[group] == FIT]
        chosen = [(own, english) for group, own, english in asked if parts[group] == part]
        texts.question = [own for own, _ in chosen]
        if lang != "en":
            halves = [(by_words(own, lang), by_words(english, "en")) for own, english in chosen]
            texts.half_question = [f"{own[0]} {there[1]}" for own, there in halves]
            texts.half_question += [f"{there[0]} {own[1]}" for own, there in halves]
    return dict(found)


def add_passage(texts: Texts, given: list[str], english: list[str]) -> None:
    """A passage, its sentences, and it with half of them in English."""
    texts.passage.append(" ".join(given))
    texts.sentence.extend(given)
    if len(given) > 1 and len(english) > 1:
        half, there = len(given) // 2, len(english) // 2
        texts.half_passage.append(" ".join([*given[:half], *english[there:]]))
        texts.half_passage.append(" ".join([*english[:there], *given[half:]]))
        pairs = zip(english, given, strict=False)
        texts.by_turns.append(" ".join(pair[i % 2] for i, pair in enumerate(pairs)))


def by_words(text: str, lang: str) -> tuple[str, str]:
    """A text's first and second half."""
    starts = [start for start, _ in word_spans(text, lang)]
    middle = starts[len(starts) // 2] if len(starts) > 1 else len(text)
    return text[:middle].strip(), text[middle:].strip()


def read(data: Path, part: str) -> dict[str, Texts]:
    """The texts of a folder: what is fitted on, and one other part."""
    documents: Documents = {}
    groups: dict[str, str] = {}
    for path in sorted(data.glob("tico19/*.parquet")):
        rows = pq.read_table(path, columns=["id", "url", "sentences"]).to_pylist()
        groups.update({row["id"]: row["url"] for row in rows})
        documents[path.stem] = {row["id"]: clean(row["sentences"]) for row in rows}
    asked = {path.stem.split(".")[1]: xquad(path) for path in sorted(data.glob("xquad/*.json"))}
    questions: Questions = {
        lang: [(group, text, asked["en"][key][1]) for key, (group, text) in own.items()]
        for lang, own in asked.items()
    }
    for path in sorted(data.glob("afriqa/queries/*.json")):
        lang = AFRIQA[path.name.split(".")[2]]
        lines = map(json.loads, path.read_text(encoding="utf-8").splitlines())
        pairs = [
            (normalize(row["question"]), normalize(row["translated_question"])) for row in lines
        ]
        questions.setdefault(lang, []).extend((own, own, english) for own, english in pairs)
    return assemble(documents, questions, groups, part)


def clean(texts: Iterable[str]) -> list[str]:
    return [text for text in map(normalize, texts) if text]


def xquad(path: Path) -> dict[str, tuple[str, str]]:
    """Questions by id, each with the number of its article."""
    articles = json.loads(path.read_text(encoding="utf-8"))["data"]
    return {
        qa["id"]: (str(number), normalize(qa["question"]))
        for number, article in enumerate(articles)
        for paragraph in article["paragraphs"]
        for qa in paragraph["qas"]
    }


def bundled(part: str) -> dict[str, Texts]:
    """The bundled corpora; documents of one number stand for each other's translations."""
    documents: Documents = {}
    questions: Questions = {}
    english = bundled_seeds("en")
    for lang in bundled_languages():
        seeds = bundled_seeds(lang)
        documents[lang] = {str(i): sentences(seed.text, lang) for i, seed in enumerate(seeds)}
        pairs = enumerate(zip(seeds, english, strict=False))
        questions[lang] = [(str(i), own.title, there.title.lower()) for i, (own, there) in pairs]
    return assemble(documents, questions, {key: key for key in documents["en"]}, part)


def some(texts: Sequence[str], num: int) -> list[str]:
    """So many of the texts, from all over."""
    return list(texts) if len(texts) <= num else rng("some", num).sample(list(texts), num)


def accepted(verifier: Verifier, texts: Sequence[str], lang: str) -> float:
    return mean(verdict.reason is None for verdict in verifier.check(texts, lang))


def measure(texts: dict[str, Texts], make: Callable[[str], Verifier]) -> None:
    """Print what is accepted of each kind of text."""
    shares: dict[str, dict[str, float]] = defaultdict(dict)
    others: dict[str, float] = {}
    marked: list[bool] = []
    kinds = [name for name in Texts.__dataclass_fields__ if name != "corpus"]
    for lang, own in texts.items():
        verifier = make(lang)
        for kind in kinds:
            if given := some(getattr(own, kind), MOST):
                shares[kind][lang] = accepted(verifier, given, lang)
        marked += [found.verified for found in verifier.check(own.passage, lang)]
        for other, theirs in texts.items():
            if other != lang and not {policy(other).code, other} & (policy(lang).kin | {lang}):
                parts = (theirs.passage, theirs.sentence, theirs.question)
                given = [text for part in parts for text in some(part, OTHERS)]
                others[f"{other} as {lang}"] = accepted(verifier, given, lang)
    for kind in kinds:
        print_shares(kind.replace("_", " "), shares[kind], worst_is_low=kinds.index(kind) < 3)
    many = [
        share for lang, share in shares["passage"].items() if len(texts[lang].passage) >= ENOUGH
    ]
    if many:
        print(f"lowest of {len(many)} languages with {ENOUGH} passages: {min(many):.4f}")
    print_shares("other languages", others, worst_is_low=False)
    print(f"genuine passages verified, not only kept: {mean(marked):.4f}")


def print_shares(kind: str, shares: dict[str, float], worst_is_low: bool) -> None:
    if shares:
        worst = sorted(shares, key=lambda key: shares[key] if worst_is_low else -shares[key])[:6]
        listed = ", ".join(f"{key} {shares[key]:.3f}" for key in worst)
        print(f"accepted, {kind}: mean {mean(shares.values()):.4f}; worst: {listed}", flush=True)


def tell_parts(texts: dict[str, Texts], part: str) -> None:
    """Print what is measured, and that it was not for choosing anything."""
    num = {
        kind: sum(len(getattr(own, kind)) for own in texts.values())
        for kind in ("corpus", "passage", "sentence", "question")
    }
    print(
        f"{len(texts)} languages; fitted on {num['corpus']:,} texts, measured on "
        f"{num['passage']:,} passages, {num['sentence']:,} sentences, {num['question']:,} questions"
    )
    print(
        "held out: no threshold was chosen on any document or question that is measured here"
        if part == REPORT
        else "not held out: thresholds are chosen on these"
    )


def fastest(work: Callable[[], object], repeats: int = 3) -> float:
    """Processor seconds of the fastest of several runs; all of it is one thread."""
    seconds = []
    for _ in range(repeats):
        started = time.process_time()
        work()
        seconds.append(time.process_time() - started)
    return min(seconds)


def compare(texts: dict[str, Texts], kind: str, num: int) -> float:
    """Print texts/s of a fitted verifier and of py3langid, one thread each; their ratio."""
    by_lang = {lang: some(getattr(own, kind), num) for lang, own in texts.items()}
    by_lang = {lang: given for lang, given in by_lang.items() if given}
    verifier = Verifier.fit({lang: texts[lang].corpus for lang in list(by_lang)[:3]})
    peer = LanguageIdentifier.from_model_file(MODEL_FILE)
    total = sum(map(len, by_lang.values()))

    def check() -> None:
        for lang, given in by_lang.items():
            verifier.check(given, lang)

    def classify() -> None:
        for given in by_lang.values():
            for text in given:
                peer.classify(text)

    check()  # what is made once a language is made now
    own, theirs = total / fastest(check), total / fastest(classify)
    print(f"{kind}s: {own:,.0f}/s, py3langid {theirs:,.0f}/s, ratio {own / theirs:.2f}", flush=True)
    return own / theirs


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench BENCH=verify", description=__doc__)
    parser.add_argument("--data", default="", help="folder of real texts (DATA=)")
    parser.add_argument("--together", action="store_true", help="one verifier for all languages")
    parser.add_argument("--plain", action="store_true", help="fitted on nothing")
    parser.add_argument("--speed-only", action="store_true", help="accept nothing, refuse nothing")
    parser.add_argument("--part", choices=[TUNE, REPORT], default=REPORT, help="what is measured")
    args = parser.parse_args()
    texts = read(Path(args.data), args.part) if args.data else bundled(args.part)
    tell_parts(texts, args.part)
    if not args.speed_only:
        corpora = {lang: own.corpus for lang, own in texts.items()}
        one = Verifier.fit(corpora if args.together else {})
        alone = not (args.together or args.plain)
        measure(texts, lambda lang: Verifier.fit({lang: corpora[lang]}) if alone else one)
    compare(texts, "passage", 100)
    print(f"ratio={compare(texts, 'question', 600):.2f}")


if __name__ == "__main__":
    main()
