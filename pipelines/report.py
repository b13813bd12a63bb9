"""Show what a run made: `make report RUN=sw`, or two side by side, `make report RUN=a,b`.

Writes one self-contained page, `report.html`, into the run's folder (of two, into the first one's,
named after the other). It loads nothing from anywhere and may be sent by mail.
"""

import argparse
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape

from pipelines.generate import run_dir_of
from pipelines.report_page import write_report
from pipelines.view import size_of
from sdg.errors import UserError, entry_point


@entry_point
def main(argv: Sequence[str]) -> int:
    """Exit status: 0 done, 1 the system refused (a full disk), 2 wrong use."""
    parser = argparse.ArgumentParser(prog="report", description="Show what a run made.")
    parser.add_argument("--run", required=True, help="name of a run, or of two: a,b")
    args = parser.parse_args(argv)
    screen = Console(highlight=False, soft_wrap=True)
    names = [name.strip() for name in args.run.split(",") if name.strip()]
    if not 1 <= len(names) <= 2:
        raise UserError(f"RUN={args.run}: give one run, or two with a comma between them")
    path = write_report([run_dir_of(name) for name in names])
    screen.print(f"[bold]{escape(str(path))}[/bold] ({size_of(path.stat().st_size)})")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
