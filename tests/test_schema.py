"""Rows and their Parquet layout."""

import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdg.errors import UserError
from sdg.schema import (
    SCHEMA_VERSION,
    VERSION_KEY,
    Call,
    Document,
    Example,
    Pair,
    Provenance,
    Row,
    Seed,
    arrow_schema,
    read_rows,
    rows_of,
    to_table,
)
from tests.rows import make_call, make_example, make_pair, make_seed

STRING, INT = pa.string(), pa.int64()


def fields(types: dict[str, pa.DataType], nullable: tuple[str, ...] = ()) -> list[pa.Field]:
    return [pa.field(name, kind, nullable=name in nullable) for name, kind in types.items()]


SEED = fields(
    dict.fromkeys(["id", "text", "title", "lang", "source", "license", "kind", "fields"], STRING)
)
MESSAGE = fields({"role": STRING, "content": STRING})
ANSWER = ("reply", "finish_reason", "tokens_in", "tokens_out", "error")
PROVENANCE = fields(
    {
        **dict.fromkeys(["seed_id", "source", "license", "engine", "model", "revision"], STRING),
        **dict.fromkeys(["prompt", "prompt_sha", "strategy", "controls"], STRING),
        "seed": INT,
        "judged": STRING,
    }
)
# Written out by hand: what a trainer's reader relies on.
LAYOUTS: dict[type[Row], list[pa.Field]] = {
    Document: fields(
        {
            "row": INT,
            **dict.fromkeys(["source", "text", "title", "lang", "license"], STRING),
            "error": STRING,
            "digest": STRING,
        },
        nullable=("error",),
    ),
    Seed: SEED,
    Call: fields(
        {
            "id": STRING,
            "seed": pa.struct(SEED),
            "ordinal": INT,
            **dict.fromkeys(
                ["task", "lang", "positive_lang", "controls", "prompt", "prompt_sha"], STRING
            ),
            "instruction": STRING,
            "strategies": pa.list_(STRING),
            "messages": pa.list_(pa.struct(MESSAGE)),
            **dict.fromkeys(["sampling", "engine", "model", "revision"], STRING),
            "reply": STRING,
            "finish_reason": STRING,
            "tokens_in": INT,
            "tokens_out": INT,
            "error": STRING,
            "attempts": INT,
        },
        nullable=ANSWER,
    ),
    Pair: fields(
        {
            **dict.fromkeys(["id", "task", "instruction", "query", "query_lang"], STRING),
            **dict.fromkeys(["positive", "positive_lang", "document"], STRING),
            "negatives": pa.list_(STRING),
            "provenance": pa.struct(PROVENANCE),
            "positive_grade": pa.float32(),
            "negative_grades": pa.list_(pa.float32()),
            "unverified": pa.list_(STRING),
        },
        nullable=("positive_grade",),
    ),
    Example: fields(
        {
            **dict.fromkeys(["id", "task", "instruction", "query", "query_lang"], STRING),
            "positives": pa.list_(STRING),
            "positive_lang": STRING,
            "positive_scores": pa.list_(pa.float32()),
            "negatives": pa.list_(STRING),
            "negative_scores": pa.list_(pa.float32()),
            "provenance": pa.struct(PROVENANCE),
            "positive_grades": pa.list_(pa.float32()),
            "negative_grades": pa.list_(pa.float32()),
            "unverified": pa.list_(STRING),
        }
    ),
}
ROWS: dict[type[Row], list[Row]] = {
    Seed: [make_seed(), make_seed(text="مرحبا\u200d\n", title="\0", lang="ar")],
    Call: [make_call(), make_call(ordinal=1, reply="{}", tokens_in=3, error="no: reply")],
    Pair: [
        make_pair("q", positive_grade=0.75, unverified=["query"]),
        make_pair("q", negatives=["a", ""], negative_grades=[0.5, 0.25]),
    ],
    Example: [make_example(), make_example(1, negatives=[], negative_scores=[])],
}
BY_MODEL = pytest.mark.parametrize("model", ROWS, ids=lambda model: model.__name__)


