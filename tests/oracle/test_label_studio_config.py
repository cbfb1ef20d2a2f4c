"""What Label Studio shows: the labelling configuration, suggestions, reasons, and a folder for each run."""

import base64
import io
import json
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image

from lightning_diffal import ActiveDataModule, Query
from lightning_diffal.exceptions import ConfigurationError
from lightning_diffal.oracle import LabelStudioOracle, label_config
from tests.oracle.test_label_studio import ASKED, CHOICES, question, texts


def test_suggestions_are_ticked_shown_or_hidden(tmp_path):
    query = Query([7], [0.9], {"predicted": np.array([2]), "probability": np.array([0.75])})
    found = {}
    for suggest in ("ticked", "shown", "hidden"):
        LabelStudioOracle(tmp_path / suggest, suggest=suggest).ask(question([7], query), texts())
        (found[suggest],) = json.loads((tmp_path / suggest / "tasks-round-000.json").read_text())
    assert {name: "predictions" in task for name, task in found.items()} == {
        "ticked": True,
        "shown": False,
        "hidden": False,
    }
    said = {name: task["data"]["diffal_suggestion"] for name, task in found.items()}
    assert said == {"ticked": "", "shown": "Suggestion: bird (75% sure)", "hidden": ""}
    with pytest.raises(ConfigurationError, match="`suggest`"):
        LabelStudioOracle(tmp_path, suggest=True)


@pytest.mark.parametrize(
    ("item", "kind", "tag"),
    [
        (torch.rand(1, 8, 8), "image", "Image"),
        (torch.rand(8000), "audio", "Audio"),
        (torch.rand(5), "table", "Table"),
        ("a text", "text", "Text"),
    ],
)
def test_every_field_that_the_configuration_names_is_in_every_task(item, kind, tag, tmp_path):
    data = ActiveDataModule([item] * 4, initial_labels={0: 1}, class_names=CHOICES)
    query = Query([3, 2], [0.9, 0.8], {"nearest_labelled": np.array([0, -1])})
    LabelStudioOracle(tmp_path).ask(question([3, 2], query), data)
    tasks = json.loads((tmp_path / "tasks-round-000.json").read_text())
    config = ElementTree.fromstring((tmp_path / "label_config.xml").read_text())
    named = {part.get("value")[1:] for part in config.iter() if (part.get("value") or "").startswith("$")}
    assert kind in named
    assert all(named <= set(task["data"]) for task in tasks)
    assert config.find(f".//{tag}").get("name") == kind
    assert "dog" in tasks[0]["data"]["diffal_nearest"]
    assert "<script" not in tasks[0]["data"]["diffal_nearest"]
    if kind == "image":  # the picture of point 0, and one that shows nothing where there is no example
        pictures = [task["data"]["diffal_nearest_image"] for task in tasks]
        with_one, without = (Image.open(io.BytesIO(base64.b64decode(p.partition(",")[2]))) for p in pictures)
        assert with_one.size == (160, 160)
        assert all(len(base64.b64decode(p.partition(",")[2])) > 100 for p in pictures)  # Label Studio fails on less
        assert without.size == (8, 8) and without.convert("RGBA").getpixel((0, 0))[3] == 0


def test_images_leave_the_choices_in_sight_and_many_classes_become_a_list():
    few, many = (ElementTree.fromstring(label_config([str(n) for n in range(size)])) for size in (12, 30))
    assert few.find(".//Image").get("maxHeight") == "60vh"
    assert [choice.get("hotkey") for choice in few.iter("Choice")] == [*"0123456789", None, None]
    numbers = ElementTree.fromstring(label_config(["cat", "1", "0", "dog"]))
    assert [choice.get("hotkey") for choice in numbers.iter("Choice")] == ["2", "1", "0", "3"]  # as on the page
    assert (few.find(".//Choices").get("layout"), many.find(".//Choices").get("layout")) == ("vertical", "select")


def test_a_long_nearest_text_is_an_excerpt(tmp_path):
    data = ActiveDataModule(["many words " * 500, *["b"] * 4], initial_labels={0: 1}, class_names=CHOICES)
    LabelStudioOracle(tmp_path).ask(question([3], Query([3], [0.9], {"nearest_labelled": np.array([0])})), data)
    (task,) = json.loads((tmp_path / "tasks-round-000.json").read_text())
    assert len(task["data"]["diffal_nearest"]) < 600
    assert task["data"]["diffal_nearest"].endswith(" …</p>")


def test_recordings_inside_a_task_can_be_played():
    """Label Studio decodes recordings through a request that fails for what travels inside a task."""
    assert ElementTree.fromstring(label_config(CHOICES, "audio")).find(".//Audio").get("decoder") == "none"


def test_what_task_data_chooses_is_all_that_is_sent(tmp_path):
    data = ActiveDataModule([f"secret {n}" for n in range(4)], initial_labels={0: 1}, class_names=CHOICES)
    query = Query([3], [0.9], {"nearest_labelled": np.array([0])})
    oracle = LabelStudioOracle(tmp_path, task_data=lambda index, item, id_: {"text": "shown"})
    oracle.ask(question([3], query), data)
    assert b"secret" not in b"".join(path.read_bytes() for path in tmp_path.rglob("*.*"))


def test_a_second_run_has_a_folder_of_its_own(tmp_path):
    """The first run's tasks are not the second one's, and its answers neither."""
    oracle = LabelStudioOracle()
    for run in ("a", "b"):
        data = texts()
        oracle.prepare(data, tmp_path / run, run)
        data.pool.ask(ASKED)
        oracle.ask(question(), data)
    for run in ("a", "b"):
        assert (tmp_path / run / "label_studio" / "tasks-round-000.json").exists()
    assert str(tmp_path / "b") in oracle.whereabouts()
    given = LabelStudioOracle(tmp_path / "own")
    given.prepare(texts(), tmp_path / "c", "c")
    assert str(tmp_path / "own") in given.whereabouts()
