"""All of a run in one folder that can be checked and made again: `make release RUN=<run>`.

    make release RUN=sw [TRAINING=first] [DATA=<evaluation folders>]

writes `releases/<RUN>/`, whole or not at all:

    data/          the examples, their card, summary and report
    model/         with TRAINING, the trained model and its card
    evaluation/    with DATA, the sets; and results.json, what the model reaches on them
    profile.json, training.json, prompts/, constraints.txt     what they were made with
    release.json   how to make them again, and the hashes of the corpus
    SHA256SUMS     for `sha256sum -c`
    Makefile       make check, make reproduce

The corpus does not go along: it may be another's. A folder that is there with other content is
refused.
"""

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.generate import run_dir_of
from pipelines.profile import Profile, load_profile
from pipelines.settings import checked_name
from sdg.corpora import CorpusConfig, bundled_languages, corpus_files
from sdg.errors import UserError, entry_point
from sdg.languages import language
from sdg.prompting import PROMPTS_DIR, load_prompt
from sdg.storage import copy, write_text
from sdg.store import write_json

RELEASES_DIR = Path("releases")
ROOT = Path(__file__).parents[1]
SUMS = "SHA256SUMS"
TOLERANCE = 0.01  # of a metric that is measured again
MAKEFILE = """# make check: are all files as they were released?
# make reproduce MBEGU=<a checkout of Mbegu>: make the rows (and the model) again and compare.
MAKEOVERRIDES :=

check:
\tsha256sum --check --quiet SHA256SUMS

reproduce: check
\t@[ -n "$(MBEGU)" ] || { echo "Where is Mbegu? make reproduce MBEGU=<its checkout>" >&2; exit 2; }
\t$(MAKE) -C "$(MBEGU)" reproduce RELEASE="$(CURDIR)" CORPUS="$(CORPUS)" MODEL="$(MODEL)"

.PHONY: check reproduce
"""


@dataclass(frozen=True)
class Given:
    """What goes into a release."""

    run: str
    run_dir: Path
    training: Path | None  # a training's folder
    sets: tuple[Path, ...]


