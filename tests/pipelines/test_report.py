"""The report's page: safe whatever the texts say, and drawn by a real browser from the disk."""

import json
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from pipelines import report as command
from pipelines.report_page import render, write_report
from sdg.report import report_of
from tests.finished_run import HOSTILE, LANGS, examples_of, finished_run
from tests.rows import make_example, make_provenance

CHROMIUM = shutil.which("chromium")
PATIENCE_MS = 120_000  # the machine may be busy
IN_BROWSER = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt install chromium")


class Parts(HTMLParser):
    """Scripts and styles of a page, and how often each element is there."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.contents: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.contents.append("")

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] == "script":
            self.contents[-1] += data


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in twelve languages with a row, a model, a prompt and a source that attack the page."""
    folder = tmp_path_factory.mktemp("page") / "twelve"
    made = make_provenance(
        **dict.fromkeys(["prompt", "model", "source", "license", "strategy"], HOSTILE)
    )
    attack = make_example(
        99, query=HOSTILE, positives=[HOSTILE], negatives=[HOSTILE], provenance=made
    )
    finished_run(folder, num=40, extra=[attack], corpus=HOSTILE, model=HOSTILE)
    return folder


@pytest.fixture(scope="module")
def page(folder: Path) -> Path:
    return write_report([folder])


def test_no_text_gets_out_of_the_data(folder: Path) -> None:
    report = report_of(folder)
    parts = Parts(render([report]))
    plain = Parts(render([]))
    assert [tag for tag, _ in parts.tags] == [tag for tag, _ in plain.tags]
    data, script = parts.contents
    assert json.loads(data) == json.loads(json.dumps([report]))
    assert not set("<>&\u2028\u2029") & set(data)
    assert script == plain.contents[1]
    assert any(row["query"] == HOSTILE for row in json.loads(data)[0]["rows"])


def test_the_page_can_load_nothing(page: Path) -> None:
    parts = Parts(page.read_text(encoding="utf-8"))
    policy = next(a["content"] for tag, a in parts.tags if a.get("http-equiv"))
    assert policy and policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert not [a for _, a in parts.tags if {"src", "action"} & set(a)]
    links = [str(attributes["href"]) for _, attributes in parts.tags if "href" in attributes]
    assert all(link.startswith("#") for link in links)


def test_twelve_languages_stay_light(tmp_path: Path) -> None:
    for lang in LANGS:
        rows = examples_of(lang, 150)
        finished_run(
            tmp_path / "runs" / lang,
            langs=(lang,),
            num=0,
            extra=[row.model_copy(update={"positives": [row.positives[0] * 20]}) for row in rows],
        )
    both = [row for lang in LANGS for row in examples_of(lang, 150)]
    finished_run(tmp_path / "all", num=0, extra=both)
    assert write_report([tmp_path / "all"]).stat().st_size < 5e6
    pair = write_report([tmp_path / "runs" / "am", tmp_path / "runs" / "zh"])
    assert pair.name == "report-zh.html"
    assert pair.stat().st_size < 5e6


