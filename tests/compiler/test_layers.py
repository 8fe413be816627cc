"""Copy and φ tables, row by row, and what happens beyond them."""

import pytest

from distilc.compiler.resolve.layers import (
    COPY_TABLES,
    PHI_TABLES,
    LayerError,
    block_ends,
    choose_copies,
    choose_phi,
    spaced_layers,
)

COPY_ROWS = [
    (12, 1, [0]),
    (12, 2, [0, 6]),
    (12, 3, [0, 6, 11]),
    (12, 4, [0, 4, 8, 11]),
    (12, 6, [0, 2, 4, 7, 9, 11]),
    (12, 9, [0, 1, 2, 4, 5, 7, 9, 10, 11]),
    (12, 12, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]),
    (16, 1, [0]),
    (16, 2, [0, 15]),
    (16, 3, [0, 8, 15]),
    (16, 4, [0, 5, 10, 15]),
    (16, 6, [0, 3, 6, 9, 12, 15]),
    (16, 8, [0, 2, 4, 6, 8, 10, 12, 15]),
    (16, 9, [0, 1, 3, 5, 7, 9, 11, 13, 15]),
    (16, 12, [0, 1, 2, 3, 4, 5, 6, 7, 9, 11, 13, 15]),
    (16, 16, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]),
    (6, 1, [0]),
    (6, 2, [0, 5]),
    (6, 3, [0, 2, 5]),
    (6, 4, [0, 1, 3, 5]),
    (6, 6, [0, 1, 2, 3, 4, 5]),
]
PHI_ROWS = [
    (6, 1, [5]),
    (6, 2, [3, 5]),
    (6, 3, [1, 4, 5]),
    (6, 4, [1, 2, 4, 5]),
    (12, 1, [11]),
    (12, 2, [5, 11]),
    (12, 3, [3, 7, 11]),
    (12, 6, [1, 3, 5, 8, 10, 11]),
    (16, 1, [15]),
    (16, 4, [4, 9, 12, 15]),
    (16, 8, [1, 3, 5, 7, 9, 11, 13, 15]),
]


@pytest.mark.parametrize(("teacher", "student", "layers"), COPY_ROWS)
def test_spaced_follows_the_published_table(teacher, student, layers):
    chosen = choose_copies(teacher, student, "spaced")
    assert list(chosen.layers) == layers
    assert chosen.source == "table"


@pytest.mark.parametrize(("teacher", "student", "layers"), PHI_ROWS)
def test_block_ends_follow_the_published_table(teacher, student, layers):
    chosen = choose_phi(teacher, student, "block-ends", None)
    assert list(chosen.layers) == layers
    assert chosen.source == "table"


def test_no_table_row_is_untested():
    assert {(t, s) for t, rows in COPY_TABLES.items() for s in rows} == {(t, s) for t, s, _ in COPY_ROWS}
    assert {(t, s) for t, rows in PHI_TABLES.items() for s in rows} == {(t, s) for t, s, _ in PHI_ROWS}


@pytest.mark.parametrize(
    ("teacher", "student", "layers"),
    [
        (24, 3, [0, 12, 23]),
        (24, 1, [0]),
        (12, 5, [0, 3, 6, 8, 11]),
        (2, 2, [0, 1]),
        (8, 2, [0, 7]),
        (6, 5, [0, 1, 2, 4, 5]),
    ],
)
def test_spaced_beyond_the_tables_keeps_both_ends(teacher, student, layers):
    chosen = choose_copies(teacher, student, "spaced")
    assert (list(chosen.layers), chosen.source) == (layers, "formula")


@pytest.mark.parametrize(
    ("teacher", "student", "layers"),
    [
        (12, 4, [2, 5, 8, 11]),
        (12, 9, [1, 2, 3, 5, 6, 7, 9, 10, 11]),
        (24, 3, [7, 15, 23]),
        (12, 12, list(range(12))),
        (16, 3, [5, 10, 15]),
    ],
)
def test_block_ends_beyond_the_tables(teacher, student, layers):
    chosen = choose_phi(teacher, student, "block-ends", None)
    assert (list(chosen.layers), chosen.source) == (layers, "formula")


