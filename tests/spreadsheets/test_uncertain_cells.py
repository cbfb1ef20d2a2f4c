"""Cells that may be numbers, or nothing, in some locale or program: certain, or refused with the line."""

import pytest

from lightning_diffal.exceptions import AnswerFileError
from lightning_diffal.selection.files import read_labels
from lightning_diffal.spreadsheets.points import PointReader

REFUSED = "refused"


def read(tmp_path, text, names=None):
    (tmp_path / "l.csv").write_text(text, encoding="utf-8")
    try:
        known = read_labels([tmp_path / "l.csv"], PointReader(9), names)
    except AnswerFileError as error:
        return REFUSED if "l.csv, line " in str(error) else error
    return known.labels


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        *[(cell, 1000) for cell in ("1 000", "1.000,0", "1,000.0", "1\u202f000", "1000.00")],
        *[(cell, 3) for cell in ("\u0663", "\uff13", "03", "3.", "3,0", "+3", "3\u00a0", "\u200b3", "3\ufeff")],
        *[(cell, 0) for cell in ("0.0", "-0", "0,000", "00")],
        *[(cell, REFUSED) for cell in ("12,34", "0,5", "\u00bd", "1_0", "1E0", "1e3", "--1", "+ 1", "1%", "1'0", ".1")],
        *[(cell, REFUSED) for cell in ("2.0000000001", "1.000", "1,000", "12,345", "-3")],
    ],
)
def test_numbers_without_names(tmp_path, cell, expected):
    found = read(tmp_path, f"index;label\n0;{cell}\n1;0\n")
    assert found == (REFUSED if expected is REFUSED else {0: expected, 1: 0})


@pytest.mark.parametrize("cell", ["1-2", "3 cats", "1/2", "0x1", "1st"])
def test_names_that_hold_digits(tmp_path, cell):
    assert read(tmp_path, f"index;label\n0;{cell}\n1;zzz\n") == {0: 0, 1: 1}
    assert read(tmp_path, "index;label\n0;0,5\n1;1e3\n", ["0,5", "1e3"]) == {0: 0, 1: 1}


EMPTY = ["NULL", "null", "<null>", "#N/A", "#NV", "#N/D", "NaT", "<NA>", "nan", "NaN", "\\N", "", " ", "\u200b"]
ONLY_WITH_NAMES = ["None", "N/A", "na"]
NEVER = ["nil", "n.a.", "undefined", "unlabeled", "Unlabelled", "TBD", "todo", "(blank)", "(null)", "\u2014", "--", "-"]
LOST = ["#VALUE!", "#WERT!", "#NOM?", "#NAME?", "#BEZUG!", "#DIV/0!", "########", "-1", "-1.0", "\u22121", "inf"]


@pytest.mark.parametrize("cell", EMPTY + ONLY_WITH_NAMES + NEVER + LOST)
@pytest.mark.parametrize("names", [None, ["cat", "dog"]])
def test_marks(tmp_path, cell, names):
    found = read(tmp_path, f"index,label\n0,cat\n1,dog\n2,{cell}\n", names)
    is_empty = cell in EMPTY or (names is not None and cell in ONLY_WITH_NAMES)
    assert found == ({0: 0, 1: 1} if is_empty else REFUSED)


def test_a_class_that_is_called_so_comes_first(tmp_path):
    names = ["nil", "-", "#NAME?", "nan"]
    text = "index,label\n" + "".join(f"{i},{name}\n" for i, name in enumerate(names))
    assert read(tmp_path, text, names) == {0: 0, 1: 1, 2: 2, 3: 3}


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("-1", "-1.0", {0: 0, 1: 1, 2: 0, 3: 1}),
        ("\u22121", "-1,0", {0: 0, 1: 1, 2: 0, 3: 1}),
    ],
)
def test_signs_in_two_files(tmp_path, first, second, expected):
    (tmp_path / "a.csv").write_text(f"index;label\n0;{first}\n1;1\n", encoding="utf-8")
    (tmp_path / "b.csv").write_text(f"index;label\n2;{second}\n3;+1\n4;\n", encoding="utf-8")
    known = read_labels([tmp_path / "a.csv", tmp_path / "b.csv"], PointReader(9), None)
    assert (known.class_names, known.labels) == (["-1", "1"], expected)
