"""Whole runs labelled through the page's server, without a browser: added classes, another oracle than at first."""

import os
import threading
import time

import numpy as np
import pytest
from PIL import Image

from lightning_diffal import ActiveDataModule, ActiveLearning
from lightning_diffal.cli import main
from lightning_diffal.exceptions import ResumeError
from lightning_diffal.oracle import FileOracle, PageOracle
from lightning_diffal.oracle.page.kept_media import bound_media
from lightning_diffal.report import html_report
from tests.helpers import TRAIN, Net, quiet_trainer
from tests.oracle.page.test_page_server import Client, uid

TRUTH = TRAIN.tensors[1].tolist()


def labeller(oracle, answer, stop):
    """Somebody who answers whatever the page shows, until the run is over."""

    def work():
        while oracle.address is None and not stop.is_set():
            time.sleep(0.02)
        client = Client(oracle.address).enter()
        for n in range(1000):
            if stop.is_set():
                return
            status, found = client.post("/api/next", avoid=[])
            if status != 200 or not found["card"]:
                time.sleep(0.05)
                continue
            answer(client, found["card"], n)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def fit(run_dir, oracle, *, max_rounds=2, answer=None, **data):
    """A run over two classes that are known at first; the others are to spare."""
    made = ActiveDataModule(TRAIN, initial_labels=[i for i in range(60) if TRUTH[i] < 2][:8], batch_size=4, **data)
    active = ActiveLearning(query_size=6, max_rounds=max_rounds, oracle=oracle, run_dir=run_dir, seed=0)
    stop = threading.Event()
    thread = None if answer is None else labeller(oracle, answer, stop)
    try:
        quiet_trainer([active], max_epochs=1).fit(Net(), datamodule=made)
    finally:
        stop.set()
        if thread is not None:
            thread.join(10)
        if isinstance(oracle, PageOracle):
            oracle.close()
    return made, active


def label(client, card, n, classes):
    given = {"uid": uid(n), "key": card["key"], "action": "label", "label": classes, "base": card["version"]}
    status, _ = client.post("/api/answer", **given)
    assert status == 200


def test_a_class_is_added_where_the_model_has_outputs_to_spare(tmp_path):
    refused = []

    def answer(client, card, n):
        if not refused:
            too_early = {"uid": uid(5000), "key": card["key"], "action": "label", "label": [2], "base": 0}
            assert client.post("/api/answer", **too_early)[0] == 409  # it has no name yet
            refused.append(client.post("/api/class", uid=uid(5001), name="class 2"))
            assert client.post("/api/class", uid=uid(5002), name="lily")[1]["classes"] == ["rose", "tulip", "lily"]
            refused.append(client.post("/api/class", uid=uid(5003), name="one too many"))
        label(client, card, n, [TRUTH[int(card["id"])]])

    names = {"class_names": ["rose", "tulip"], "num_classes": 3}
    oracle = PageOracle(open_browser=False, poll_seconds=0.1, timeout=60)
    data, active = fit(tmp_path / "run", oracle, answer=answer, **names)
    assert [status for status, _ in refused] == [409, 409]
    assert "another name" in refused[0][1]["error"] and "outputs for 3 classes" in refused[1][1]["error"]
    assert len(active.history) == 3 and len(data.labels) == 20
    assert {i: int(label) for i, label in zip(data.labelled_indices.tolist(), data.labels, strict=True)} == {
        i: TRUTH[i] for i in data.labelled_indices.tolist()
    }
    assert 2 in data.labels.tolist() and list(data.class_names) == ["rose", "tulip", "lily"]
    assert len(set(data.class_names)) == data.num_classes == 3
    (page,) = html_report(tmp_path / "run", tmp_path / "report.html")
    assert "lily" in page.read_text() and "class 2" not in page.read_text()
    # the script as it was goes on with the same run and the same page, and so does one that names the class now
    more = PageOracle(open_browser=False, poll_seconds=0.1, timeout=60)
    data, active = fit(
        tmp_path / "run",
        more,
        max_rounds=3,
        answer=lambda client, card, n: label(client, card, 2000 + n, [TRUTH[int(card["id"])]]),
        **names,
    )
    assert len(active.history) == 4 and len(data.labels) == 26 and list(data.class_names)[2] == "lily"
    named = {"class_names": ["rose", "tulip", "lily"]}
    data, active = fit(tmp_path / "run", PageOracle(open_browser=False, timeout=60), max_rounds=3, **named)
    assert len(active.history) == 4 and len(data.labels) == 26
    with pytest.raises(ResumeError, match="class_names"):
        fit(tmp_path / "run", PageOracle(open_browser=False, timeout=60), class_names=["rose", "tulip", "orchid"])


def test_a_run_that_asked_through_files_goes_on_with_a_page(tmp_path, capsys):
    names = {"class_names": ["a", "b", "c"]}
    data, active = fit(tmp_path / "run", FileOracle(), **names)
    assert len(data.pending_indices) == 6
    assert main(["label", str(tmp_path / "run")]) != 0
    said = capsys.readouterr().err
    assert "oracle=PageOracle()" in said and "query-000.csv" in said
    oracle = PageOracle(open_browser=False, poll_seconds=0.1, timeout=60)
    first = []

    def answer(client, card, n):
        first.append(int(card["id"]))
        label(client, card, n, [TRUTH[int(card["id"])]])

    data, active = fit(tmp_path / "run", oracle, answer=answer, **names)
    assert len(data.labels) == 20 and len(active.history) == 3
    table = (tmp_path / "run" / "queries" / "query-000.csv").read_text("utf-8-sig").splitlines()[1:]
    assert sorted(first[:6]) == sorted(int(row.split(",")[0]) for row in table)


def test_pictures_of_answered_items_shrink_where_they_take_up_too_much(tmp_path):
    media = tmp_path / "media"
    media.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (800, 800, 3), dtype=np.uint8)
    for n, name in enumerate(("old.png", "open.png", "new.jpg", "old-small.png")):
        Image.fromarray(noise).save(media / name)
        os.utime(media / name, (1000 + n, 1000 + n))
    (media / "older.audio").write_bytes(b"0" * 100_000)
    os.utime(media / "older.audio", (500, 500))
    sizes = {path.name: path.stat().st_size for path in media.iterdir()}
    total = sum(sizes.values())
    bound_media(tmp_path, {"open"}, limit=total)
    assert {path.name: path.stat().st_size for path in media.iterdir()} == sizes
    bound_media(tmp_path, {"open"}, limit=total - 150_000)  # the recording, then the oldest picture
    assert not (media / "older.audio").exists()
    assert Image.open(media / "old.png").size == (320, 320)
    assert all(Image.open(media / name).size == (800, 800) for name in ("open.png", "new.jpg", "old-small.png"))
    bound_media(tmp_path, {"open"}, limit=0)
    assert Image.open(media / "new.jpg").size == (320, 320)
    assert Image.open(media / "open.png").size == Image.open(media / "old-small.png").size == (800, 800)
