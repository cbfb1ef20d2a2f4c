"""What people see of an item."""

import collections
import io
import wave

import numpy as np
import pytest
import torch
from PIL import Image

from lightning_diffal import ActiveDataModule
from lightning_diffal.exceptions import ConfigurationError, InvalidTypeError
from lightning_diffal.spreadsheets.write import content_of
from lightning_diffal.view import ItemView, Shown, Thumbnails, show_point


def picture(png):
    return np.asarray(Image.open(io.BytesIO(png)))


class Words:
    def decode(self, ids, skip_special_tokens=False):
        return " ".join(f"w{i}" for i in ids if not (skip_special_tokens and i == 0))


class Bare:
    """As the package `tokenizers` had it: no keyword."""

    def decode(self, ids):
        return "|".join(map(str, ids))


def test_normalised_images_are_shown_as_they_were():
    before = np.random.default_rng(0).integers(0, 256, (3, 20, 20)).astype(np.uint8)
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    shape = (3, 1, 1)
    normalised = (torch.tensor(before) / 255 - torch.tensor(mean).reshape(shape)) / torch.tensor(std).reshape(shape)
    shown = ItemView(mean=mean, std=std).show(0, (normalised, 1))
    assert shown.kind == "image"
    assert np.array_equal(np.asarray(shown.image()), before.transpose(1, 2, 0))


@pytest.mark.parametrize(
    "item",
    [
        torch.rand(1, 28, 28),
        torch.rand(28, 28),
        torch.rand(3, 28, 28),
        torch.rand(1, 3, 28, 28),
        np.random.rand(28, 28, 3),
        np.zeros((28, 28, 4), np.uint8),
        torch.randn(3, 28, 28).half(),
        torch.randn(3, 28, 28, dtype=torch.bfloat16),
        torch.ones(28, 28, dtype=torch.bool),
        np.full((28, 28), np.nan),
        np.full((28, 28), 7, np.int64),
        Image.new("CMYK", (28, 28)),
        Image.new("I;16", (28, 28)),
        Image.new("P", (28, 28)),
        Image.new("LA", (28, 28)),
        {"image": Image.new("RGB", (28, 28)), "label": 1},
        {"pixel_values": torch.rand(3, 28, 28), "labels": 1},
        (torch.rand(1, 28, 28), {"box": 3}, 1),
    ],
)
def test_any_image(item):
    shown = ItemView().show(5, item)
    assert shown.kind == "image"
    assert "5" in shown.alt
    png = picture(shown.thumbnail(28))
    assert png.shape[:2] == (28, 28)
    assert shown.to_task_data()["image"].startswith("data:image/png;base64,")


def test_images_without_normalisation_use_their_whole_range():
    shown = ItemView().show(0, torch.arange(64).reshape(8, 8).float() - 100)
    values = np.asarray(shown.image())
    assert (values.min(), values.max()) == (0, 255)
    as_is = ItemView().show(0, torch.full((8, 8), 0.5))
    assert np.asarray(as_is.image()).max() == 128


def test_small_images_are_enlarged_by_whole_factors_and_large_ones_reduced():
    view = ItemView()
    assert picture(view.show(0, torch.rand(8, 8)).thumbnail(100)).shape == (96, 96)
    assert picture(view.show(0, np.zeros((900, 300, 3), np.uint8)).thumbnail(100)).shape == (100, 33, 3)


def test_files(tmp_path):
    Image.new("RGB", (40, 20), "red").save(tmp_path / "a cat's.JPG")
    (tmp_path / "note.txt").write_text("x")
    view = ItemView()
    for item in (tmp_path / "a cat's.JPG", str(tmp_path / "a cat's.JPG")):
        shown = view.show(0, (item, 1))
        assert shown.kind == "image"
        assert shown.path == str(tmp_path / "a cat's.JPG")
        assert picture(shown.thumbnail(20)).shape == (10, 20, 3)
        assert shown.to_task_data() == {"image": shown.path}
    assert view.show(0, tmp_path / "note.txt").kind == "text"
    assert view.show(0, "missing.png").kind == "text"
    assert view.show(0, "https://a.org/b.png?x=1").to_task_data() == {"image": "https://a.org/b.png?x=1"}
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.raises(ConfigurationError, match=r"broken\.png cannot be shown as an image"):
        view.show(0, tmp_path / "broken.png").thumbnail()


def test_upright_as_the_camera_held_it(tmp_path):
    image = Image.new("RGB", (40, 20))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "a.jpg", exif=exif)
    assert ItemView().show(0, tmp_path / "a.jpg").image().size == (20, 40)


@pytest.mark.parametrize(
    ("item", "rate", "channels"),
    [
        (torch.sin(torch.arange(8000) / 9), 16000, 1),
        (torch.randn(1, 8000) * 3, 16000, 1),
        ((torch.zeros(2, 8000), 44100, "utterance", 3), 44100, 2),
        ({"audio": {"array": np.zeros(8000), "sampling_rate": 8000}, "label": 2}, 8000, 1),
        ({"input_values": torch.zeros(8000), "labels": 2}, 16000, 1),
        (np.zeros(8000, np.int16), 16000, 1),
    ],
)
def test_waveforms_are_played(item, rate, channels):
    shown = ItemView().show(0, item)
    assert shown.kind == "audio"
    content, kind = shown.audio()
    assert kind == "audio/wav"
    with wave.open(io.BytesIO(content)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getnframes()) == (rate, channels, 8000)


