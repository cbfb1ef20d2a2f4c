"""Queries as files, and answers as people write them."""

import csv
import json

import numpy as np
import pytest
import torch

from lightning_diffal import ActiveDataModule, Query
from lightning_diffal.exceptions import AnswerFileError, ConfigurationError, DiffalError
from lightning_diffal.oracle import SKIP, FileOracle, Question
from lightning_diffal.spreadsheets.labels import LabelReader

IDS = [f"img/{i}.png" for i in range(6)]
NAMES = ["cat", "dog", "Käfer"]


def make_data(names=NAMES, ids=IDS, initial={0: 1}, asked=(3, 1, 4, 2), **kwargs):  # noqa: B006
    data = ActiveDataModule(list(range(6)), ids=ids, initial_labels=initial, class_names=names, **kwargs)
    data.pool.ask(asked)
    return data


def question(indices=(3, 1, 4, 2), round_=0, open_=None, **details):
    query = Query(list(indices), np.linspace(1, 0.5, len(indices)), details)
    return Question(query, np.array(indices if open_ is None else open_), round_, "a1")


def answers(text, folder, data=None, name="query-000.csv", **kwargs):
    """What is read from a file with this text."""
    data = make_data() if data is None else data
    oracle = FileOracle(folder, **kwargs)
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    corrections = oracle.corrections(data)
    return {**oracle.answer(data.pending_indices, data), **corrections}