@pytest.mark.parametrize("model", LAYOUTS, ids=lambda model: model.__name__)
def test_the_parquet_layout_is_the_one_written_here_by_hand(model: type[Row]) -> None:
    schema = arrow_schema(model)
    assert list(schema) == LAYOUTS[model]
    assert schema.metadata == {
        b"mbegu.schema_version": str(SCHEMA_VERSION).encode(),
        b"mbegu.row": model.__name__.encode(),
    }


def test_extra_columns_follow_the_models_own() -> None:
    extra = pa.field("reason", pa.string(), nullable=False)
    assert list(arrow_schema(Seed, extra)) == [*SEED, extra]


@BY_MODEL
def test_rows_survive_parquet(model: type[Row], tmp_path: Path) -> None:
    first, second = tmp_path / "1.parquet", tmp_path / "2.parquet"
    pq.write_table(to_table(ROWS[model], model), first)
    pq.write_table(to_table([], model), second)
    assert rows_of(read_rows([first, second], model), model) == ROWS[model]
    assert read_rows(second, model).num_rows == 0
    assert read_rows([], model).schema == arrow_schema(model)


UTF8 = st.text(st.characters(exclude_categories=["Cs"]))


TEXTS = dict.fromkeys(Provenance.model_fields, UTF8) | {"seed": st.integers(-(2**63), 2**63 - 1)}


@given(st.builds(Provenance, **TEXTS))
def test_any_text_survives_a_table(provenance: Provenance) -> None:
    pair = make_pair("q", provenance=provenance)
    assert rows_of(to_table([pair], Pair), Pair) == [pair]


def test_a_row_takes_no_unknown_field() -> None:
    with pytest.raises(ValueError, match="colour"):
        make_seed(colour="red")


def test_an_optional_column_alone_may_be_null() -> None:
    table = to_table([make_call()], Call)
    assert {name for name in table.column_names if table[name].null_count} == set(ANSWER)


def _write(path: Path, metadata: dict[bytes, bytes] | None) -> Path:
    table = to_table([make_seed()], Seed).replace_schema_metadata(metadata)
    pq.write_table(table, path)
    return path


def test_a_file_of_another_version_is_refused(tmp_path: Path) -> None:
    newer = {VERSION_KEY: str(SCHEMA_VERSION + 1).encode(), b"mbegu.row": b"Seed"}
    path = _write(tmp_path / "newer.parquet", newer)
    with pytest.raises(UserError, match=rf"newer\.parquet: schema version {SCHEMA_VERSION + 1}\b"):
        read_rows(path, Seed)


def test_a_foreign_file_is_refused(tmp_path: Path) -> None:
    path = _write(tmp_path / "foreign.parquet", None)
    with pytest.raises(UserError, match=r"foreign\.parquet: not written by Mbegu"):
        read_rows(path, Seed)


def test_a_file_of_other_rows_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "seeds.parquet"
    pq.write_table(to_table([make_seed()], Seed), path)
    with pytest.raises(UserError, match=r"seeds\.parquet: holds Seed rows, wanted Pair"):
        read_rows(path, Pair)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone\.parquet: no such file"):
        read_rows(tmp_path / "gone.parquet", Seed)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_cut_file_is_named(share: float, tmp_path: Path) -> None:
    path = tmp_path / "cut.parquet"
    pq.write_table(to_table([make_seed()], Seed), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(UserError, match=r"cut\.parquet: not a readable Parquet file"):
        read_rows(path, Seed)


def test_a_trainer_that_imports_the_schema_gets_pydantic_and_pyarrow_alone() -> None:
    def loaded(imports: str) -> set[str]:
        code = f"import json, sys; {imports}; print(json.dumps(list(sys.modules)))"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
        return set(json.loads(done.stdout))

    with_schema = loaded("import sdg.schema")
    assert {m for m in with_schema if m.startswith("sdg")} == {"sdg", "sdg.errors", "sdg.schema"}
    packages = {name.split(".")[0] for name in with_schema} - sys.stdlib_module_names
    plain = loaded("import pydantic, pyarrow.parquet; pydantic.create_model('M', x=int)")
    assert packages <= {name.split(".")[0] for name in plain} | {"sdg"}
