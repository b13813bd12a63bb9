"""Make training examples: `python -m pipelines.generate --lang sw`, or `make generate LANG=sw`.

Documents go through the stages of `sdg.stages` into `runs/<RUN>/examples/*.parquet`, with a dataset
card and `summary.json` beside them. A run that was stopped, or killed, goes on where it was when
the same command is given again.
"""

import argparse
import logging
import os
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from rich.console import Console
from rich.markup import escape

from pipelines.preflight import check_profile
from pipelines.profile import Profile, load_profile
from pipelines.settings import checked_name
from sdg.errors import UserError, entry_point, refused_by_system
from sdg.languages import Language
from sdg.storage import is_object, path_of, put, scratch
from sdg.text import digest

if TYPE_CHECKING:
    from sdg.campaign import Outcome

RUNS_DIR = Path("runs")
JOB_FILES = "/runtime_resources/working_dir_files/"  # in the path of where a Ray job is unpacked
USAGE = """make generate LANG=<codes> [CORPUS=] [PAIRS=] [RUN=] [ENGINE=] [MODEL=] [CONFIG=] [SEED=]
       [DRY_RUN=1]
       python -m pipelines.generate --lang <code> [--corpus …] … [--set key=value …]"""

log = logging.getLogger("mbegu")


def parse_args(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="generate", usage=USAGE, description="Make training examples for a text embedder."
    )
    add = parser.add_argument
    add("--lang", help="language wanted, a BCP 47 code (sw), or several (sw,ha,zh)")
    add("--corpus", help="Parquet, JSONL, CSV or text file, folder or glob of them, or dataset id")
    add("--pairs", type=_positive, help="accepted examples wanted (default: all the corpus gives)")
    add("--run", help="name of the run, and of its folder in runs/ (default: the languages)")
    add("--engine", choices=("extractive", "vllm", "openai"), help="who writes the queries")
    add("--model", help="for vllm: hub id or folder; for openai: the endpoint's name of the model")
    add("--config", default="", help="profile: a name in pipelines/configs, or a YAML file")
    add("--seed", type=int, help="random seed (default 0); the same seed gives the same rows")
    add(
        "--dry-run",
        type=lambda text: text not in ("", "0", "no", "false"),
        nargs="?",
        const=True,
        default=False,
        help="count the calls of the first round, and make none",
    )
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="any key of the profile")
    return parser.parse_args(argv)


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1, not '{text}'")
    return int(text)


def run_dir_of(name: str, runs: Path = RUNS_DIR) -> Path:
    """The folder of a run; a name cannot lead out of the folder of all runs.

    Raises:
        UserError: the name is none, or the folder goes with the job that would make it.
    """
    if JOB_FILES in str(runs.absolute()):
        raise UserError(
            f"runs: {runs} would be in the job's own copy of the working directory, which ends "
            f"with it; give a folder that all machines of the cluster share: --set runs=/<folder>"
        )
    return runs / checked_name(name)


def read_profile(args: argparse.Namespace) -> Profile:
    """The profile, with the flags on top."""
    flags = {
        "corpus.path": args.corpus,
        "pairs": args.pairs,
        "engine.name": args.engine,
        "engine.model": args.model,
        "seed": args.seed,
    }
    given = {key: value for key, value in flags.items() if value is not None}
    changed = {item.partition("=")[0].strip() for item in args.set}
    names_engine = args.config or changed & {"engine", "engine.name"}
    if args.model and (args.engine or "extractive") == "extractive" and not names_engine:
        raise UserError("MODEL= needs an engine that runs models: ENGINE=vllm or ENGINE=openai")
    return load_profile(args.config, given, args.set)


def check_machine(profile: Profile) -> int:
    """Processors to use, of this machine or a cluster (0: all of it); refuses what this machine
    cannot give, before anything starts."""
    if os.environ.get("RAY_ADDRESS"):
        return profile.workers or 0
    cpus = len(os.sched_getaffinity(0))
    workers = profile.workers or cpus
    if workers > cpus:
        raise UserError(
            f"workers: {workers} wanted, but this machine has {cpus} processors; "
            f"--set workers={cpus}"
        )
    need = profile.memory_gb or 1.0 + 0.4 * workers
    free = free_memory_gb()
    if need > free:
        raise UserError(
            f"memory: {need:.1f} GB needed for {workers} workers, {free:.1f} GB free; close other "
            f"programs, or take fewer workers: --set workers={max(1, workers // 2)}"
        )
    return workers