class TestWhatIsWritten:
    """The table that people get."""

    def test_csv(self, tmp_path):
        details = {
            "predicted": np.array([2, -1, 0, 1]),
            "margin": np.array([0.1, 0.0, 0.3, 0.5], np.float32),
            "reach": np.array([0.4, 0.0, 0.3, 0.8], np.float32),
            "phase": np.array(["refinement", "exploration", "refinement", "refinement"]),
            "nearest_labelled": np.array([0, -1, 0, 0]),
        }
        FileOracle(tmp_path).ask(question(**details), make_data())
        content = (tmp_path / "query-000.csv").read_bytes()
        assert content.startswith(b"\xef\xbb\xbfid,index,label,") and b"\r" not in content
        with (tmp_path / "query-000.csv").open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
        assert [row["id"] for row in rows] == [IDS[i] for i in (3, 1, 4, 2)]
        assert rows[0] == {
            "id": "img/3.png",
            "index": "3",
            "label": "",
            "suggested_label": "Käfer",
            "confidence": "0.25",
            "why": "refinement",
            "score": "1.0",
            "nearest_id": "img/0.png",
            "nearest_label": "dog",
        }
        assert (rows[1]["suggested_label"], rows[1]["confidence"], rows[1]["nearest_id"]) == ("", "", "")
        assert rows[1]["why"] == "exploration" and rows[2]["confidence"] == "1.0"

    def test_json_lines(self, tmp_path):
        data = ActiveDataModule([{"text": "one\nline"}, {"text": "=1"}], initial_labels=0, num_classes=2)
        data.pool.ask([1, 0])
        FileOracle(tmp_path, format="jsonl").ask(question([1, 0], predicted=np.array([1, 0])), data)
        rows = [json.loads(line) for line in (tmp_path / "query-000.jsonl").read_text().splitlines()]
        assert rows[0] == {
            "id": "1",
            "index": 1,
            "text": "=1",
            "label": None,
            "suggested_label": "1",
            "confidence": None,
            "why": None,
            "score": 1.0,
            "nearest_id": None,
            "nearest_label": None,
        }
        assert rows[1]["text"] == "one\nline" and not (tmp_path / "query-000.csv").exists()

    def test_both(self, tmp_path):
        oracle, data = FileOracle(tmp_path, format="both"), make_data()
        oracle.ask(question(), data)
        lines = (tmp_path / "query-000.jsonl").read_text().replace('"label": null', '"label": "cat"', 1)
        (tmp_path / "query-000.jsonl").write_text(lines)
        table = (tmp_path / "query-000.csv").read_text().replace("img/1.png,1,", "img/1.png,1,dog")
        (tmp_path / "query-000.csv").write_text(table)
        assert oracle.answer(data.pending_indices, data) == {3: 0, 1: 1}

    @pytest.mark.parametrize(
        "items",
        [["hello"], [("hello", 1)], [("hello",)], [{"text": "hello", "label": 1}], [{"sentence": "hello"}]],
    )
    def test_text(self, items, tmp_path):
        data = ActiveDataModule(items, initial_labels=0, num_classes=2)
        data.pool.ask([0])
        FileOracle(tmp_path).ask(question([0]), data)
        assert (tmp_path / "query-000.csv").read_text("utf-8-sig").splitlines()[1].startswith("0,0,hello,,")

    def test_paths_through_subsets_without_reading_an_item(self, tmp_path):
        class Folder(torch.utils.data.Dataset):
            root, samples = "/data", [(f"/data/a/{i}.png", 0) for i in range(5)]

            def __len__(self):
                return 5

            def __getitem__(self, index):
                raise AssertionError(f"item {index} was read")

        subset = torch.utils.data.Subset(Folder(), [4, 2])
        data = ActiveDataModule(subset, initial_labels=0, num_classes=2)
        data.pool.ask([1])
        FileOracle(tmp_path).ask(question([1]), data)
        assert (
            (tmp_path / "query-000.csv").read_text("utf-8-sig").splitlines()[1].startswith("a/2.png,1,/data/a/2.png,")
        )

    def test_nothing_that_a_spreadsheet_would_run(self, tmp_path):
        ids = ["=1+1", "-5", "@x", "'=1+1", "'a", "\tz"]
        names = ["+1", "=cmd|' /C calc'!A0", "dog"]
        data = ActiveDataModule(
            ["=HYPERLINK(1)", "two\nlines;=1+1", *"cdef"], ids=ids, class_names=names, initial_labels={5: 0}
        )
        data.pool.ask([0, 1, 2, 3, 4])
        oracle = FileOracle(tmp_path)
        oracle.ask(question(range(5), predicted=np.array([1, 0, 2, 2, 2]), nearest_labelled=np.array([5] * 5)), data)
        with (tmp_path / "query-000.csv").open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
        cells = [cell for row in rows for cell in row.values()]
        assert len(rows) == 5 and not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in cells)
        assert rows[1]["text"] == "two lines; =1+1"
        table = (tmp_path / "query-000.csv").read_text("utf-8-sig").splitlines()
        filled = [
            line.replace(",,", f",{row['suggested_label']},", 1) for line, row in zip(table[1:], rows, strict=True)
        ]
        (tmp_path / "query-000.csv").write_text("\n".join([table[0], *filled]))
        assert oracle.answer(data.pending_indices, data) == {0: 1, 1: 0, 2: 2, 3: 2, 4: 2}

    def test_multi_label(self, tmp_path):
        data = make_data(initial={0: [0, 1, 0], 5: [0, 0, 0]})
        predicted = np.array([[1, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0]])
        oracle = FileOracle(tmp_path)
        oracle.ask(question(predicted=predicted, nearest_labelled=np.array([0, 5, 0, 0])), data)
        lines = (tmp_path / "query-000.csv").read_text("utf-8-sig").splitlines()
        assert "cat|Käfer" in lines[1] and lines[1].endswith("dog") and lines[2].endswith("[]")
        cells = ["cat|Käfer", "[]", '"[""cat"", 1]"', "2"]
        lines[1:] = [line.replace(",,", f",{cell},", 1) for line, cell in zip(lines[1:], cells, strict=True)]
        (tmp_path / "query-000.csv").write_text("\n".join(lines))
        assert oracle.answer(data.pending_indices, data) == {3: (1, 0, 1), 1: (0, 0, 0), 4: (1, 1, 0), 2: (0, 0, 1)}


