"""make filters: what each filter of pairs asks, the reasons that it gives, and its settings."""

import argparse
import inspect
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from sdg.errors import entry_point
from sdg.filters import FILTERS, Filter

KEY = "stages.filter.filters"


@entry_point
def main(argv: Sequence[str]) -> int:
    """Exit status: 0 done, 1 no filter is meant."""
    parser = argparse.ArgumentParser(prog="filters", description="List the filters of pairs.")
    parser.add_argument("names", nargs="*", help="filters, or reasons out of an account")
    names = parser.parse_args(argv).names
    wanted = [f for f in FILTERS.values() if not names or {f.name, *f.reasons} & set(names)]
    if not wanted:
        print(
            f"no filter is called so or gives such a reason: {', '.join(names)}; other stages' "
            f"reasons are theirs, see sdg/stages/<stage>.py",
            file=sys.stderr,
        )
        return 1
    print("\n\n".join(map(described, wanted)))
    print(
        f"\nThey are asked in this order, and the first reason counts. One is changed by\n"
        f"--set {KEY}.<filter>.<key>=…, and left out by --set {KEY}.<filter>=false"
    )
    return 0


def described(found: Filter) -> str:
    """A filter in a few lines."""
    does = (inspect.getdoc(found.check) or "").split("\n\n")[0].replace("\n", " ")
    settings = [_setting(key, field) for key, field in found.config.model_fields.items()]
    where = Path(inspect.getfile(found.check))
    return "\n".join(
        [
            f"{found.name}: {does}",
            f"  reasons   {', '.join(found.reasons)}",
            f"  settings  {', '.join(settings) or 'none'}",
            f"  code      sdg/filters/{where.name}",
        ]
    )


def _setting(key: str, field: FieldInfo) -> str:
    choices = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
    others = [str(choice) for choice in choices if choice != field.default]
    return f"{key}={field.default}" + (f" (or {', '.join(others)})" if others else "")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
