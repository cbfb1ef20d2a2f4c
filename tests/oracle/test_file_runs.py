"""Runs whose labels come from files: over several processes, and in one that waits."""

import csv
import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from lightning_diffal import ActiveDataModule, ActiveLearning, Query, QueryData
from lightning_diffal.exceptions import AnswerFileError, ConfigurationError
from lightning_diffal.oracle import FileOracle, files
from lightning_diffal.run.asking.query import with_suggestions
from lightning_diffal.samplers import BALDSampler, MarginSampler, RandomSampler
from tests.helpers import Net, fill, quiet_trainer
from tests.helpers_data import D, Model, classes, inputs
from tests.oracle.files_script import NAMES, TRAIN, outcome

SCRIPT = Path(__file__).with_name("files_script.py")


def name_of(index):
    return NAMES[int(TRAIN[index][1])]


def test_several_processes_end_where_an_uninterrupted_one_does(tmp_path):
    def run(seed, timeout, *kill):
        (tmp_path / "done.json").unlink(missing_ok=True)
        command = [sys.executable, str(SCRIPT), str(tmp_path), *map(str, (seed, timeout, *kill))]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def ended(process):
        _, error = process.communicate(timeout=120)
        return process.returncode, json.loads((tmp_path / "done.json").read_text()) if not process.returncode else error

    queries = tmp_path / "run" / "queries"
    first = queries / "query-000.csv"
    code, done = ended(run(5, 0))
    assert code == 0 and done["reason"] == (
        f"waiting for answers to 6 of the 6 points asked, in the column `label` of {first}: give them there and run "
        "this script again"
    )
    fill(first, name_of, slice(1, 4))
    code, done = ended(run(6, 0))
    assert code == 0 and "answers to 3 of the 6 points" in done["reason"] and len(done["labels"]) == 15

    fill(first, name_of)
    code, _ = ended(run(7, 0, 1))
    assert code == -signal.SIGKILL

    process = run(8, 60)
    second = queries / "query-001.csv"
    while not second.exists():
        assert process.poll() is None and not time.sleep(0.05)
    fill(second, name_of)
    code, done = ended(process)
    assert code == 0, done

    asked = []

    def ask(indices, items):
        asked.extend(indices)
        return [name_of(index) for index in indices]

    whole = json.loads(json.dumps(outcome(ask, tmp_path / "whole")))
    assert done == whole and len(asked) == 12 and done["reason"] == "max_rounds=2 reached"


def labelled_run(oracle, folder, max_rounds=2, model=None, **kwargs):
    data = ActiveDataModule(
        TensorDataset(inputs()),
        initial_labels={31: 1, 4: 1, 9: 0},
        num_classes=3,
        batch_size=4,
        **kwargs,
    )
    active = ActiveLearning(RandomSampler(), query_size=4, max_rounds=max_rounds, seed=0, oracle=oracle, run_dir=folder)
    quiet_trainer([active], max_epochs=1).fit(model or Model(), datamodule=data)
    return active, data


@pytest.mark.parametrize("sampler", [MarginSampler(), BALDSampler(n_passes=400), RandomSampler()])
def test_the_network_suggests_labels_where_the_sampler_does_not(sampler, tmp_path):
    x = inputs()
    model = Model(nn.Sequential(nn.Linear(D, 16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 3)))
    queries = []
    for number in range(2):
        data = ActiveDataModule(TensorDataset(x), initial_labels={31: 1, 4: 1, 9: 0}, class_names=NAMES, batch_size=4)
        active = ActiveLearning(sampler, query_size=4, seed=0, oracle=FileOracle(), run_dir=tmp_path)
        quiet_trainer([active], max_epochs=10).fit(model, datamodule=data)
        path = tmp_path / "queries" / f"query-{number:03d}.csv"
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
        model.eval()
        with torch.no_grad():
            probabilities = model(x[[int(row["index"]) for row in rows]]).softmax(1)
        queries.append((rows, probabilities))
        fill(path, lambda index: NAMES[int(classes()[index])])
    assert [len(record.labelled) for record in active.history] == [3, 7]
    for rows, probabilities in queries:
        suggested, sure = [row["suggested_label"] for row in rows], [row["confidence"] for row in rows]
        if isinstance(sampler, RandomSampler):  # it reads nothing of the model
            assert suggested == sure == [""] * 4
        else:
            assert suggested == [NAMES[i] for i in probabilities.argmax(1).tolist()]
            assert [float(s) for s in sure] == pytest.approx(probabilities.max(1).values.tolist(), abs=0.05)


def test_suggestions_of_several_labels_and_none_without_reason():
    query, rows = Query([2, 0], [0.5, 0.4]), np.array([[0.9, 0.6, 0.2], [0.1, 0.2, 0.3], [0.1, 0.2, 0.7]])
    several = QueryData(probabilities=rows, labelled=[1], labels=[[1, 0, 1]])
    assert with_suggestions(query, several).details["predicted"].tolist() == [[0, 0, 1], [1, 1, 0]]
    told = Query([2, 0], [0.5, 0.4], {"predicted": np.array([-1, 1])})  # the sampler knows better
    assert with_suggestions(told, several) is told
    assert with_suggestions(query, QueryData(num_points=3, labelled=[1], labels=[0])) is query
    spare = QueryData(probabilities=rows[:, ::-1], labelled=[1], labels=[0], num_classes=2)
    assert with_suggestions(query, spare).details["predicted"].tolist() == [0, 1]
    untrained = QueryData(probabilities=np.array([[0.9, 0.1]] * 3))
    assert with_suggestions(query, untrained) is query