def free_memory_gb() -> float:
    """Memory that this process may still take: the machine's, or its control group's if less."""
    fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    free = int(fields["MemAvailable"].split()[0]) * 1024
    group = Path("/sys/fs/cgroup")
    limit = group / "memory.max"
    if limit.exists() and (text := limit.read_text().strip()) != "max":
        used = int((group / "memory.current").read_text())
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        free = min(free, int(text) - used + int(stat["inactive_file"]))  # which the kernel gives up
    return free / 2**30


@contextmanager
def output_to(log_path: Path) -> Iterator[TextIO]:
    """Send all that this process and its children print to a log file; yields the terminal.

    Ray and vLLM write from C++ and from child processes, so only the file descriptors will do.
    """
    log_path.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(1), os.dup(2)
    with log_path.open("ab") as file, os.fdopen(os.dup(1), "w", encoding="utf-8") as terminal:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        try:
            yield terminal
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, descriptor in zip((1, 2), saved, strict=True):
                os.dup2(descriptor, number)
                os.close(descriptor)


def generate(profile: Profile, langs: Sequence[Language], run_dir: Path) -> None:
    """One run, from the corpus to the printed summary."""
    check_profile(profile, langs)
    pipeline = profile.build(langs)
    workers = check_machine(profile)
    # Imported late: Ray takes a second, which a wrong argument should not cost.
    from pipelines.view import StageBars
    from sdg.campaign import Campaign
    from sdg.cluster import Cluster
    from sdg.kept import tidied
    from sdg.lock import run_lock
    from sdg.runner import Runner, publish
    from sdg.store import write_json

    with run_lock(run_dir), output_to(log_of(run_dir)) as terminal:
        logging.basicConfig(level=logging.INFO, stream=sys.stderr, force=True)
        console = Console(file=terminal)
        with StageBars(console) as bars, tidied(profile.kept_replies):
            runner = Runner(run_dir, [lang.code for lang in langs], profile.seed, bars)
            campaign = Campaign(pipeline, runner)
            campaign.check()
            write_json(run_dir / "profile.json", profile.model_dump(mode="json"))
            console.print(
                f"Mbegu: {_names_of(langs)}, {escape(_models_of(profile))}, "
                f"run [bold]{escape(str(run_dir))}[/bold]",
                highlight=False,
            )
            campaign.read_sources()
            bars.note("starting Ray …")
            cluster = Cluster(workers)
            try:
                if os.environ.get("RAY_ADDRESS"):
                    cluster.check_memory(profile.memory_gb or 0)
                outcome = campaign.run(cluster, bars.round_started)
            finally:
                cluster.close()
        examples = publish(run_dir, campaign.last.store(run_dir))
        _report(console, profile, langs, run_dir, outcome, examples)
    keep_log(run_dir)


def log_of(run_dir: Path) -> Path:
    """Where a run's log is written: on this machine, wherever the run's folder is."""
    if is_object(run_dir):
        return scratch() / f"{run_dir.name}-{digest(str(run_dir))[:8]}.log"
    return run_dir / "logs" / "run.log"


def keep_log(run_dir: Path) -> None:
    """Put the log into the run's folder."""
    if is_object(run_dir):
        put(log_of(run_dir), run_dir / "logs" / "run.log")


def rehearse(profile: Profile, langs: Sequence[Language], run_dir: Path) -> None:
    """Print what a run would ask."""
    check_profile(profile, langs)
    pipeline = profile.build(langs)
    workers = check_machine(profile)
    from pipelines.dry_run import dry_run, print_tallies

    with tempfile.TemporaryDirectory() as folder, output_to(Path(folder) / "log") as terminal:
        rehearsal, tallies = dry_run(profile, langs, pipeline, run_dir, workers)
        print_tallies(Console(file=terminal), profile, rehearsal.cells, tallies)


