"""Tables that a spreadsheet opens as they were meant, wherever it splits cells."""

import csv
import io

import pytest

from lightning_diffal.utils.storage.files import unescape_cell, write_csv, write_rows

NASTY = [
    "a;=1+1",
    "a\r=1+1",
    "a\n=1+1",
    "a\t=cmd|' /C calc'!A0",
    "\uff1d1+1",
    "\uff0b1",
    "\uff0d1",
    "\uff20SUM",
    'say "hi";=1',
    "'=1",
    "=1",
    "a|=1",
]


@pytest.mark.parametrize("text", NASTY)
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_text_stays_in_its_cell_and_is_no_formula(text, delimiter, tmp_path):
    write_csv(tmp_path / "a.csv", ["id", "label"], [(text, 3), ("b", None)])
    content = (tmp_path / "a.csv").read_bytes().decode()
    with io.StringIO(content, newline="") as file:
        assert [unescape_cell(row[0]) for row in csv.reader(file)] == ["id", text, "b"]
    with io.StringIO(content, newline="") as file:  # a spreadsheet of another country
        cells = [cell for row in csv.reader(file, delimiter=delimiter) for cell in row]
    assert not any(cell.startswith(("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")) for cell in cells)


def test_harmless_cells_stand_as_they_are():
    file = io.StringIO()
    write_rows(file, [["img/1.png", 7, None, "", "Käfer 2", -0.5, "a-b"]], ";")
    assert file.getvalue() == 'img/1.png;7;;;Käfer 2;-0.5;"a-b"\n'
