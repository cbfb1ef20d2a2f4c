"""Labels and ids as people, locales and programs leave them: what was given, and what is read."""

import numpy as np
import pytest

from lightning_diffal import ActiveDataModule
from lightning_diffal.exceptions import AnswerFileError, ConfigurationError, InvalidLabelError
from lightning_diffal.oracle import PENDING, SKIP, FileOracle
from lightning_diffal.selection.files import read_labels
from lightning_diffal.spreadsheets.labels import LabelReader
from lightning_diffal.spreadsheets.numbers import AmbiguousNumberError, whole_number
from lightning_diffal.spreadsheets.points import PointReader

REFUSED = "refused"


def outcome(function, *arguments):
    try:
        return function(*arguments)
    except (AmbiguousNumberError, AnswerFileError, InvalidLabelError):
        return REFUSED


@pytest.mark.parametrize(
    ("text", "delimiter", "below", "expected"),
    [
        ("7", ",", None, 7),
        ("+7", ",", None, 7),
        ("7.0", ",", None, 7),
        ("7,0", ";", None, 7),
        ("7,", ";", None, 7),
        ("\uff17", ",", None, 7),
        ("\u2212" + "1", ",", None, -1),
        ("1 000", ",", None, 1000),
        ("1\u202f000", ";", None, 1000),
        ("1\u2019000", ";", None, 1000),
        ("1.234.567", ";", None, 1_234_567),
        ("1,234.0", ",", None, 1234),
        ("0.000", ",", None, 0),
        ("1234.000", ",", None, 1234),
        ("3.000", ",", 40, 3),
        ("3.000", ";", 40, REFUSED),
        ("3.000", ",", 4000, REFUSED),
        ("3,000", ",", 40, REFUSED),
        ("1.234", ",", None, REFUSED),
        ("1.2E+05", ",", None, REFUSED),
        ("1.5", ",", None, None),
        ("\u00b2", ",", None, None),
        ("", ",", None, None),
    ],
)
def test_numbers(text, delimiter, below, expected):
    assert outcome(whole_number, text, delimiter, below) == expected


KNOWN = LabelReader(class_names=["cat", "dog", "K\u00e4fer rot"])
CODES = LabelReader(class_names=["10", "2"])


@pytest.mark.parametrize(
    ("reader", "cell", "expected"),
    [
        (KNOWN, "dog", 1),
        (KNOWN, "Ka\u0308fer\u00a0 rot", 2),
        (KNOWN, "CAT", REFUSED),
        (KNOWN, ["dog"], 1),
        (KNOWN, [], PENDING),
        (KNOWN, float("nan"), PENDING),
        (KNOWN, "?", SKIP),
        (KNOWN, "1.0", 1),
        (LabelReader(2, ["false", "true"]), "TRUE", 1),
        (LabelReader(2, ["false", "true"]), True, 1),
        (LabelReader(2, ["nan", "-"]), "nan", 0),
        (LabelReader(2, ["nan", "-"]), "-", 1),
        (CODES, "2.0", 1),
        (CODES, "+10", 0),
        (CODES, "0", REFUSED),
        (LabelReader(3, multilabel=True), "1 0 1", (1, 0, 1)),
        (LabelReader(3, multilabel=True), "1 0", REFUSED),
        *[(KNOWN, mark, PENDING) for mark in ("NaN", "<NA>", "NaT", "NULL", "#N/A", "N/A", "None", "\\N")],
        *[(KNOWN, mark, REFUSED) for mark in ("-1", "-1.0", "-", "\u2014", "#NAME?", "#REF!", "####", "inf")],
    ],
)
def test_labels(reader, cell, expected):
    assert outcome(reader.read, cell) == expected


@pytest.mark.parametrize(
    ("cells", "names", "labels"),
    [
        (["0", "1", "nan", "NaN"], None, {0: 0, 1: 1}),
        (["1", "1.0", "+1", "0"], None, {0: 1, 1: 1, 2: 1, 3: 0}),
        (["cat", "cat ", "dog", "#N/A"], ["cat", "dog"], {0: 0, 1: 0, 2: 1}),
        (["Ka\u0308fer", "K\u00e4fer"], ["K\u00e4fer"], {0: 0, 1: 0}),
        (["4006381333931", "4006381333948"], ["4006381333931", "4006381333948"], {0: 0, 1: 1}),
        (["-1", "1.0", ""], ["-1", "1"], {0: 0, 1: 1}),
        (["-1", "1"], REFUSED, None),
        (["-1", "0", "1", ""], REFUSED, None),
        (["cat", "Cat"], REFUSED, None),
        (["cat", "none"], REFUSED, None),
        (["cat", "-"], REFUSED, None),
        (["cat", "#NAME?"], REFUSED, None),
    ],
)
def test_classes_read_off_the_cells(tmp_path, cells, names, labels):
    path = tmp_path / "l.csv"
    path.write_text("index,label\n" + "".join(f"{i},{cell}\n" for i, cell in enumerate(cells)), encoding="utf-8")
    known = outcome(read_labels, [path], PointReader(9), None)
    if names is REFUSED:
        assert known is REFUSED
    else:
        assert (known.class_names, known.labels) == (names, labels)


def answers(text, tmp_path, ids=None, n=1200, asked=(0, 7, 1000)):
    data = ActiveDataModule(["x"] * n, initial_labels={1: 0}, class_names=["neg", "pos"], ids=ids)
    data.pool.ask(list(asked))
    (tmp_path / "query-000.csv").write_text(text, encoding="utf-8")
    oracle = FileOracle(tmp_path)
    return {**oracle.corrections(data), **oracle.answer(np.array(asked), data)}


LONG = ["1234567890123456000", "1234567890123456789", "b"]


