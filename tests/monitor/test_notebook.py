"""Cells that are run again, and what a notebook shows."""

import warnings

import pytest
import torch

from lightning_diffal import ActiveDataModule, ActiveLearning, Query
from lightning_diffal.exceptions import ConfigurationError
from lightning_diffal.history import History, RoundRecord
from lightning_diffal.report import learning_curves
from lightning_diffal.samplers import RandomSampler
from tests.helpers import TRAIN, VAL, Net, quiet_trainer

NASTY = "<b onclick=x>&"


def module(**kwargs):
    return ActiveDataModule(TRAIN, val_dataset=VAL, initial_labels=10, batch_size=4, **kwargs)


def run(data, model, max_rounds=2, **kwargs):
    active = ActiveLearning(
        RandomSampler(), query_size=5, max_rounds=max_rounds, seed=3, **{"run_dir": False, **kwargs}
    )
    quiet_trainer([active], max_epochs=1).fit(model, datamodule=data)
    return active


def complaints(caught):
    return [str(warning.message) for warning in caught if "was trained by an earlier run" in str(warning.message)]


def test_a_second_run_on_the_same_objects_is_told_what_the_first_left(caplog):
    data, model = module(), Net("none")
    with caplog.at_level("INFO"), warnings.catch_warnings(record=True) as caught:
        run(data, model)
    assert "bought by an earlier run" not in caplog.text and not complaints(caught)
    with caplog.at_level("INFO"), pytest.warns(UserWarning, match="This Net object was trained by an earlier run"):
        run(data, model)
    assert "The data already hold 20 labels, 10 of them bought by an earlier run" in caplog.text


def test_a_model_that_was_set_back_or_goes_on_is_no_reason_to_warn():
    model = Net("none")
    start = {name: value.clone() for name, value in model.state_dict().items()}
    active = run(module(), model)
    model.load_state_dict(start)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        again = run(module(), model)
        run(module(), Net("none"))
        goes_on, data = ActiveLearning(RandomSampler(), query_size=5, max_rounds=1, seed=3, run_dir=False), module()
        trainer, model = quiet_trainer([goes_on], max_epochs=1), Net("none")
        trainer.fit(model, datamodule=data)
        goes_on.max_rounds = 2
        trainer.fit(model, datamodule=data)
    assert len(goes_on.history) == 3 and not complaints(caught)
    assert [r.metrics["val_loss"] for r in again.history] == [r.metrics["val_loss"] for r in active.history]


def test_a_folder_that_goes_on_says_so(tmp_path, caplog):
    with caplog.at_level("INFO"):
        run(module(), Net("none"), max_rounds=1, run_dir=tmp_path / "run")
    assert "Continuing" not in caplog.text
    with caplog.at_level("INFO"), pytest.warns(UserWarning, match=r"reset.*initial.*warm"):
        active = run(module(), Net("none"), run_dir=tmp_path / "run", reset="warm")
    assert f"Continuing the run in {tmp_path / 'run'}: 2 rounds trained, 15 labels known." in caplog.text
    assert len(active.history) == 3


def test_tables_show_names_and_run_nothing():
    torch.manual_seed(0)
    data = module(class_names=[NASTY, "b", "c"])
    shown = data._repr_html_()
    assert "<td>points</td><td>120</td>" in shown and "<td>labelled</td><td>10</td>" in shown
    data.label([int(data.pool_indices[0])])
    shown = data._repr_html_()
    assert "<td>labelled</td><td>11</td>" in shown
    assert "&lt;b onclick=x&gt;&amp;" in shown and "<b onclick" not in shown
    assert "not set up yet" in ActiveDataModule()._repr_html_()
    history = History([RoundRecord(0, 1, [3, 4], {NASTY: 0.5}, stop_reason=NASTY)])
    shown = history._repr_html_()
    assert "&lt;b onclick=x&gt;&amp;" in shown and "<b onclick" not in shown and "0.5" in shown
    assert History()._repr_html_() == "<p><b>0 rounds</b></p>"


def test_frames_of_a_run_know_what_it_was_and_what_was_answered():
    pandas = pytest.importorskip("pandas")
    data = module(class_names=["a", "b", "c"])
    active = run(data, Net("none"))
    frame = active.history.to_dataframe()
    assert list(frame["answered"].dropna()) == [5, 5] and list(frame["n_labelled"]) == [10, 15, 20]
    assert list(frame[["labels/a", "labels/b", "labels/c"]].sum(axis=1)) == [10, 15, 20]
    assert set(frame["sampler"]) == {"RandomSampler()"}
    points = active.history.to_dataframe(long=True)
    assert len(points) == 10 and list(points["round"]) == [0] * 5 + [1] * 5
    asked = [int(i) for record in active.history[:-1] for i in record.query.indices]
    assert list(points["index"]) == asked and points["answered"].all()
    assert isinstance(points, pandas.DataFrame)
    waiting = History([RoundRecord(0, 1, [3], query=Query([7, 5], [0.5, 0.25], {"phase": ["x", "y"]}))])
    rows = waiting.to_dataframe(long=True)
    assert list(rows["phase"]) == ["x", "y"] and list(rows["answered"]) == [None, None]


def test_figures_come_back_and_are_written_where_wanted(tmp_path):
    figure = pytest.importorskip("matplotlib.figure")
    histories = [
        History([RoundRecord(r, 1, range(5 + r), {"train_loss": 1.0, "val_acc": 0.5 + 0.1 * r + s}) for r in range(3)])
        for s in (0.0, 0.1)
    ]
    drawn = histories[0].plot(path=tmp_path / "a.png")
    assert isinstance(drawn, figure.Figure)
    assert [axes.get_title(loc="left") for axes in drawn.axes] == ["val_acc", "train_loss"]
    content, about = drawn._repr_png_()  # what a notebook asks for
    assert content[1:4] == b"PNG" and about == {"width": 576}
    assert (tmp_path / "a.png").read_bytes()[1:4] == b"PNG"
    with pytest.raises(ConfigurationError, match="'nothing'"):
        histories[0].plot(["nothing"])
    with pytest.raises(ConfigurationError, match="no metric to draw"):
        History([RoundRecord(0, 1, [2])]).plot()
    drawn = learning_curves({"a": histories[0], "both": histories})
    assert isinstance(drawn, figure.Figure)
    assert list(drawn.axes[0].lines[-1].get_ydata()) == pytest.approx([0.5, 0.6, 0.7])
    assert any(text.get_text() == "val_acc" for text in drawn.texts)
    with pytest.raises(ConfigurationError, match="no metric in common"):
        learning_curves({"a": histories[0], "b": History([RoundRecord(0, 1, [2], {"x": 1.0})])})
