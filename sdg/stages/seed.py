"""seed: documents of a corpus become seeds, passages of a length that a prompt can hold.

The first stage. `prepare` streams the corpus once into raw shards, so that whatever comes after
reads small local files; there too it finds copies, over the whole corpus, by sorted 128-bit hashes
(16 bytes a document), and refuses a corpus that is plainly in another language. In a run of several
languages the corpus's language column says which of them a document is in.

    <stage>/prepared/raw/00000.parquet   documents as they were read
    <stage>/prepared/duplicates.npy      rows that repeat an earlier one, ascending
"""

import itertools
import sys
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, ClassVar, NoReturn

import langcodes
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from sdg import langid
from sdg.account import slices_of
from sdg.corpora import CorpusConfig, corpus_files, corpus_name, read_documents
from sdg.errors import UserError
from sdg.fingerprints import files_fingerprint
from sdg.languages import language
from sdg.schema import Document, Seed, rows_of, to_table
from sdg.stage import Context, Inputs, Result, Shard, Stage, dropped_rows
from sdg.store import write_table
from sdg.text import chunks, digest, normalize, weight

NUM_SAMPLED = 200  # documents that the corpus's language is judged by
LONGEST_TITLE = 300  # characters; what is longer is no title
_ADVICE = {
    "invalid_utf8": "convert it to UTF-8: iconv -f <encoding> -t UTF-8",
    "no_text": "name the right column: --set corpus.text=<column>",
    "text_not_a_string": "name the right column: --set corpus.text=<column>",
    "too_short": "take shorter ones with --set stages.seed.min_chars=<letters>",
}


class SeedStage(Stage):
    """Reads, normalises and chunks the corpus; drops what is bad, too short, foreign or a copy."""

    name: ClassVar[str] = "seed"
    takes = Document
    gives = Seed

    corpus: CorpusConfig = CorpusConfig()
    min_chars: int = Field(default=40, ge=1)  # letters; see `sdg.text.weight` for other scripts
    max_chars: int = Field(default=2000, ge=100)  # characters a seed; longer documents are cut
    limit: int | None = Field(default=None, ge=1)  # documents of a language read at most
    shard_rows: int = Field(default=128, ge=1)  # documents a shard
    check_language: bool = True  # by a sample of the texts, and by the rows' language column

    def prepare(self, inputs: Inputs, ctx: Context) -> None:
        """Stream the corpus into raw shards, and find its duplicates.

        Raises:
            UserError: the corpus cannot be read, is empty, all bad, or in another language.
        """
        survey = _Survey(self, ctx.langs)
        documents = self._limited(ctx.langs)
        for index in itertools.count():
            batch = list(itertools.islice(documents, self.shard_rows))
            if not batch:
                break
            write_table(ctx.dir / "raw" / f"{index:05d}.parquet", to_table(batch, Document))
            for document in batch:
                survey.add(document)
        survey.finish()
        np.save(ctx.dir / "duplicates.npy", survey.duplicates())

    def _limited(self, langs: Sequence[str]) -> Iterator[Document]:
        """The corpus, up to `limit` documents of each language."""
        left = dict.fromkeys(langs, self.limit or sys.maxsize)
        for document in read_documents(self.corpus, langs):
            lang = self.language_of(document.lang, langs)
            if lang is not None:
                if not left[lang]:
                    continue
                left[lang] -= 1
            yield document
            if not any(left.values()):
                return

    def shards(self, inputs: Inputs, ctx: Context) -> list[str]:
        names = [path.stem for path in (ctx.dir / "raw").glob("*.parquet")]
        return sorted(names, key=int)

    def load(self, name: str, inputs: Inputs, ctx: Context) -> pa.Table:
        return pq.read_table(ctx.dir / "raw" / f"{name}.parquet")

    def open(self, ctx: Context) -> np.ndarray:
        rows: np.ndarray = np.load(ctx.dir / "duplicates.npy")
        return rows

    def run(self, shard: Shard, ctx: Context, state: Any) -> Result:
        documents: list[Document] = rows_of(shard.table, Document)
        is_duplicate = np.isin([document.row for document in documents], state)
        seeds: list[Seed] = []
        reasons: list[str | None] = []
        num_short = 0
        for document, duplicate in zip(documents, is_duplicate, strict=True):
            text = normalize(document.text)
            lang = self.language_of(document.lang, ctx.langs)
            reason = self.reason_to_drop(document, text, lang)
            if reason is None and duplicate:
                reason = "duplicate_document"
            if reason is None and lang is not None:
                parts = chunks(text, lang, self.max_chars)
                long = [part for part in parts if weight(part) >= self.min_chars]
                num_short += len(parts) - len(long)
                seeds += [_seed(document, part, lang) for part in long]
                reason = None if long else "too_short"
            reasons.append(reason)
        return Result(
            kept=to_table(seeds, Seed),
            dropped=dropped_rows(shard.table, reasons),
            num_kept=reasons.count(None),
            counters={"chunks": len(seeds), "short_chunks_left_out": num_short},
        )

    def slices(self, table: pa.Table, ctx: Context) -> pa.Table:
        """By the run's languages, not by what the corpus calls them; "" for any other."""
        labels = table["lang"].to_pylist()
        langs = {label: self.language_of(label, ctx.langs) or "" for label in set(labels)}
        return slices_of(pa.table({"lang": pa.array([langs[x] for x in labels], pa.string())}))

    def language_of(self, label: str, langs: Sequence[str]) -> str | None:
        """Which of the run's languages a document is in, by its label; None: in none of them."""
        if len(langs) == 1 and not self.check_language:
            return langs[0]
        return _language_of(label, langs)

    def reason_to_drop(self, document: Document, text: str, lang: str | None) -> str | None:
        """Why a document gives no seed, or None.

        Args:
            text: its normalised text.
            lang: what `language_of` says.
        """
        if document.error is not None:
            return document.error
        if not text:
            return "empty_text"
        if weight(text) < self.min_chars:
            return "too_short"
        if lang is None:
            return "other_language" if document.lang else "no_language"
        return None

    def fingerprint(self) -> dict[str, Any]:
        """The settings, and what the corpus's files say: a changed corpus is another run."""
        settings = super().fingerprint()
        files = corpus_files(self.corpus, ()) if self.corpus.path else []
        if files:
            settings["corpus_files"] = files_fingerprint(file.path for file in files)
        return settings


