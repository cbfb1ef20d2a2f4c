"""Every operation on the files of a run goes wrong once, in every way: no label is lost, none is bought twice."""

import warnings
from contextlib import suppress

import pytest
import torch

from lightning_diffal import ActiveDataModule, ActiveLearning
from lightning_diffal.exceptions import StorageError
from lightning_diffal.history.journal import FILENAME
from lightning_diffal.history.lines import read_journal
from lightning_diffal.samplers import RandomSampler
from tests.helpers import TRAIN, VAL, Net, quiet_trainer
from tests.history.faulty_disk import FaultyDisk, Killed

DEATHS = ["before", "after", "half"]
FAILURES = ["fail", "half fail"]
N_QUICK = 7  # operations that the quick test tries, spread over the run


class Run:
    """One run in a folder, by objects of its own, and what its oracle was asked."""

    def __init__(self, folder):
        torch.manual_seed(1)
        self.folder, self.asked = folder, []
        self.data = ActiveDataModule(TRAIN, val_dataset=VAL, initial_labels=[90, 3, 41, 17], batch_size=4)
        self.active = ActiveLearning(
            RandomSampler(), query_size=6, max_rounds=2, seed=3, run_dir=folder, oracle=self.answer
        )
        self.trainer = quiet_trainer([self.active], max_epochs=1, num_sanity_val_steps=0, limit_val_batches=0)
        self.model = Net("none")

    def answer(self, indices, items):
        self.asked.extend(indices)
        return [int(y) for _, y in items]

    def fit(self):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.trainer.fit(self.model, datamodule=self.data)
        picks = [None if r.query is None else r.query.indices.tolist() for r in self.active.history]
        return picks, dict(zip(self.data.labelled_indices.tolist(), self.data.labels.tolist(), strict=True))


def known(folder):
    """Points whose label is on the disk."""
    path = folder / FILENAME
    events = read_journal(path).events if path.exists() else []
    return {index for event in events if event["kind"] == "answer" for index in event["indices"]}


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    folder = tmp_path_factory.mktemp("straight") / "run"
    with FaultyDisk(folder).installed() as disk:
        expected = Run(folder).fit()
    assert disk.count > 40
    return disk.count, expected


def die_and_go_on(folder, mode, number, expected):
    first = Run(folder)
    with FaultyDisk(folder, mode, number).installed() as disk:
        with suppress(Killed):
            first.fit()
        assert disk.is_dead
    bought = known(folder)
    second = Run(folder)
    assert second.fit() == expected, number
    assert not bought & set(second.asked), number
    assert len(first.asked) + len(second.asked) - 12 in (0, 6), number  # a query whose answers were being written
    assert not [path for path in folder.iterdir() if path.name.startswith(".")], number


def fail_and_go_on(folder, mode, number, expected):
    run, message = Run(folder), ""
    with FaultyDisk(folder, mode, number).installed():
        try:
            found = run.fit()
        except StorageError as error:
            message = str(error)
            bought = known(folder)
            before = len(run.asked)
            found = run.fit()  # the same objects
            assert not bought & set(run.asked[before:]), number
    assert not message or (str(folder) in message and "No space left on device" in message), number
    assert found == expected, number
    assert Run(folder).fit() == expected, number


@pytest.mark.parametrize("mode", DEATHS)
def test_a_run_that_dies_at_an_operation_goes_on(mode, tmp_path, straight):
    count, expected = straight
    for number in range(0, count, -(-count // N_QUICK)):
        die_and_go_on(tmp_path / str(number), mode, number, expected)


@pytest.mark.parametrize("mode", FAILURES)
def test_a_run_whose_disk_fails_at_an_operation_goes_on_in_the_same_process(mode, tmp_path, straight):
    count, expected = straight
    for number in range(3, count, -(-count // N_QUICK)):
        fail_and_go_on(tmp_path / str(number), mode, number, expected)


@pytest.mark.slow
@pytest.mark.parametrize("mode", DEATHS)
def test_a_run_that_dies_at_any_operation_goes_on(mode, tmp_path, straight):
    count, expected = straight
    for number in range(count):
        die_and_go_on(tmp_path / str(number), mode, number, expected)


@pytest.mark.slow
@pytest.mark.parametrize("mode", FAILURES)
def test_a_run_whose_disk_fails_at_any_operation_goes_on_in_the_same_process(mode, tmp_path, straight):
    count, expected = straight
    for number in range(count):
        fail_and_go_on(tmp_path / str(number), mode, number, expected)
