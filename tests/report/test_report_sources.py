"""What a report is made from, and what is refused: features, metrics, damaged folders, the command."""

from pathlib import Path

import numpy as np
import pytest
import torch

from lightning_diffal.cli import main
from lightning_diffal.exceptions import ConfigurationError, FeatureError, ResumeError
from lightning_diffal.history.journal import FILENAME, read_events
from lightning_diffal.history.lines import encode_line
from lightning_diffal.report import html_report
from lightning_diffal.stopping import Budget
from tests.report.test_html_report import FEATURES, Page, run


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "run"
    active, data = run(folder, stopping=Budget(10), max_rounds=None)
    return folder, active, data


@pytest.mark.parametrize(
    ("features", "error", "message"),
    [
        (np.ones((7, 3)), ConfigurationError, "each of the 120 points"),
        (np.ones(120), ConfigurationError, "matrix of numbers"),
        (np.full((120, 2), "a"), ConfigurationError, "matrix of numbers"),
        (np.where(np.arange(240).reshape(120, 2) == 9, np.nan, 1.0), FeatureError, r"points \[4\]"),
    ],
)
def test_features_that_do_not_fit(finished, tmp_path, features, error, message):
    with pytest.raises(error, match=message):
        html_report(finished[0], tmp_path / "a.html", features=features)
    assert not list(tmp_path.iterdir())


def test_an_unknown_metric_is_refused(finished, tmp_path):
    with pytest.raises(ConfigurationError, match="'accuracy'"):
        html_report(finished[0], tmp_path / "a.html", metrics=["accuracy"])
    (page,) = html_report(finished[0], tmp_path / "a.html", metrics=["train_loss"])
    charts = [value for tag, name, value in Page(page).attributes if (tag, name) == ("svg", "aria-label")]
    assert charts[0].startswith("train_loss: ") and not any(words.startswith("val_loss") for words in charts)


def break_line(folder):
    lines = (folder / FILENAME).read_text().splitlines()
    lines[2] = lines[2][:30]
    (folder / FILENAME).write_text("\n".join(lines) + "\n")


def drop_label(folder):
    events, _ = read_events(folder / FILENAME)
    next(event for event in events if event["kind"] == "answer")["labels"].pop()
    (folder / FILENAME).write_bytes(b"".join(encode_line(event, n) for n, event in enumerate(events, start=1)))


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (break_line, ResumeError, r"Line 3 of .*journal\.jsonl is not what a run has written"),
        (drop_label, ResumeError, "`labels` has to hold one entry for each of 5 points"),
        (lambda folder: (folder / FILENAME).write_text(""), ResumeError, "does not begin with the header"),
        (lambda folder: (folder / FILENAME).write_bytes(b"\xff\xfe\x00\n"), ResumeError, "Line 1"),
        (lambda folder: (folder / FILENAME).write_text('{"kind":"header","format":1}\n'), ResumeError, "names no run"),
        (lambda folder: (folder / "state.ckpt").write_bytes(b"nonsense"), ResumeError, r"state\.ckpt is damaged"),
        (lambda folder: torch.save({"a": 1}, folder / "state.ckpt"), ResumeError, "holds no state of a run"),
        (lambda folder: (folder / FILENAME).unlink(), ConfigurationError, "holds no journal.jsonl"),
    ],
)
def test_damaged_folders_are_explained(finished, tmp_path, damage, error, message, capsys):
    import shutil

    folder = tmp_path / "run"
    shutil.copytree(finished[0], folder)
    damage(folder)
    with pytest.raises(error, match=message):
        html_report(folder, tmp_path / "a.html")
    assert main(["report", str(folder)]) == 1
    said = capsys.readouterr().err
    assert said.startswith("diffal report: ") and said.count("\n") == 1 and len(said) < 500
    assert not list(tmp_path.glob("*.html"))


def test_the_command(finished, tmp_path, capsys, monkeypatch):
    np.save(tmp_path / "emb.npy", FEATURES)
    arguments = ["report", str(finished[0]), "--out", str(tmp_path / "b.html"), "--features", str(tmp_path / "emb.npy")]
    assert main([*arguments, "--title", "Mine & yours"]) == 0
    assert str(tmp_path / "b.html") in capsys.readouterr().out
    assert "Mine & yours" in Page(tmp_path / "b.html").words
    finished[1].history.to_json(tmp_path / "history.json")
    assert main(["report", str(tmp_path / "history.json")]) == 0
    assert (tmp_path / "history.html").exists()
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    assert main(["report", str(tmp_path / "history.json"), "--open"]) == 0
    assert opened == [(tmp_path / "history.html").as_uri()]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere does not exist"),
        (["."], r"no journal.jsonl: it holds runs, so give one of them (run)"),
        (["text.json"], "not a history that `History.to_json` wrote"),
        (["list.json"], "not a history that `History.to_json` wrote"),
        (["run", "--features", "text.json"], "is not a .npy, .npz, .csv or .parquet file of numbers"),
        (["run", "--features", "objects.npy"], "is not a .npy, .npz, .csv or .parquet file of numbers"),
        (["run", "--features", "nowhere.npy"], "No such file"),
        (["run", "--features", "nowhere.npy", "--out", "a.html"], "No such file"),
        (["run", "--out", "text.json/a.html"], "text.json"),
        (["run", "--out", "run/journal.jsonl"], "--out is run/journal.jsonl: give it a name that ends in .html"),
        (["text.json", "--out", "text.json"], "--out is text.json: give it a name that ends in .html"),
    ],
)
def test_rubbish_is_refused_in_a_line(finished, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    Path("run").symlink_to(finished[0])
    Path("text.json").write_bytes(b"\xff no json " * 1000)
    Path("list.json").write_text('[{"round": 0}]')
    np.save("objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    assert main(["report", *arguments]) == 1
    said = capsys.readouterr().err
    assert said.startswith("diffal report: ") and message in said and said.count("\n") == 1 and len(said) < 400
    assert not list(tmp_path.glob("*.html"))
    assert Path("run/journal.jsonl").read_bytes()[:1] == b"{" and b"no json" in Path("text.json").read_bytes()
