"""The features against py3langid itself, and the strongest segment against a plain loop."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from py3langid.langid import MODEL_FILE, LanguageIdentifier, visit_counts

from sdg.corpora import bundled_languages
from sdg.langid.features import (
    Features,
    _in_names,
    background,
    joined,
    log_counts,
    strongest_segment,
)
from sdg.langid.fitted import MAX_TURN_EACH
from sdg.langid.turns import MAX_TURN, TURN, strongest_turns, turned
from sdg.langid.verifier import Verifier
from sdg.langid.views import Runs
from tests.rows import bundled_seeds

PEER = LanguageIdentifier.from_model_file(MODEL_FILE)
TEXTS = [
    *(
        text
        for lang in bundled_languages()
        for s in bundled_seeds(lang)[:4]
        for text in (s.title, s.text)
    ),
    *("", " ", "a", "ALL IN CAPITALS", "e\u0301cole", "\ud800 half", "\x00\xff", "日本" * 300),
]


def peer_counts(text: str) -> dict[int, int]:
    encoded = PEER._encode(text)
    return visit_counts(PEER.tk_nextmove, PEER._rowbase, PEER.tk_output, encoded) or {}


def own_counts(found: Features, number: int) -> dict[int, int]:
    ids = found.ids_N[found.starts_B[number] : found.starts_B[number + 1]]
    values, counts = np.unique(ids, return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))


def test_the_same_n_grams_are_found_as_py3langid_finds() -> None:
    found = background().find(TEXTS)
    for number, text in enumerate(TEXTS):
        assert own_counts(found, number) == peer_counts(text), text
        assert found.num_bytes_B[number] == len(PEER._encode(text))


@given(st.lists(st.text(max_size=400), max_size=6))
def test_whatever_the_texts(texts: list[str]) -> None:
    found = background().find(texts)
    assert [own_counts(found, i) for i in range(len(texts))] == [peer_counts(t) for t in texts]


def test_scores_are_py3langids() -> None:
    model = background()
    found = model.find(TEXTS)
    scores_BC = log_counts(found, model.num_features) @ model.log_FC
    columns = [i for i, label in enumerate(PEER.nb_classes) if label != "zxx"]
    assert model.labels == tuple(PEER.nb_classes[i] for i in columns)
    table = np.asarray(PEER.nb_ptc, dtype=np.float64)[:, columns]
    for text, score_C in zip(TEXTS, scores_BC, strict=True):
        wanted = sum((np.log1p(n) * table[i] for i, n in peer_counts(text).items()), np.zeros(141))
        assert score_C == pytest.approx(wanted, rel=1e-5, abs=1e-3)


def test_totals_are_the_sums_of_logarithms() -> None:
    totals_B = log_counts(background().find(TEXTS), background().num_features).totals()
    wanted = [sum(np.log1p(n) for n in peer_counts(text).values()) for text in TEXTS]
    assert totals_B == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("Who is Achebe of O'Brien", "Achebe O'Brien"),
        ("Where was D'Where", "D'"),
        ("'Tis iPhone 'Ngugi", ""),
        ("Époque Ñandu ÉTAT", ""),
        ("Musée du Louvre", "Musée Louvre"),
    ],
)
def test_names_are_words_with_a_capital_that_open_no_sentence(text: str, names: str) -> None:
    data = b"\xff" + text.encode() + b"\xff"
    at = np.flatnonzero(_in_names(data))
    words = np.split(at, np.flatnonzero(np.diff(at) > 1) + 1)
    assert b" ".join(bytes(data[i] for i in word) for word in words).decode() == names


def test_words_that_begin_with_a_capital() -> None:
    found = background().find(["the Bank of England's gold", "ENGLAND and the Bank"])
    named = found.in_name_N[: found.starts_B[1]]
    assert 0 < named.sum() < len(named)
    (lower,) = [background().find(["the bank of england's gold"]).in_name_N]
    assert not lower.any()


def plain_strongest(gains: list[float]) -> float:
    """Over all segments, one by one."""
    sums = [0.0]
    for gain in gains:
        sums.append(sums[-1] + gain)
    return max(b - a for i, a in enumerate(sums) for b in sums[i:])


@given(st.lists(st.lists(st.integers(-50, 50), max_size=12), min_size=1, max_size=8))
def test_the_strongest_segment_is_the_best_of_all(texts: list[list[int]]) -> None:
    flat = np.array([gain for gains in texts for gain in gains], dtype=np.float64)
    starts = np.cumsum([0, *map(len, texts)])
    ids = np.zeros(len(flat), dtype=np.int32)
    found = Features(ids, starts, np.diff(starts), ids.astype(bool))
    expected = [plain_strongest([float(x) for x in gains]) for gains in texts]
    assert strongest_segment(flat, found) == pytest.approx(expected, abs=1e-6)


@given(st.lists(st.lists(st.integers(-50, 50), max_size=6), max_size=8), st.data())
def test_sums_and_choice_of_texts(texts: list[list[int]], data: st.DataObject) -> None:
    chosen = data.draw(st.lists(st.booleans(), min_size=len(texts), max_size=len(texts)))
    flat = np.array([gain for gains in texts for gain in gains], dtype=np.float32)
    starts = np.cumsum([0, *map(len, texts)])
    found = Features(flat.astype(np.int32), starts, np.diff(starts), flat > 0)
    assert found.sums(flat).tolist() == [sum(gains) for gains in texts]
    rest = [gains for gains, keep in zip(texts, chosen, strict=True) if keep]
    some = found.of(np.flatnonzero(np.array(chosen, dtype=bool)))
    assert some.ids_N.tolist() == [gain for gains in rest for gain in gains]
    assert some.in_name_N.tolist() == [gain > 0 for gains in rest for gain in gains]
    assert some.num_B.tolist() == some.num_bytes_B.tolist() == list(map(len, rest))


def test_which_texts_turn_is_told_by_the_strongest_stretch() -> None:
    """The bound that spares most texts the search changes nothing; nor do texts of others beside."""
    verifier, found = Verifier(), background().find(TEXTS)
    views = [verifier._view(lang) for lang in ("sw", "pcm", "am")]
    limit_B = np.minimum(TURN + MAX_TURN_EACH * found.num_B, MAX_TURN)
    turned_RB = [strongest_turns(found, view) > limit_B for view in views]
    for view, turned_B in zip(views, turned_RB, strict=True):
        assert turned_B.any() and not turned_B.all()
        assert turned(found, Runs([view], [0, len(TEXTS)])).tolist() == turned_B.tolist()
    runs = Runs(views, [len(TEXTS) * i for i in range(4)])
    assert turned(joined([found] * 3), runs).tolist() == np.concatenate(turned_RB).tolist()


def equal(found: Features, wanted: Features) -> bool:
    names = ("ids_N", "starts_B", "num_bytes_B", "in_name_N")
    return all(np.array_equal(getattr(found, name), getattr(wanted, name)) for name in names)


def test_some_of_the_texts_are_as_if_found_alone() -> None:
    texts = ["Nairobi is a city.", "", "ዓለም አቀፍ", "Who lives in Mombasa?", "ziwa kubwa", ""]
    found = background().find(texts)
    assert equal(found.part(1, 4), background().find(texts[1:4]))
    assert equal(
        found.of(np.array([4, 0, 1, 0])), background().find([texts[i] for i in (4, 0, 1, 0)])
    )
    assert equal(joined([found.part(0, 2), found.part(2, 6)]), found)