def test_audio_files(tmp_path):
    (tmp_path / "a.mp3").write_bytes(b"ID3")
    shown = ItemView().show(0, (str(tmp_path / "a.mp3"), 1))
    assert (shown.kind, shown.audio()) == ("audio", (b"ID3", "audio/mpeg"))
    assert shown.to_task_data() == {"audio": str(tmp_path / "a.mp3")}


@pytest.mark.parametrize(
    ("item", "text"),
    [
        ("good film", "good film"),
        (("good film", 1), "good film"),
        (["good film", 1], "good film"),
        ({"text": "good film", "label": 1}, "good film"),
        ({"sentence": "good film", "idx": 4, "label": 1}, "good film"),
        ({"review": "good film", "label": 1}, "good film"),
        ("a\nb.png", "a\nb.png"),
        ("", ""),
    ],
)
def test_text(item, text):
    shown = ItemView().show(0, item)
    assert (shown.kind, shown.text) == ("text", text)


@pytest.mark.parametrize(
    "item",
    [
        (torch.tensor([5, 6, 0]), 1),
        ({"input_ids": torch.tensor([[5, 6, 0]]), "attention_mask": torch.ones(1, 3), "labels": 1}),
        {"input_ids": [5, 6, 0], "attention_mask": [1, 1, 0], "label": 1},
    ],
)
def test_tokens_are_decoded(item):
    assert ItemView(tokenizer=Words()).show(0, item).text == "w5 w6"
    assert ItemView(tokenizer=Bare()).show(0, item).text == "5|6|0"
    assert ItemView().show(0, item).kind == "table"


def test_rows_and_dicts_are_tables_without_their_label():
    view = ItemView()
    assert view.show(0, (torch.tensor([1.5, 2.0]), 1)).rows == (("0", "1.5"), ("1", "2"))
    shown = view.show(0, {"age": 3, "name": "a", "city": "b", "y": 1, "x": torch.zeros(50)})
    assert shown.rows == (("age", "3"), ("name", "a"), ("city", "b"), ("x", "50 values, 0 to 0"))
    assert shown.text == "age: 3; name: a; city: b; x: 50 values, 0 to 0"
    assert shown.to_task_data() == {"table": dict(shown.rows)}
    point = collections.namedtuple("point", "height width")
    assert view.show(0, point(1, 2.5)).kind == "table"
    pair = view.show(0, ("premise", "hypothesis", 2))
    assert pair.rows == (("0", "premise"), ("1", "hypothesis"))
    many = view.show(0, (torch.arange(500.0), 0))
    assert len(many.rows) == 25
    assert many.rows[-1] == ("...", "and 476 more")


def test_hostile_text_is_text():
    evil = '"><script>alert(1)</script>'
    for shown in (
        ItemView().show(0, evil),
        ItemView().show(0, {evil: 1, "b": 2}),
        ItemView().show(0, {"a": evil, "b": evil}),
    ):
        assert "<script" not in shown.html()
        assert "&lt;script&gt;" in shown.html()
    image = ItemView().show(0, torch.rand(8, 8), id=evil)
    assert "<script" not in image.html()
    assert "<script" not in Shown("image", alt="x", url=evil).html()


def test_what_cannot_be_shown_is_refused_with_what_to_give():
    for item in (object(), {}, [], {"x": object()}, None):
        with pytest.raises(ConfigurationError, match="view=lambda index, item, id"):
            ItemView().show(3, item)
    with pytest.raises(ConfigurationError, match="returned a NoneType for item 3"):
        ItemView(custom=lambda index, item, name: None).show(3, 1)
    with pytest.raises(ConfigurationError, match="for each of 3 channels"):
        ItemView(mean=[0.5, 0.5]).show(0, torch.rand(3, 8, 8)).thumbnail()


def test_bad_arguments():
    with pytest.raises(InvalidTypeError, match="`tokenizer`"):
        ItemView(tokenizer="bert")
    with pytest.raises(InvalidTypeError, match="`custom`"):
        ItemView(custom=3)
    with pytest.raises(InvalidTypeError, match="`mean`"):
        ItemView(mean="a")
    with pytest.raises(InvalidTypeError, match="`view`"):
        ActiveDataModule(["a"], view="text")
    with pytest.raises(InvalidTypeError, match="`view`"):
        ActiveDataModule(["a"], view=ItemView)


def test_a_view_of_ones_own_is_used_everywhere():
    data = ActiveDataModule(
        [(torch.zeros(4), 1)] * 3, ids=["a", "b", "c"], view=lambda index, item, name: f"{index} {name}"
    )
    assert show_point(data, 1).text == "1 b"
    assert content_of(data, 2) == {"text": "2 c"}
    table = ActiveDataModule([(torch.zeros(4), 1)] * 3, view=lambda index, item, name: {"name": name, "n": index})
    assert content_of(table, 2) == {"text": "2"}


def test_thumbnails_are_kept_within_their_limit(tmp_path):
    thumbnails = Thumbnails(tmp_path, limit=20_000)
    rng = np.random.default_rng(0)
    for key in range(60):
        image = rng.integers(0, 256, (32, 32)).astype(np.uint8)
        assert thumbnails.png(str(key), ItemView().show(key, image), 32) is not None
    size = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert 0 < size <= 20_000
    assert thumbnails.png("text", ItemView().show(0, "text")) is None


def test_a_file_that_changed_has_another_thumbnail(tmp_path):
    path = tmp_path / "a.png"
    thumbnails = Thumbnails(tmp_path / "kept")
    Image.new("RGB", (8, 8), "red").save(path)
    first = thumbnails.png("a", ItemView().show(0, path))
    Image.new("RGB", (9, 9), "blue").save(path)
    assert thumbnails.png("a", ItemView().show(0, path)) != first