def test_waits_in_place_while_somebody_fills_in(tmp_path):
    truth = classes().tolist()

    def work():
        for round_ in range(2):
            path = tmp_path / "queries" / f"query-{round_:03d}.csv"
            while not path.exists():
                time.sleep(0.01)
            fill(path, lambda index: "five", slice(2), delimiter=";")  # which nobody understands
            while not any(f"{path}, line 2: there is no class 'five'" in str(w.message) for w in told):
                time.sleep(0.01)
            path.write_text(path.read_text().replace("five", ""))
            with path.open(encoding="utf-8-sig", newline="") as file:
                rows = list(csv.DictReader(file, delimiter=";"))
            with path.open("a") as file:  # line by line, as a program would
                for row in rows:
                    file.write(f"{row['id']};{row['index']};{truth[int(row['index'])]}\n")
                    file.flush()
                    time.sleep(0.03)

    worker = threading.Thread(target=work, daemon=True)
    with pytest.warns(UserWarning, match="looked at again") as told:  # noqa: PT031  # the worker reads it
        worker.start()
        active, data = labelled_run(FileOracle(timeout=60, poll_seconds=0.01), tmp_path)
    worker.join()
    assert active.history[-1].stop_reason == "max_rounds=2 reached"
    assert data.labels.tolist() == [{31: 1, 4: 1, 9: 0}.get(i, truth[i]) for i in data.labelled_indices.tolist()]


def test_a_mistake_is_mended_later(tmp_path):
    labelled_run(FileOracle(), tmp_path)
    first = tmp_path / "queries" / "query-000.csv"
    fill(first, lambda index: "2")
    _, data = labelled_run(FileOracle(), tmp_path)
    assert sorted(data.labels.tolist()) == [0, 1, 1, 2, 2, 2, 2]
    fill(first, lambda index: "0", slice(1))
    fill(tmp_path / "queries" / "query-001.csv", lambda index: "?", slice(1))
    fill(tmp_path / "queries" / "query-001.csv", lambda index: "1", slice(1, None))
    active, data = labelled_run(FileOracle(), tmp_path)
    assert sorted(data.labels.tolist()) == [0, 0, 1, 1, 1, 1, 1, 2, 2, 2] and len(data.skipped_indices) == 1
    assert active.history[-1].stop_reason == "max_rounds=2 reached"
    kinds = [json.loads(line)["kind"] for line in (tmp_path / "journal.jsonl").read_text().splitlines()]
    assert kinds == ["header", "query", "answer", "query", "correction", "skip", "answer"]


def test_a_mistake_in_the_last_query_is_mended_when_the_run_has_ended(tmp_path):
    labelled_run(FileOracle(), tmp_path, max_rounds=1)
    path = tmp_path / "queries" / "query-000.csv"
    fill(path, lambda index: "2")
    active, _ = labelled_run(FileOracle(), tmp_path, max_rounds=1)
    assert active.history[-1].stop_reason == "max_rounds=1 reached"
    asked = np.sort(active.history[0].query.indices)
    fill(path, lambda index: "1" if index == asked[2] else "2")
    again, data = labelled_run(FileOracle(), tmp_path, max_rounds=1)
    assert data.pool.labels_of(asked) == dict(zip(asked.tolist(), [2, 2, 1, 2], strict=True))
    assert len(again.history) == 2 and again.history[-1].stop_reason == "max_rounds=1 reached"
    fill(path, lambda index: "seven")
    with pytest.raises(AnswerFileError, match="no class 'seven'"):
        labelled_run(FileOracle(), tmp_path, max_rounds=1)
    fill(path, lambda index: "2")
    _, data = labelled_run(FileOracle(), tmp_path, max_rounds=1)
    assert set(data.pool.labels_of(asked).values()) == {2}


def test_killed_between_the_journal_and_the_file(tmp_path, monkeypatch):
    def killed(*args):
        raise KeyError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(files, "add_rows", killed)
        with pytest.raises(KeyError):
            labelled_run(FileOracle(), tmp_path)
    asked = json.loads((tmp_path / "journal.jsonl").read_text().splitlines()[1])["indices"]
    active, _ = labelled_run(FileOracle(), tmp_path)
    with (tmp_path / "queries" / "query-000.csv").open(encoding="utf-8-sig", newline="") as file:
        assert [int(row["index"]) for row in csv.DictReader(file)] == asked
    assert "waiting for answers to 4 of the 4" in active.history[-1].stop_reason


def test_what_cannot_work_fails_before_training(tmp_path):
    model = Net()
    with pytest.raises(ConfigurationError, match="no folder for its files"):
        labelled_run(FileOracle(), False, model=model)
    labelled_run(FileOracle(tmp_path / "queries"), tmp_path / "one")
    with pytest.raises(ConfigurationError, match="holds the queries of run"):
        labelled_run(FileOracle(tmp_path / "queries"), tmp_path / "two", model=model)
    assert not model.losses


def test_a_file_that_cannot_be_read_loses_nothing(tmp_path):
    labelled_run(FileOracle(), tmp_path)
    first = tmp_path / "queries" / "query-000.csv"
    good = first.read_bytes()
    first.write_bytes(good[: (at := good.index(b"\n") + 2)] + b"\xff" + good[at:])
    for _ in range(2):
        with pytest.raises(AnswerFileError, match=r"query-000.csv, line 2: not UTF-8"):
            labelled_run(FileOracle(), tmp_path)
    first.write_bytes(good)
    fill(first, lambda index: "1")
    active, _ = labelled_run(FileOracle(), tmp_path, max_rounds=1)
    assert len(active.history) == 2