class TestWhatStays:
    """Nothing that a person wrote is lost."""

    def test_asking_again_changes_no_byte(self, tmp_path):
        oracle, data = FileOracle(tmp_path, format="both"), make_data()
        oracle.ask(question(), data)
        for path in tmp_path.glob("query-*"):
            path.write_bytes(path.read_bytes().replace(b"img/4.png,4,", b"img/4.png,4,dog") + b"\n\n")
        before = {path: path.read_bytes() for path in tmp_path.iterdir()}
        oracle.ask(question(open_=[4, 2]), data)
        assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before and len(before) == 2

    def test_further_points_are_added_in_the_files_own_way(self, tmp_path):
        oracle, data = FileOracle(tmp_path), make_data(asked=(3, 1, 4, 2, 5))
        before = b"\xef\xbb\xbfNotes;label;ID\r\nsee; I;cat;img/1.png\r\n".replace(b"see; I", b'"see; I"')
        (tmp_path / "query-000.csv").write_bytes(before.rstrip(b"\r\n"))
        oracle.ask(question([3, 1]), data)
        assert (tmp_path / "query-000.csv").read_bytes() == before.rstrip(b"\r\n") + b"\n;;img/3.png\n"
        assert oracle.answer(data.pending_indices, data) == {1: 0}

    def test_a_file_that_is_gone_is_written_again_and_earlier_points_with_it(self, tmp_path):
        oracle, data = FileOracle(tmp_path, format="jsonl"), make_data(asked=(3, 1, 4, 2))
        oracle.ask(question([3, 1]), data)
        (tmp_path / "query-000.jsonl").unlink()
        oracle.ask(question([4, 2], round_=1, open_=[3, 4, 2]), data)
        rows = [json.loads(line) for line in (tmp_path / "query-001.jsonl").read_text().splitlines()]
        assert [row["id"] for row in rows] == [IDS[3], IDS[4], IDS[2]] and "score" not in rows[0]

    def test_a_later_round_has_a_file_of_its_own(self, tmp_path):
        oracle, data = FileOracle(tmp_path), make_data()
        oracle.ask(question([3, 1]), data)
        oracle.ask(question([4, 2], round_=1, open_=[3, 4, 2]), data)
        assert (tmp_path / "query-001.csv").read_text().count("\n") == 3
        oracle.answer(data.pending_indices, data)
        assert oracle.whereabouts() == (
            f"the column `label` of {tmp_path / 'query-000.csv'} and {tmp_path / 'query-001.csv'}"
        )


GOOD = {
    "plain": ("id,label\nimg/1.png,dog\nimg/3.png,\n", {1: 1}),
    "byte order mark and CRLF": (b"\xef\xbb\xbfid,label\r\nimg/1.png,K\xc3\xa4fer\r\n", {1: 2}),
    "old Mac line ends": ("id,label\rimg/1.png,dog\r", {1: 1}),
    "semicolons": ("id;index;label\nimg/1.png;1;dog\n;;\n", {1: 1}),
    "semicolons said by Excel": ("sep=;\r\nid;label\r\nimg/1.png;dog\r\n", {1: 1}),
    "tabs": ("id\tlabel\nimg/1.png\tdog\n", {1: 1}),
    "commas in a table of semicolons": ("id;a,b,c;label\nimg/1.png;1,2,3;dog\n", {1: 1}),
    "other order, other columns, capitals": ("Who,LABEL,Notes,ID\nAda,dog,so-so,img/1.png\n", {1: 1}),
    "blank lines": ("\n\nid,label\n\nimg/1.png,dog\n\n,,\n\n", {1: 1}),
    "no last line end": ("id,label\nimg/1.png,dog", {1: 1}),
    "spaces": ("id , label\n img/1.png ,  dog \n", {1: 1}),
    "quotes and line breaks": ('id,text,label\n"img/1.png","a ""b"",\nc",dog\n', {1: 1}),
    "numbers": ("id,label\nimg/1.png,2\nimg/2.png,1.0\n", {1: 2, 2: 1}),
    "by index": ("index,label\n1,dog\n2.0,cat\n", {1: 1, 2: 0}),
    "cannot tell": ("id,label\nimg/1.png,?\nimg/2.png, Skip\n", {1: SKIP, 2: SKIP}),
    "the same twice": ("id,label\nimg/1.png,dog\nimg/1.png,1\nimg/1.png,\n", {1: 1}),
    "short lines": ("id,label,notes\nimg/1.png,dog\nimg/2.png\n", {1: 1}),
    "empty cells at the end": ("id,label\nimg/1.png,dog,,\n", {1: 1}),
    "strange ids without a label": ("id,label\nnonsense,\nimg/1.png,dog\n", {1: 1}),
    "composed in another way": ("id,label\nimg/1.png,Ka\u0308fer\n", {1: 2}),
    "no answer": ("id,label\n", {}),
    "a correction": ("id,label\nimg/0.png,cat\nimg/1.png,dog\n", {0: 0, 1: 1}),
}


@pytest.mark.parametrize("name", GOOD)
def test_good_files(name, tmp_path):
    text, expected = GOOD[name]
    assert answers(text, tmp_path) == expected


