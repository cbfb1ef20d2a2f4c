"""A query file that spreadsheets, people and tools have been at: a label is right, or the file is refused.

Two properties. Whatever was done to the file, no point gets a label that nobody gave it. And what every spreadsheet
does (separators, quotes, encodings, order, blank rows, further columns) costs no label at all.
"""

import csv
import gzip
import io
import json
import unicodedata

import numpy as np
import openpyxl
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_diffal import ActiveDataModule
from lightning_diffal.exceptions import AnswerFileError
from lightning_diffal.oracle import SKIP, FileOracle

N = 1300
LABELS = {3: 0, 7: 1, 40: 2, 300: 1, 1000: 0, 1200: 2}
LONG = [f"12345678901234567{i:04d}" for i in range(N)]
ZEROS = [f"{i:05d}" for i in range(N)]
PICTURES = [f"Bilder/K\u00e4fer {i}.png" for i in range(N)]
ID_KINDS = {"positions": None, "long": LONG, "zeros": ZEROS, "pictures": PICTURES}
NAME_KINDS = {
    "words": ["neg", "pos", "K\u00e4fer rot"],
    "numbers": ["2", "0", "1"],
    "signs": ["-1", "0", "1"],
    "codes": ["4006381333931", "4006381333948", "4006381333955"],
    "none": None,
}


def read(folder, ids, names):
    data = ActiveDataModule(["x"] * N, initial_labels={1: 0}, class_names=names, num_classes=3, ids=ids)
    data.pool.ask(list(LABELS))
    oracle = FileOracle(folder)
    try:
        return {**oracle.corrections(data), **oracle.answer(np.array(list(LABELS)), data)}
    except AnswerFileError as error:
        return None if "query-000" in str(error) else {-1: error}  # the file has to be named


def rounded(text):
    """A number as a spreadsheet keeps it."""
    try:
        number = float(text)
    except ValueError:
        return text
    return str(int(float(f"{number:.15g}"))) if number.is_integer() else text


def grouped(separator):
    def change(text):
        return f"{int(text):,}".replace(",", separator) if text.lstrip("-").isdigit() else text

    return change


CHANGES = {
    "none": lambda text: text,
    "rounded": rounded,
    "scientific": lambda text: f"{float(text):.5E}" if text.isdigit() else text,
    "decimal": lambda text: f"{text}.0" if text.isdigit() else text,
    "three decimals": lambda text: f"{text}.000" if text.isdigit() else text,
    "decimal comma": lambda text: f"{text},0" if text.isdigit() else text,
    "plus": lambda text: f"+{text}" if text.isdigit() else text,
    "minus": lambda text: text.replace("-", "\u2212"),
    "full width": lambda text: "".join(chr(ord(c) + 0xFEE0) if c.isdigit() else c for c in text),
    "spaces": lambda text: f" {text}\u00a0",
    "apart": lambda text: unicodedata.normalize("NFD", text),
    "upper": str.upper,
    "cut": lambda text: text[:-1],
    "dropped zeros": lambda text: text and (text.lstrip("0") or "0"),
    **{f"grouped by {s!r}": grouped(s) for s in (",", ".", " ", "\u202f", "'", "\u2019")},
}
HARMLESS = ("none", "spaces")
MARKS = ["", " ", "NaN", "#N/A", "NULL", "?", "-", "#NAME?", "-1", "nil"]


def table(draw, changes, marks):
    """The rows of a query file with its labels, changed cell by cell; and what was said of each point."""
    kind, names = draw(st.sampled_from(sorted(ID_KINDS))), NAME_KINDS[draw(st.sampled_from(sorted(NAME_KINDS)))]
    ids, change = ID_KINDS[kind], st.sampled_from(changes)
    of_column = {column: CHANGES[draw(change)] for column in ("id", "index", "label")}
    rows, said = [], {}
    for index, label in draw(st.permutations(list(LABELS.items()))):
        cell = draw(st.sampled_from([str(names[label]) if names else str(label), *marks]))
        if names and cell in names:
            said[index] = names.index(cell)
        elif cell not in MARKS:
            said[index] = label
        elif cell == "?":
            said[index] = SKIP
        one = dict(of_column)
        for column in one:
            if draw(st.integers(0, 5)) == 0:
                one[column] = CHANGES[draw(change)]
        point = ids[index] if ids else str(index)
        rows.append([one["id"](point), one["index"](str(index)), "a text; with, signs", one["label"](cell)])
    return ids, names, ["id", "index", "text", "label"], rows, said


def dropped(draw, header, rows):
    """The same without one of the columns, and the columns in another order."""
    gone = draw(st.sampled_from([None, "text", "index", "id"]))
    order = draw(st.permutations([place for place, name in enumerate(header) if name != gone]))
    return [header[place] for place in order], [[row[place] for place in order] for row in rows]


def as_csv(draw, header, rows):
    delimiter = draw(st.sampled_from(",;\t"))
    text = io.StringIO()
    quoting = draw(st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]))
    ends = draw(st.sampled_from(["\n", "\r\n"]))
    writer = csv.writer(text, delimiter=delimiter, quoting=quoting, lineterminator=ends)
    place = draw(st.integers(0, len(rows)))
    writer.writerows([header, *rows[:place], *[[""] * len(header)] * draw(st.integers(0, 2)), *rows[place:]])
    said = draw(st.sampled_from(["", f"sep={delimiter}{ends}"])) + text.getvalue()
    return draw(st.sampled_from([said.encode(code) for code in ("utf-8", "utf-8-sig", "utf-16")]))


def as_workbook(draw, header, rows):
    """Numbers are numbers there, with the digits that such a program keeps."""
    book = openpyxl.Workbook()
    book.active.append(header)
    types = draw(st.booleans())
    for row in rows:
        cells = [float(cell) if types and cell.isascii() and cell.isdigit() else cell for cell in row]
        book.active.append([cell if cell != "" else None for cell in cells])
    content = io.BytesIO()
    book.save(content)
    return content.getvalue()


def as_lines(draw, header, rows):
    return "".join(json.dumps(dict(zip(header, row, strict=True))) + "\n" for row in rows).encode()


def write(draw, folder, header, rows):
    name, make = draw(st.sampled_from([("csv", as_csv), ("csv", as_csv), ("xlsx", as_workbook), ("jsonl", as_lines)]))
    content = make(draw, header, rows)
    if name == "csv" and draw(st.integers(0, 9)) == 0:
        content = gzip.compress(content)
    (folder / f"query-000.{name}").write_bytes(content)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_point_gets_a_label_that_nobody_gave_it(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("q")
    ids, names, header, rows, said = table(data.draw, sorted(CHANGES), MARKS)
    header, rows = dropped(data.draw, header, rows)
    if data.draw(st.integers(0, 9)) == 0:  # a row of another point's id, as where a column was sorted alone
        rows[0], rows[1] = [rows[1][0], *rows[0][1:]], [rows[0][0], *rows[1][1:]]
        if len(header) < 4 or header[0] not in ("id", "index"):
            return  # nothing in the row contradicts it
    write(data.draw, folder, header, rows)
    found = read(folder, ids, names)
    assert found is None or found.items() <= said.items()


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_what_every_spreadsheet_does_costs_no_label(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("q")
    ids, names, header, rows, said = table(data.draw, HARMLESS, ["", " ", "NaN", "#N/A"])
    place = data.draw(st.integers(0, 2))
    header = [*header[:place], "note", *header[place:]]
    rows = [[*row[:place], "seen", *row[place:]] for row in rows]
    (folder / "query-000.csv").write_bytes(as_csv(data.draw, header, rows))
    assert read(folder, ids, names) == said