def test_formulas_reproduce_exactly_the_rows_they_are_known_to():
    spaced = {
        (t, s) for t, rows in COPY_TABLES.items() for s, row in rows.items() if spaced_layers(t, s) == row
    }
    assert spaced == {
        (12, 1),
        (12, 3),
        (12, 6),
        (12, 12),
        (16, 1),
        (16, 2),
        (16, 3),
        (16, 4),
        (16, 6),
        (16, 16),
        (6, 1),
        (6, 2),
        (6, 3),
        (6, 6),
    }
    ends = {(t, s) for t, rows in PHI_TABLES.items() for s, row in rows.items() if block_ends(t, s) == row}
    assert ends == {(6, 1), (6, 4), (12, 1), (12, 2), (12, 3), (16, 1), (16, 8)}


@pytest.mark.parametrize("teacher", range(1, 25))
def test_formulas_are_increasing_and_in_range(teacher):
    for student in range(1, teacher + 1):
        for layers in (spaced_layers(teacher, student), block_ends(teacher, student)):
            assert len(layers) == student
            assert list(layers) == sorted(set(layers))
            assert layers[0] >= 0 and layers[-1] <= teacher - 1
        assert block_ends(teacher, student)[-1] == teacher - 1


@pytest.mark.parametrize(
    ("choice", "layers"),
    [
        ("first", [0, 1, 2]),
        ("last", [9, 10, 11]),
        ("middle", [5, 6, 7]),
        ([0, 0, 0], [0, 0, 0]),
        ([11, 6, 0], [11, 6, 0]),
    ],
)
def test_named_strategies_and_lists(choice, layers):
    assert list(choose_copies(12, 3, choice).layers) == layers


def test_all_copies_everything():
    assert choose_copies(7, 7, "all").layers == tuple(range(7))


@pytest.mark.parametrize(
    ("choice", "layers"), [("every-kth", [3, 7, 11]), ("copied-from", [0, 6, 11]), ([3, 7, 11], [3, 7, 11])]
)
def test_other_phi(choice, layers):
    assert list(choose_phi(12, 3, choice, (0, 6, 11)).layers) == layers


@pytest.mark.parametrize(
    ("code", "choose"),
    [
        ("E521", lambda: choose_copies(6, 7, "spaced")),
        ("E521", lambda: choose_phi(6, 7, "block-ends", None)),
        ("E522", lambda: choose_copies(12, 3, [0, 6, 12])),
        ("E522", lambda: choose_copies(12, 3, [0, -1, 11])),
        ("E523", lambda: choose_copies(12, 3, [0, 6])),
        ("E523", lambda: choose_copies(12, 3, "all")),
        ("E523", lambda: choose_phi(12, 3, [7, 11], None)),
        ("E524", lambda: choose_phi(12, 5, "every-kth", None)),
        ("E524", lambda: choose_phi(12, 3, "copied-from", None)),
    ],
)
def test_what_cannot_be_says_what_can(code, choose):
    with pytest.raises(LayerError) as caught:
        choose()
    assert caught.value.code == code
    assert caught.value.hint


def test_a_list_that_cannot_be_is_told_with_its_key_and_place() -> None:
    with pytest.raises(LayerError) as found:
        choose_copies(12, 3, [0, 12, 3], "student.init.decoder.layers")
    assert found.value.index == 1 and found.value.message.startswith("`student.init.decoder.layers` names layer 12")
    with pytest.raises(LayerError) as found:
        choose_phi(12, 1, [7, 11], None, "phi.decoder")
    assert found.value.index is None
    assert (found.value.message, found.value.hint) == (
        "`phi.decoder` names 2 layers, the student has 1", "name 1 layer of 0 to 11",
    )  # fmt: skip
    with pytest.raises(LayerError, match="names 1 layer, the student has 2"):
        choose_phi(12, 2, [7], None, "phi.decoder")
