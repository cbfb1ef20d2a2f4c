"""Embeddings in several files, in Parquet, or larger than memory; choices that are killed and go on."""

from __future__ import annotations

import numpy as np
import pytest

from lightning_diffal.cli import main
from lightning_diffal.exceptions import ConfigurationError, FeatureError
from lightning_diffal.graph import kept
from lightning_diffal.neighbors import lists
from lightning_diffal.selection import embeddings, select_from_files
from lightning_diffal.selection.embeddings import load_features
from lightning_diffal.utils.numeric.rows import read_when_needed
from lightning_diffal.utils.storage.stages import Stages

VALUES = np.random.default_rng(0).standard_normal((6000, 12)).astype(np.float16)


def shards_in(folder, values=VALUES):
    """Eleven files, whose order by name is not that of their numbers."""
    folder.mkdir(exist_ok=True)
    files = [folder / f"part-{number}.npy" for number in range(11)]
    for file, part in zip(files, np.array_split(values, 11), strict=True):
        np.save(file, part)
    return files


def test_a_list_and_a_folder_of_shards_are_one_array(tmp_path):
    files = shards_in(tmp_path / "shards")
    for given in (files, tmp_path / "shards", str(tmp_path / "shards")):
        np.testing.assert_array_equal(load_features(given), VALUES.astype(np.float32))


def test_large_shards_are_read_when_needed(tmp_path, monkeypatch):
    monkeypatch.setattr(embeddings, "MAPPED_FROM", 1000)
    rows = load_features(shards_in(tmp_path / "shards"))
    assert read_when_needed(rows) and rows.shape == VALUES.shape and rows.dtype == np.float16
    np.testing.assert_array_equal(np.asarray(rows), VALUES)
    np.testing.assert_array_equal(rows[540:1700], VALUES[540:1700])
    places = np.array([[5999, 0], [545, 546]])
    np.testing.assert_array_equal(rows[places], VALUES[places])


@pytest.mark.parametrize("fixed", [True, False])
def test_a_column_of_parquet(tmp_path, fixed):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    kind = arrow.list_(arrow.float32(), 12) if fixed else arrow.list_(arrow.float32())
    column = arrow.array([row.tolist() for row in VALUES[:500].astype(np.float32)], kind)
    table = arrow.table({"id": arrow.array(range(500)), "embedding": column})
    parquet.write_table(table, tmp_path / "e.parquet", row_group_size=130)
    np.testing.assert_array_equal(load_features(tmp_path / "e.parquet"), VALUES[:500].astype(np.float32))
    np.testing.assert_array_equal(load_features(tmp_path / "e.parquet", "embedding")[3], VALUES[3])
    with pytest.raises(ConfigurationError, match="holds the columns of vectors embedding: say which"):
        load_features(tmp_path / "e.parquet", "id")


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ([[1.0, 2.0], [3.0]], "vectors of different lengths"),
        ([[1.0, 2.0], None], "holds empty cells"),
        ([[1.0, 2.0], [3.0, None]], "holds empty cells"),
        ([["a", "b"], ["c", "d"]], "to hold vectors of numbers"),
    ],
)
def test_parquet_that_is_not_one_vector_per_point(tmp_path, cells, message):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.table({"embedding": cells}), tmp_path / "e.parquet")
    with pytest.raises(ConfigurationError, match=message):
        load_features(tmp_path / "e.parquet")


def test_what_is_not_parquet(tmp_path):
    pytest.importorskip("pyarrow")
    (tmp_path / "e.parquet").write_bytes(b"hello")
    with pytest.raises(ConfigurationError, match=r"e\.parquet cannot be read as Parquet"):
        load_features(tmp_path / "e.parquet")


def test_shards_that_do_not_fit_together(tmp_path):
    files = shards_in(tmp_path / "shards")
    np.save(files[4], np.zeros((3, 5)))
    with pytest.raises(ConfigurationError, match=r"vectors of one length, .* have 12 .*part-4.npy have 5"):
        load_features(tmp_path / "shards")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigurationError, match=r"to hold .npy, .npz, .parquet files, but"):
        load_features(tmp_path / "empty")
    with pytest.raises(ConfigurationError, match="an empty list"):
        load_features([])