def parse_args(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="release", description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--run", required=True, help="name of a finished run")
    add("--training", default="", help="name of a training on that run alone")
    add("--data", default="", help="evaluation folders that the model is measured on")
    return parser.parse_args(argv)


def given_by(args: argparse.Namespace) -> Given:
    """The folders that the command line names.

    Raises:
        UserError: one is not there or not finished, or they do not belong together.
    """
    run_dir = run_dir_of(args.run)
    for name, what in (("summary.json", "finished"), ("profile.json", "of this version of Mbegu")):
        if not (run_dir / name).is_file():
            raise UserError(
                f"{run_dir / name}: no such file: the run is not {what}; give its command again"
            )
    training = None
    if args.training:
        from pipelines.train import folder_of

        training = folder_of(args.training)
        _check_training(training, run_dir)
    sets = tuple(Path(part) for part in args.data.split(",") if part)
    if sets and not training:
        raise UserError("DATA= is what a model is measured on: give TRAINING=<name> as well")
    return Given(args.run, run_dir, training, sets)


def _check_training(training: Path, run_dir: Path) -> None:
    if not (training / "settings.json").is_file() or not (training / "model").is_dir():
        raise UserError(f"{training}: no finished training; give its command again")
    settings = json.loads((training / "settings.json").read_text(encoding="utf-8"))
    paths = [source["path"] for source in settings["data"]["sources"]]
    if [Path(path).resolve() for path in paths] != [run_dir.resolve()]:
        raise UserError(
            f"TRAINING={training.name}: trained on {', '.join(paths)}, not on {run_dir} alone, so "
            f"it cannot be made again from this release"
        )


def release(given: Given, folder: Path) -> bool:
    """Write the folder, whole or not at all; False if it is there with the same content.

    Raises:
        UserError: it is there with other content.
    """
    fresh = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(fresh, ignore_errors=True)
    _fill(given, fresh)
    sums = "".join(f"{sum_of(fresh / name)}  {name}\n" for name in files_of(fresh))
    write_text(fresh / SUMS, sums)
    try:
        if not folder.exists():
            fresh.rename(folder)
            return True
        there = folder / SUMS
        if not there.is_file() or there.read_text(encoding="utf-8") != sums or changed(folder):
            raise UserError(f"{folder}: there already, with other content; move it away first")
        return False
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _fill(given: Given, fresh: Path) -> None:
    run_dir = given.run_dir
    for path in sorted(run_dir.glob("examples/*.parquet")):
        _place(path, fresh / "data" / "examples" / path.name)
    for name in ("README.md", "summary.json", "report.html"):
        if (run_dir / name).is_file():
            _place(run_dir / name, fresh / "data" / name)
    _place(run_dir / "profile.json", fresh / "profile.json")
    _place(ROOT / "pipelines" / "constraints.txt", fresh / "constraints.txt")
    profile = load_profile(str(run_dir / "profile.json"), {}, [])
    summary = json.loads((run_dir / "summary.json").read_text(encoding="utf-8"))
    _check_prompts(run_dir)
    for path in _prompt_files(profile):
        _place(path, fresh / "prompts" / path.relative_to(PROMPTS_DIR))
    about: dict[str, Any] = {
        "run": given.run,
        "lang": summary["lang"],
        "examples": summary["examples"],
        "corpus": corpus_sums(profile.corpus, summary["lang"]),
        "engines": sorted({section.engine.name for section in profile.mix}),
        "commit": _commit(),
        "tolerance": TOLERANCE,
    }
    if given.training:
        about["training"] = given.training.name
        _place(given.training / "settings.json", fresh / "training.json")
        _copy(given.training / "model", fresh / "model", leave_out="evaluation")
        for one in given.sets:
            _copy(one, fresh / "evaluation" / one.name)
        if given.sets:
            scores = measure(given.training / "model", given.sets)
            write_json(fresh / "evaluation" / "results.json", scores)
    write_json(fresh / "release.json", about)
    write_text(fresh / "Makefile", MAKEFILE)
    write_text(fresh / "README.md", _readme(about, bool(given.sets)))


def measure(model: Path, sets: Sequence[Path]) -> dict[str, dict[str, Any]]:
    """What a model reaches on evaluation folders: task -> type, metric and score."""
    from embedtrain.evaluate import evaluate, find_tasks

    found = evaluate(model, find_tasks(list(sets), []), print)
    return {m.task: {"type": m.type, "metric": m.metric, "score": m.score} for m in found}


def _check_prompts(run_dir: Path) -> None:
    """Refuse prompts that were edited since the run: they would make other rows."""
    for path in run_dir.glob("stages/*-render/stage.json"):
        shas = json.loads(path.read_text(encoding="utf-8"))["made_of"]["shas"]
        for name, by_lang in shas.items():
            for code, sha in by_lang.items():
                if load_prompt(name, language(code).base).sha != sha:
                    raise UserError(
                        f"prompts/{name}.md was edited since {run_dir} was made ({code}); go back "
                        f"to what it was, or make the run again"
                    )


def _prompt_files(profile: Profile) -> list[Path]:
    """Files of the run's prompts, with their overrides for languages."""
    names = [*profile.prompts, *profile.ideas.prompts]
    names += [profile.stages.judge.prompt] if profile.stages.judge else []
    return sorted(
        {
            path
            for name in names
            for path in PROMPTS_DIR.glob(f"{name}*.md")
            if path.name.split(".")[0] == Path(name).name
        }
    )


def corpus_sums(corpus: CorpusConfig, langs: str) -> dict[str, str]:
    """Name -> SHA-256 of a corpus's files; none of a dataset id.

    Raises:
        UserError: the corpus is not there.
    """
    codes = [language(code).code for code in langs.split(",")]
    if not corpus.path:
        codes = [code for code in codes if language(code).base in bundled_languages()]
    return {file.name: sum_of(file.path) for file in corpus_files(corpus, codes)}


def sum_of(path: Path) -> str:
    """A file's SHA-256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_of(folder: Path) -> list[str]:
    """Names of a release's files, but for the sums themselves."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    names = sorted(path.relative_to(folder).as_posix() for path in paths)
    return [name for name in names if name != SUMS]


def changed(folder: Path) -> list[str]:
    """What is not as it was released: files that differ, are missing, or came later.

    Raises:
        UserError: the folder is no release.
    """
    try:
        lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
        sums = {name: total for total, name in (line.split("  ", 1) for line in lines)}
    except (OSError, ValueError):
        raise UserError(f"{folder}: no release ({SUMS} is missing or broken)") from None
    there = files_of(folder)
    differ = [name for name in there if name in sums and sum_of(folder / name) != sums[name]]
    return sorted([*differ, *(sums.keys() ^ set(there))])


def _place(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    copy(source, target)


def _copy(source: Path, target: Path, leave_out: str = "") -> None:
    if not source.is_dir():
        raise UserError(f"{source}: no such folder")
    for path in sorted(source.rglob("*")):
        inside = path.relative_to(source)
        hidden = any(part.startswith(".") for part in inside.parts)
        if path.is_file() and not hidden and inside.parts[0] != leave_out:
            _place(path, target / inside)


def _commit() -> str:
    """The checkout's commit; "" where there is none."""
    done = subprocess.run(
        ["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    )
    return done.stdout.strip() if done.returncode == 0 else ""


def _readme(about: dict[str, Any], measured: bool) -> str:
    again = "make reproduce MBEGU=<a checkout of Mbegu>"
    lines = [
        f"# {about['run']}",
        "",
        f"{about['examples']:,} examples ({about['lang']}), made with Mbegu"
        + (f", commit {about['commit']}" if about["commit"] else "")
        + ". `data/README.md` is their card.",
    ]
    if "training" in about:
        lines += ["", "`model/` is an embedder trained on them; its card is in it."]
    if measured:
        lines += ["What it reaches on the sets in `evaluation/` is in `evaluation/results.json`."]
    lines += [
        "",
        "```sh",
        "make check",
        again + (" CORPUS=<the documents>" if about["corpus"] else ""),
        "```",
        "",
        "The first compares all files with `SHA256SUMS`; the second makes the rows"
        + (", the model and its measurements" if "training" in about else "")
        + " again and compares them. Versions of packages are in `constraints.txt`.",
    ]
    if about["engines"] != ["extractive"]:
        lines.append(
            "A language model wrote these rows: they come out again only from the replies that "
            "were kept."
        )
    return "\n".join(lines) + "\n"


@entry_point
def main(argv: Sequence[str]) -> int:
    """Exit status: 0 released, 1 the system refused (a full disk), 2 wrong use."""
    args = parse_args(argv)
    folder = RELEASES_DIR / checked_name(args.run)
    new = release(given_by(args), folder)
    print(f"{folder}" if new else f"{folder}: there already, the same")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
