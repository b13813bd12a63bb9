"""The account: where rows went, by slice. A slice is language × task × model × prompt.

Counted shard by shard as a stage commits, kept in the manifest's line of the shard and added up
from there, so that no row is read again for it. Rows that have no task yet (documents, passages)
are counted by language alone; the language is the run's that a row was made for, which in a
cross-lingual pair is the language of one side only.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict

RUN_LANG = "run_lang"  # in the controls of a row whose positive is not in the run's language
NO_LOSS = frozenset({"over_quota"})  # reasons for rows that were good, and not needed
LOSS_WARNED = 0.5  # share of a language's rows lost in one stage that is worth a warning ...
FEWEST_WARNED = 20  # ... where it had so many


class Slice(NamedTuple):
    """What rows are counted by; "" where a row has none."""

    lang: str
    task: str
    model: str
    prompt: str


class SliceCount(BaseModel):
    """What a stage did with the rows of one slice; `num_kept + dropped == num_in`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    lang: str
    task: str
    model: str
    prompt: str
    num_in: int = 0
    num_kept: int = 0
    num_out: int = 0
    dropped: dict[str, int] = {}

    @property
    def slice(self) -> Slice:
        """Which slice it is of."""
        return Slice(self.lang, self.task, self.model, self.prompt)


def run_lang(positive_lang: str, controls: str) -> str:
    """The run's language that a call, a pair or an example was made for."""
    if RUN_LANG not in controls:
        return positive_lang
    lang: str = json.loads(controls).get(RUN_LANG, positive_lang)
    return lang


def slices_of(table: pa.Table) -> pa.Table:
    """The slice of every row: columns `lang`, `task`, `model`, `prompt`. Rows of any model."""
    names, empty = set(table.column_names), pa.array([""] * table.num_rows, pa.string())

    def column(name: str, parent: str) -> Any:
        if name in names:
            return table[name]
        return pc.struct_field(table[parent], name) if parent in names else empty

    if "positive_lang" in names:
        lang = _run_langs(table["positive_lang"], column("controls", "provenance"))
    else:
        lang = column("lang", "")
    if "kind" in names or "seed" in names:  # ideas, and what lists them, serve every language
        kind = table["kind"] if "kind" in names else pc.struct_field(table["seed"], "kind")
        shared = ["none"] if "seed" in names else ["idea", "pair", "none"]
        lang = pc.if_else(pc.is_in(kind, pa.array(shared)), "", lang)
    model, engine = column("model", "provenance"), column("engine", "provenance")
    parts = {
        "lang": lang,
        "task": column("task", ""),
        "model": pc.if_else(pc.equal(model, ""), engine, model),
        "prompt": column("prompt", "provenance"),
    }
    return pa.table({name: pc.cast(values, pa.string()) for name, values in parts.items()})


def _run_langs(positive_lang: Any, controls: Any) -> Any:
    """`run_lang` of every row; few have it in their controls."""
    if not pc.any(pc.match_substring(controls, RUN_LANG)).as_py():
        return positive_lang
    pairs = zip(positive_lang.to_pylist(), controls.to_pylist(), strict=True)
    return pa.array([run_lang(*pair) for pair in pairs], pa.string())


def count_slices(
    given: pa.Table, kept: pa.Table, dropped: pa.Table, reasons: Any, num_kept: int
) -> list[SliceCount]:
    """What a stage did with a shard, by slice, in the order of the slices.

    Args:
        given, kept, dropped: slices of the rows that came in, that the stage gave and that it
            dropped, as `slices_of` has them.
        reasons: why each dropped row was dropped.
        num_kept: input rows that gave output.

    Raises:
        AssertionError: rows went over from one slice to another.
    """
    num_in, num_out = _counts(given), _counts(kept)
    lost: dict[Slice, dict[str, int]] = {}
    for row in _grouped(dropped.append_column("reason", reasons)):
        lost.setdefault(_slice(row), {})[row["reason"]] = row["count_all"]
    for found, why in lost.items():
        if sum(why.values()) > num_in[found]:
            raise AssertionError(f"{found}: {num_in[found]} rows in, {why} dropped")
    left = {s: num - sum(lost.get(s, {}).values()) for s, num in num_in.items()}
    # Whether rows got lost altogether is the store's to say.
    conserved = num_kept + dropped.num_rows == given.num_rows
    one_each = conserved and num_kept == kept.num_rows and set(num_out) <= set(num_in)
    if one_each and any(left[s] != num_out[s] for s in left):
        raise AssertionError(f"by slice, {left} rows were kept, but {dict(num_out)} came out")
    return [
        SliceCount(
            **s._asdict(),
            num_in=num_in[s],
            num_kept=left.get(s, 0),
            num_out=num_out[s],
            dropped=dict(sorted(lost.get(s, {}).items())),
        )
        for s in sorted({*num_in, *num_out})
    ]


