"""Finds hard negatives for pairs: what a worker of the mine stage does."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from sdg.approximate import Approximate
from sdg.languages import language
from sdg.passages import Passages, overlap, shingles
from sdg.schema import Pair
from sdg.search import Candidates, Questions, ban, merge, search
from sdg.stage import InParts
from sdg.tasks import TASKS
from sdg.teachers import AnyTeacher, Encoder, Judge, LexicalTeacher, Relabel
from sdg.text import canonical, digest, rng
from sdg.vectors import Matrix, dots

SPARE = 8  # candidates asked for beyond those wanted, for the ones that their text rules out


class MiningSettings(BaseModel):
    """What the mine stage may be told."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    teachers: tuple[AnyTeacher, ...] = Field((LexicalTeacher(),), min_length=1)
    num_negatives: int = Field(8, ge=1)  # wanted for each pair
    min_negatives: int = Field(4, ge=1)  # a pair with fewer is dropped
    # What a negative scores: below this share of the positive's score, by this much, and this.
    max_share: float | None = Field(0.95, gt=0, le=1)
    min_margin: float | None = Field(None, gt=0)
    max_score: float | None = None
    max_similarity: float = Field(0.8, gt=0, le=1)  # share of the positive's shingles: a near copy
    skip: int = Field(0, ge=0)  # of the nearest that are left, the first
    sample_from: int | None = Field(None, ge=1)  # so many after those; None: the nearest
    relabel: Relabel | None = None  # judges the nearest: what answers the query is no negative
    round_trip: int | None = Field(None, ge=1)  # rank at which the pair's own document comes back
    pool_size: int = Field(20_000, ge=1)  # passages searched; more are sampled by seeded hash
    part_rows: int = Field(100_000, ge=1)  # passages that one worker holds and searches
    memory_mb: int = Field(256, ge=1)  # that the scores of a search take at most
    approximate: Approximate | None = None  # None: exact search

    @model_validator(mode="after")
    def _possible(self) -> "MiningSettings":
        if self.num_negatives < self.min_negatives:
            raise ValueError(
                f"num_negatives: {self.num_negatives} are fewer than min_negatives "
                f"({self.min_negatives}), so every pair would be dropped; set both"
            )
        if self.sample_from and self.sample_from < self.num_negatives:
            raise ValueError(
                f"sample_from: {self.num_negatives} negatives cannot be sampled from "
                f"{self.sample_from}; give as many, or more"
            )
        if self.approximate and any(teacher.name == "lexical" for teacher in self.teachers):
            raise ValueError("approximate: the lexical teacher is searched exactly; leave it out")
        return self


@dataclass
class Mined:
    """What came of a pair. Scores are the mean of the teachers'."""

    positive_score: float
    given_scores: list[float]  # of the negatives that the pair came with
    negatives: list[tuple[int, float]]  # (row of the passages, score), nearest first
    reason: str | None  # why it is dropped
    counters: Counter[str]
    # Passages that a judge says answer the query, in the positive's language: (row, score).
    positives: list[tuple[int, float]] = field(default_factory=list)