# fmt: off
BAD = {
    "unknown id": (
        "id,label\nimg/1.pmg,dog\n",
        "2: there is no point with id 'img/1.pmg' (did you mean 'img/1.png'?).",
    ),
    "id changed by a spreadsheet": (
        "id,index,label\nJan-01,1,dog\n",
        "2: there is no point with id 'Jan-01' (that of index 1 is 'img/1.png': a spreadsheet may have changed it).",
    ),
    "not asked": ("id,label\nimg/5.png,dog\n", "2: point 'img/5.png' was not asked."),
    "unknown label": ("id,label\n\nimg/1.png,dgo\n", "3: there is no class 'dgo' (did you mean 'dog'?)."),
    "another case": ("id,label\nimg/1.png,CAT\n", "2: there is no class 'CAT' (did you mean 'cat'?)."),
    "no such label": ("id,label\nimg/1.png,horse\n", "2: there is no class 'horse': classes are cat, dog, Käfer."),
    "number too high": ("id,label\nimg/1.png,3\n", "2: there is no class 3: classes are numbered from 0 to 2."),
    "negative": ("id,label\nimg/1.png,-1\n", "2: there is no class '-1': classes are cat, dog, Käfer."),
    "several": ("id,label\nimg/1.png,cat|dog\n", "2: expected one class, but got several: ['cat', 'dog']."),
    "conflict": (
        "id,label\nimg/1.png,dog\nimg/2.png,cat\nimg/1.png,cat\n",
        "4: point 'img/1.png' has label 'cat' here, but label 'dog' in line 2 of {path}.",
    ),
    "conflict with cannot tell": (
        "id,label\nimg/1.png,?\nimg/1.png,cat\n",
        "3: point 'img/1.png' has label 'cat' here, but no label that anybody can tell in line 2 of {path}.",
    ),
    "no label column": (
        "id,answer\nimg/1.png,dog\n",
        "1: no column `label` in the first line, which names `id`, `answer`.",
    ),
    "no id column": (
        "path,label\nimg/1.png,dog\n",
        "1: no column `id` or `index` in the first line, which names `path`, `label`.",
    ),
    "no header": ("img/1.png,dog\n", "1: no column `label` in the first line, which names `img/1.png`, `dog`."),
    "empty file": ("", "1: no column `label` in the first line, which names nothing."),
    "two label columns": ("id,label,Label\nimg/1.png,dog,cat\n", "1: several columns `label` in the first line."),
    "no id": ("id,label\nimg/2.png,cat\n,dog\n", "3: a label ('dog'), but no id."),
    "bad index": ("index,label\n6,dog\n", "2: there is no point with index '6': they are numbered from 0 to 5."),
    "too many cells": (
        "id,text,label\nimg/1.png,a, b,dog\n",
        "2: 4 cells, but 3 columns: text that holds the separator needs quotation marks.",
    ),
    "open quote": (
        'id,label\nimg/1.png,dog\nimg/2.png,"cat\nimg/3.png,dog\n',
        "3: no CSV (unexpected end of data), as where a quotation mark is left open.",
    ),
    "Latin-1": (
        "id,label\nimg/2.png,cat\nimg/1.png,Käfer\n".encode("latin-1"),
        '3: not UTF-8 (byte 0xe4): save the file as "CSV UTF-8", or give its `encoding`.',
    ),
    "UTF-16": (
        "id,label\nimg/1.png,dog\n".encode("utf-16-le"),
        '1: zero bytes, as in UTF-16 without its mark: save the file as "CSV UTF-8".',
    ),
    "cut off UTF-16": (
        "id,label\nimg/1.png,dog\n".encode("utf-16")[:-1],
        '2: not UTF-16-LE (byte 0x0a): save the file as "CSV UTF-8", or give its `encoding`.',
    ),
    "taken back": (
        "id,label\nimg/0.png,?\n",
        "2: point 'img/0.png' is labelled already: its label can be replaced by another one, and not be taken back.",
    ),
    "half a line": (
        "id,label,text\nimg/1.png,dog,a\nimg/2.png,ca",
        "3: half a line: 2 of 3 cells and no end of line, as while a file is being written.",
    ),
    "behind a quoted line break": (
        'id,text,label\nimg/1.png,"a\nb",dog\nimg/2.png,c,dgo\n',
        "4: there is no class 'dgo' (did you mean 'dog'?).",
    ),
}


# fmt: on


@pytest.mark.parametrize("name", BAD)
def test_bad_files(name, tmp_path):
    text, reason = BAD[name]
    path = tmp_path / "query-000.csv"
    with pytest.raises(AnswerFileError) as caught:
        answers(text, tmp_path)
    assert str(caught.value) == (
        f"{path}, line {reason.format(path=path)}\nNothing was applied: fix these lines and rerun."
    )
    assert isinstance(caught.value, DiffalError | ValueError)


