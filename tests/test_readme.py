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


def test_make_asks_for_a_model_before_it_installs_vllm(tmp_path: Path) -> None:
    command = ["make", "-f", str(ROOT / "Makefile"), "generate", "LANG=sw", "ENGINE=vllm"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MAKE")}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "ENGINE=vllm needs a model" in done.stderr
    assert not list(tmp_path.iterdir())


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
