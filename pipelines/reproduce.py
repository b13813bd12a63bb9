"""Make a release again and compare: `make reproduce RELEASE=<folder> [CORPUS=] [MODEL=]`.

Files must be as they were released, and the corpus of the same content. Then the run is made anew
(`runs/reproduce-<name>-…`): its rows must be equal to the released ones. A released model is
trained anew on them (`trainings/reproduce-<name>-…`), and what it reaches on the released sets must
be within the tolerance of what is released.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipelines.profile import Profile, load_profile
from pipelines.release import SUMS, changed, corpus_sums, measure, sum_of
from pipelines.settings import checked_name
from sdg.errors import UserError, entry_point
from sdg.export import examples_of
from sdg.text import digest

SHOWN = 3  # of what differs


def parse_args(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="reproduce", description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--release", required=True, type=Path, help="folder that `make release` wrote")
    add("--corpus", help="where the documents are, if not where they were")
    add("--model", help="where the model that training began with is, if not where it was")
    return parser.parse_args(argv)


def profile_of(release: Path, about: dict[str, Any], corpus: str | None) -> Profile:
    """The released profile, its corpus checked.

    Raises:
        UserError: the corpus is missing, or of other content.
    """
    given = {"corpus.path": corpus} if corpus else {}
    profile = load_profile(str(release / "profile.json"), given, [])
    sums = corpus_sums(profile.corpus, about["lang"])
    # Its files' names are part of the rows.
    if sums != about["corpus"]:
        odd = sorted({name for name, _ in sums.items() ^ about["corpus"].items()})
        raise UserError(
            f"{profile.corpus.path or 'the bundled corpus'}: not the documents of the release "
            f"(other or missing: {', '.join(odd[:SHOWN])}); say where they are: CORPUS="
        )
    return profile


def differences(released: Path, made: Path) -> list[str]:
    """How the rows of two folders of examples differ; nothing if they are equal, in any order."""

    def rows(folder: Path) -> dict[str, str]:
        return {
            row["id"]: digest(json.dumps(row, sort_keys=True, ensure_ascii=False))
            for row in examples_of(folder)
        }

    before, now = rows(released), rows(made)
    kinds = {
        "missing": sorted(before.keys() - now.keys()),
        "new": sorted(now.keys() - before.keys()),
        "other": sorted(key for key in before.keys() & now.keys() if before[key] != now[key]),
    }
    return [f"{len(ids)} {kind} ({', '.join(ids[:SHOWN])})" for kind, ids in kinds.items() if ids]


def make_rows(release: Path, about: dict[str, Any], name: str, corpus: str | None) -> Path:
    """The run, made anew; returns its folder."""
    from pipelines.generate import generate, run_dir_of

    profile = profile_of(release, about, corpus)
    run_dir = run_dir_of(name)
    generate(profile, profile.languages_of(about["lang"]), run_dir)
    return run_dir


def make_model(release: Path, name: str, run_dir: Path, model: str | None) -> Path:
    """The model, trained anew; returns its folder."""
    from embedtrain.config import TrainConfig
    from embedtrain.train import train
    from pipelines.settings import read_settings
    from pipelines.train import folder_of, say

    changes: dict[str, Any] = {"data.sources": [{"path": str(run_dir)}]}
    if model:
        changes["model"] = model
    config = read_settings(TrainConfig, release / "training.json", changes)
    if config.model.startswith(("/", ".")) and not Path(config.model).exists():
        raise UserError(f"{config.model}: is not there; say where that model is: MODEL=")
    found = train(config, folder_of(name), say)
    if found is None:
        raise KeyboardInterrupt
    return found


def compare_scores(
    released: dict[str, dict[str, Any]], now: dict[str, dict[str, Any]], tolerance: float
) -> list[str]:
    """Prints every task's two scores; returns those further apart than the tolerance."""
    far = []
    for task, before in released.items():
        again = now[task]["score"]
        line = f"{task}: {before['metric']} {before['score']:.4f} released, {again:.4f} now"
        print(line)
        if abs(again - before["score"]) > tolerance:
            far.append(line)
    return far


def reproduce(args: argparse.Namespace) -> list[str]:
    """What came out otherwise.

    Raises:
        UserError: the release or the corpus is not what it was, or something cannot be made.
    """
    release: Path = args.release
    if odd := changed(release):
        raise UserError(f"{release}: not as it was released: {', '.join(odd[:SHOWN])}")
    about = json.loads((release / "release.json").read_text(encoding="utf-8"))
    name = checked_name(f"reproduce-{release.resolve().name}-{sum_of(release / SUMS)[:8]}")
    run_dir = make_rows(release, about, name, args.corpus)
    found = differences(release / "data" / "examples", run_dir / "examples")
    if found:
        return [f"rows: {'; '.join(found)}"]
    print(f"\nrows: all {about['examples']:,} are equal")
    if "training" not in about:
        return []
    model = make_model(release, name, run_dir, args.model)
    kept = release / "evaluation" / "results.json"
    if not kept.exists():
        print(f"the model, made again: {model}; the release has no measurements to compare")
        return []
    released = json.loads(kept.read_text(encoding="utf-8"))
    sets = sorted(path for path in (release / "evaluation").iterdir() if path.is_dir())
    return compare_scores(released, measure(model, sets), about["tolerance"])


@entry_point
def main(argv: Sequence[str]) -> int:
    """Exit status: 0 all came out again, 1 something came out otherwise or the system refused, 2
    wrong use."""
    args = parse_args(argv)
    found = reproduce(args)
    for line in found:
        print(f"differs: {line}", file=sys.stderr)
    if not found:
        print("reproduced")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
