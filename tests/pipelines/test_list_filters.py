"""make filters: every filter with its reasons and settings."""

import pytest

from pipelines import filters
from sdg.filters import FILTERS


def test_every_filter_is_there_with_its_reasons_and_keys(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert filters.main([]) == 0
    *parts, last = capsys.readouterr().out.split("\n\n")
    assert [part.partition(":")[0] for part in parts] == list(FILTERS)
    for part, found in zip(parts, FILTERS.values(), strict=True):
        head, reasons, settings, code = part.splitlines()
        assert head.endswith((".", "sdg/langid."))
        assert reasons.split()[1:] == ", ".join(found.reasons).split()
        assert all(f"{key}=" in settings for key in found.config.model_fields)
        assert code.split()[1].startswith("sdg/filters/")
    assert "action=drop (or mask)" in parts[list(FILTERS).index("personal")]
    assert "stages.filter.filters.<filter>=false" in last


@pytest.mark.parametrize("name", ["length", "query_too_short"])
def test_one_is_found_by_its_name_or_by_a_reason(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert filters.main([name]) == 0
    assert capsys.readouterr().out.count("  reasons  ") == 1


def test_what_is_no_filters_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert filters.main(["near_document"]) == 1
    assert "no filter is called so or gives such a reason: near_document" in capsys.readouterr().err