def _slice(row: Mapping[str, Any]) -> Slice:
    return Slice(row["lang"], row["task"], row["model"], row["prompt"])


def _grouped(table: pa.Table) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = (
        table.group_by(table.column_names).aggregate([([], "count_all")]).to_pylist()
    )
    return rows


def _counts(table: pa.Table) -> Counter[Slice]:
    return Counter({_slice(row): row["count_all"] for row in _grouped(table)})


def add_up(counts: Iterable[SliceCount]) -> list[SliceCount]:
    """Counts of shards, or of rounds, as one a slice; `counts` is streamed."""
    nums: dict[Slice, list[int]] = {}
    dropped: dict[Slice, Counter[str]] = {}
    for count in counts:
        found = nums.setdefault(count.slice, [0, 0, 0])
        for place, num in enumerate((count.num_in, count.num_kept, count.num_out)):
            found[place] += num
        dropped.setdefault(count.slice, Counter()).update(count.dropped)
    return [
        SliceCount(
            **s._asdict(),
            num_in=nums[s][0],
            num_kept=nums[s][1],
            num_out=nums[s][2],
            dropped=by_number(dropped[s]),
        )
        for s in sorted(nums)
    ]


def by_number(counts: Mapping[str, int]) -> dict[str, int]:
    """Counts by name, the greatest first."""
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


class Loss(BaseModel):
    """What one language lost in one stage."""

    model_config = ConfigDict(frozen=True)

    lang: str
    stage: str
    num_in: int
    num_lost: int
    dropped: dict[str, int]  # why, the commonest reason first
    emptied: bool = False  # nothing of the language was left after it

    @property
    def share(self) -> float:
        """Of the rows that came in."""
        return self.num_lost / self.num_in if self.num_in else 1.0


Stages = Mapping[str, Sequence[SliceCount]]  # stage -> its counts; stages in the order of rows


def losses(stages: Stages) -> dict[str, list[Loss]]:
    """What each language lost in each stage, by language; stages in the order of rows."""
    found: dict[str, list[Loss]] = {}
    for stage, counts in stages.items():
        by_lang: dict[str, list[SliceCount]] = {}
        for count in counts:
            by_lang.setdefault(count.lang, []).append(count)
        for lang, mine in by_lang.items():
            dropped: Counter[str] = Counter()
            for count in mine:
                dropped.update({k: n for k, n in count.dropped.items() if k not in NO_LOSS})
            num_in, num_kept = (
                sum(getattr(count, name) for count in mine) for name in ("num_in", "num_kept")
            )
            found.setdefault(lang, []).append(
                Loss(
                    lang=lang,
                    stage=stage,
                    num_in=num_in,
                    num_lost=dropped.total(),
                    dropped=by_number(dropped),
                    emptied=bool(num_in) and not num_kept,
                )
            )
    return found


def warnings(stages: Stages, langs: Sequence[str]) -> list[Loss]:
    """What a reader of the account should not miss: languages of the run of which nothing is left
    (with the stage that took the last of it), and stages that took more than `LOSS_WARNED` of one.
    """
    last = list(stages)[-1]
    by_lang, found = losses(stages), []
    for lang in langs:
        mine = by_lang.get(lang, [])
        if not any(count.num_kept for count in stages[last] if count.lang == lang):
            nothing = Loss(lang=lang, stage="", num_in=0, num_lost=0, dropped={}, emptied=True)
            took = next((loss for loss in reversed(mine) if loss.num_in), nothing)
            found.append(took.model_copy(update={"emptied": True}))
            continue
        found += [
            loss for loss in mine if loss.num_in >= FEWEST_WARNED and loss.share > LOSS_WARNED
        ]
    return found


def account(stages: Stages) -> list[dict[str, Any]]:
    """The whole account for `summary.json`: a row a slice, with what each stage did with it.

    `candidates` are the calls made for a slice (passages, where it has no task), `kept` what is
    left of them after the last stage.
    """
    rows: dict[Slice, dict[str, Any]] = {}
    for stage, counts in stages.items():
        for count in counts:
            if not count.num_in and not count.task:
                continue
            row = rows.setdefault(
                count.slice,
                {**count.slice._asdict(), "candidates": None, "kept": 0, "stages": {}},
            )
            if row["candidates"] is None:
                row["candidates"] = count.num_in or count.num_out
            row["kept"] = count.num_kept
            row["stages"][stage] = count.model_dump(
                include={"num_in", "num_kept", "num_out", "dropped"}
            )
    return [rows[found] for found in sorted(rows)]
