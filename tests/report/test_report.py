import sys

import numpy as np
import pytest

from lightning_diffal.exceptions import ConfigurationError
from lightning_diffal.metrics import labels_saved
from lightning_diffal.report import learning_curves
from lightning_diffal.report.curves import _summary
from lightning_diffal.utils.extras import MissingExtraError

COUNTS = np.arange(10, 60, 10)
OURS = [(COUNTS, np.array([0.3, 0.6, 0.7, 0.8, 0.9])), (COUNTS, np.array([0.4, 0.6, 0.8, 0.8, 0.9]))]
RANDOM = [(COUNTS, np.array([0.3, 0.4, 0.5, 0.6, 0.7])), (COUNTS, np.array([0.4, 0.5, 0.5, 0.6, 0.8]))]


def test_draws_a_picture_and_leaves_nothing_else(tmp_path):
    target = tmp_path / "new" / "curves.png"
    learning_curves(
        {"diffusion": OURS, "random": RANDOM}, target, title="Digits", saved=labels_saved(OURS[0], RANDOM[0])
    )
    import matplotlib.image

    pixels = matplotlib.image.imread(target)
    assert pixels.shape == (720, 1152, 4)
    for colour in ((0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)):  # both lines are there
        assert (np.abs(pixels[..., :3] * 255 - colour) < 2).all(axis=-1).sum() > 500
    assert [file.name for file in target.parent.iterdir()] == ["curves.png"]


def test_pyplot_is_left_alone(tmp_path):
    loaded = "matplotlib.pyplot" in sys.modules
    learning_curves({"diffusion": OURS}, tmp_path / "curves.png")
    assert ("matplotlib.pyplot" in sys.modules) == loaded


def test_words_are_in_the_picture(tmp_path):
    import matplotlib as mpl

    with mpl.rc_context({"svg.fonttype": "none"}):
        learning_curves({"ours & theirs": OURS, "random": RANDOM}, tmp_path / "a.svg", title="T", band="std")
        learning_curves({"one": OURS[:1]}, tmp_path / "b.svg", ylabel="F1")
        learning_curves({"one": OURS, "two": OURS[:1]}, tmp_path / "c.svg")
        saved = labels_saved(OURS[0], RANDOM[0])
        learning_curves({"one": OURS, "two": RANDOM}, tmp_path / "d.svg", saved=saved)
    text = {name: (tmp_path / f"{name}.svg").read_text() for name in "abcd"}
    assert "Line: mean of 2 seeds. Band: one standard deviation to either side." in text["a"]
    assert "ours &amp; theirs" in text["a"]
    assert "One seed." in text["b"]
    assert "F1" in text["b"]
    assert "mean of 1 to 2 seeds" in text["c"]
    assert f"{saved.saved:g} labels saved at 70.0%" in text["d"]


@pytest.mark.parametrize("scores", [[0.5], [0.5, 0.5], [-3.0, 12.0], [1.0, 1.0], [0.0, 0.0]])
def test_odd_scores_draw_without_a_warning(tmp_path, scores, recwarn):
    learning_curves({"a": [(range(len(scores)), scores)], "b": [(range(len(scores)), scores)]}, tmp_path / "a.png")
    assert not list(recwarn)


def test_seeds_are_averaged_where_all_were_measured():
    counts, mean, low, high = _summary("x", [([10, 20, 30], [0.1, 0.2, 0.3]), ([30, 10], [0.5, 0.3])], "range")
    assert counts.tolist() == [10, 30]
    np.testing.assert_allclose((mean, low, high), ([0.2, 0.4], [0.1, 0.3], [0.3, 0.5]))
    _, mean, low, high = _summary("x", [([1], [0.1]), ([1], [0.3])], "std")
    np.testing.assert_allclose((mean, low, high), ([0.2], [0.1], [0.3]))


@pytest.mark.parametrize(
    ("curves", "message"),
    [
        ({}, "at least one name"),
        ({"a": []}, "label count in common"),
        ({"a": [([1], [1]), ([2], [1])]}, "label count in common"),
        ({"a": [([1, 2], [1])]}, "one shape"),
    ],
)
def test_nothing_to_draw_is_an_error(tmp_path, curves, message):
    with pytest.raises(ConfigurationError, match=message):
        learning_curves(curves, tmp_path / "a.png")
    with pytest.raises(ConfigurationError, match="argument `band`"):
        learning_curves({"a": OURS}, tmp_path / "a.png", band="ci")
    assert not list(tmp_path.iterdir())


def test_without_matplotlib_the_error_names_the_extra(tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)

    class Absent:
        def find_spec(self, name, path=None, target=None):
            if name == "matplotlib":
                raise ModuleNotFoundError("No module named 'matplotlib'", name="matplotlib")

    monkeypatch.setattr(sys, "meta_path", [Absent(), *sys.meta_path])
    with pytest.raises(MissingExtraError, match=r'pip install "lightning-diffal\[report\]"'):
        learning_curves({"a": OURS}, tmp_path / "a.png")
