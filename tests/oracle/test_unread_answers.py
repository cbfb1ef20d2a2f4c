"""Answers under a name that is not read are named where people are told what is waited for."""

import numpy as np
import pytest

from lightning_diffal import ActiveDataModule, Query
from lightning_diffal.oracle import FileOracle, Question


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("query-000.CSV", "not of the form query-000.csv"),
        ("query-000 (1).csv", "not of the form query-000.csv"),
        ("Query-000.csv", "not of the form query-000.csv"),
        ("query-000.csv.txt", "not of the form query-000.csv"),
        ("query-000.ndjson", "not of the form query-000.jsonl"),
        ("labels.csv", "not of the form query-000.csv"),
        ("answers.xlsx", "not of the form query-000.xlsx"),
        ("answers.ods", "a workbook: save it as 'CSV UTF-8'"),
        ("query-000.csv.zip", "packed: unpack it"),
    ],
)
def test_they_are_named(tmp_path, name, reason):
    oracle, data = asked(tmp_path)
    (tmp_path / name).write_text("id,label\n2,pos\n")
    assert oracle.answer(np.array([2]), data) == {}
    assert f"not read there: {name}, " in oracle.whereabouts() and reason in oracle.whereabouts()


@pytest.mark.parametrize("name", [".~lock.query-000.csv#", "~$query-000.xlsx", "run.txt", "query-000.csv~", "cat.png"])
def test_what_programs_leave_is_not(tmp_path, name):
    oracle, data = asked(tmp_path)
    (tmp_path / name).write_text("")
    assert oracle.answer(np.array([2]), data) == {}
    assert oracle.whereabouts() == f"the column `label` of {tmp_path / 'query-000.csv'}"


def asked(folder):
    data = ActiveDataModule(["a", "b", "c"], initial_labels={0: 0}, class_names=["neg", "pos"])
    data.pool.ask([2])
    oracle = FileOracle(folder)
    oracle.ask(Question(Query([2], [0.9]), np.array([2]), round=0, run_id=None), data)
    return oracle, data
