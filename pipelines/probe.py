"""Before the full spend: which prompts, models and strategies make the better data?

    make probe RUN=<run> [DATA=<evaluation folders>] [MODEL=] [PAIRS=2000] [ARGS="--set …"]

A run of some thousand pairs is enough. A proxy is trained on the rows of each prompt, model and
strategy, and on rows of all. They are measured on DATA, or on questions of the run itself: some of
its passages are kept out of all trainings, and one question about each, of every kind in turn, is
asked among them. `probes/<RUN>/` gets

    ranking.md, ranking.json   each kind against the others of its axis, by a paired bootstrap
    profile.yaml               a profile with the shares that follow, for CONFIG=
    results.*                  the tables of `make ablate`

A share is the probability of being the best of its axis (Thompson, Biometrika 1933), and half of
all is shared out evenly: mixes tend to beat their best part (arXiv 2511.07025, table on LLMs).
"""

import argparse
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from embedtrain.compare import interval, p_value, resampled_means
from pipelines.ablate import finish, measure, say
from pipelines.cells import Result
from pipelines.e2e import write_titles
from pipelines.generate import run_dir_of
from pipelines.matrix import Ablation
from pipelines.profile import load_profile
from pipelines.results import by_system, markdown_table, scores_of, write_results
from pipelines.settings import check_settings, checked_name, parse_sets
from pipelines.subsets import Row, value_of
from sdg.engines.extractive import STRATEGIES
from sdg.errors import UserError, entry_point
from sdg.export import BATCH_ROWS, examples_of
from sdg.schema import Example, arrow_schema
from sdg.storage import write_atomically, write_text
from sdg.store import write_json
from sdg.text import canonical, digest

Kinds = dict[str, dict[str, int]]  # axis -> value -> rows
Ranking = dict[str, dict[str, dict[str, float]]]  # axis -> value -> figures, the best first

PROBES_DIR = Path("probes")
AXES = ("prompt", "model", "strategy")
ALL = "all"
EXTRACTIVE = "extractive"  # the engine with strategies of its own
KEPT_OUT = 0.2  # of a run's passages, at most MOST_QUESTIONS of a language
MOST_QUESTIONS = 300
AMONG = 1000  # other passages of a language that are searched
FEWEST_ROWS = 64  # of a kind: with less a proxy says nothing
EVEN = 0.5  # of the shares


def parse_args(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="probe", description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--run", required=True, help="name of a finished run")
    add("--data", default="", help="evaluation folders, with commas between")
    add("--model", help="folder of the proxy to begin with; default: all-MiniLM-L6-v2")
    add("--pairs", type=int, default=2000, help="rows that a proxy is trained on, at most")
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="a key of the matrix")
    return parser.parse_args(argv)


# What is asked


class Split:
    """A run's rows without those of the passages that are kept out, and the questions of these."""

    def __init__(self, run_dir: Path, folder: Path) -> None:
        self.train = folder / "train"
        self._run_dir, self._folder = run_dir, folder
        by_lang: dict[str, set[str]] = defaultdict(set)
        for row in self._rows():
            by_lang[row["positive_lang"]].add(row["provenance"]["seed_id"])
        self._out: set[str] = set()
        for seeds in by_lang.values():
            ranked = sorted(seeds, key=lambda seed: digest("probe", seed))
            self._out.update(ranked[: min(MOST_QUESTIONS, round(KEPT_OUT * len(ranked)))])

    def _rows(self) -> Iterator[Row]:
        return examples_of(self._run_dir / "examples")

    def _is_out(self, row: Row) -> bool:
        return row["provenance"]["seed_id"] in self._out

    def write(self) -> list[Path]:
        """Write the rows to train on; returns the evaluation sets, one a language."""
        hidden = {
            canonical(t) for row in self._rows() if self._is_out(row) for t in row["positives"]
        }
        path = self.train / "examples" / "00000.parquet"
        others: dict[str, dict[str, None]] = defaultdict(dict)

        def fill(temporary: Path) -> None:
            schema = arrow_schema(Example)
            with pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
                batch: list[Row] = []
                for row in self._rows():
                    if self._is_out(row):
                        continue
                    batch.append(_without(row, hidden))
                    if len(others[row["positive_lang"]]) < AMONG:
                        others[row["positive_lang"]].update(dict.fromkeys(row["positives"][:1]))
                    if len(batch) == BATCH_ROWS:
                        writer.write_table(pa.Table.from_pylist(batch, schema=schema))
                        batch.clear()
                writer.write_table(pa.Table.from_pylist(batch, schema=schema))

        write_atomically(path, fill)
        return [
            write_titles(self._folder / f"asked-{lang}", questions, list(others[lang]))
            for lang, questions in sorted(self._questions().items())
        ]

    def _questions(self) -> dict[str, list[dict[str, str]]]:
        """Language of the passages -> one question each, of every kind as often as can be."""
        rows: dict[str, list[Row]] = defaultdict(list)
        for row in self._rows():
            if self._is_out(row):
                rows[row["provenance"]["seed_id"]].append(row)
        asked: Counter[str] = Counter()
        found: dict[str, list[dict[str, str]]] = defaultdict(list)
        texts: set[str] = set()
        for seed_id in sorted(rows, key=lambda seed: digest("probe", seed)):
            row = min(rows[seed_id], key=lambda row: (asked[_kind(row)], digest(row["id"])))
            text = row["positives"][0]
            if canonical(text) not in texts:
                texts.add(canonical(text))
                asked[_kind(row)] += 1
                found[row["positive_lang"]].append({"title": row["query"], "text": text})
        if not found:
            raise UserError(
                f"{self._run_dir}: too few passages to keep some out; give DATA=<evaluation folder>"
            )
        return found


