"""The report's page: a template, a style and a script of ours, and a run's data put into them."""

import base64
import hashlib
import html
import json
from collections.abc import Sequence
from pathlib import Path
from string import Template
from typing import Any

from sdg.report import TEXT_BYTES, report_of
from sdg.storage import write_bytes

PAGE = Path(__file__).parent
PAGE_NAME = "report.html"


def render(reports: Sequence[dict[str, Any]]) -> str:
    """The page of one run or more. Their data go in as JSON that no text in it can end; the page
    runs no script and takes no style but its own, by their hashes."""
    style, script = _part("style.css"), _part("script.js")
    policy = (
        f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; "
        f"base-uri 'none'; form-action 'none'"
    )
    page = Template(_part("page.html"))
    return page.substitute(
        title=html.escape(f"Mbegu: {' and '.join(report['run'] for report in reports)}"),
        policy=html.escape(policy),
        style=style,
        script=script,
        data=_embedded(reports),
    )


def _part(name: str) -> str:
    return (PAGE / name).read_text(encoding="utf-8").strip()


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _embedded(reports: Sequence[dict[str, Any]]) -> str:
    """JSON for a script element: without `<`, no text can close it or open a comment."""
    text = json.dumps(reports, ensure_ascii=False, separators=(",", ":"))
    for mark in "<>&\u2028\u2029":
        text = text.replace(mark, f"\\u{ord(mark):04x}")
    return text


def write_report(run_dirs: Sequence[Path]) -> Path:
    """Compute and write the page of a run, or of several side by side."""
    reports = [report_of(folder, TEXT_BYTES // len(run_dirs)) for folder in run_dirs]
    page = render(reports).encode("utf-8", "replace")
    others = [folder.name for folder in run_dirs[1:]]
    name = f"report-{'-'.join(others)}.html" if others else PAGE_NAME
    path = run_dirs[0] / name
    write_bytes(path, page)
    return path
