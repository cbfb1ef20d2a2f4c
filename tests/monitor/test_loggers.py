"""Each logger can draw accuracy against labels: what it wrote is read back."""

import csv
import re
import struct
import time
import warnings
from importlib import import_module
from pathlib import Path

import pytest
import torch

from lightning_diffal import ActiveDataModule, ActiveLearning, DiffusionSampler
from lightning_diffal._lightning import NAMESPACE
from lightning_diffal.monitor.loggers import RunLoggers
from lightning_diffal.stopping import StablePredictions
from tests.helpers import TRAIN, VAL, Net, quiet_trainer

loggers = import_module(f"{NAMESPACE}.loggers")
LABELS = [12, 18, 24]
TABLE = Path(__file__).parents[2] / "docs" / "reference" / "log-names.md"


def run(tmp_path, logger, max_rounds=2, **kwargs):
    torch.manual_seed(1)
    active = ActiveLearning(DiffusionSampler(), query_size=6, max_rounds=max_rounds, seed=3, **kwargs)
    data = ActiveDataModule(
        TRAIN, val_dataset=VAL, test_dataset=VAL, initial_labels=12, batch_size=4, class_names=["cat", "große", "dog"]
    )
    trainer = quiet_trainer([active], logger=logger, default_root_dir=tmp_path, log_every_n_steps=50)
    trainer.fit(Net(), datamodule=data)
    return active


