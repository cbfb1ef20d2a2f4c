"""Files that cannot be opened for a moment, or for long."""

import errno
from pathlib import Path

import numpy as np
import pytest

from lightning_diffal import ActiveDataModule, Query
from lightning_diffal.exceptions import AnswerFileError
from lightning_diffal.oracle import FileOracle, LabelStudioOracle, Question
from lightning_diffal.spreadsheets import patience


@pytest.fixture
def asked(tmp_path, monkeypatch):
    monkeypatch.setattr(patience, "_MOMENT", 0.0)
    data = ActiveDataModule(["a", "b", "c"], initial_labels={0: 0}, class_names=["neg", "pos"])
    data.pool.ask([2])
    oracle = FileOracle(tmp_path)
    oracle.ask(Question(Query([2], [0.9]), np.array([2]), round=0, run_id=None), data)
    (tmp_path / "query-000.csv").write_text("id,label\n2,pos\n")
    return oracle, data


def failing(monkeypatch, code, times):
    own, left = Path.read_bytes, [times]

    def read_bytes(path):
        if left[0]:
            left[0] -= 1
            raise OSError(code, "cannot be opened", str(path))
        return own(path)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)


@pytest.mark.parametrize("code", [errno.ENOENT, errno.EACCES, errno.ESTALE, errno.EIO])
def test_a_passing_error_is_looked_over(asked, monkeypatch, code):
    oracle, data = asked
    failing(monkeypatch, code, 2)
    assert oracle.answer(np.array([2]), data) == {2: 1}


def test_a_lasting_one_names_the_file(asked, monkeypatch):
    oracle, data = asked
    failing(monkeypatch, errno.EACCES, -1)
    with pytest.raises(AnswerFileError, match=r"query-000.csv could not be read .*close the program"):
        oracle.answer(np.array([2]), data)


@pytest.mark.parametrize("times", [2, -1])
def test_exports_of_label_studio_likewise(tmp_path, monkeypatch, times):
    monkeypatch.setattr(patience, "_MOMENT", 0.0)
    data = ActiveDataModule(["a", "b", "c"], initial_labels={0: 0}, class_names=["neg", "pos"])
    data.pool.ask([2])
    (tmp_path / "exports").mkdir()
    (tmp_path / "exports" / "p.json").write_text(
        '[{"id": 1, "diffal_id": "2", "label": "pos", "annotation_id": 1, "annotator": 1}]'
    )
    failing(monkeypatch, errno.ESTALE, times)
    oracle = LabelStudioOracle(tmp_path)
    if times > 0:
        assert oracle.answer(np.array([2]), data) == {2: 1}
    else:
        with pytest.raises(AnswerFileError, match=r"p.json could not be read .*close the program"):
            oracle.answer(np.array([2]), data)


def test_the_sentence_on_awaited_answers_survives_a_folder_that_is_away(asked, monkeypatch):
    oracle, _ = asked

    def away(path):
        raise OSError(errno.ESTALE, "Stale file handle", str(path))

    monkeypatch.setattr(Path, "iterdir", away)
    assert oracle.whereabouts().startswith("the column `label` of ")
