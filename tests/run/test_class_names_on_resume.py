"""A run that goes on with other names for its classes."""

import pytest

from lightning_diffal import ActiveDataModule, ActiveLearning
from lightning_diffal.exceptions import ResumeError
from lightning_diffal.samplers import RandomSampler
from tests.helpers import TRAIN, Net, quiet_trainer


@pytest.mark.parametrize("names", [["b", "a", "c"], ["a", "b", "d"]])
def test_other_names_are_refused(tmp_path, names):
    def fit(class_names, rounds):
        active = ActiveLearning(RandomSampler(), query_size=4, max_rounds=rounds, run_dir=tmp_path / "run", seed=0)
        data = ActiveDataModule(TRAIN, initial_labels=12, class_names=class_names)
        quiet_trainer([active], max_epochs=1).fit(Net(), datamodule=data)
        return data

    fit(["a", "b", "c"], 1)
    with pytest.raises(ResumeError, match="`class_names`"):
        fit(names, 2)
    assert len(fit(["a", "b", "c"], 2).labelled_indices) == 20
