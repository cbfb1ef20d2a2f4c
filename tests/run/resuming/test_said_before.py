"""What a script says of labels before it goes on with a run: it counts, or is named where answers contradict it."""

import numpy as np
import pytest

from lightning_diffal import ActiveDataModule, ActiveLearning
from lightning_diffal.samplers import RandomSampler
from tests.helpers import TRAIN, Net, quiet_trainer

ITEMS = list(TRAIN.tensors[0])


def go_on(folder, initial, rounds, change=lambda data: None):
    data = ActiveDataModule(ITEMS, initial_labels=initial, num_classes=3)
    change(data)
    active = ActiveLearning(
        RandomSampler(),
        query_size=4,
        max_rounds=rounds,
        run_dir=folder,
        seed=0,
        oracle=lambda asked, items: [0] * len(asked),
    )
    quiet_trainer([active], max_epochs=1).fit(Net(), datamodule=data)
    return data


def labels(data, *indices):
    known = data.pool.labels_of(np.array(indices))
    return [known[index] for index in indices]


def test_mended_labels_corrections_and_skips_count(tmp_path):
    go_on(tmp_path, {0: 1, 1: 1}, 1)

    def change(data):
        data.correct([1], [2])
        data.skip([119])

    data = go_on(tmp_path, {0: 2, 1: 1}, 2, change)
    assert labels(data, 0, 1) == [2, 2] and data.skipped_indices.tolist() == [119]
    assert (tmp_path / "journal.jsonl").read_text().count('"correction"') == 1
    again = go_on(tmp_path, {0: 2, 1: 1}, 3, change)  # the same script once more changes nothing
    assert labels(again, 0, 1) == [2, 2] and again.skipped_indices.tolist() == [119]
    assert (tmp_path / "journal.jsonl").read_text().count('"correction"') == 1
    assert len(again.labelled_indices) == 14


def test_what_answers_contradict_is_named(tmp_path):
    bought = int(np.setdiff1d(go_on(tmp_path, {0: 1, 1: 1}, 1).labelled_indices, [0, 1])[0])
    with pytest.warns(UserWarning, match=f"point '{bought}' is said to be 2, and is 0"):
        data = go_on(tmp_path, {0: 1, 1: 1, bought: 2}, 2)
    assert labels(data, bought) == [0]
    with pytest.warns(UserWarning, match=f"point '{bought}' is said to be skipped, and is labelled 0"):
        go_on(tmp_path, {0: 1, 1: 1}, 3, lambda data: data.skip([bought]))


def test_an_unchanged_script_leaves_later_corrections_alone(tmp_path):
    go_on(tmp_path, {0: 1, 1: 1}, 1)
    go_on(tmp_path, {0: 2, 1: 1}, 2)
    data = go_on(tmp_path, {0: 2, 1: 1}, 3)
    assert labels(data, 0, 1) == [2, 1]