def _names_of(langs: Sequence[Language]) -> str:
    if len(langs) == 1:
        return f"{langs[0].name} ({langs[0].autonym})"
    names = [lang.name for lang in langs[:6]]
    return ", ".join(names) + (f" and {len(langs) - 6} more" if len(langs) > 6 else "")


def _models_of(profile: Profile) -> str:
    """Who writes, for the first line on the screen."""
    if len(profile.mix) == 1:
        return f"engine {profile.mix[0].engine.name}"
    return f"{len(profile.mix)} models"


def _report(
    console: Console,
    profile: Profile,
    langs: Sequence[Language],
    run_dir: Path,
    outcome: "Outcome",
    examples: Path,
) -> None:
    from pipelines.report_page import write_report
    from pipelines.view import (
        counted,
        print_calls,
        print_losses,
        print_quotas,
        print_samples,
        print_unverified,
        size_of,
        stage_table,
    )
    from sdg.summary import (
        make_summary,
        sample_examples,
        slices_by_stage,
        unverified_by_language,
        write_summary,
    )

    settings = {
        "lang": ",".join(lang.code for lang in langs),
        "seed": profile.seed,
        "pairs_wanted": profile.pairs,
        "corpus": profile.corpus.path or f"bundled ({', '.join(lang.base for lang in langs)})",
        "engine": ", ".join(dict.fromkeys(section.engine.name for section in profile.mix)),
        "model": ", ".join(section.engine.model for section in profile.mix),
        "prompts": dict(profile.prompts),
        "prices": {  # of a million tokens, where the profile says them
            section.engine.model: {"in": section.price_in, "out": section.price_out}
            for section in profile.mix
            if section.price_in or section.price_out
        },
    }
    summary = make_summary(run_dir.name, settings, outcome, examples)
    write_summary(run_dir, summary, langs)
    page = write_report([run_dir])
    console.print()
    console.print(stage_table(outcome.reports))
    print_losses(console, slices_by_stage(outcome), [lang.code for lang in langs])
    print_unverified(console, unverified_by_language(outcome.reports))
    print_calls(console, outcome.models)
    if not summary["examples"]:
        raise UserError(
            f"no example came out; the table above and {run_dir}/stages/*/dropped say why"
        )
    print_samples(console, sample_examples(examples, 3))
    console.print()
    print_quotas(console, outcome.cells, summary["examples"])
    folder = escape(str(run_dir))
    console.print(
        f"[bold]{counted(summary['examples'], 'example')}[/bold] in {folder}/examples/*.parquet "
        f"({size_of(summary['bytes'])})\n"
        f"report   {escape(str(page))}\n"
        f"card     {folder}/README.md\nsummary  {folder}/summary.json\n"
        f"dropped  {folder}/stages/*/dropped/*.parquet\n"
        f"Next, in .venv/bin/python:\n"
        f"  from datasets import load_dataset\n"
        f'  load_dataset("parquet", data_dir="{folder}/examples", split="train")',
        highlight=False,
    )


@entry_point
def main(argv: Sequence[str]) -> int:
    """Exit status: 0 done, 1 failed, 2 wrong use, 130 stopped by the user."""
    args = parse_args(argv)
    screen = Console(stderr=True, highlight=False, soft_wrap=True)
    run_dir = RUNS_DIR
    try:
        profile = read_profile(args)
        langs = profile.languages_of(args.lang)
        name = args.run or "-".join(lang.code for lang in langs)
        run_dir = run_dir_of(name, path_of(profile.runs))
        (rehearse if args.dry_run else generate)(profile, langs, run_dir)
        return 0
    except Exception as error:  # a bug: its traceback is for the log, not for the screen
        if isinstance(error, UserError) or refused_by_system(error):
            raise
        log_path = log_of(run_dir)
        log_path.parent.mkdir(parents=True, exist_ok=True)
        with log_path.open("a", encoding="utf-8") as file:
            traceback.print_exc(file=file)
        screen.print(
            f"[red]failed:[/red] {escape(str(error) or type(error).__name__)}; details in "
            f"{log_path}. What is finished is kept: the same command goes on from here"
        )
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
