"""What tools for labelling write, workbooks and packed files: what is given, and what is read."""

import csv
import gzip
import io
import json
import re
import zipfile

import numpy as np
import openpyxl
import pytest

from lightning_diffal import ActiveDataModule, Query
from lightning_diffal.exceptions import AnswerFileError
from lightning_diffal.oracle import SKIP, FileOracle, LabelStudioOracle, Question
from lightning_diffal.selection.files import read_labels
from lightning_diffal.spreadsheets.points import PointReader

IDS = ["a.png", "b.png", "c.png", "007"]
NAMES = ["neg", "pos"]
REFUSED = "refused"


def lines(*rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def table(*rows):
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()


def packed(**files):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, text in files.items():
            archive.writestr(zipfile.ZipInfo(name.replace("__", ".")), text)  # of 1980: the same bytes each time
    return content.getvalue()


def book(*rows, title="answers", **others):
    made = openpyxl.Workbook()
    made.active.title = title
    for row in rows:
        made.active.append(row)
    for name, cells in others.items():
        sheet = made.create_sheet(name)
        for row in cells:
            sheet.append(row)
    content = io.BytesIO()
    made.save(content)
    return content.getvalue()


def data_module(ids=IDS, multilabel=False):
    first = {0: (1, 0)} if multilabel else {0: 0}
    data = ActiveDataModule(["x"] * 4, initial_labels=first, class_names=NAMES, ids=ids)
    data.pool.ask([1, 2, 3])
    return data


def read(tmp_path, name, content, ids=IDS, multilabel=False):
    """What `FileOracle` reads of a file in its folder (a query file) or in `exports` there."""
    data, oracle = data_module(ids, multilabel), FileOracle(tmp_path)
    place = tmp_path / name if name.startswith("query") else tmp_path / "exports" / name
    place.parent.mkdir(exist_ok=True)
    place.write_bytes(content.encode() if isinstance(content, str) else content)
    try:
        return {**oracle.corrections(data), **oracle.answer(np.array([1, 2, 3]), data)}
    except AnswerFileError as error:
        return REFUSED if place.name in str(error) else error


def coco(*annotations, **image):
    return json.dumps(
        {
            "images": [{"id": 1, "file_name": "b.png", **image}, {"id": 2, "file_name": "c.png"}],
            "categories": [{"id": 10, "name": "pos"}, {"id": 11, "name": "neg"}],
            "annotations": list(annotations),
        }
    )


ARGILLA = {"id": "0b1e", "fields": {"text": "x"}, "metadata": {"diffal_id": "b.png"}}


def said(*pairs):
    return {"responses": {"label": [{"value": v, "status": s, "user_id": str(i)} for i, (v, s) in enumerate(pairs)]}}


TOOLS = {
    "doccano": ("all.jsonl", lines({"id": 3, "text": "x", "label": ["pos"], "diffal_id": "b.png"}), {1: 1}),
    "doccano meta": (
        "all.jsonl",
        lines({"id": 3, "text": "x", "label": ["pos"], "meta": {"diffal_id": "b.png"}}),
        {1: 1},
    ),
    "doccano open": ("all.jsonl", lines({"id": 3, "text": "x", "label": [], "diffal_id": "b.png"}), {}),
    "doccano alone": ("all.jsonl", lines({"id": 3, "text": "x", "label": ["pos"]}), REFUSED),
    "argilla": ("a.jsonl", lines({**ARGILLA, **said(("pos", "submitted"), ("pos", "submitted"))}), {1: 1}),
    "argilla draft": ("a.jsonl", lines({**ARGILLA, **said(("pos", "draft"))}), {}),
    "argilla discarded": ("a.jsonl", lines({**ARGILLA, **said((None, "discarded"))}), {1: SKIP}),
    "argilla disputed": ("a.jsonl", lines({**ARGILLA, **said(("pos", "submitted"), ("neg", "submitted"))}), REFUSED),
    "argilla flat": (
        "a.json",
        json.dumps([{"id": "b.png", "label.responses": ["pos"], "label.responses.status": ["submitted"]}]),
        {1: 1},
    ),
    "argilla 1": ("a.jsonl", lines({"id": "b.png", "annotation": "pos", "status": "Validated"}), {1: 1}),
    "argilla 1 open": ("a.jsonl", lines({"id": "b.png", "annotation": None, "status": "Default"}), {}),
    "argilla 1 discarded": ("a.jsonl", lines({"id": "b.png", "annotation": None, "status": "Discarded"}), {1: SKIP}),
    "argilla spoilt": ("a.jsonl", lines({**ARGILLA, "responses": {"label": "pos"}}), REFUSED),
    "argilla unanswered": ("a.jsonl", lines({**ARGILLA, "responses": {}}), {}),
    "argilla flat, as text": ("a.jsonl", lines({"id": "b.png", "label.responses": '["pos"]'}), {1: 1}),
    "argilla flat, broken text": ("a.jsonl", lines({"id": "b.png", "label.responses": '["pos"'}), REFUSED),
    "argilla flat, one state too few": (
        "a.jsonl",
        lines({"id": "b.png", "label.responses": ["pos", "pos"], "label.responses.status": ["submitted"]}),
        REFUSED,
    ),
    "two of our ids": ("a.jsonl", lines({**ARGILLA, "diffal_id": "c.png", "label": "pos"}), REFUSED),
    "no list of objects": ("a.json", '"pos"', REFUSED),
    "label studio tasks": ("a.json", json.dumps([{"data": {"diffal_id": "b.png"}, "annotations": []}]), REFUSED),
    "coco without a name": ("c.json", coco(file_name=None), REFUSED),
    "coco twins": ("c.json", coco(id=2), REFUSED),
    "said twice": ("query-000.jsonl", '{"id": "b.png", "label": "pos", "label": "neg"}\n', REFUSED),
    "said twice alike": ("query-000.jsonl", '{"id": "b.png", "label": "pos", "Label": "neg"}\n', REFUSED),
    "cvat": ("c.csv", table(["image_name", "label"], ["b.png", "pos"], ["c.png", ""]), {1: 1}),
    "open images": ("c.csv", table(["ImageID", "LabelName", "Confidence"], ["b.png", "pos", 1]), {1: 1}),
    "other image": ("c.csv", table(["image_name", "label"], ["z.png", "pos"]), REFUSED),
    "coco": ("c.json", coco({"image_id": 1, "category_id": 10, "bbox": []}), {1: 1}),
    "coco with our id": ("c.json", coco({"image_id": 1, "category_id": 10}, diffal_id="007"), {3: 1}),
    "coco of two": ("c.json", coco({"image_id": 1, "category_id": 10}, {"image_id": 1, "category_id": 11}), REFUSED),
    "coco boxes": ("c.json", coco({"image_id": 1, "category_id": 10, "bbox": [1, 1, 2, 2]}), REFUSED),
    "coco unknown": ("c.json", coco({"image_id": 9, "category_id": 10}), REFUSED),
    "half a file": ("c.json", coco()[:-9], REFUSED),
    "label studio csv": ("l.csv", table(["id", "diffal_id", "label", "annotation_id"], [3, "b.png", "pos", 1]), {1: 1}),
    "zip": ("e.zip", packed(all__jsonl=lines({"id": 3, "label": ["pos"], "diffal_id": "b.png"})), {1: 1}),
    "zip of two": ("e.zip", packed(a__csv="id,label\nb.png,pos\n", b__csv="id,label\nc.png,pos\n"), REFUSED),
    "zip of pictures": ("e.zip", packed(a__png="x"), REFUSED),
    "half a zip": ("e.zip", packed(a__csv="id,label\nb.png,pos\n")[:-30], REFUSED),
    "gz": ("l.csv.gz", gzip.compress(b"id,label\nb.png,pos\n"), {1: 1}),
    "unknown": ("cat.png", b"\x89PNG", REFUSED),
    "utf-16": ("query-000.csv", "id\tlabel\r\nb.png\tpos\r\n".encode("utf-16"), {1: 1}),
    "a workbook called csv": ("query-000.csv", book(["id", "label"], ["b.png", "pos"]), {1: 1}),
    "workbook": (
        "query-000.xlsx",
        book(["id", "index", "label"], ["b.png", 1, "pos"], [], ["c.png", 2.0, None]),
        {1: 1},
    ),
    "class numbers": ("query-000.xlsx", book(["id", "label"], ["b.png", 1.0], ["c.png", 0]), {1: 1, 2: 0}),
    "zeros lost": ("query-000.xlsx", book(["id", "label"], [7, "pos"]), REFUSED),
    "zeros lost, index": ("query-000.xlsx", book(["id", "index", "label"], [7, 3, "pos"]), {3: 1}),
    "#N/A": ("query-000.xlsx", book(["id", "label"], ["b.png", "#N/A"]), {}),
    "#NAME?": ("query-000.xlsx", book(["id", "label"], ["b.png", "#NAME?"]), REFUSED),
    "two sheets": ("query-000.xlsx", book(["id", "label"], ["b.png", "pos"], more=[["note"], ["x"]]), {1: 1}),
    "two tables": ("query-000.xlsx", book(["id", "label"], ["b.png", "pos"], more=[["id", "label"]]), REFUSED),
    "half a workbook": ("query-000.xlsx", book(["id", "label"], ["b.png", "pos"])[:900], REFUSED),
    "an old workbook": ("query-000.csv", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", REFUSED),
}


@pytest.mark.parametrize(("name", "content", "expected"), TOOLS.values(), ids=TOOLS)
def test_tools(tmp_path, name, content, expected):
    assert read(tmp_path, name, content) == expected


def test_an_id_of_a_tool_is_no_position(tmp_path):
    """Without ids of the data set every number would be a point."""
    row = {"id": 3, "text": "x", "label": ["pos"]}
    assert read(tmp_path, "all.jsonl", lines(row), ids=None) == REFUSED
    assert read(tmp_path, "all.jsonl", lines({**row, "diffal_id": 1}), ids=None) == {1: 1}


def test_several_labels(tmp_path):
    row = {"id": 3, "text": "x", "label": ["pos", "neg"], "diffal_id": "b.png"}
    assert read(tmp_path, "all.jsonl", lines(row), multilabel=True) == {1: (1, 1)}


def test_a_date_is_not_a_class(tmp_path):
    import datetime

    content = book(["id", "label"], ["b.png", datetime.date(2024, 1, 2)])
    assert read(tmp_path, "query-000.xlsx", content) == REFUSED


def test_select_reads_them_too(tmp_path):
    (tmp_path / "l.xlsx").write_bytes(book(["id", "label"], ["b.png", "pos"], ["c.png", "neg"]))
    (tmp_path / "c.json").write_text(coco({"image_id": 1, "category_id": 10}))
    known = read_labels([tmp_path / "l.xlsx", tmp_path / "c.json"], PointReader(4, IDS), NAMES)
    assert known.labels == {1: 1, 2: 0}


def test_points_are_asked_beside_exports(tmp_path):
    data, oracle = data_module(), FileOracle(tmp_path)
    (tmp_path / "exports").mkdir()
    (tmp_path / "exports" / "a.csv").write_text("id,label\nb.png,pos\n")
    oracle.ask(Question(Query([1, 2], [1.0, 0.5]), np.array([1, 2]), round=0, run_id=None), data)
    assert "b.png" in (tmp_path / "query-000.csv").read_text("utf-8-sig")
    assert oracle.answer(np.array([1, 2]), data) == {1: 1}
    assert oracle.whereabouts() == f"the column `label` of {tmp_path / 'query-000.csv'}"


def test_without_openpyxl_a_workbook_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    data, oracle = data_module(), FileOracle(tmp_path)
    (tmp_path / "query-000.xlsx").write_bytes(b"")
    assert oracle.answer(np.array([1]), data) == {}
    assert 'query-000.xlsx, a workbook: pip install "lightning-diffal[xlsx]"' in oracle.whereabouts()


# ---------------------------------------------------------------------------------------------------- Label Studio


def studio(tmp_path, name, content):
    data = ActiveDataModule(["x"] * 4, initial_labels={0: 0}, class_names=NAMES, ids=IDS)
    data.pool.ask([1, 2, 3])
    oracle = LabelStudioOracle(tmp_path)
    (tmp_path / "exports").mkdir(exist_ok=True)
    (tmp_path / "exports" / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return oracle.answer(np.array([1, 2, 3]), data), oracle


def full(label, updated, author=1):
    result = [{"type": "choices", "from_name": "label", "value": {"choices": [label]}}]
    annotation = {"completed_by": author, "updated_at": updated, "result": result}
    return {"id": 7, "project": 1, "data": {"diffal_id": "b.png"}, "annotations": [annotation]}


FLAT = ["id", "diffal_id", "text", "label", "annotation_id", "annotator", "updated_at"]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("p.csv", table(FLAT, [7, "b.png", "x", "pos", 1, 2, "2024-01-02T03:04:05.1Z"]), {1: 1}),
        ("p.csv", table(FLAT, [7, "b.png", "x", '{"choices": ["pos"]}', 1, 2, ""]), {1: 1}),
        ("p.csv", table(FLAT, [7, "b.png", "x", "", "", "", ""]), {}),
        ("p.tsv", "\t".join(FLAT) + "\n7\tb.png\tx\tpos\t1\t2\t1700000000\n", {1: 1}),
        ("p.zip", packed(result__csv=table(FLAT, [7, "b.png", "x", "pos", 1, 2, ""]), notes__json="[]"), {1: 1}),
        ("p.zip", packed(project__json=json.dumps([full("pos", None)])), {1: 1}),
        ("p.json", json.dumps([full("pos", 1_700_000_000)]), {1: 1}),
        ("p.json", json.dumps([full("pos", "1700000000.5")]), {1: 1}),
        ("p.json", json.dumps([full("pos", 1_700_000_000_000)]), {1: 1}),
        ("p.json", json.dumps([full("pos", "2024-01-02 03:04:05")]), {1: 1}),
    ],
)
def test_label_studio(tmp_path, name, content, expected):
    assert studio(tmp_path, name, content)[0] == expected


def test_the_later_of_two_times_counts_however_they_are_written(tmp_path):
    studio(tmp_path, "a.json", json.dumps([full("neg", "2024-01-02T03:04:05.123456Z")]))
    answers, _ = studio(tmp_path, "b.json", json.dumps([full("pos", 1_800_000_000)]))  # in 2027
    assert answers == {1: 1}


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("p.zip", packed(a__png="x"), "holds no JSON and no CSV"),
        ("p.zip", packed(a__json="[]")[:-30], "no archive, half of one"),
        ("p.csv", "id,label\n7,pos\n", "no `annotation_id`"),
        ("p.json", json.dumps([full("pos", "yesterday")]), "expected a time, but got 'yesterday'"),
    ],
)
def test_label_studio_refuses(tmp_path, name, content, said):
    with pytest.raises(AnswerFileError, match=said):
        studio(tmp_path, name, content)


