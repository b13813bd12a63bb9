"""Rows of finished runs, chosen by what they are or where they come from: what a cell trains on.

The choice depends on rows' ids and a seed alone. Languages get equal parts as far as they have
rows, and so do several draws, by their weights.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipelines.matrix import Draw, Negatives
from sdg.errors import UserError
from sdg.export import examples_of
from sdg.planning import apportion_within
from sdg.schema import Example, Provenance, arrow_schema
from sdg.store import write_table
from sdg.text import canonical, digest, rng

Row = dict[str, Any]
COLUMNS = ("task", "query_lang", "positive_lang")  # of a row, beside those of its provenance
NUM_RANDOM = 8  # random negatives of a row, as many as mining gives at most
TEXTS_KEPT = 20_000  # of a language that random negatives are drawn from


def value_of(row: Row, column: str) -> str:
    """A row's own value, or that of its provenance."""
    return str(row[column] if column in COLUMNS else row["provenance"][column])


def _check(draw: Draw) -> None:
    known = (*COLUMNS, *Provenance.model_fields)
    for column in draw.where:
        if column not in known:
            raise UserError(f"where: unknown column '{column}'; allowed: {', '.join(known)}")


def _matching(draw: Draw, run_dir: Path) -> Iterator[Row]:
    for row in examples_of(run_dir / "examples"):
        if all(value_of(row, column) in values for column, values in draw.where.items()):
            yield row


def choose(
    draws: Sequence[Draw], runs: Mapping[str, Path], pairs: int, seed: int
) -> list[tuple[Draw, Row]]:
    """The rows of some draws, `pairs` in all or as many as there are.

    Raises:
        UserError: a draw has no rows.
    """
    groups: dict[tuple[int, str], list[tuple[str, Row]]] = defaultdict(list)
    for number, draw in enumerate(draws):
        _check(draw)
        for row in _matching(draw, runs[draw.run]):
            group = groups[number, row["query_lang"]]
            group.append((digest("subset", seed, row["id"]), row))
            if len(group) > 2 * pairs + 1000:  # memory stays flat
                group[:] = sorted(group, key=lambda ranked: ranked[0])[:pairs]
        if not any(key[0] == number for key in groups):
            where = ", ".join(f"{key} in {list(values)}" for key, values in draw.where.items())
            raise UserError(f"{runs[draw.run]}: no example with {where or 'anything'}")
    weights = {
        f"{number} {lang}": draws[number].weight / sum(key[0] == number for key in groups)
        for number, lang in groups
    }
    room = {f"{number} {lang}": len(rows) for (number, lang), rows in groups.items()}
    quotas = apportion_within(min(pairs, sum(room.values())), weights, room)
    chosen: dict[str, tuple[Draw, Row]] = {}  # by id: two draws may overlap
    for (number, lang), rows in sorted(groups.items()):
        taken = sorted(rows, key=lambda ranked: ranked[0])[: quotas[f"{number} {lang}"]]
        chosen |= {f"{draws[number].run} {row['id']}": (draws[number], row) for _, row in taken}
    return [chosen[key] for key in sorted(chosen)]


def write_subset(
    folder: Path,
    draws: Sequence[Draw],
    runs: Mapping[str, Path],
    pairs: int,
    negatives: Negatives,
    seed: int,
) -> tuple[Path, int]:
    """Write a cell's rows as one shard of examples, unless `folder` has it.

    Returns:
        The file, named by a hash of all that a training sees of the rows, and their number.

    Raises:
        UserError: a draw has no rows.
    """
    chosen = choose(draws, runs, pairs, seed)
    rows = [row for _, row in chosen]
    if negatives == "none":
        rows = [_with(row, []) for row in rows]
    elif negatives == "random":
        pools = {run: _passages(runs[run]) for run in sorted({draw.run for draw, _ in chosen})}
        rows = [
            _with(row, _random(row, pools[draw.run][row["positive_lang"]], seed))
            for draw, row in chosen
        ]
    seen = ("id", "task", "instruction", "query", "query_lang", "positives", "negatives")
    path = folder / f"{digest(*(row[column] for row in rows for column in seen))}.parquet"
    if not path.exists():
        write_table(path, pa.Table.from_pylist(rows, schema=arrow_schema(Example)))
    return path, len(rows)


def _passages(run_dir: Path) -> dict[str, list[str]]:
    """Positives of a run by language, in the order of the run, each once."""
    found: dict[str, dict[str, None]] = defaultdict(dict)
    for row in examples_of(run_dir / "examples"):
        texts = found[row["positive_lang"]]
        if len(texts) < TEXTS_KEPT:
            texts.update(dict.fromkeys(row["positives"]))
    return {lang: list(texts) for lang, texts in found.items()}


def _with(row: Row, negatives: list[str]) -> Row:
    """The row with other negatives, which nobody has scored."""
    return {**row, "negatives": negatives, "negative_scores": [], "negative_grades": []}


def _random(row: Row, passages: Sequence[str], seed: int) -> list[str]:
    """Any passages but the row's own ones, or what holds them or is held by them."""
    own = [canonical(text) for text in row["positives"]]
    drawn = rng("random negatives", seed, row["id"]).sample(
        range(len(passages)), min(len(passages), 2 * NUM_RANDOM)
    )
    texts = [passages[place] for place in drawn]
    other = [t for t in texts if not any(canonical(t) in o or o in canonical(t) for o in own)]
    return other[:NUM_RANDOM]
