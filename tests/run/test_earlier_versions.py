"""Runs that 0.1.0 began go on: `begun_by_0_1` holds what it left after two queries.

It was written by `ActiveLearning(DiffusionSampler(), query_size=5, max_rounds=2, seed=3, run_dir=...)` on the data and
the network of `tests.helpers`, and `trainer.save_checkpoint` after it.
"""

import shutil
from pathlib import Path

import pytest

from lightning_diffal import ActiveDataModule, ActiveLearning, DiffusionSampler
from tests.helpers import TRAIN, VAL, Net, quiet_trainer

LEFT = Path(__file__).with_name("begun_by_0_1")
LABELLED = [3, 4, 11, 17, 26, 39, 41, 59, 63, 68, 84, 89, 90, 104, 114, 119]


@pytest.mark.parametrize("how", ["folder", "checkpoint", "checkpoint without its folder"])
@pytest.mark.filterwarnings("ignore:This run began with", "ignore:The journal of run")
def test_they_go_on(how, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(LEFT, folder)
    if how.endswith("without its folder"):
        (folder / "journal.jsonl").unlink()
        (folder / "state.ckpt").unlink()
    active = ActiveLearning(
        DiffusionSampler(),
        query_size=5,
        max_rounds=4,
        seed=3,
        run_dir=None if how.endswith("without its folder") else folder,
    )
    ids = [f"p{i}" for i in range(len(TRAIN))]
    data = ActiveDataModule(TRAIN, val_dataset=VAL, initial_labels=[90, 3, 41, 63, 17, 119], batch_size=6, ids=ids)
    trainer = quiet_trainer([active], default_root_dir=tmp_path)
    trainer.fit(Net("none"), datamodule=data, ckpt_path=None if how == "folder" else folder / "lightning.ckpt")
    assert [record.n_labelled for record in active.history] == [6, 11, 16, 21, 26]
    assert active.history[2].labelled.tolist() == LABELLED and set(LABELLED) < set(data.labelled_indices.tolist())
    assert data.labels.tolist() == TRAIN.tensors[1][data.labelled_indices].tolist()
    assert active.history[0].metrics["val_loss"] == pytest.approx(1.255, abs=1e-3)