def test_nan_in_a_shard_is_named(tmp_path, monkeypatch):
    values = VALUES.copy()
    values[4000, 3] = np.nan
    files = shards_in(tmp_path / "shards", values)
    with pytest.raises(FeatureError, match=r"part-7.npy holds NaN or infinity in 1 of 545 rows"):
        load_features(files)
    pytest.importorskip("faiss")
    monkeypatch.setattr(embeddings, "MAPPED_FROM", 1000)
    monkeypatch.setattr("lightning_diffal.neighbors.nearest.auto_backend", lambda *a, **k: "faiss")
    with pytest.raises(FeatureError, match=r"rows \[4000\] hold NaN"):
        select_from_files(files, 5)


@pytest.fixture
def large(monkeypatch):
    """6,000 points count as many."""
    pytest.importorskip("faiss")
    monkeypatch.setattr(embeddings, "MAPPED_FROM", 1000)
    monkeypatch.setattr(kept, "_KEPT_FROM", 100)
    monkeypatch.setattr("lightning_diffal.neighbors.nearest.auto_backend", lambda *a, **k: "faiss")
    monkeypatch.setattr(lists, "_QUERIES", 1000)
    monkeypatch.setattr(lists, "_KEPT_EVERY", 1)


def test_mapped_features_with_copies(large, tmp_path):
    values = np.concatenate([VALUES, VALUES[:50], VALUES[:50]])
    chosen = select_from_files(shards_in(tmp_path / "shards", values), 300)
    picks = chosen.query.indices % 6000
    assert len(set(picks.tolist())) == 300  # of copies, one
    assert chosen.query.summary["neighbor_recall"] >= lists.TARGET_RECALL


def test_mapped_features_and_labels(large, tmp_path):
    files = shards_in(tmp_path / "shards")
    (tmp_path / "labels.csv").write_text("index,label\n0,cat\n5,dog\n5999,cat\n")
    chosen = select_from_files(files, 20, labels=[tmp_path / "labels.csv"])
    assert set(chosen.query.details["nearest_labelled"].tolist()) <= {0, 5, 5999}


class KilledError(BaseException):
    pass


@pytest.mark.parametrize("stop_at", [1, 2, 3, 5, 8])
def test_a_killed_choice_goes_on(large, tmp_path, monkeypatch, stop_at):
    files = shards_in(tmp_path / "shards")
    expected = select_from_files(files, 30).query
    usual, count = Stages.finish, []

    def kill(self, stage, **facts):
        usual(self, stage, **facts)
        count.append(stage)
        if len(count) == stop_at:
            raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(Stages, "finish", kill)
        with pytest.raises(KilledError):
            select_from_files(files, 30, work=tmp_path / "work")
    done_before = len(count)
    count.clear()
    monkeypatch.setattr(Stages, "finish", lambda self, stage, **f: count.append(stage) or usual(self, stage, **f))
    found = select_from_files(files, 30, work=tmp_path / "work").query
    np.testing.assert_array_equal(found.indices, expected.indices)
    np.testing.assert_array_equal(found.scores, expected.scores)
    assert len(count) < 10 and done_before + len(count) == 10  # nothing twice: 4 stages, 6 blocks of the search
    count.clear()
    again = select_from_files(files, 30, work=tmp_path / "work", seed=1).query
    assert not count and len(again) == 30  # the graph is kept


def test_a_folder_of_other_features_is_begun_anew(large, tmp_path):
    select_from_files(shards_in(tmp_path / "shards"), 30, work=tmp_path / "work")
    other = shards_in(tmp_path / "other", VALUES[::-1])
    expected = select_from_files(other, 30).query.indices
    found = select_from_files(other, 30, work=tmp_path / "work").query.indices
    np.testing.assert_array_equal(found, expected)


def test_the_command(large, tmp_path, capsys):
    shards_in(tmp_path / "shards")
    where = ["--features", str(tmp_path / "shards"), "--work", str(tmp_path / "work")]
    assert main(["select", *where, "-n", "7", "--out", str(tmp_path / "q.csv")]) == 0
    assert "7 chosen out of 6,000" in capsys.readouterr().out
    assert (tmp_path / "work" / "graph.json").exists()
