"""Each layout, read back by the loader of the trainer that it is for."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from datasets import load_dataset

from pipelines.export import main
from sdg.errors import UserError
from sdg.export import export
from sdg.schema import Example, to_table
from tests.rows import make_example

QUERIES = ["swali la kwanza?", "سؤال عن الماء؟", "什么是种子？", "အမေးတစ်ခု", 'a "quoted"\nline']


def rows() -> list[Example]:
    made = [
        make_example(
            n,
            query=query,
            positives=[f"jibu {n}", f"jibu jingine {n}"],
            positive_scores=[0.9, 0.8],
            negatives=[f"kosa {n} {k}" for k in range(5)],
            negative_scores=[0.5] * 5,
        )
        for n, query in enumerate(QUERIES)
    ]
    few = make_example(90, negatives=["kosa moja"], negative_scores=[0.1])
    none = make_example(91, negatives=[], negative_scores=[])
    graded = make_example(
        92,
        task="sts",
        query="habari ya leo",
        positives=["habari za leo"],
        positive_grades=[1.0],
        negatives=["habari za jana", "mined"],
        negative_scores=[0.0, 0.3],
        negative_grades=[0.5],
    )
    return [*made, few, none, graded]


@pytest.fixture
def run_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs" / "one"
    (folder / "examples").mkdir(parents=True)
    made = rows()
    for part, some in enumerate((made[:3], made[3:])):
        pq.write_table(to_table(some, Example), folder / "examples" / f"{part:05}.parquet")
    (folder / "summary.json").write_text("{}")
    card = "---\nlicense: cc0-1.0\nconfigs:\n- config_name: default\n  data_files: examples/*.parquet\n---\n\n# Card\n"
    (folder / "README.md").write_text(card)
    return folder


def asked(row: Example) -> str:
    return "Instruct: " + row.instruction + "\nQuery: " + row.query


def test_sentence_transformers_takes_the_columns_in_their_order(run_dir: Path) -> None:
    folder, written = export(run_dir, "sentence-transformers", 3)
    found = load_dataset(
        "parquet", data_files=str(folder / "retrieval/train.parquet"), split="train"
    )
    assert found.column_names == ["anchor", "positive", "negative_1", "negative_2", "negative_3"]
    assert found["anchor"][:] == [asked(row) for row in rows()[:5]]
    assert found["negative_3"][:] == [f"kosa {n} 2" for n in range(5)]
    assert dict(written.left_out) == {"fewer than 3 negatives": 2}
    sts = load_dataset("parquet", data_files=str(folder / "sts/train.parquet"), split="train")
    graded = rows()[-1]
    both = f"Instruct: {graded.instruction}\nQuery: "
    assert sts.to_list() == [
        {"sentence1": both + "habari ya leo", "sentence2": both + "habari za leo", "score": 1.0},
        {"sentence1": both + "habari ya leo", "sentence2": both + "habari za jana", "score": 0.5},
    ]


def test_it_is_said_that_there_are_more_negatives(
    run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--run", "one", "--to", "sentence-transformers"]
    assert main(given) == 0
    shown = capsys.readouterr().out
    assert "negatives: the first 4 of each row; rows have up to 5, but every row" in shown
    assert 'ARGS="--negatives <number>"' in shown
    for enough in ("5", "6"):
        assert main([*given, "--negatives", enough]) == 0
        assert "negatives: " not in capsys.readouterr().out


def test_sentence_transformers_trains_on_it(run_dir: Path, minilm: Path, tmp_path: Path) -> None:
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    folder, _ = export(run_dir, "sentence-transformers", 3)
    data = load_dataset(
        "parquet", data_files=str(folder / "retrieval/train.parquet"), split="train"
    )
    model = SentenceTransformer(str(minilm), device="cpu")
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(tmp_path / "out"), max_steps=1, per_device_train_batch_size=5, report_to=[]
    )
    trainer = SentenceTransformerTrainer(
        model=model, args=arguments, train_dataset=data, loss=MultipleNegativesRankingLoss(model)
    )
    assert trainer.train().training_loss > 0


def test_flagembedding(run_dir: Path, minilm: Path, tmp_path: Path) -> None:
    from FlagEmbedding.abc.finetune.embedder.AbsArguments import AbsEmbedderDataArguments
    from FlagEmbedding.abc.finetune.embedder.AbsDataset import AbsEmbedderTrainDataset
    from transformers import AutoTokenizer

    folder, written = export(run_dir, "flagembedding", 3)
    arguments = AbsEmbedderDataArguments(
        train_data=[str(folder / "retrieval.jsonl")],
        cache_path=str(tmp_path / "cache"),
        train_group_size=4,
        query_instruction_for_retrieval="the rows have their own",
        query_instruction_format="Instruct: {}\nQuery: {}",
        knowledge_distillation=True,
    )
    data = AbsEmbedderTrainDataset(arguments, AutoTokenizer.from_pretrained(minilm))
    assert dict(written.left_out) == {"no negatives": 1}
    assert len(data) == 6
    for number, row in enumerate(rows()[:5]):
        query, passages, scores = data[number]
        assert query == asked(row)
        assert passages[0] in row.positives
        assert set(passages[1:]) < set(row.negatives)
        assert scores[1:] == [0.5] * 3


def test_tevatron(run_dir: Path, minilm: Path, tmp_path: Path) -> None:
    from tevatron.arguments import DataArguments
    from tevatron.datasets.dataset import HFTrainDataset
    from tevatron.datasets.preprocessor import TrainPreProcessor
    from transformers import AutoTokenizer

    folder, written = export(run_dir, "tevatron", 3)
    assert written.rows == 8
    tokenizer = AutoTokenizer.from_pretrained(minilm)
    arguments = DataArguments(dataset_name="json", train_dir=None)
    arguments.train_path = [str(folder / "train.jsonl")]
    arguments.dataset_split, arguments.dataset_language = "train", "default"
    loaded = HFTrainDataset(tokenizer, arguments, str(tmp_path / "cache"))
    prepare = TrainPreProcessor(tokenizer)
    for number, row in enumerate(rows()[:5]):
        found = prepare(loaded.dataset[number])
        assert found["query"] == tokenizer.encode(asked(row), add_special_tokens=False)[:32]
        assert [len(found[side]) for side in ("positives", "negatives")] == [2, 5]


def test_beir(run_dir: Path) -> None:
    from beir.datasets.data_loader import GenericDataLoader

    folder, _ = export(run_dir, "beir", 3)
    corpus, queries, qrels = GenericDataLoader(str(folder)).load("train")
    made = rows()
    assert list(queries.values()) == [row.query for row in made]
    assert {d["text"] for d in corpus.values()} == {
        text for row in made for text in [*row.positives, *row.negatives]
    }
    for row in made:
        assert sorted(corpus[d]["text"] for d in qrels[row.id]) == sorted(row.positives)


def test_automodel(run_dir: Path) -> None:
    peer = pytest.importorskip(
        "nemo_automodel.components.datasets.llm.retrieval_dataset_inline",
        reason="nemo-automodel pins another transformers and CUDA packages; install it by --no-deps",
    )
    folder, written = export(run_dir, "automodel", 3)
    data, _ = peer.load_datasets(str(folder / "train.jsonl"))
    assert dict(written.left_out) == {"no negatives": 1}
    made = [row for row in rows() if row.negatives]
    assert data["question"][:5] == [asked(row) for row in made[:5]]
    turned = peer._retrieval_transform_func(data[:5], 4, {})
    wanted = [[row.positives[0], *row.negatives[:4]] for row in made[:5]]
    assert turned["doc_text"] == wanted


def test_hub_dataset_has_rows_and_card(run_dir: Path, tmp_path: Path) -> None:
    folder, _ = export(run_dir, "hf", 3)
    found = load_dataset(str(folder), split="train", cache_dir=str(tmp_path / "cache"))
    assert found["query"][:] == [row.query for row in rows()]
    assert "license: cc0-1.0" in (folder / "README.md").read_text()


def test_a_push_can_be_rehearsed(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--run", "one", "--to", "hf", "--push", "owner/name"]
    assert main([*given, "--dry-run", "1"]) == 0
    shown = capsys.readouterr().out
    assert "data/train-00001-of-00002.parquet" in shown
    assert "3 files" in shown
    assert "would go to datasets/owner/name" in shown
    assert main(given) == 2  # no network in tests: a line, no traceback
    assert capsys.readouterr().err.startswith("error: PUSH=owner/name: the Hub did not take it")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--run", "one", "--to", "csv"], "error: TO=csv: not a layout"),
        (["--run", "two", "--to", "beir"], "error: runs/two: no finished run there"),
        (["--run", "../one", "--to", "beir"], "error: RUN=../one: a name is"),
        (["--run", "one", "--to", "beir", "--push", "a/b"], "error: PUSH= takes TO=hf"),
        (["--run", "one", "--to", "hf", "--push", "a"], "error: PUSH=a: give <owner>/<name>"),
    ],
)
def test_wrong_use_is_one_line(
    run_dir: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith(message)
    assert len(error.splitlines()) == 1


def test_what_was_there_stays_when_a_file_is_broken(run_dir: Path) -> None:
    folder, _ = export(run_dir, "tevatron", 3)
    before = (folder / "train.jsonl").read_bytes()
    broken = run_dir / "examples" / "00001.parquet"
    broken.write_bytes(broken.read_bytes()[:-20])
    with pytest.raises(UserError, match=r"00001.parquet: not a readable Parquet file"):
        export(run_dir, "tevatron", 3)
    assert (folder / "train.jsonl").read_bytes() == before
    assert [path.name for path in folder.parent.iterdir()] == ["tevatron"]
