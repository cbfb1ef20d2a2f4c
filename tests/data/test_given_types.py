"""Arguments as numpy and data frames give them, and what is refused of them: the argument is named, and the remedy."""

from types import MappingProxyType

import numpy as np
import pandas as pd
import pytest

from lightning_diffal import ActiveDataModule, ActiveLearning
from lightning_diffal.exceptions import (
    ConfigurationError,
    DiffalError,
    InvalidLabelError,
    InvalidTypeError,
    StorageError,
)
from lightning_diffal.oracle import FileOracle

ITEMS = ["x"] * 8
AB = ["a", "b"]


def labels(**arguments):
    data = ActiveDataModule(ITEMS, **arguments)
    return dict(zip(data.labelled_indices.tolist(), data.labels.tolist(), strict=True))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"initial_labels": pd.Series({2: 1, 5: 0})}, {2: 1, 5: 0}),
        ({"initial_labels": pd.Series({1: "b", 2: "a"}), "class_names": AB}, {1: 1, 2: 0}),
        ({"initial_labels": pd.Series(["a", "b"], dtype="category"), "class_names": AB}, {0: 0, 1: 1}),
        ({"initial_labels": pd.Series([0, 2], dtype="Int64")}, {0: 0, 1: 2}),
        ({"initial_labels": MappingProxyType({np.int64(1): np.float32(1.0)})}, {1: 1}),
        ({"initial_labels": np.array(8), "targets": pd.Series([0.0, 2.0] * 4)}, dict(enumerate([0, 2] * 4))),
        ({"initial_labels": pd.Index([1, 2]), "targets": pd.Series(["a", "b"] * 4), "class_names": AB}, {1: 1, 2: 0}),
        ({"initial_labels": {0: "b"}, "class_names": pd.Index(AB)}, {0: 1}),
        ({"initial_labels": {0: "b"}, "class_names": np.array(AB)}, {0: 1}),
        ({"initial_labels": []}, {}),
        ({"initial_labels": {}}, {}),
    ],
)
def test_types(arguments, expected):
    assert labels(**arguments) == expected


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"initial_labels": pd.Series([0, 1, None])}, "Point 2 has no label in `initial_labels`"),
        ({"initial_labels": pd.Series([0, 1, pd.NA], dtype="Int64")}, "Point 2 has no label in `initial_labels`"),
        ({"initial_labels": pd.Series({1: pd.NaT})}, "Point 1 has no label in `initial_labels`"),
        ({"initial_labels": pd.Series([0, 1], index=[3, 3])}, "`initial_labels` .* given twice"),
        ({"initial_labels": pd.Series({"x": 1})}, "`initial_labels`"),
        ({"initial_labels": pd.DataFrame({"a": [1]})}, "`initial_labels` .* got a table"),
        ({"initial_labels": {0: []}}, "Point 0 in `initial_labels`"),
        ({"initial_labels": {0: 2.5}}, "Regression"),
        ({"initial_labels": 3.0}, "`initial_labels`"),
        ({"targets": pd.Series([0.0, np.nan] * 4)}, "`targets` .* 4 are NaN: give the labels that are known as"),
        ({"targets": []}, "`targets`"),
        ({"ids": []}, "`ids`"),
        ({"class_names": []}, "`class_names` to hold at least one"),
        ({"val_dataset": pd.DataFrame({"a": [1]})}, "`val_dataset` to give one item for each position"),
        ({"test_dataset": {"a": [1]}}, "`test_dataset` to give one item for each position"),
    ],
)
def test_refused(arguments, said):
    with pytest.raises(DiffalError, match=said) as raised:
        labels(**arguments)
    assert isinstance(raised.value, ConfigurationError | InvalidLabelError | InvalidTypeError | IndexError)


def test_numbers_of_a_run():
    active = ActiveLearning(
        query_size=np.int64(3),
        max_rounds=np.int32(2),
        budget=np.int64(5),
        min_answers=np.int8(1),
        reset=np.float32(0.5),
    )
    assert (active.query_size, active.reset) == (3, 0.5) and type(active.reset) is float
    assert type(FileOracle(timeout=np.float32(2.0), poll_seconds=np.int64(1)).timeout) is float
    for reset in (True, np.float32(1.0), 0.0):
        with pytest.raises(ConfigurationError, match="`reset`"):
            ActiveLearning(reset=reset)


def test_an_export_that_cannot_be_written(tmp_path):
    data = ActiveDataModule(ITEMS, initial_labels={0: 1})
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"file/l.csv could not be written: .* Give another folder"):
        data.export_labels(tmp_path / "file" / "l.csv")
    with pytest.raises(StorageError, match=r"it is a folder\. Give the name of a file in it"):
        data.export_labels(tmp_path)


def test_a_point_validates_whatever_the_composition_of_its_id():
    composed, apart = [
        ActiveDataModule(ITEMS, initial_labels={0: 0}, ids=[f"{name}{i}" for i in range(8)], val_fraction=0.5)
        for name in ("K\u00e4fer", "Ka\u0308fer")
    ]
    everything = np.arange(8)
    assert composed.validates(everything).tolist() == apart.validates(everything).tolist()
    assert composed.validates(everything).any()