def rows_of(logger):
    with Path(logger.log_dir, "metrics.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def rounds_of(rows):
    return [row for row in rows if row.get("active/n_labelled")]


def stored(path):
    """Records of a file of Weights & Biases: LevelDB's log format behind a header of seven bytes."""
    content, place, parts = path.read_bytes(), 7, []
    while place + 7 <= len(content):
        left = 2**15 - place % 2**15
        if left < 7:
            place += left
            continue
        _, length, kind = struct.unpack("<IHB", content[place : place + 7])
        parts.append(content[place + 7 : place + 7 + length])
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part of one
            yield b"".join(parts)
            parts = []


def wandb_records(path):
    """All of them; another process writes the file, and its end a little later."""
    for _ in range(200):
        found = [import_module("wandb.proto.wandb_internal_pb2").Record.FromString(data) for data in stored(path)]
        if any(record.HasField("exit") for record in found):
            break
        time.sleep(0.1)
    return found


def test_csv_has_one_row_per_round_with_all_of_it(tmp_path):
    logger = loggers.CSVLogger(tmp_path)
    active = run(tmp_path, logger, test_each_round=True)
    rows = rounds_of(rows_of(logger))
    assert [float(row["active/n_labelled"]) for row in rows] == LABELS
    for row, record in zip(rows, active.history, strict=True):
        assert float(row["round/test_acc"]) == pytest.approx(record.metrics["test_acc"])
        assert float(row["round/train_loss"]) == pytest.approx(record.metrics["train_loss"])  # 3 to 6 steps of 50
        assert float(row["active/round"]) == record.round and float(row["active/seconds/fit"]) > 0
        counts = [float(row[f"active/labels/{name}"]) for name in ("cat", "1", "dog")]
        assert sum(counts) == record.n_labelled and 0 < float(row["active/class_balance"]) <= 1
    assert [row["active/exploration_share"] != "" for row in rows] == [False, True, True]
    shares = [record.query.summary["exploration_share"] for record in active.history[:-1]]
    assert [float(row["active/exploration_share"]) for row in rows[1:]] == pytest.approx(shares)
    assert [float(row["active/answered"]) for row in rows] == [0, 6, 6]
    assert [float(row["active/n_pool"]) for row in rows] == [108, 102, 96]
    settings = Path(logger.log_dir, "hparams.yaml").read_text(encoding="utf-8")
    assert "active/sampler: DiffusionSampler" in settings and "active/sampler/n_neighbors: 15" in settings
    assert "active/run: " + active.history.facts["run"] in settings and "active/seed: 3" in settings
    assert "active/stop_reason: max_rounds=2 reached" in settings and "active/version/torch" in settings


def test_the_step_axis_goes_on_through_run_dir_as_in_one_go(tmp_path):
    whole = loggers.CSVLogger(tmp_path / "whole")
    run(tmp_path, whole, run_dir=tmp_path / "a")
    parts = [loggers.CSVLogger(tmp_path / name) for name in ("first", "second")]
    run(tmp_path, parts[0], max_rounds=1, run_dir=tmp_path / "b")
    run(tmp_path, parts[1], max_rounds=2, run_dir=tmp_path / "b")
    wanted = [(row["step"], row["active/n_labelled"]) for row in rounds_of(rows_of(whole))]
    found = [[(row["step"], row["active/n_labelled"]) for row in rounds_of(rows_of(part))] for part in parts]
    assert wanted == found[0] + found[1] and len(found[1]) == 1
    assert [int(step) for step, _ in wanted] == [6, 16, 28]


def test_tensorboard_has_labels_for_steps_and_the_figure(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    logger = loggers.TensorBoardLogger(tmp_path)
    run(tmp_path, logger, test_each_round=True)
    events = accumulator.EventAccumulator(logger.log_dir).Reload()
    for tag in ("round/test_acc", "active/n_labelled", "active/labels/cat"):
        assert [event.step for event in events.Scalars(tag)] == LABELS
    assert [event.step for event in events.Scalars("active/exploration_share")] == LABELS[1:]
    assert events.Tensors("active/stop_reason/text_summary")[0].tensor_proto.string_val == [b"max_rounds=2 reached"]
    assert [event.step for event in events.Images("active/learning_curve")] == [24]
    folder = Path(logger.log_dir)
    written = [
        accumulator.EventAccumulator(str(f)).Reload() for f in [folder, *folder.iterdir()] if "tfevents" in str(f)
    ]
    settings = b"".join(e.PluginTagToContent("hparams").get("_hparams_/session_start_info", b"") for e in written)
    assert b"active/query_size" in settings


def test_wandb_offline_draws_against_labels(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    logger = loggers.WandbLogger(project="p", save_dir=tmp_path, offline=True)
    run(tmp_path, logger, test_each_round=True)
    assert logger.experiment.summary["active/stop_reason"] == "max_rounds=2 reached"
    assert logger.experiment.config["active/sampler"] == "DiffusionSampler"
    folder = Path(logger.experiment.dir).parent
    experiment = logger.experiment
    experiment.finish()
    rows, axes = [], {}
    for record in wandb_records(next(folder.glob("*.wandb"))):
        if record.HasField("history"):
            rows.append({item.key or "/".join(item.nested_key): item.value_json for item in record.history.item})
        if record.HasField("metric"):
            axes[record.metric.glob_name or record.metric.name] = record.metric.step_metric
    assert axes["round/*"] == axes["active/*"] == "active/n_labelled"
    whole = [row for row in rows if "round/test_acc" in row]
    assert [float(row["active/n_labelled"]) for row in whole] == LABELS
    assert any("active/learning_curve" in key for row in rows for key in row)


def test_mlflow_has_labels_for_steps(tmp_path):
    pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    uri = f"sqlite:///{tmp_path / 'runs.db'}"
    logger = loggers.MLFlowLogger("e", tracking_uri=uri, artifact_location=(tmp_path / "artifacts").as_uri())
    run(tmp_path, logger, test_each_round=True)
    client, run_id = logger.experiment, logger.run_id
    for name in ("round/test_acc", "active/n_labelled", "active/class_balance"):
        assert [metric.step for metric in client.get_metric_history(run_id, name)] == LABELS
    found = client.get_run(run_id).data
    assert found.tags["active/stop_reason"] == "max_rounds=2 reached"
    assert found.params["active/sampler"] == "DiffusionSampler"
    assert [file.path for file in client.list_artifacts(run_id, "active")] == ["active/learning_curve.png"]
    again = loggers.MLFlowLogger("e", tracking_uri=uri, run_id=run_id)  # parameters cannot be changed in MLflow
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        run(tmp_path, again, max_rounds=1, test_each_round=True)
    assert not [w for w in warned if "did not take" in str(w.message)]


def test_a_logger_that_fails_costs_no_labels(tmp_path):
    class Broken(loggers.CSVLogger):
        def log_metrics(self, metrics, step=None):
            if "active/n_labelled" in metrics:
                raise OSError("no space left")

    with pytest.warns(UserWarning, match=r"Broken did not take .*no space left"):
        active = run(tmp_path, Broken(tmp_path))
    assert [record.n_labelled for record in active.history] == LABELS


def test_a_row_without_labels_keeps_the_training_step():
    class TensorBoardLogger:
        def __init__(self):
            self.rows = []

        def log_metrics(self, row, step):
            self.rows.append((dict(row), step))

        def save(self):
            pass

    logger = TensorBoardLogger()
    sender = RunLoggers()
    sender.row([logger], {"active/n_labelled": 30.0, "round/x": 1.0}, 7)
    sender.row([logger], {"active/prediction_kappa": 0.5}, 7)
    assert [step for _, step in logger.rows] == [30, 7]


def test_the_table_in_the_docs_names_all_that_is_logged(tmp_path):
    text = TABLE.read_text(encoding="utf-8")
    cells = re.findall(r"^\| (`(?:active|round)/[^|]+) \|", text, flags=re.MULTILINE)
    named = [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]
    settings = re.findall(r"`(active/[^`]+)`", text.partition("## Once per run")[2])
    patterns = {name: re.compile(re.sub(r"<[a-z]+>", r"[^ ]+", name)) for name in named + settings}
    logger = loggers.CSVLogger(tmp_path)
    rules = [StablePredictions(threshold=1.0, window=3)]
    run(tmp_path, logger, max_rounds=3, test_each_round=True, pseudo_labels=True, stopping=rules)
    logged = {name for name in rows_of(logger)[0] if name.startswith(("active/", "round/"))}
    hparams = Path(logger.log_dir, "hparams.yaml").read_text(encoding="utf-8")
    logged |= set(re.findall(r"^(active/[^:]+):", hparams, flags=re.MULTILINE))
    precise = {name: pattern for name, pattern in patterns.items() if name != "active/<figure>"}
    unnamed = [name for name in logged if not any(pattern.fullmatch(name) for pattern in precise.values())]
    assert unnamed == []
    absent = [name for name, pattern in precise.items() if not any(map(pattern.fullmatch, logged))]
    assert absent == ["active/learning_curve"]  # a figure, which a CSV file does not take