def _language_of(label: str, langs: Sequence[str]) -> str | None:
    """The run's language that a label stands for. A run of one language takes what has no label."""
    if len(langs) == 1:
        return langs[0] if _may_be(label, langs[0]) else None
    return next((lang for lang in langs if label and _may_be(label, lang)), None)


@lru_cache(maxsize=4096)
def _may_be(label: str, lang: str) -> bool:
    """Whether a row's language label allows for `lang`; one that is no language code says nothing.

    A macrolanguage and its members are one: corpora say "swh" or "cmn" for sw and zh.
    """
    if not label:
        return True
    try:
        labelled = language(label.replace("_", "-"))
    except UserError:
        return True
    macros = [
        langcodes.standardize_tag(found.base, macro=True) for found in (labelled, language(lang))
    ]
    return labelled.base == language(lang).base or macros[0] == macros[1]


def _seed(document: Document, text: str, lang: str) -> Seed:
    title = normalize(document.title)
    title = title if len(title) <= LONGEST_TITLE else ""
    return Seed(
        id=digest("seed", text, title),
        text=text,
        title=title,
        lang=lang,
        source=document.source,
        license=document.license or "unknown",
    )


class _Survey:
    """What the whole corpus is like: counts, samples, and a hash of every usable document."""

    def __init__(self, stage: SeedStage, langs: Sequence[str]) -> None:
        self.stage = stage
        self.langs = langs
        self.corpus = corpus_name(stage.corpus, langs)
        self.reasons: Counter[str] = Counter()
        self.labels: Counter[str] = Counter()  # of rows in another language
        self.samples: dict[str, list[str]] = {lang: [] for lang in langs}
        self.rows = array("q")
        self.digests = bytearray()

    def add(self, document: Document) -> None:
        """Count a document in.

        Raises:
            UserError: the sample of a language is full, and plainly in another.
        """
        text = normalize(document.text)
        lang = self.stage.language_of(document.lang, self.langs)
        reason = self.stage.reason_to_drop(document, text, lang)
        if reason or lang is None:
            self.reasons[str(reason)] += 1
            self.labels[document.lang] += reason == "other_language"
            if self.reasons["no_language"] == NUM_SAMPLED and not self.rows:
                self._refuse_unlabelled()
            return
        self.rows.append(document.row)
        self.digests += bytes.fromhex(document.digest)
        sample = self.samples[lang]
        if len(sample) < NUM_SAMPLED:
            sample.append(text)
            if len(sample) == NUM_SAMPLED:
                self.check_language(lang)

    def finish(self) -> None:
        """Refuse, once all is read, a corpus that gives nothing."""
        if not self.rows and not self.reasons:
            raise UserError(f"{self.corpus}: holds no documents; give a corpus with text")
        if not self.rows:
            reason = self.reasons.most_common(1)[0][0]
            if reason == "no_language":
                self._refuse_unlabelled()
            counts = ", ".join(f"{reason} {n}" for reason, n in self.reasons.most_common())
            raise UserError(
                f"{self.corpus}: none of its {self.reasons.total()} documents can be used "
                f"({counts}); {self._advice(reason)}"
            )
        for lang, sample in self.samples.items():
            if not sample:
                raise UserError(
                    f"{self.corpus}: holds no usable document of {language(lang).name} ({lang}); "
                    f"take it out of LANG, or give a corpus that has it"
                )
            if len(sample) < NUM_SAMPLED:
                self.check_language(lang)

    def check_language(self, lang: str) -> None:
        """Refuse a corpus that is plainly in another language than it should be."""
        if not self.stage.check_language:
            return
        code = langid.dominant_other(self.samples[lang], lang)
        if code:
            name, wanted = language(code).name, language(lang)
            what = self.corpus
            if len(self.langs) > 1:
                what = f"{self.corpus}: what it has as {wanted.code}"
            raise UserError(
                f"{what} looks {name} ({code}), not {wanted.name} ({wanted.code}): give "
                f"LANG={code}, or a {wanted.name} corpus. (--set stages.seed.check_language=false "
                f"to go on regardless)"
            )

    def _refuse_unlabelled(self) -> NoReturn:
        raise UserError(
            f"{self.corpus}: has no language column, which a run of several languages "
            f"({', '.join(self.langs)}) parts it by; name it: --set corpus.lang=<column>, or make "
            f"one run a language"
        )

    def duplicates(self) -> np.ndarray:
        """Rows of usable documents whose text an earlier usable one has, ascending (int64)."""
        keys = np.frombuffer(self.digests, dtype="V16")
        _, first = np.unique(keys, return_index=True)
        return np.delete(np.frombuffer(self.rows, dtype=np.int64), first)

    def _advice(self, reason: str) -> str:
        if reason == "other_language":
            label = self.labels.most_common(1)[0][0]
            return (
                f"its language column says {label}, not {', '.join(self.langs)}: give "
                f"LANG={label}, or --set stages.seed.check_language=false if the column is wrong"
            )
        return _ADVICE.get(reason, "see what it holds, or give another corpus")