JSON = {
    "name": ('{"id": "img/1.png", "label": "dog"}\r\n\n{"id": "img/2.png", "label": null}\n', {1: 1}),
    "numbers, index": ('{"index": 1, "label": 2}\n{"index": 2, "label": 0.0}\n', {1: 2, 2: 0}),
    "byte order mark": ('\ufeff{"id": "img/1.png", "label": "?"}', {1: SKIP}),
    "no label": ('{"id": "img/1.png"}\n', {}),
    "half a line": ('{"id": "img/2.png", "label": "cat"}\n{"id": "img/1.png", "lab',
                    "2: no JSON, or half of it: '{\"id\": \"img/1.png\", \"lab'."),
    "a list": ("[1, 2]\n", "1: expected a JSON object such as {...}, but got [1, 2]."),
    "no id": ('{"label": "dog"}\n', "1: neither `id` nor `index`."),
    "true": ('{"id": "img/1.png", "label": true}\n', "1: expected a class name or number, but got True."),
    "half": ('{"id": "img/1.png", "label": 0.5}\n', "1: expected a class name or number, but got 0.5."),
    "NaN": ('{"id": "img/1.png", "label": NaN}\n', {}),
    "object": ('{"id": "img/1.png", "label": {"a": 1}}\n', "1: expected a class name or number, but got {'a': 1}."),
    "negative": ('{"id": "img/1.png", "label": -1}\n', "1: there is no class -1: classes are numbered from 0 to 2."),
    "one in a list": ('{"id": "img/1.png", "label": ["dog"]}\n', {1: 1}),
    "none in a list": ('{"id": "img/1.png", "label": []}\n', {}),
    "several": ('{"id": "img/1.png", "label": ["dog", "cat"]}\n',
                "1: expected one class, but got several: ['dog', 'cat']."),
    "labels": ('{"id": "img/1.png", "labels": "dog"}\n',
               "1: `labels`, but no `label`, which is what is read: call it so."),
    "formula that is none": ('{"id": "\'=1", "label": "dog"}\n', "1: there is no point with id \"'=1\"."),
}  # fmt: skip


@pytest.mark.parametrize("name", JSON)
def test_json_lines(name, tmp_path):
    text, expected = JSON[name]
    if isinstance(expected, dict):
        assert answers(text, tmp_path, name="query-000.jsonl") == expected
        return
    with pytest.raises(AnswerFileError) as caught:
        answers(text, tmp_path, name="query-000.jsonl")
    assert str(caught.value).splitlines()[0] == f"{tmp_path / 'query-000.jsonl'}, line {expected}"


MULTI = {
    "names": ("cat|dog", (1, 1, 0)),
    "one": ("dog", (0, 1, 0)),
    "numbers": (" 2 | 0 ", (1, 0, 1)),
    "a list": ('"[""dog"", 2]"', (0, 1, 1)),
    "none": ("[]", (0, 0, 0)),
    "cannot tell": ("?", SKIP),
    "twice": ("dog|1", "class 1 stands twice: give the classes that apply, each once."),
    "unknown": ("dog|dgo", "there is no class 'dgo' (did you mean 'dog'?)."),
    "half a list": ("[dog", 'expected a JSON list such as ["cat", "dog"], but got \'[dog\'.'),
}


@pytest.mark.parametrize("name", MULTI)
def test_multi_label(name, tmp_path):
    cell, expected = MULTI[name]
    data = make_data(initial={0: [0, 1, 0]})
    if isinstance(expected, str):
        with pytest.raises(AnswerFileError, match="line 2") as caught:
            answers(f"id,label\nimg/1.png,{cell}\n", tmp_path, data)
        assert expected in str(caught.value)
    else:
        assert answers(f"id,label\nimg/1.png,{cell}\n", tmp_path, data) == {1: expected}


def test_multi_label_from_the_start(tmp_path):
    text = "id,label\nimg/1.png,cat\n"
    assert answers(text, tmp_path, make_data(initial=0), multilabel=True) == {1: (1, 0, 0)}
    with pytest.raises(ConfigurationError, match="how many classes"):
        FileOracle(tmp_path, multilabel=True).prepare(make_data(names=None, initial=0), None, None)