class Miner(InParts):
    """The teachers and the passages, by parts, that a worker searches."""

    def __init__(
        self,
        settings: MiningSettings,
        seed: int,
        passages: Passages,
        encoders: Sequence[Encoder],
        judge: Judge | None = None,
    ) -> None:
        super().__init__()
        self.settings = settings
        self.judge = judge
        self.seed = seed
        self.passages = passages
        self.encoders = encoders
        self.num_parts = max(1, -(-len(passages) // settings.part_rows))
        self._parts: dict[int, Any] = {}
        self._indexes: dict[int, list[Any]] = {}

    def answer(self, part: int, question: Any) -> Candidates:
        questions, num = question
        first = part * self.settings.part_rows
        if part not in self._parts:
            stop = min(first + self.settings.part_rows, len(self.passages))
            self._parts[part] = self.passages.vectors(self.encoders, first, stop)
        vectors, memory_mb = self._parts[part], self.settings.memory_mb
        approximate = self.settings.approximate
        if approximate is None:
            return search(vectors, first, questions, num, memory_mb)
        if part not in self._indexes:
            paths = self.passages.indexes(vectors, first, approximate.build)
            self._indexes[part] = [approximate.open(path) for path in paths]
        indexes = self._indexes[part]
        return approximate.search(vectors, indexes, first, questions, num, memory_mb)

    def mine(self, pairs: Sequence[Pair]) -> list[Mined]:
        """Negatives for each pair, or why it is dropped."""
        vectors = [self._encode(encoder, pairs) for encoder in self.encoders]
        positive_TB = np.stack([dots(of.queries_BD, of.positives_BD) for of in vectors])
        mined = [
            Mined(_mean(positive_TB[:, i]), given, [], None, Counter())
            for i, given in enumerate(self._given_scores(pairs, vectors))
        ]
        wanted = np.array([TASKS[pair.task].mined for pair in pairs])
        for i in np.flatnonzero(wanted):
            mined[i].counters[f"asked:{pairs[i].query_lang}"] += 1
        related = (positive_TB > 0).any(axis=0)
        for i in np.flatnonzero(wanted & ~related):
            mined[i].reason = "positive_unrelated"
        places = np.flatnonzero(wanted & related)
        if len(places):
            questions = self._questions(pairs, vectors, positive_TB)
            self._fill(pairs, mined, places, questions)
        return mined

    def _encode(self, encoder: Encoder, pairs: Sequence[Pair]) -> "_Encoded":
        # A document's pairs stand side by side, and its text is read once for all of them.
        places: dict[str, int] = {}
        of_pair = [places.setdefault(pair.positive, len(places)) for pair in pairs]
        documents_BD = encoder.documents([*places])[of_pair]
        queries_BD = encoder.queries(
            [
                pair.query if encoder.crosses_languages or _one_language(pair) else pair.positive
                for pair in pairs
            ],
            [pair.instruction for pair in pairs],
        )
        return _Encoded(encoder, encoder.searched(queries_BD, documents_BD), documents_BD)

    def _given_scores(
        self, pairs: Sequence[Pair], vectors: Sequence["_Encoded"]
    ) -> list[list[float]]:
        """Scores of the negatives that pairs come with."""
        places = [i for i, pair in enumerate(pairs) for _ in pair.negatives]
        texts = [text for pair in pairs for text in pair.negatives]
        scores: list[list[float]] = [[] for _ in pairs]
        if texts:
            scores_TM = np.stack(
                [dots(of.queries_BD[places], of.encoder.documents(texts)) for of in vectors]
            )
            for column, place in enumerate(places):
                scores[place].append(_mean(scores_TM[:, column]))
        return scores

    def _questions(
        self, pairs: Sequence[Pair], vectors: Sequence["_Encoded"], positive_TB: np.ndarray
    ) -> Questions:
        num_rows = max(1, len(self.passages))
        known = [self.passages.known(pair) for pair in pairs]
        places = np.repeat(np.arange(len(pairs)), [len(rows) for rows in known])
        own_TB = None
        if self.settings.round_trip:
            documents = [pair.document for pair in pairs]
            own_TB = np.stack(
                [dots(of.queries_BD, of.encoder.documents(documents)) for of in vectors]
            )
        return Questions(
            vectors=tuple(of.queries_BD for of in vectors),
            ceilings_TB=self._ceilings(positive_TB),
            banned=ban(places, np.concatenate(known), num_rows),
            # Equal scores (zeros, mostly) come in an order of the pair's own, not always the same.
            turns_B=np.array([int(digest(pair.id)[:8], 16) % num_rows for pair in pairs]),
            num_rows=num_rows,
            own_TB=own_TB,
        )

    def _ceilings(self, positive_TB: np.ndarray) -> np.ndarray:
        """What a negative must score below. A teacher that sees nothing in common between a query
        and its positive has no say."""
        settings = self.settings
        ceilings_TB = np.full(positive_TB.shape, np.inf)
        if settings.max_share is not None:
            ceilings_TB = np.minimum(ceilings_TB, settings.max_share * positive_TB)
        if settings.min_margin is not None:
            ceilings_TB = np.minimum(ceilings_TB, positive_TB - settings.min_margin)
        ceilings_TB = np.where(positive_TB > 0, ceilings_TB, np.inf)
        return (
            ceilings_TB
            if settings.max_score is None
            else np.minimum(ceilings_TB, settings.max_score)
        )

    def _fill(
        self, pairs: Sequence[Pair], mined: Sequence[Mined], places: np.ndarray, all_: Questions
    ) -> None:
        """Search, and search deeper for the pairs whose nearest passages their text rules out."""
        wanted = self.settings.skip + (self.settings.sample_from or self.settings.num_negatives)
        wanted += self.settings.relabel.top if self.settings.relabel else 0
        num = wanted + SPARE
        while len(places):
            questions = all_.pick(places)
            found = merge(self.gather((questions, num)), questions, num)
            if found.num_there:
                mined[places[0]].counters["approximate:there"] += found.num_there
                mined[places[0]].counters["approximate:found"] += found.num_found
            bounds = np.searchsorted(found.question_M, np.arange(len(places) + 1))
            again, ready = [], []
            for i, place in enumerate(places):
                part = slice(bounds[i], bounds[i + 1])
                passed, masked = self._passed(pairs[place], found.row_M[part], wanted)
                if len(passed) < wanted and found.is_full_B[i]:
                    again.append(place)
                    continue
                mined[place].counters.update(masked)
                scores = found.scores_TM[:, part]
                left = [(int(found.row_M[part][n]), _mean(scores[:, n])) for n in passed]
                ready.append((place, left, found.above_TB[:, i]))
            judged = self._judge([(pairs[place], mined[place], left) for place, left, _ in ready])
            for (place, _, above_T), left in zip(ready, judged, strict=True):
                self._choose(pairs[place], mined[place], left, above_T)
            places, num = np.array(again, dtype=np.int64), 4 * num

    def _passed(self, pair: Pair, rows: np.ndarray, wanted: int) -> tuple[list[int], Counter[str]]:
        """Places of the first candidates whose text rules nothing out; why others are no
        negatives."""
        own = self.passages.own_texts(pair)
        own_shingles = [shingles(text) for text in own]
        query = canonical(pair.query)
        passed: list[int] = []
        masked: Counter[str] = Counter()
        for n, row in enumerate(rows.tolist()):
            text = self.passages.canonical(row)
            if query in text:
                masked["masked:contains_query"] += 1
            elif any(text in mine or mine in text for mine in own):
                masked["masked:contains_positive"] += 1
            elif any(
                overlap(self.passages.shingles(row), mine) >= self.settings.max_similarity
                for mine in own_shingles
            ):
                masked["masked:near_duplicate"] += 1
            else:
                passed.append(n)
            if len(passed) == wanted:
                break
        return passed, masked

    def _judge(
        self, found: Sequence[tuple[Pair, Mined, list[tuple[int, float]]]]
    ) -> list[list[tuple[int, float]]]:
        """The candidates without those that a judge says answer the query; in the positive's
        language, they become positives. A graded pair gets none: their grades are unknown."""
        if self.judge is None or self.settings.relabel is None:
            return [left for _, _, left in found]
        nearest = [left[: self.settings.relabel.top] for _, _, left in found]
        answers = iter(
            self.judge.answers(
                [
                    pair.query
                    for (pair, _, _), near in zip(found, nearest, strict=True)
                    for _ in near
                ],
                [self.passages.text(row) for near in nearest for row, _ in near],
            )
        )
        judged = []
        for (pair, mined, left), near in zip(found, nearest, strict=True):
            true = [candidate for candidate in near if next(answers)]
            mined.counters["masked:judged_to_answer"] += len(true)
            if pair.positive_grade is None:
                same = [c for c in true if self.passages.lang(c[0]) == pair.positive_lang]
                mined.positives += same
                mined.counters[f"relabelled:{pair.query_lang}"] += len(same)
            judged.append([candidate for candidate in left if candidate not in true])
        return judged

    def _choose(
        self, pair: Pair, mined: Mined, found: list[tuple[int, float]], above_T: np.ndarray
    ) -> None:
        """The negatives of a pair, or the reason to drop it."""
        settings, lang = self.settings, pair.query_lang
        # The best teacher counts: one that does not know a language must not empty it.
        if settings.round_trip and above_T.min() >= settings.round_trip:
            mined.reason = "not_found_again"
            mined.counters[f"not_found_again:{lang}"] += 1
            return
        ranked = found[settings.skip :]
        if settings.sample_from and len(ranked) > settings.num_negatives:
            drawn = rng(self.seed, pair.id, "negatives").sample(
                range(len(ranked)), settings.num_negatives
            )
            ranked = [ranked[n] for n in sorted(drawn)]
        mined.negatives = ranked[: settings.num_negatives]
        if len(pair.negatives) + len(mined.negatives) < settings.min_negatives:
            mined.reason = "too_few_negatives"
        else:
            mined.counters[f"served:{lang}"] += 1


@dataclass(frozen=True)
class _Encoded:
    """Pairs as one teacher sees them, the queries as they are searched and scored with. Where it
    cannot compare languages, and a pair has two, its positive stands for its query."""

    encoder: Encoder
    queries_BD: Matrix
    positives_BD: Matrix


def _one_language(pair: Pair) -> bool:
    return language(pair.query_lang).base == language(pair.positive_lang).base


def _mean(scores_T: np.ndarray) -> float:
    return float(np.sort(scores_T).mean())
