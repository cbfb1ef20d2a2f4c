"""A run folder on a bad day: damaged, half written, full, of another run."""

import errno
import random
import shutil
import zipfile

import numpy as np
import pytest
import torch

from lightning_diffal import ActiveDataModule, ActiveLearning
from lightning_diffal.exceptions import ResumeError, StorageError
from lightning_diffal.history import journal as journal_module
from lightning_diffal.history.folder import INITIAL, STATE, check_archive, load_archive
from lightning_diffal.history.journal import FILENAME, Journal, read_events
from lightning_diffal.samplers import RandomSampler
from tests.helpers import TRAIN, VAL, Net, pl, pl_callbacks, quiet_trainer

START = [90, 3, 41, 17]


def run(folder, max_rounds=2, oracle=None, callbacks=(), ckpt_path=None, enable_checkpointing=False):
    torch.manual_seed(1)
    data = ActiveDataModule(TRAIN, val_dataset=VAL, initial_labels=START, batch_size=4)
    active = ActiveLearning(RandomSampler(), query_size=6, max_rounds=max_rounds, seed=3, run_dir=folder, oracle=oracle)
    trainer = quiet_trainer([active, *callbacks], max_epochs=1, enable_checkpointing=enable_checkpointing)
    trainer.fit(Net(), datamodule=data, ckpt_path=ckpt_path)
    return active, data


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    run(folder)
    return folder