def _kind(row: Row) -> str:
    return " ".join(value_of(row, axis) for axis in AXES)


def _without(row: Row, hidden: set[str]) -> Row:
    """The row without negatives that are answers to questions."""
    places = [i for i, text in enumerate(row["negatives"]) if canonical(text) not in hidden]
    columns = ("negatives", "negative_scores", "negative_grades")
    return {**row, **{c: [row[c][i] for i in places] if row[c] else [] for c in columns}}


# What is compared


def kinds_of(train: Path) -> Kinds:
    """Axis -> value -> rows, of axes with two values or more that have enough rows."""
    counts: dict[str, Counter[str]] = {axis: Counter() for axis in AXES}
    for row in examples_of(train / "examples"):
        for axis in AXES:
            counts[axis][value_of(row, axis)] += 1
    found = {}
    for axis, counter in counts.items():
        enough = {value: n for value, n in sorted(counter.items()) if n >= FEWEST_ROWS}
        for value in sorted(counter.keys() - enough.keys()):
            say(f"{axis} {value or '(none)'}: left out, {counter[value]} rows are too few")
        if len(enough) > 1:
            found[axis] = enough
    return found


def matrix_of(
    train: Path,
    kinds: Mapping[str, Mapping[str, int]],
    sets: Sequence[Path],
    args: argparse.Namespace,
) -> Ablation:
    """The ablation with a cell for every kind, beside one of all rows."""
    axes = {
        axis: {
            ALL: {},
            **{_label(v): {"data": [{"run": "run", "where": {axis: [v]}}]} for v in values},
        }
        for axis, values in kinds.items()
    }
    values: dict[str, Any] = {
        "runs": {"run": {"path": str(train)}},
        "pairs": args.pairs,
        "axes": axes,
        "evaluation": {"data": [str(folder) for folder in sets]},
        "model": args.model or "",
    }
    return check_settings(Ablation, values, "probe", parse_sets(args.set))


def _label(value: str) -> str:
    """A value as the name of a choice."""
    return "-".join(value.replace("=", " ").split()) or "none"


def rank(results: Sequence[Result], kinds: Kinds, seed: int = 0) -> Ranking:
    """Axis -> value -> its mean, its difference from the mean of the axis's other values with
    interval and p-value, the probability that it is the best, and its share."""
    systems = by_system(results)
    drawn = {
        name: resampled_means(list(scores_of(trials).values()), number, seed)
        for number, (name, trials) in enumerate(systems.items())
    }
    ranking: Ranking = {}
    for axis, values in kinds.items():
        there = [value for value in values if f"{axis}={_label(value)}" in drawn]
        if len(there) < 2:
            continue
        names = [f"{axis}={_label(value)}" for value in there]
        drawn_VR = np.stack([drawn[name] for name in names])
        best_V = np.bincount(drawn_VR.argmax(axis=0), minlength=len(there)) / drawn_VR.shape[1]
        ranked: dict[str, dict[str, float]] = {}
        for place, value in enumerate(there):
            means = [
                float(np.mean([s.mean() for s in scores_of(systems[name]).values()]))
                for name in names
            ]
            others = [i for i in range(len(there)) if i != place]
            differences_R = drawn_VR[place] - drawn_VR[others].mean(axis=0)
            low, high = interval(differences_R)
            ranked[value] = {
                "mean": means[place],
                "difference": means[place] - float(np.mean([means[i] for i in others])),
                "low": low,
                "high": high,
                "p_value": p_value(differences_R),
                "best": float(best_V[place]),
                "share": float(EVEN / len(there) + (1 - EVEN) * best_V[place]),
            }
        ranking[axis] = dict(sorted(ranked.items(), key=lambda item: -item[1]["mean"]))
    return ranking