@pytest.mark.parametrize(
    ("text", "ids", "expected"),
    [
        ("id,index,label\n1,1000,pos\n", None, REFUSED),
        ("id;index;label\n1.000;1.000;pos\n", None, REFUSED),
        ("id,index,label\n1000.0,1000,pos\n", None, {1000: 1}),
        ("id,label\n1 000,pos\n", None, {1000: 1}),
        ("id,index,label\nnan,7,pos\n", None, {7: 1}),
        ("id,index,label\nb,0,pos\n", ["a", "b", "c"], REFUSED),
        ("id,label\nA,pos\n", ["a", "b", "c"], REFUSED),
        ("id,index,label\nA,0,pos\n", ["a", "b", "c"], {0: 1}),
        ("id,label\n7,pos\n", ["007", "b", "c"], REFUSED),
        ("id,index,label\n7,0,pos\n", ["007", "b", "c"], {0: 1}),
        (f"id,label\n{LONG[0]},pos\n", LONG, REFUSED),
        (f"id,index,label\n{LONG[0]},0,pos\n", LONG, {0: 1}),
        ("id,label\nK\u00e4fer,pos\n", ["Ka\u0308fer", "b", "c"], {0: 1}),
        ("id,label\nK\u00e4fer,pos\n", ["Ka\u0308fer", "b", "K\u00e4fer"], REFUSED),
        (f"id,text,label\n7,{'x' * 200_000},pos\n", None, {7: 1}),
    ],
)
def test_points(tmp_path, text, ids, expected):
    n, asked = (1200, (0, 7, 1000)) if ids is None else (3, (0,))
    assert outcome(answers, text, tmp_path, ids, n, asked) == expected


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (["1", "0"], {0: 0, 1: 1, 2: 1}),
        (["=cow", "-dog"], {0: 0, 1: 1}),
        (["a|b", "[c]", "nan"], {0: 0, 1: 1, 2: 2}),
        (["a|b", "[c]", "nan"], {0: (1, 0, 1), 1: (0, 0, 0), 2: (1, 1, 0)}),
        (["1", "0"], {0: (1, 0), 1: (1, 1)}),
    ],
)
def test_exported_labels_are_read_back(tmp_path, names, labels):
    data = ActiveDataModule(["x"] * 9, initial_labels=labels, class_names=names)
    data.export_labels(tmp_path / "l.csv")
    assert read_labels([tmp_path / "l.csv"], PointReader(9), names).labels == labels


def test_a_label_changed_beside_its_class_name(tmp_path):
    (tmp_path / "l.csv").write_text("index,label,class_name\n0,1,cat\n")
    with pytest.raises(
        AnswerFileError, match=r"l\.csv, line 2: the label is '1', but the class name beside it is 'cat'"
    ):
        read_labels([tmp_path / "l.csv"], PointReader(9), ["cat", "dog"])


def test_names_that_no_encoding_knows(tmp_path):
    ids = [f"Stra\udcdfe{i}" for i in range(3)]
    data = ActiveDataModule(["x"] * 3, initial_labels={1: 0}, num_classes=2, ids=ids, val_fraction=0.5)
    data.export_labels(tmp_path / "l.csv")
    assert data.validates(np.arange(3)).dtype == bool
    assert read_labels([tmp_path / "l.csv"], PointReader(3, ids), None).labels == {1: 0}


class Column:
    """What a column of a data frame has of a dict."""

    def __init__(self, values):
        self.values = values

    def keys(self):
        return self.values.keys()

    def items(self):
        return self.values.items()


def test_initial_labels_like_a_dict():
    data = ActiveDataModule(
        ["x"] * 9, initial_labels=Column({np.int64(2): np.float64(2.0), 5: np.int64(0)}), num_classes=np.int64(3)
    )
    assert data.pool.labels_of(np.arange(9)) == {2: 2, 5: 0} and type(data.num_classes) is int
    with pytest.raises(InvalidLabelError, match=r"Point 3 has no label in `initial_labels`"):
        ActiveDataModule(["x"] * 9, initial_labels=Column({3: float("nan")}))


@pytest.mark.parametrize("names", [["cat", "cat "], ["K\u00e4fer", "Ka\u0308fer"], ["cat", " "]])
def test_class_names_that_nobody_can_tell_apart(names):
    with pytest.raises(ConfigurationError, match="class_names"):
        ActiveDataModule(["x"] * 9, class_names=names)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (["0,cat", "0,cat", "1,dog", "1,dog"], {0: 1, 1: 1, 2: 0, 3: 0}),  # written as cat, dog
        (["0,cat", "0,cat", "2,bird", "1,dog", "1,dog"], {0: 1, 1: 1, 2: 2, 3: 0, 4: 0}),
        (["0,cat", "1,dog"], REFUSED),  # or two cells that were corrected
        (["0,cat", "0,cat", "1,dog", "1,cat"], REFUSED),
        (["0,dog", "0,dog", "1,dog", "1,cat"], REFUSED),
        (["1,cat", "0,dog", "0,cat"], REFUSED),
        (["1,cat", "0,dog", "2,bird"], {0: 1, 1: 0, 2: 2}),
    ],
)
def test_an_export_of_another_order_of_the_classes(tmp_path, rows, expected):
    path = tmp_path / "query-000.csv"
    path.write_text("index,label,class_name\n" + "".join(f"{i},{row}\n" for i, row in enumerate(rows)))
    names = ["dog", "cat", "bird"]
    known = outcome(read_labels, [path], PointReader(9), names)
    assert (known if known is REFUSED else known.labels) == expected
    data = ActiveDataModule(["x"] * 9, initial_labels={8: 0}, class_names=names)
    data.pool.ask(list(range(len(rows))))
    assert outcome(FileOracle(tmp_path).answer, np.arange(len(rows)), data) == expected
