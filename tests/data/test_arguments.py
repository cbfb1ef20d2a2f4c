"""Data sets that give no item for a position are refused, with what to give instead."""

import pandas as pd
import pytest

from lightning_diffal import ActiveDataModule
from lightning_diffal.exceptions import InvalidTypeError


@pytest.mark.parametrize(
    ("dataset", "reason"),
    [
        (pd.DataFrame({"a": range(4), "label": 0}), r"DataFrame, .* its labels go into `targets`"),
        ({"a": 1, "b": 2}, "dict, .* with its keys as `ids`"),
        ({1: "a", 0: "b"}, "dict, .* with its keys as `ids`"),
    ],
)
def test_tables_and_dicts_are_refused(dataset, reason):
    with pytest.raises(InvalidTypeError, match=f"`train_dataset` to give one item for each position.*{reason}"):
        ActiveDataModule(dataset, initial_labels=2)
