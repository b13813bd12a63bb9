"""Where rows went, by slice: counted against plain counts, conserved, and warned of."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdg.account import Slice, SliceCount, account, add_up, count_slices, slices_of, warnings
from sdg.schema import Call, Document, Example, Pair, Seed, to_table
from sdg.stage import Context, Result, Shard, split
from sdg.stages import FilterStage, ParseStage, SeedStage
from sdg.store import StageStore
from sdg.summary import say
from tests.rows import make_call, make_example, make_pair, make_provenance, make_seed


def found(table: pa.Table) -> list[Slice]:
    return [Slice(**row) for row in slices_of(table).to_pylist()]


def counted(given: pa.Table, result: Result) -> list[SliceCount]:
    return count_slices(
        slices_of(given),
        slices_of(result.kept),
        slices_of(result.dropped),
        result.dropped["reason"],
        result.num_kept,
    )


def test_every_kind_of_row_has_its_slice() -> None:
    whole = Slice("sw", "retrieval", "some-model", "retrieval/short_query")
    assert found(to_table([make_call()], Call)) == [whole]
    assert found(to_table([make_pair("swali")], Pair)) == [whole]
    assert found(to_table([make_example()], Example)) == [whole]
    seeds = [make_seed(), make_seed(kind="idea", lang="en"), make_seed(kind="pair", lang="fr")]
    assert found(to_table(seeds, Seed)) == [Slice(lang, "", "", "") for lang in ("sw", "", "")]
    lists = make_call(make_seed(kind="none", lang="en"))
    assert found(to_table([lists], Call)) == [whole._replace(lang="")]
    engine = make_pair("swali", provenance=make_provenance(engine="extractive", model=""))
    assert found(to_table([engine], Pair)) == [whole._replace(model="extractive")]
    assert found(pa.table({"value": [1, 2]})) == [Slice("", "", "", "")] * 2
    for model in (Call, Pair, Example, Seed):
        assert found(to_table([], model)) == []


def test_a_cross_lingual_row_counts_for_the_language_it_was_made_for() -> None:
    controls = json.dumps({"run_lang": "sw"})
    calls = [make_call(positive_lang="en", controls=controls), make_call(positive_lang="ha")]
    assert [s.lang for s in found(to_table(calls, Call))] == ["sw", "ha"]
    pair = make_pair("q", positive_lang="en", provenance=make_provenance(controls=controls))
    assert [s.lang for s in found(to_table([pair], Pair))] == ["sw"]


def test_documents_count_for_the_languages_of_the_run(tmp_path: Path) -> None:
    labels = ["sw", "swh", "", "ha", "xx-nonsense", "fr"]
    documents = to_table(
        [
            Document(
                row=i,
                source="c",
                text="t",
                title="",
                lang=x,
                license="",
                error=None,
                digest=f"{i:032x}",
            )
            for i, x in enumerate(labels)
        ],
        Document,
    )

    def langs(*of: str) -> list[str]:
        slices = SeedStage().slices(documents, Context(of, 0, tmp_path))
        return slices["lang"].to_pylist()

    assert langs("sw") == ["sw", "sw", "sw", "", "sw", ""]
    several = langs("sw", "ha")
    assert several[:4] == ["sw", "sw", "", "ha"]
    assert several[5] == ""


NAMES = st.sampled_from(["", "sw", "th"])
REASONS = st.sampled_from([None, "refusal", "copied"])


@given(st.lists(st.tuples(NAMES, NAMES, NAMES, NAMES, REASONS), max_size=40))
def test_counts_are_those_of_a_plain_count(rows: list[tuple[str, str, str, str, Any]]) -> None:
    columns = {
        name: pa.array([row[place] for row in rows], pa.string())
        for place, name in enumerate(("lang", "task", "model", "prompt"))
    }
    columns["engine"] = pa.array([""] * len(rows), pa.string())
    result = split(pa.table(columns), [row[4] for row in rows])
    counts = counted(pa.table(columns), result)
    given_, kept = Counter(row[:4] for row in rows), Counter(r[:4] for r in rows if r[4] is None)
    assert {c.slice: c.num_in for c in counts} == given_
    assert {c.slice: c.num_kept for c in counts if c.num_kept} == kept
    assert {(*c.slice, r): n for c in counts for r, n in c.dropped.items()} == Counter(
        row for row in rows if row[4]
    )
    twice = add_up([*counts, *counts])
    assert [(c.slice, c.num_in, c.num_kept, c.num_out) for c in twice] == [
        (c.slice, 2 * c.num_in, 2 * c.num_kept, 2 * c.num_out) for c in counts
    ]
    assert [c.dropped for c in twice] == [
        {reason: 2 * num for reason, num in c.dropped.items()} for c in counts
    ]


def test_a_call_of_several_pairs_is_one_row_in_and_several_out() -> None:
    calls = to_table(
        [
            make_call(ordinal=0, reply='{"query": "Mji mkuu wa Kenya uko wapi?"}'),
            make_call(ordinal=1, reply="{}"),
        ],
        Call,
    )
    result = ParseStage().run(Shard("0", calls), Context(("sw",), 0, Path()), None)
    (count,) = counted(calls, result)
    assert (count.num_in, count.num_kept, count.num_out) == (2, 1, 1)
    assert count.dropped == {"wrong_schema": 1}
    more = Result(pa.concat_tables([result.kept] * 3), result.dropped, 1)
    (count,) = counted(calls, more)
    assert (count.num_in, count.num_kept, count.num_out) == (2, 1, 3)


def test_rows_that_change_their_slice_stop_the_run() -> None:
    pairs = [make_pair("moja"), make_pair("mbili", positive_lang="ha")]
    table = to_table(pairs, Pair)
    moved = to_table([pairs[0], pairs[0]], Pair)
    with pytest.raises(AssertionError, match="by slice"):
        counted(table, Result(moved, split(table, [None, None]).dropped, 2))
    lost = split(moved, ["refusal", "refusal"]).dropped
    with pytest.raises(AssertionError, match="1 rows in"):
        counted(table, Result(moved.slice(0, 0), lost, 0))


def test_the_manifest_keeps_the_account_and_a_cut_line_takes_no_part(tmp_path: Path) -> None:
    store = StageStore(tmp_path)
    pairs = to_table([make_pair(f"swali la {i}") for i in range(3)], Pair)
    result = FilterStage().run(Shard("x", pairs), Context(("sw",), 0, tmp_path), None)
    for shard in ("00000", "00001"):
        store.append(store.write(shard, 3, result, 0.0, counted(pairs, result)))
    (whole,) = store.slices()
    assert whole.num_in == 6
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_bytes(manifest.read_bytes()[:-30])
    assert {done.slices for done in store.finished().values()} == {()}
    (half,) = store.slices()
    assert (half.num_in, half.num_kept) == (3, whole.num_kept // 2)


def stages(*given: tuple[str, int, dict[str, int]], lang: str = "sw") -> dict[str, Any]:
    """Stages of one slice, from (name, rows in, rows dropped by reason)."""
    of = {"lang": lang, "task": "retrieval", "model": "m", "prompt": "p"}
    made = {}
    for name, num, dropped in given:
        kept = num - sum(dropped.values())
        made[name] = [SliceCount(**of, num_in=num, num_kept=kept, num_out=kept, dropped=dropped)]
    return made


@pytest.mark.parametrize(
    ("given_", "langs", "said"),
    [
        ([("filter", 100, {"refusal": 51})], "sw", ["filter dropped 51 of 100: refusal 51"]),
        ([("filter", 100, {"refusal": 50})], "sw", []),
        ([("filter", 19, {"refusal": 18})], "sw", []),
        ([("filter", 19, {"refusal": 19})], "sw", ["nothing is left; filter dropped 19 of 19"]),
        ([("filter", 9, {"refusal": 9}), ("mine", 0, {})], "sw", ["nothing is left; filter"]),
        ([("mix", 100, {"over_quota": 90})], "sw", []),
        ([("mix", 100, {"over_quota": 90})], "sw,ha", ["Hausa (ha): nothing came in"]),
    ],
)
def test_warnings(given_: Any, langs: str, said: list[str]) -> None:
    lines = [say(loss) for loss in warnings(stages(*given_), langs.split(","))]
    assert len(lines) == len(said)
    assert all(part in line for part, line in zip(said, lines, strict=True))


def test_the_account_says_how_many_were_tried_and_kept() -> None:
    render = stages(("render", 0, {}))
    render["render"] = [
        SliceCount(lang="sw", task="", model="", prompt="", num_in=5, num_kept=5),
        render["render"][0].model_copy(update={"num_out": 10}),
    ]
    rest = stages(("infer", 10, {"http_500": 1}), ("filter", 9, {"refusal": 2, "copied": 3}))
    passages, calls = account({**render, **rest})
    assert (passages["task"], passages["candidates"], passages["kept"]) == ("", 5, 5)
    assert (calls["candidates"], calls["kept"]) == (10, 4)
    assert list(calls["stages"]) == ["render", "infer", "filter"]
    assert calls["stages"]["filter"]["dropped"] == {"copied": 3, "refusal": 2}