@pytest.mark.parametrize("run", ["none", "a,b,c", "../a", ","])
def test_wrong_use_is_one_line(
    run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command.main(["--run", run]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_the_command_writes_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    finished_run(tmp_path / "runs" / "a", langs=("sw",))
    finished_run(tmp_path / "runs" / "b", langs=("th",))
    monkeypatch.chdir(tmp_path)
    assert command.main(["--run", "a"]) == 0
    assert "runs/a/report.html" in capsys.readouterr().out
    assert command.main(["--run", "a,b"]) == 0
    assert (tmp_path / "runs/a/report-b.html").is_file()


# In a browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox"], timeout=PATIENCE_MS
        )
        yield found
        found.close()


@pytest.fixture
def shown(browser: Any, page: Path) -> Iterator[Any]:
    """The page as it opens from the disk; whatever the browser complains of fails the test."""
    yield from _opened(browser, page)


def _opened(browser: Any, path: Path, **options: Any) -> Iterator[Any]:
    tab, complaints, asked = browser.new_page(**options), [], []
    tab.set_default_timeout(PATIENCE_MS)
    tab.on("console", lambda message: complaints.append(message.text))
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(path.as_uri())
    tab.wait_for_selector("#list article")
    yield tab
    assert complaints == []
    assert asked == [path.as_uri()]
    tab.close()


@IN_BROWSER
def test_charts_are_drawn_and_every_section_is_there(shown: Any) -> None:
    sections = shown.eval_on_selector_all("main > section", "found => found.map(one => one.id)")
    assert sections == [
        *("rows", "languages", "yields", "reasons", "map", "scores", "hardness", "lengths"),
        *("costs", "examples"),
    ]
    assert shown.locator("#rows svg rect").count() >= 4
    assert shown.locator("#languages tbody tr").count() == 12
    assert shown.locator("#lengths svg").count() == 12
    assert shown.locator("#lengths svg polygon").count() == 36
    assert "1 of 5" not in shown.locator("#rows").inner_text()
    assert "24 of 60" in shown.locator("#rows").inner_text()  # filter: two of five, twelve times
    points = shown.eval_on_selector_all(
        "polygon", "found => found.map(one => one.getAttribute('points'))"
    )
    assert all("NaN" not in one for one in points)


@IN_BROWSER
def test_no_text_of_a_run_is_run(shown: Any) -> None:
    shown.fill("#search", "window.hacked")
    assert shown.locator("#list article").count() == 1
    assert shown.locator("#list .query").inner_text() == HOSTILE
    for details in shown.locator("details").all():
        details.evaluate("one => { one.open = true; }")
    assert shown.evaluate("window.hacked") is None
    assert shown.locator("img").count() == 0
    assert shown.locator("script").count() == 2


@IN_BROWSER
def test_filters_choose_rows(shown: Any) -> None:
    shown.select_option("#filter-language", "ar")
    assert shown.locator("#list article").count() == 8
    tags = shown.locator("#list article .tag:first-child").all_inner_texts()
    assert set(tags) == {"Arabic"}
    assert "40 of 481" in shown.locator("#found").inner_text()
    title = examples_of("ar", 4)[3].query
    shown.fill("#search", title)
    assert shown.locator("#list .query").all_inner_texts() == [title]
    shown.fill("#search", "no such text anywhere")
    assert shown.locator("#list article").count() == 0


@IN_BROWSER
def test_pages_turn(shown: Any) -> None:
    first = shown.locator("#list .query").all_inner_texts()
    shown.get_by_role("button", name="More").click()
    assert not set(first) & set(shown.locator("#list .query").all_inner_texts())
    shown.get_by_role("button", name="Before").click()
    assert shown.locator("#list .query").all_inner_texts() == first


@IN_BROWSER
def test_texts_run_in_their_own_direction(shown: Any) -> None:
    for lang, direction in (("ar", "rtl"), ("am", "ltr"), ("th", "ltr"), ("hi", "ltr")):
        shown.select_option("#filter-language", lang)
        found = shown.eval_on_selector_all(
            "#list .query", "all => all.map(one => [getComputedStyle(one).direction, one.lang])"
        )
        assert found == [[direction, lang]] * 8


@IN_BROWSER
def test_a_reason_opens_by_keyboard_with_its_samples(shown: Any) -> None:
    summary = shown.locator("#reasons summary").first
    summary.focus()
    shown.keyboard.press("Enter")
    shown.wait_for_selector("#reasons .sample")
    assert shown.locator("#reasons .sample").count() == 12
    shown.locator("#reasons details[open] select").select_option("sw")
    assert shown.locator("#reasons .sample").count() == 1


@IN_BROWSER
def test_yields_take_any_two_sides(shown: Any) -> None:
    down, across = shown.locator("#yields select").all()
    down.select_option("model")
    across.select_option("lang")
    assert shown.locator("#yields thead th").count() == 1 + 12 + 1
    assert "40 %" not in shown.locator("#yields thead").inner_text()


@IN_BROWSER
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_the_screen(browser: Any, page: Path, width: int, scheme: Any) -> None:
    size = {"width": width, "height": 800}
    for tab in _opened(browser, page, viewport=size, color_scheme=scheme):
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        colours = tab.evaluate("[getComputedStyle(document.body).color, 0]")[0]
        ink = sum(map(int, colours.removeprefix("rgb(").removesuffix(")").split(",")))
        assert (ink > 384) == (scheme == "dark")


@IN_BROWSER
def test_two_runs_stand_side_by_side(browser: Any, tmp_path: Path) -> None:
    for name, lang in (("a", "sw"), ("b", "ar")):
        finished_run(tmp_path / name, langs=(lang,))
    path = write_report([tmp_path / "a", tmp_path / "b"])
    for tab in _opened(browser, path, viewport={"width": 1280, "height": 800}):
        boxes = [card.bounding_box() for card in tab.locator("#rows .card").all()]
        assert len(boxes) == 2
        assert boxes[0]["y"] == boxes[1]["y"]
        assert boxes[0]["x"] + boxes[0]["width"] <= boxes[1]["x"]
        tab.select_option("#filter-run", "1")
        assert set(tab.locator("#list article .tag:nth-child(2)").all_inner_texts()) == {"Arabic"}