def test_class_names_go_before_everything_else(tmp_path):
    data = make_data(names=["?", "skip", "1", "a|b"])
    rows = "id,label\nimg/1.png,?\nimg/2.png,skip\nimg/3.png,1\nimg/4.png,a|b\n"
    assert answers(rows, tmp_path, data) == {1: 0, 2: 1, 3: 2, 4: 3}
    assert answers("id,label\nimg/1.png,No Idea\n", tmp_path, data, cannot_tell=["no idea"]) == {1: SKIP}


def test_names_that_are_numbers_are_never_positions(tmp_path):
    data = make_data(names=["1", "2", "3"])
    rows = "id,label\nimg/1.png,1.0\nimg/2.png,3\nimg/3.png,2.00\n"  # as pandas writes a column with gaps
    assert answers(rows, tmp_path, data) == {1: 0, 2: 2, 3: 1}
    with pytest.raises(AnswerFileError, match="there is no class 0: classes are 1, 2, 3"):
        answers("id,label\nimg/1.png,0\n", tmp_path, data)
    reader = LabelReader(class_names=["1", "2", " ten "], cannot_tell=["unsure "])
    assert [reader.read(value) for value in (1, 2.0, "ten", "Unsure")] == [0, 1, 2, SKIP]


def test_an_id_that_a_spreadsheet_made_another_points(tmp_path):
    data = make_data(ids=["1.1", "1.10", "a", "b", "c", "d"], initial={5: 1}, asked=(0, 1, 2))
    with pytest.raises(AnswerFileError, match=r"the id is '1.1', but that of index 1 is '1.10'"):
        answers("id,index,label\n1.1,1,dog\n", tmp_path, data)
    assert answers("id,index,label\n1.1,0,dog\n1.10,1.0,cat\na,2,cat\n", tmp_path, data) == {0: 1, 1: 0, 2: 0}
    with pytest.raises(AnswerFileError, match=r"the id is 'a', but that of index 4 is 'c'"):
        answers("id,index,label\na,4,cat\n", tmp_path, data)


def test_a_data_set_without_ids_or_names(tmp_path):
    data = make_data(names=None, ids=None, num_classes=3)
    assert answers("id,label\n1,2\n2.0,0\n", tmp_path, data) == {1: 2, 2: 0}
    with pytest.raises(AnswerFileError, match="'cat': classes have no names here, so give its number"):
        answers("id,label\n1,cat\n", tmp_path, data)
    with pytest.raises(AnswerFileError, match="no point with id 'x': they are numbered from 0 to 5"):
        answers("id,label\nx,1\n", tmp_path, data)


def test_an_id_with_spaces_at_its_ends(tmp_path):
    data = make_data(ids=[" a", "a", "b ", *"cde"])
    assert answers("id,label\n a,cat\na,dog\nb ,cat\n", tmp_path, data) == {0: 0, 1: 1, 2: 0}


def test_five_problems_at_once_and_how_many_more(tmp_path):
    rows = "".join(f"img/{i}.png,what\n" for i in range(8))
    with pytest.raises(AnswerFileError) as caught:
        answers(f"id,label\n{rows}", tmp_path)
    lines = str(caught.value).splitlines()
    assert len(lines) == 7 and "line 2" in lines[0] and lines[5] == "And 3 more."


def test_another_encoding(tmp_path):
    assert answers("id;label\nimg/1.png;Käfer\n".encode("cp1252"), tmp_path, encoding="cp1252") == {1: 2}


def test_no_path_in_a_file_is_opened_and_other_files_are_left_alone(tmp_path, monkeypatch):
    import pathlib

    opened = []
    read_bytes = pathlib.Path.read_bytes
    monkeypatch.setattr(pathlib.Path, "read_bytes", lambda self: opened.append(self.name) or read_bytes(self))
    for name in ("query-000.csv~", "~$query-000.csv", "query-000 (1).csv", "other.csv", ".query-000.ab12.csv"):
        (tmp_path / name).write_text("rubbish")
    text = "id,path,label\nimg/1.png,/etc/passwd,dog\n"
    assert answers(text, tmp_path) == {1: 1}
    assert set(opened) == {"query-000.csv"}


def test_labels_of_skipped_points_and_what_agrees(tmp_path):
    data = make_data()
    data.skip([4])
    data.label([3], ["cat"])
    text = "id,label\nimg/4.png,dog\nimg/3.png,cat\nimg/0.png,\n"
    oracle = FileOracle(tmp_path)
    (tmp_path / "query-000.csv").write_text(text)
    assert oracle.corrections(data) == {4: 1, 3: 0} and oracle.answer(data.pending_indices, data) == {}
