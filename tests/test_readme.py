"""The README's commands are real: make takes them, the entry point parses them."""

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from pipelines.generate import parse_args

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [
    line
    for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
]


def test_there_are_commands() -> None:
    assert "make generate LANG=sw" in COMMANDS
    assert "make test" in COMMANDS


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("make ")])
def test_make_takes_it(command: str) -> None:
    done = subprocess.run(
        [*shlex.split(command), "--dry-run"],
        cwd=ROOT,
        env={k: v for k, v in os.environ.items() if not k.startswith("MAKE")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    given = [word.split("=")[0] for word in shlex.split(command)[2:]]
    assert set(given) <= {
        "LANG",
        "CORPUS",
        "PAIRS",
        "RUN",
        "ENGINE",
        "MODEL",
        "CONFIG",
        "SEED",
        "DATA",
        "ADDRESS",
        "RUNS",
        "TO",
        "TRAINING",
        "RELEASE",
    }


def test_make_help_lists_every_command_that_is_explained() -> None:
    explained = re.findall(r"^(\S+):.*?## ", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    done = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    column = r"^  (?=.{12} \S)([a-z]\S*) "
    assert re.findall(column, done.stdout, re.MULTILINE) == explained
    assert {command.split()[1] for command in COMMANDS if command.startswith("make ")} <= {
        *explained
    }


def test_make_refuses_an_option_that_there_is_not() -> None:
    command = ["make", "--dry-run", "generate", "LANG=sw", "CORPSU=x"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no option CORPSU=" in done.stderr


def make_elsewhere(folder: Path, command: str) -> str:
    """What a make that fails says, in a folder where nothing is installed, nor is after."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "RAY_"))}
    done = subprocess.run(
        ["make", "-f", str(ROOT / "Makefile"), *shlex.split(command)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stdout
    assert not list(folder.iterdir())
    return done.stderr


def test_make_asks_for_a_model_before_it_installs_vllm(tmp_path: Path) -> None:
    for name in ("generate", "submit"):
        said = make_elsewhere(tmp_path, f"{name} LANG=sw ENGINE=vllm")
        assert "ENGINE=vllm needs a model" in said


@pytest.mark.parametrize(
    ("command", "missing"),
    [
        ("report", "RUN=<name>"),
        ("export", "RUN=<name> TO=<trainer>"),
        ("export RUN=sw", "TO=<trainer>"),
        ("export RUN=sw ARGS='--negatives 8'", "TO=<trainer>"),
        ("train RUN=x MODEL=m", "DATA=runs/<run>"),
        ("train CONFIG=train_1b", "RUN=<name>"),
        ("merge", 'ARGS="OUT MODEL MODEL"'),
        ("evaluate TASKS=x", "MODEL=<folder>"),
        ("evaluate MODEL=m", "DATA=<folder>"),
        ("ablate", "CONFIG=<matrix>"),
        ("probe", "RUN=<name>"),
        ("release", "RUN=<name>"),
        ("reproduce", "RELEASE=<folder>"),
        ("submit LANG=sw", "ADDRESS=http://<head>:8265 RUNS=/<shared>/runs"),
        ("submit LANG=sw CONFIG=mine.yaml", "ADDRESS=http://<head>:8265"),
    ],
)
def test_make_names_the_variable_that_is_missing(
    command: str, missing: str, tmp_path: Path
) -> None:
    first, _ = make_elsewhere(tmp_path, command).splitlines()
    name = command.split()[0]
    assert first.startswith(f"make {name} lacks {missing}. The command is: make {name} ")
    assert "--" not in first


@pytest.mark.parametrize(
    "command",
    [
        "needs-export RUN=sw ARGS='--to beir'",
        "needs-evaluate MODEL=m TASKS=x",
        "needs-evaluate ARGS=--help",
        "needs-train RUN=x CONFIG=mine.yaml",
        "needs-train RUN=x MODEL=m ARGS='--set data.sources=[{path: runs/sw}]'",
        "needs-submit LANG=sw ARGS='--address http://head:8265 --set runs=/shared/runs'",
    ],
)
def test_make_takes_what_is_given_in_another_way(command: str) -> None:
    done = subprocess.run(["make", *shlex.split(command)], cwd=ROOT, capture_output=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", [c for c in COMMANDS if "-m pipelines.generate" in c])
def test_the_entry_point_takes_it(command: str) -> None:
    arguments = shlex.split(command.split("-m pipelines.generate")[1])
    assert parse_args(arguments).lang == "sw"


def test_every_profile_and_stage_named_is_there() -> None:
    from pipelines.profile import StageSettings
    from pipelines.settings import CONFIGS_DIR

    for name in ("embedded", "laptop"):
        assert (CONFIGS_DIR / f"{name}.yaml").is_file()
    for stage in StageSettings.model_fields:
        assert f"| `{stage}` |" in README


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target
