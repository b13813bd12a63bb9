"""Hand a run over to a trainer: `make export RUN=<run> TO=<layout>`, or to the Hugging Face Hub.

`TO=hf PUSH=<owner>/<name>` uploads the dataset; with `DRY_RUN=1` it lists what would go.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from pipelines.generate import run_dir_of
from sdg.errors import UserError, entry_point
from sdg.export import HUB, WRITERS, Written, export

# How each layout is read, after its folder.
READ = {
    "sentence-transformers": 'load_dataset("parquet", data_files="{folder}/<task>/train.parquet")',
    "automodel": "retrieval_dataset_inline of nemo_automodel: {folder}/train.jsonl",
    "flagembedding": "--train_data {folder}"
    " --query_instruction_format 'Instruct: {{}}\\nQuery: {{}}'",
    "tevatron": "--dataset_name json --train_dir {folder}",
    "beir": 'GenericDataLoader("{folder}").load("train")',
    HUB: 'load_dataset("{folder}", split="train")',
}


def push(folder: Path, name: str, dry_run: bool, console: Console) -> None:
    """Upload a dataset's folder to the Hub, as a private dataset; a dry run lists its files.

    The token is the Hub's own: HF_TOKEN, or what `hf auth login` left.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise UserError(f"PUSH={name}: give <owner>/<name>")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    total = sum(path.stat().st_size for path in files)
    if dry_run:
        for path in files:
            size = path.stat().st_size
            console.print(f"  {path.relative_to(folder)}  {size:,} bytes", highlight=False)
        console.print(f"{len(files)} files, {total:,} bytes would go to datasets/{escape(name)}")
        return
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    try:
        api = HfApi()
        api.create_repo(name, repo_type="dataset", private=True, exist_ok=True)
        api.upload_folder(repo_id=name, repo_type="dataset", folder_path=folder)
    except (HfHubHTTPError, LocalTokenNotFoundError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"PUSH={name}: the Hub did not take it: {reason}") from None
    console.print(f"pushed {len(files)} files to datasets/{escape(name)} (private)")


def _say(console: Console, to: str, folder: Path, written: Written, negatives: int) -> None:
    console.print(f"[bold]{written.rows:,} examples[/bold] for {to} in {folder}", highlight=False)
    for reason, count in written.left_out.items():
        console.print(f"left out: {count:,} with {reason}", highlight=False)
    if written.most_negatives > negatives:
        console.print(
            f"negatives: the first {negatives} of each row; rows have up to "
            f"{written.most_negatives}, but every row must have as many, and those with fewer are "
            f'left out. Another number: ARGS="--negatives <number>"',
            highlight=False,
            soft_wrap=True,
        )
    how = READ[to].format(folder=folder)
    console.print(f"read them with  {escape(how)}", highlight=False, soft_wrap=True)


@entry_point
def main(argv: Sequence[str]) -> int:
    """Exit status: 0 done, 1 the system refused (a full disk), 2 wrong use."""
    parser = argparse.ArgumentParser(prog="export", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--run", required=True, help="name of a finished run")
    parser.add_argument("--to", required=True, help=", ".join([*WRITERS, HUB]))
    parser.add_argument(
        "--negatives", type=int, default=4, help="columns, where they are of one number"
    )
    parser.add_argument("--push", default="", help="<owner>/<name> on the Hub, with --to hf")
    parser.add_argument("--dry-run", nargs="?", const="1", default="", help="push nothing, list it")
    args = parser.parse_args(argv)
    console = Console()
    if args.push and args.to != HUB:
        raise UserError(f"PUSH= takes TO={HUB}")
    if args.negatives < 0:
        raise UserError("--negatives must be 0 or more")
    folder, written = export(run_dir_of(args.run), args.to, args.negatives)
    _say(console, args.to, folder, written, args.negatives)
    if args.push:
        push(folder, args.push, args.dry_run not in ("", "0"), console)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
