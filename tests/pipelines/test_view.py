"""The lines and bars of a run's stages."""

import io

from rich.console import Console

from pipelines.view import StageBars, counted, print_losses, size_of
from sdg.account import SliceCount
from sdg.store import Done


def done(shard: int, num_out: int) -> Done:
    """A shard that gave so many rows."""
    return Done(
        shard=f"{shard:05}",
        num_in=num_out,
        num_kept=num_out,
        num_out=num_out,
        dropped={},
        counters={},
        seconds=1.0,
        slices=(),
    )


def shown(*, terminal: bool) -> str:
    """A run that goes on: `seed` was done before, `infer` by half, `parse` not; then a round."""
    console = Console(file=io.StringIO(), record=True, width=100, force_terminal=terminal)
    with StageBars(console) as bars:
        bars.stage_started("seed", None, [])
        bars.stage_started("seed", 2, [done(0, 40), done(1, 1_000)])
        bars.stage_finished("seed")
        bars.stage_started("infer", 3, [done(0, 40)])
        for shard in (1, 2):
            bars.shard_done("infer", done(shard, 30))
        bars.stage_finished("infer")
        for _ in range(2):
            bars.stage_started("parse", 2, [])
            for shard in (0, 1):
                bars.shard_done("parse", done(shard, 50))
            bars.stage_finished("parse")
    return console.export_text().rstrip("\n")


def test_what_was_done_before_is_not_taken_for_a_loss() -> None:
    assert shown(terminal=False).splitlines() == [
        "seed: 2 shards, 1,040 rows (done before)",
        "infer: 3 shards, 100 rows (1 of them with 40 rows done before)",
        "parse: 2 shards, 100 rows",
        "parse: 2 shards, 100 rows",
    ]


def test_the_bars_say_it_too() -> None:
    seed, infer, parse = shown(terminal=True).splitlines()[-3:]
    assert "1,040 rows" in seed and seed.rstrip().endswith("before")
    assert "100 rows" in infer and infer.rstrip().endswith("1 before")
    assert "100 rows" in parse and "before" not in parse


def losses_shown(*langs: str) -> list[str]:
    """Of a run in which dedupe drops a few of every language."""
    counts = [
        SliceCount(
            lang=lang,
            task="retrieval",
            model="m",
            prompt="p",
            num_in=100,
            num_kept=79 + number,
            num_out=79 + number,
            dropped={"near_pair": 21 - number},
        )
        for number, lang in enumerate(langs)
    ]
    console = Console(file=io.StringIO(), record=True, width=100)
    print_losses(console, {"dedupe": counts}, langs)
    return console.export_text().splitlines()


def test_losses_by_language_have_a_heading() -> None:
    assert losses_shown("sw", "am") == [
        "The stage where each language lost most (all are in summary.json, account):",
        "  Swahili (sw): dedupe dropped 21 of 100: near_pair 21",
        "  Amharic (am): dedupe dropped 20 of 100: near_pair 20",
    ]
    assert losses_shown("sw") == []
    many = losses_shown(*["am", "ar", "bn", "en", "es", "fr", "ha", "hi", "ru", "sw"])
    assert len(many) == 10 and many[-1] == "  and 2 more"


def test_one_is_no_plural_and_small_files_have_a_size() -> None:
    assert [counted(num, "shard") for num in (0, 1, 1_200)] == [
        "0 shards",
        "1 shard",
        "1,200 shards",
    ]
    sizes = [size_of(num) for num in (100, 48_700, 2**20 - 1, 2**20, 5_000 * 2**20)]
    assert sizes == ["1 KB", "48 KB", "1,024 KB", "1.0 MB", "5,000.0 MB"]