def test_label_studio_names_what_it_does_not_read(tmp_path):
    _, oracle = studio(tmp_path, "p.xlsx", b"")
    assert "not read there: p.xlsx" in oracle.whereabouts()


# ------------------------------------------------------------------------------------------ names that were composed


KAEFER = ["K\u00e4fer.png", "Ka\u0308fer.png"]


@pytest.mark.parametrize(("ours", "theirs"), [KAEFER, KAEFER[::-1]])
def test_another_composition_of_an_id(tmp_path, ours, theirs):
    data = ActiveDataModule(["x"] * 4, initial_labels={0: 0}, class_names=NAMES, ids=["a", ours, "c", "d"])
    data.pool.ask([1])
    oracle = LabelStudioOracle(tmp_path)
    task = full("pos", None)
    task["data"]["diffal_id"] = theirs
    (tmp_path / "exports").mkdir()
    (tmp_path / "exports" / "a.json").write_text(json.dumps([task]))
    assert oracle.answer(np.array([1]), data) == {1: 1}


def test_names_and_texts_that_no_encoding_knows(tmp_path):
    ids = [f"Stra\udcdfe{i}.png" for i in range(4)]
    data = ActiveDataModule(["t\udcdf"] * 4, initial_labels={0: 0}, class_names=["neg", "p\udcdfs"], ids=ids)
    data.pool.ask([1])
    oracle = LabelStudioOracle(tmp_path)
    oracle.ask(Question(Query([1], [1.0]), np.array([1]), round=0, run_id=None), data)
    (task,) = json.loads((tmp_path / "tasks-round-000.json").read_bytes())
    assert task["data"]["text"] == "t\udcdf" and task["data"]["diffal_id"] == r"Stra\udcdfe1.png"
    name = re.findall(r'Choice value="([^"]*)"', (tmp_path / "label_config.xml").read_text())[1]
    choices = {"type": "choices", "from_name": "label", "value": {"choices": [name]}}
    task["annotations"] = [{"completed_by": 1, "result": [choices]}]
    (tmp_path / "exports" / "a.json").write_text(json.dumps([task]))
    assert oracle.answer(np.array([1]), data) == {1: 1}
