"""`diffal label` without a run, in a real browser: a folder of images with many classes."""

import csv
import signal
import wave

import pytest
from PIL import Image, ImageDraw

from tests.oracle.page.browser import Page, Run, chromium  # noqa: F401  # a fixture

CLASSES = [f"class {n}" for n in range(30)]


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for n in range(5):
        image = Image.new("RGB", (400, 300), (40 * n, 90, 200 - 30 * n))
        ImageDraw.Draw(image).ellipse((100 + 20 * n, 60, 260, 240), fill="white")
        image.save(folder / f"<b>{n}.png")
    return folder


def test_a_folder_with_many_classes(chromium, pictures, tmp_path):  # noqa: F811
    out = tmp_path / "labels.csv"
    more = ["--images", pictures, "--classes", ",".join(CLASSES), "--out", out, "--no-browser"]
    run = Run("-m", "lightning_diffal", "label", *map(str, more), log=tmp_path / "log.txt")
    page = Page(chromium.new_context(viewport={"width": 1280, "height": 800}).new_page())
    try:
        page.open(run.start())
        assert page.item() == "<b>0.png"
        page.press("/")
        page.page.keyboard.type("class 27")
        page.press("Enter")
        page.item(other_than="<b>0.png")
        page.press("/")
        page.page.keyboard.type("new one")
        page.page.click("text=Add “new one”")
        page.wait_text("#saved", "Class new one added.")
        page.press("Escape")
        page.page.locator("#classes button", has_text="new one").click()
        page.item(other_than="<b>1.png")
        page.press("3")
        page.item(other_than="<b>2.png")
        page.wait_text("#counts", "3 labelled, 2 to go")
        run.kill()  # the table may lag behind; the answers do not
        page.press("1")
        page.wait_text("#saved", "1 kept on this device")
        run.start()
        page.wait_text("#counts", "4 labelled, 1 to go")
        assert page.item(other_than="<b>3.png") == "<b>4.png"
        page.press("s")
        page.wait_text("#rest", "All items have an answer.")
        run.kill(signal.SIGINT)
        assert page.problems == []
        page.page.set_viewport_size({"width": 390, "height": 500})
        box = page.page.locator("#skip").bounding_box()  # in sight below any number of classes
        assert page.page.locator("#classes").bounding_box()["height"] > 500 > box["y"] + box["height"]
    finally:
        page.page.context.close()
        run.kill()
    with out.open(newline="") as file:
        assert list(csv.reader(file)) == [
            ["id", "label", "note"],
            ["<b>0.png", "class 27", ""],
            ["<b>1.png", "new one", ""],
            ["<b>2.png", "class 2", ""],
            ["<b>3.png", "class 0", ""],
            ["<b>4.png", "?", ""],
        ]


def test_recordings_are_played_by_a_key(chromium, tmp_path):  # noqa: F811
    for n in range(2):
        with wave.open(str(tmp_path / f"{n}.wav"), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(8000)
            file.writeframes(bytes(2 * 8000 * 20))
    more = ["--images", tmp_path, "--classes", "bird,frog", "--out", tmp_path / "labels.csv", "--no-browser"]
    run = Run("-m", "lightning_diffal", "label", *map(str, more), log=tmp_path / "log.txt")
    page = Page(chromium.new_page())
    plays = "state => document.querySelector('#item audio').paused !== state"
    try:
        page.open(run.start())
        first = page.item()
        page.page.wait_for_function("() => document.querySelector('#item audio').duration === 20")
        page.press(" ")
        page.page.wait_for_function(plays, arg=True)
        page.press(" ")
        page.page.wait_for_function(plays, arg=False)
        assert page.text("#item").count(first) == 1  # its name, once
        page.press("2")
        page.item(other_than=first)
        page.wait_text("#counts", "1 labelled, 1 to go")
        assert page.problems == []
    finally:
        page.page.close()
        run.kill()