# What is written


def page_of(ranking: Ranking) -> str:
    """The ranking as Markdown."""
    titles = ["", "mean", "difference from the others", "p", "best", "share"]
    text = ""
    for axis, ranked in ranking.items():
        rows = [
            [
                value or "(none)",
                f"{one['mean']:.3f}",
                f"{one['difference']:+.3f} [{one['low']:+.3f}, {one['high']:+.3f}]",
                f"{one['p_value']:.3f}",
                f"{one['best']:.2f}",
                f"{one['share']:.2f}",
            ]
            for value, one in ranked.items()
        ]
        text += f"{axis}:\n\n{markdown_table([axis, *titles[1:]], rows)}\n"
    return text


def profile_of(run_dir: Path, ranking: Ranking) -> dict[str, Any]:
    """A profile with the run's prompts, models and extractive strategies, in the shares of the
    ranking; of what was not ranked, in those of the run's rows."""
    counts: Counter[tuple[str, str, str]] = Counter()
    for row in examples_of(run_dir / "examples"):
        made = row["provenance"]
        counts[made["prompt"], made["engine"], made["model"]] += 1
    prompts: Counter[str] = Counter()
    models: Counter[tuple[str, str]] = Counter()
    for (prompt, engine, model), num in counts.items():
        prompts[prompt] += num
        models[engine, model] += num

    def share(axis: str, value: str, num: int) -> float:
        ranked = ranking.get(axis, {})
        if not ranked:
            return round(num / sum(counts.values()), 3)
        return round(ranked[value]["share"], 3) if value in ranked else 0.0

    weights = {prompt: share("prompt", prompt, num) for prompt, num in sorted(prompts.items())}
    profile: dict[str, Any] = {"prompts": {p: w for p, w in weights.items() if w > 0}}
    ranked = ranking.get("strategy", {})
    strategies = {n: round(one["share"], 3) for n, one in ranked.items() if n in STRATEGIES}
    engines = [
        {
            "name": engine,
            **({"model": model} if model else {}),
            **({"strategies": strategies} if engine == EXTRACTIVE and strategies else {}),
        }
        for engine, model in sorted(models)
    ]
    if len(engines) == 1:
        return {"engine": engines[0], **profile}
    shares = [share("model", model, num) for (_, model), num in sorted(models.items())]
    sections = [{"engine": e, "share": s} for e, s in zip(engines, shares, strict=True)]
    return {"models": sections, **profile}


def probe(args: argparse.Namespace, folder: Path) -> dict[str, str]:
    """Rank a run's kinds and write it down; returns which cells failed, and why."""
    run_dir = run_dir_of(args.run)
    split = Split(run_dir, folder)
    asked = split.write()
    sets = [Path(part) for part in args.data.split(",") if part] or asked
    kinds = kinds_of(split.train)
    if not kinds:
        raise UserError(
            f"RUN={args.run}: nothing to compare: one prompt, one model and one strategy only, or "
            f"fewer than {FEWEST_ROWS} rows of the others"
        )
    ablation = matrix_of(split.train, kinds, sets, args)
    results, failed = measure(ablation, folder, say)
    write_results(folder, ablation, results, failed)
    ranking = rank(results, kinds)
    write_json(folder / "ranking.json", ranking)
    page = page_of(ranking)
    profile = profile_of(run_dir, ranking)
    text = f"# Shares by `make probe RUN={args.run}`; see ranking.md beside it.\n"
    text += yaml.safe_dump(profile, sort_keys=False, allow_unicode=True)
    for name, content in (("ranking.md", page), ("profile.yaml", text)):
        write_text(folder / name, content)
    load_profile(str(folder / "profile.yaml"), {}, [])
    say("\n" + page + f"shares, as a profile: {folder}/profile.yaml")
    return failed


@entry_point
def main(argv: Sequence[str]) -> int:
    """Exit status: 0 done, 1 a cell failed or the system refused, 2 wrong use, 130 stopped."""
    args = parse_args(argv)
    if args.pairs < FEWEST_ROWS:
        raise UserError(f"PAIRS={args.pairs}: give {FEWEST_ROWS} or more")
    folder = PROBES_DIR / checked_name(args.run)
    return finish(lambda: probe(args, folder), folder)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
