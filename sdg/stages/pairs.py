"""pairs: an existing dataset of pairs becomes seeds that prompts translate.

<stage>/prepared/raw/00000.parquet   its rows as seeds of kind "pair", bad ones with their error
"""

import itertools
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from sdg.corpora import SourceConfig, corpus_files, label_of, read_sources, storable
from sdg.errors import UserError
from sdg.fingerprints import files_fingerprint
from sdg.languages import language
from sdg.readers import Raw
from sdg.schema import Seed, rows_of, to_table
from sdg.stage import Context, Inputs, Result, Shard, Stage, split
from sdg.store import write_table
from sdg.text import canonical, digest, normalize

ERROR = "error"  # of a seed's `fields`: why the row is no pair


class PairsConfig(SourceConfig):
    """Where the pairs come from: the profile's `translate:` section."""

    query: str = ""
    positive: str = ""
    negatives: str = ""
    instruction: str = ""
    language: str = ""  # of all rows, where no column says it
    instruction_default: str = "Given a query, retrieve texts that answer it"

    def columns(self) -> dict[str, str]:
        named = {role: getattr(self, role) for role in ("query", "negatives", "instruction")}
        return {**named, "text": self.positive, "id": self.id, "lang": self.lang} | {
            "license": self.license
        }


class PairsStage(Stage):
    """Reads pairs; drops what is bad or double."""

    name: ClassVar[str] = "pairs"
    takes = Seed
    gives = Seed

    source: PairsConfig = PairsConfig()
    limit: int | None = Field(default=None, ge=1)  # rows read at most
    max_chars: int = Field(default=4000, ge=1)  # of a pair with its negatives
    max_negatives: int = Field(default=8, ge=0)  # translated with a pair; the first ones
    shard_rows: int = Field(default=128, ge=1)

    def prepare(self, inputs: Inputs, ctx: Context) -> None:
        """Stream the dataset into raw shards.

        Raises:
            UserError: it cannot be read, or holds no pair.
        """
        seeds = itertools.islice(self._read(), self.limit)
        seen: set[str] = set()
        errors: Counter[str] = Counter()
        for index in itertools.count():
            batch = list(itertools.islice(seeds, self.shard_rows))
            if not batch:
                break
            for place, seed in enumerate(batch):
                error = json.loads(seed.fields).get(ERROR)
                if error is None and seed.id in seen:
                    error = "duplicate_pair"
                    batch[place] = seed.model_copy(update={"fields": json.dumps({ERROR: error})})
                errors[error or ""] += 1
                seen.add(seed.id)
            write_table(ctx.dir / "raw" / f"{index:05d}.parquet", to_table(batch, Seed))
        if not errors[""]:
            counts = ", ".join(f"{reason} {num}" for reason, num in errors.most_common())
            raise UserError(
                f"{self.source.path}: holds no pair that can be used ({counts or 'no rows'}); "
                f"name its columns: --set translate.query=<column> translate.positive=<column>, "
                f"or its language: --set translate.language=en"
            )

    def _read(self) -> Iterator[Seed]:
        for name, raws in read_sources(self.source, ()):
            for raw in raws:
                yield self._seed(name, raw)

    def _seed(self, name: str, raw: Raw) -> Seed:
        values = raw.values
        texts = {key: values.get(key) for key in ("query", "text", "instruction")}
        query, positive, instruction = (
            normalize(storable(text)) if isinstance(text, str) else "" for text in texts.values()
        )
        given = values.get("negatives") or []
        given = [given] if isinstance(given, str) else list(given)
        grade, grades = values.get("positive_grade"), list(values.get("negative_grades") or [])
        negatives = [
            (normalize(storable(text)), graded)
            for text, graded in itertools.zip_longest(given, grades)
            if isinstance(text, str) and normalize(text)
        ][: self.max_negatives]
        fields: dict[str, Any] = {
            "query": query,
            "instruction": instruction or self.source.instruction_default,
            "negatives": [text for text, _ in negatives],
            **({} if grade is None else {"positive_grade": grade}),
            **({"negative_grades": [graded for _, graded in negatives]} if grades else {}),
        }
        lang = _code(label_of(values.get("lang")) or self.source.language)
        error = raw.error
        if error is None and not (query and positive):
            error = "no_pair"
        wrong = not all(_is_grade(one) for one in (*grades, *([] if grade is None else [grade])))
        if error is None and (wrong or len(grades) not in (0, len(given))):
            error = "wrong_grades"
        if error is None and not lang:
            error = "no_language"
        size = sum(map(len, [query, positive, *fields["negatives"]]))
        if error is None and size > self.max_chars:
            error = "too_long"
        where = f"{name}#{label_of(values['id'])}" if values.get("id") else name
        return Seed(
            id=digest("pair", canonical(query), canonical(positive)),
            text=positive,
            title="",
            lang=lang,
            source=label_of(where),
            license=label_of(values.get("license")) or self.source.license_default or "unknown",
            kind="pair",
            fields=json.dumps({ERROR: error} if error else fields, ensure_ascii=False),
        )

    def shards(self, inputs: Inputs, ctx: Context) -> list[str]:
        return sorted((path.stem for path in (ctx.dir / "raw").glob("*.parquet")), key=int)

    def load(self, name: str, inputs: Inputs, ctx: Context) -> pa.Table:
        return pq.read_table(ctx.dir / "raw" / f"{name}.parquet")

    def run(self, shard: Shard, ctx: Context, state: Any) -> Result:
        seeds: list[Seed] = rows_of(shard.table, Seed)
        return split(shard.table, [json.loads(seed.fields).get(ERROR) for seed in seeds])

    def fingerprint(self) -> dict[str, Any]:
        """The settings, and what the files say: a changed dataset is another run."""
        files = corpus_files(self.source, ())
        return {**super().fingerprint(), "files": files_fingerprint(file.path for file in files)}


def _is_grade(value: Any) -> bool:
    """A number that an example may have as a grade."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def _code(label: str) -> str:
    try:
        return language(label.replace("_", "-")).code if label else ""
    except UserError:
        return ""
