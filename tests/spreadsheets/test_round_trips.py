"""What is written is read as it was meant: every kind of class, through every way back in."""

import json
import os

import numpy as np
import pandas as pd
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lightning_diffal import ActiveDataModule, Query
from lightning_diffal.labels.class_names import tidy
from lightning_diffal.labels.ids import writable
from lightning_diffal.oracle import FileOracle, Question
from lightning_diffal.selection import select_from_files
from lightning_diffal.selection.files import read_labels
from lightning_diffal.spreadsheets.points import PointReader
from lightning_diffal.utils.storage.files import escape_cell
from tests.helpers import fill

N = 7
WORDS = st.text(
    st.characters(exclude_categories=["Cc", "Zl", "Zp"], include_characters="\udcdf\u00e4\u0308\u200b"),
    min_size=1,
    max_size=6,
)
ODD = st.sampled_from(
    ["1", "0", "+1", "-1", "1.0", "nan", "None", "?", "skip", "=1+1", "'=x", "a|b", "[c]", "true", "a;b", '"']
)
NUMBERED = st.sampled_from([["1", "0"], ["0", "1"], ["10", "2", "1"], ["-1", "1"], ["4006381333931", "4006381333948"]])


def can_be_told(names):
    words = [tidy(name) for name in names]
    return all(words) and len(set(words)) == len(words)


NAMES = NUMBERED | st.lists(WORDS | ODD, min_size=2, max_size=4, unique=True).filter(can_be_told)
IDS = st.none() | st.lists(WORDS | ODD, min_size=N, max_size=N, unique=True)


@st.composite
def kinds(draw):
    """Names of classes (or none), a label for some points, and ids (or none)."""
    names = draw(NAMES | st.none())
    count = 3 if names is None else len(names)
    several = draw(st.booleans())
    label = st.tuples(*[st.integers(0, 1)] * count) if several else st.integers(0, count - 1)
    labels = draw(st.dictionaries(st.integers(0, N - 1), label, min_size=1))
    return names, count, labels, several


def module(names, count, initial, ids=None):
    return ActiveDataModule(["x"] * N, initial_labels=initial, class_names=names, num_classes=count, ids=ids)


@settings(max_examples=60, deadline=None)
@given(kinds())
@example((["1", "0"], 2, {0: 0, 1: 1, 2: 1}, False))
@example((["1", "0"], 2, {0: (1, 0), 1: (0, 0)}, True))
def test_exported_labels(tmp_path_factory, kind):
    names, count, labels, several = kind
    folder = tmp_path_factory.mktemp("r")
    data = module(names, count, labels)
    data.export_labels(folder / "l.csv")
    # as `diffal select --labels`, which is told the names where there are some
    known = read_labels([folder / "l.csv"], PointReader(N), names)
    assert known.labels == labels
    # as `initial_labels`, by number and by name
    table = pd.read_csv(folder / "l.csv", dtype={"label": str, "class_name": str, "id": str}, keep_default_na=False)
    numbers = ([int(v) for v in cell.split()] if several else int(cell) for cell in table["label"])
    by_number = dict(zip(table["index"].tolist(), numbers, strict=True))
    assert module(names, count, by_number).pool.labels_of(np.arange(N)) == labels
    # as answers of people
    asked = module(names, count, {6: (0,) * count if several else 0}) if 6 not in labels else None
    if asked is not None:
        asked.pool.ask(list(labels))
        (folder / "query-000.csv").write_bytes((folder / "l.csv").read_bytes())
        assert FileOracle(folder, multilabel=several).answer(np.array(list(labels)), asked) == labels


@settings(max_examples=50, deadline=None)
@given(kinds(), IDS, st.sampled_from(["csv", "jsonl", "both"]))
def test_query_files(tmp_path_factory, kind, ids, form):
    """Ids and names of any characters: a person copies the name of a class into the cell."""
    names, count, labels, several = kind
    folder = tmp_path_factory.mktemp("q")
    try:
        data = module(names, count, {}, ids)
    except ValueError:  # ids that are one once they can be written
        return
    data.pool.ask(list(labels))
    oracle = FileOracle(folder, format=form, multilabel=several)
    oracle.ask(Question(Query(list(labels), [1.0] * len(labels)), np.array(list(labels)), round=0, run_id=None), data)

    def said(index):
        label = labels[index]
        if several:
            return json.dumps([names[k] if names else k for k in np.flatnonzero(label).tolist()])
        return names[label] if names else str(label)

    if form in ("csv", "both"):
        # as `suggested_label` shows it
        fill(folder / "query-000.csv", lambda index: escape_cell(writable(said(index))))
    else:
        rows = [json.loads(line) for line in (folder / "query-000.jsonl").read_text().split("\n") if line]
        text = "".join(json.dumps({**row, "label": said(row["index"])}) + "\n" for row in rows)
        (folder / "query-000.jsonl").write_text(text)
    assert oracle.answer(np.array(list(labels)), data) == labels


def test_a_selection_by_exported_labels(tmp_path):
    """Names that are numbers in another order: the chosen points are those of the same labels."""
    os.chdir(tmp_path)
    np.save("e.npy", np.random.default_rng(0).random((N, 3), dtype=np.float32))
    for names in (["1", "0"], ["0", "1"]):
        module(names, 2, {0: names.index("1"), 1: names.index("0")}).export_labels(f"{names[0]}.csv")
    picks = [
        select_from_files("e.npy", 3, labels=[f"{names[0]}.csv"], class_names=names)
        for names in (["1", "0"], ["0", "1"])
    ]
    assert picks[0].query.indices.tolist() == picks[1].query.indices.tolist()
    assert [row["nearest_label"] for row in picks[0].rows] == [row["nearest_label"] for row in picks[1].rows]