def flipped(whole, rng):
    damaged = bytearray(whole)
    damaged[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def plain(value):
    """Something that can be compared, of tensors and all."""
    if isinstance(value, torch.Tensor):
        return (str(value.dtype), value.tolist())
    if isinstance(value, dict):
        return {name: plain(v) for name, v in value.items()}
    return [plain(v) for v in value] if isinstance(value, list | tuple) else value


def test_a_thousand_flipped_bits_in_a_state_are_an_error_or_change_nothing(tmp_path):
    path = tmp_path / STATE
    torch.save({"active_learning": {"labels": [1, 0, 2], "w": torch.arange(5.0)}, "state_dict": {"a": "b"}}, path)
    whole, expected = path.read_bytes(), plain(load_archive(path))
    rng, messages = random.Random(0), []
    for _ in range(1000):
        path.write_bytes(flipped(whole, rng))
        try:
            assert plain(load_archive(path)) == expected
        except ResumeError as error:
            messages.append(str(error))
    assert (
        all(str(path) in message for message in messages) and len(messages) > 300
    )  # much of a small archive is padding and dates


@pytest.mark.slow
def test_flipped_bits_in_a_run_folder_never_give_another_label(tmp_path, finished):
    """A whole run is resumed from each damaged folder: as if nothing had happened, or not at all."""
    active, data = run(tmp_path / "expected")
    expected = dict(zip(data.labelled_indices.tolist(), data.labels.tolist(), strict=True))
    picks = [None if r.query is None else r.query.indices.tolist() for r in active.history]
    rng, messages = random.Random(1), []
    for number in range(60):
        shutil.copytree(finished, tmp_path / "run")
        path = tmp_path / "run" / (FILENAME if number % 2 else STATE)
        path.write_bytes(flipped(path.read_bytes(), rng))
        try:
            again, data = run(tmp_path / "run")
            assert dict(zip(data.labelled_indices.tolist(), data.labels.tolist(), strict=True)) == expected
            assert [None if r.query is None else r.query.indices.tolist() for r in again.history] == picks
        except ResumeError as error:
            messages.append(str(error))
        shutil.rmtree(tmp_path / "run")
    assert all(str(tmp_path / "run") in message for message in messages) and len(messages) >= 30


@pytest.mark.parametrize("change", ["cut", "empty", "text", "directory gone"])
def test_a_damaged_state_is_refused_with_the_way_out(change, tmp_path, finished):
    shutil.copytree(finished, tmp_path / "run")
    path = tmp_path / "run" / STATE
    whole = path.read_bytes()
    path.write_bytes(
        {"cut": whole[:-100], "empty": b"", "text": b"not a state", "directory gone": whole[: len(whole) // 2]}[change]
    )
    with pytest.raises(ResumeError, match=r"state.ckpt is damaged .* take state.ckpt out of the folder"):
        run(tmp_path / "run")
    path.unlink()  # as the message says

    def forbidden(indices, items):
        raise AssertionError("bought twice")

    active, data = run(tmp_path / "run", oracle=forbidden)
    assert [r.n_labelled for r in active.history] == [4, 10, 16] and len(data.labelled_indices) == 16


def test_a_state_of_another_run_is_refused(tmp_path, finished):
    run(tmp_path / "other")
    shutil.copy(finished / STATE, tmp_path / "other" / STATE)
    with pytest.raises(ResumeError, match=r"is the state of run .* but the journal beside it is of run"):
        run(tmp_path / "other")
    torch.save({"state_dict": {}}, tmp_path / "other" / STATE)
    with pytest.raises(ResumeError, match="holds no state of a run"):
        run(tmp_path / "other")


@pytest.mark.parametrize("left", [b"", b'{"kind":"header","form'])
def test_a_header_that_was_cut_off_begins_anew(left, tmp_path):
    (tmp_path / FILENAME).write_bytes(left)
    active, _ = run(tmp_path)
    assert [r.n_labelled for r in active.history] == [4, 10, 16]
    assert len(read_events(tmp_path / FILENAME)[0]) == 5


def test_temporary_files_of_killed_writers_go_and_no_others(tmp_path, finished):
    shutil.copytree(finished, tmp_path / "run")
    for name in (".state.0a1b2c3d.ckpt", ".journal.00000000.jsonl", ".state.mine.ckpt", ".report.0a1b2c3d.html"):
        (tmp_path / "run" / name).write_text("half of")
    run(tmp_path / "run", max_rounds=3)
    left = {path.name for path in (tmp_path / "run").iterdir()} - {"run.json"}
    assert left == {FILENAME, STATE, INITIAL, "writer.lock", ".state.mine.ckpt", ".report.0a1b2c3d.html"}


def test_archives_are_checked_and_other_files_pass(tmp_path):
    torch.save({"a": torch.ones(3)}, tmp_path / "old.ckpt", _use_new_zipfile_serialization=False)
    check_archive(tmp_path / "old.ckpt")
    with pytest.raises(ResumeError, match="damaged"):
        check_archive(tmp_path / "gone.ckpt")


# ------------------------------------------------------------------------------------------------- full disks


class FullDisk:
    """In place of the function that appends: fails once, after so many bytes."""

    def __init__(self, path, written, n_before=0):
        self.path, self.written, self.left = path, written, n_before + 1
        self.write = journal_module._write

    def __call__(self, path, line):
        self.left -= 1
        if self.left:
            return self.write(path, line)
        with path.open("ab") as file:
            file.write(line[: len(line) * self.written // 4])
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("written", [0, 2, 4])
def test_after_a_failed_append_the_same_process_goes_on(written, tmp_path, monkeypatch):
    journal = Journal.create(tmp_path / FILENAME, {"run": "a"})
    monkeypatch.setattr(journal_module, "_write", FullDisk(journal.path, written))
    skip = {"kind": "skip", "indices": [1]}
    with pytest.raises(StorageError, match=r"journal.jsonl could not be written: No space left on device"):
        journal.record(skip)
    assert journal.behind == (written == 4)  # all of it is there, so it is replayed and not asked for again
    journal.record(skip)
    journal.record({"kind": "skip", "indices": [2]})
    assert journal.behind == 0 and [e["indices"] for e in read_events(journal.path)[0][1:]] == [[1], [2]]


@pytest.mark.parametrize("written", [0, 2, 4])
@pytest.mark.parametrize("n_before", range(4))
def test_a_run_goes_on_in_the_same_process_where_the_disk_was_full(written, n_before, tmp_path, monkeypatch):
    expected, labelled = run(tmp_path / "expected")
    asked = []

    def oracle(indices, items):
        asked.extend(indices)
        return [int(y) for _, y in items]

    torch.manual_seed(1)
    data = ActiveDataModule(TRAIN, val_dataset=VAL, initial_labels=START, batch_size=4)
    active = ActiveLearning(
        RandomSampler(), query_size=6, max_rounds=2, seed=3, run_dir=tmp_path / "run", oracle=oracle
    )
    trainer, model = quiet_trainer([active], max_epochs=1), Net()
    monkeypatch.setattr(journal_module, "_write", FullDisk(tmp_path, written, n_before))
    with pytest.raises(StorageError, match="No space left"):
        trainer.fit(model, datamodule=data)
    trainer.fit(model, datamodule=data)
    assert [r.n_labelled for r in active.history] == [4, 10, 16]
    np.testing.assert_array_equal(data.labelled_indices, labelled.labelled_indices)
    kinds = [event["kind"] for event in read_events(tmp_path / "run" / FILENAME)[0]]
    assert kinds == ["header", *["query", "answer"] * 2]
    # an answer of which nothing reached the disk is asked for again, and only that
    assert len(asked) == (18 if n_before % 2 and written < 4 else 12)
    again, _ = run(tmp_path / "run")
    assert len(again.history) == 3 and expected.history[-1].n_labelled == 16


def test_a_state_that_cannot_be_written_says_which_and_why(tmp_path, monkeypatch):
    class Full(pl.Callback):
        def on_round_end(self, trainer):
            if len(active_of(trainer).history) == 2:
                monkeypatch.setattr(torch, "save", no_room)

    def active_of(trainer):
        return ActiveLearning.from_trainer(trainer)

    def no_room(contents, file):
        file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(StorageError, match=r"state.ckpt could not be written: No space left on device"):
        run(tmp_path, callbacks=[Full()])
    monkeypatch.undo()
    assert {path.name for path in tmp_path.iterdir()} - {"run.json"} == {FILENAME, STATE, INITIAL, "writer.lock"}
    active, _ = run(tmp_path)
    assert [r.n_labelled for r in active.history] == [4, 10, 16]


def test_a_damaged_checkpoint_of_lightning_is_refused(tmp_path):
    saves = pl_callbacks.ModelCheckpoint(tmp_path / "checkpoints", filename="{round}")
    run(tmp_path / "run", callbacks=[saves], enable_checkpointing=True)
    path = sorted((tmp_path / "checkpoints").iterdir())[1]
    whole = path.read_bytes()
    name = next(entry for entry in zipfile.ZipFile(path).infolist() if entry.filename.endswith("data.pkl"))
    position = whole.index(b"labelled", name.header_offset) + 3
    path.write_bytes(whole[:position] + b"X" + whole[position + 1 :])
    with pytest.raises((ResumeError, KeyError)):
        run(tmp_path / "run", ckpt_path=path)
    blob = next(e for e in zipfile.ZipFile(path).infolist() if "/data/" in e.filename and e.file_size > 200)
    position = blob.header_offset + 200
    path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
    with pytest.raises(ResumeError, match=r"\.ckpt is damaged .* Give an earlier checkpoint"):
        run(tmp_path / "run", ckpt_path=path)


def test_initial_weights_are_kept_once(tmp_path, finished):
    shutil.copytree(finished, tmp_path / "run")
    kept = torch.load(tmp_path / "run" / STATE, weights_only=True)["active_learning"]
    assert kept["initial_weights"] is None and kept["initial_weights_beside"]
    before = (tmp_path / "run" / INITIAL).read_bytes()
    expected, _ = run(tmp_path / "straight", max_rounds=3)
    active, _ = run(tmp_path / "run", max_rounds=3)
    assert active.history[-1].metrics == expected.history[-1].metrics  # the last round began from them
    assert (tmp_path / "run" / INITIAL).read_bytes() == before


def test_initial_weights_that_are_gone_or_of_another_run_are_missed(tmp_path, finished):
    shutil.copytree(finished, tmp_path / "run")
    run(tmp_path / "other")
    shutil.copy(tmp_path / "other" / INITIAL, tmp_path / "run" / INITIAL)
    with pytest.raises(ResumeError, match=r"initial\.ckpt is of another run"):
        run(tmp_path / "run", max_rounds=3)
    (tmp_path / "run" / INITIAL).unlink()
    with pytest.raises(ResumeError, match=r"initial\.ckpt is gone, .* take state\.ckpt out of the folder"):
        run(tmp_path / "run", max_rounds=3)
    (tmp_path / "run" / STATE).unlink()
    active, _ = run(tmp_path / "run", max_rounds=3)
    assert [r.n_labelled for r in active.history] == [4, 10, 16, 22]
