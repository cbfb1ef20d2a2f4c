import csv
import json

import numpy as np
import pytest
import torch

from lightning_diffal.exceptions import ConfigurationError
from lightning_diffal.history.history import History, RoundRecord, records_equal
from lightning_diffal.samplers.base import Query
from lightning_diffal.utils.numeric.arrays import array_from_state, array_state


def make_history():
    query = Query(
        indices=[9, 1],
        scores=[0.75, 0.5],
        details={
            "margin": np.array([0.1, np.nan], dtype=np.float32),
            "phase": np.array(["exploration", "refinement"]),
            "predicted": np.array([3, 1], dtype=np.int64),
            "known": np.array([True, False]),
        },
        summary={"exploration_share": 0.5},
    )
    return History(
        [
            RoundRecord(0, 11, labelled=[4, 2], metrics={"test_acc": 0.5}, query=query, seconds={"fit": 1.5}),
            RoundRecord(1, None, labelled=[4, 2, 9, 1], metrics={"loss": float("nan")}, stop_reason="budget"),
        ]
    )


def test_record_sorts_and_counts():
    record = make_history()[1]
    assert record.labelled.tolist() == [1, 2, 4, 9]
    assert record.labelled.dtype == np.int64
    assert (record.n_labelled, record.n_queried) == (4, 0)
    assert "stop_reason='budget'" in repr(record)


def test_state_survives_a_weights_only_load_bit_for_bit(tmp_path):
    history = make_history()
    torch.save(history.state_dict(), tmp_path / "state.pt")
    restored = History.from_state(torch.load(tmp_path / "state.pt", weights_only=True))
    assert records_equal(history, restored)
    assert restored[0].seconds == {"fit": 1.5}
    for name, values in history[0].query.details.items():
        assert restored[0].query.details[name].dtype == values.dtype


def test_state_shares_no_memory():
    history = make_history()
    state = history.state_dict()
    history[0].labelled[0] = 77
    history[0].query.scores[0] = 77
    assert state[0]["labelled"].tolist() == [2, 4]
    assert state[0]["query"]["scores"].tolist() == [0.75, 0.5]


@pytest.mark.parametrize(
    "array",
    [
        np.array([1, 2], dtype=dtype)
        for dtype in ("u1", "i2", "i8", "u2", "u4", "u8", "f2", "f4", "f8", "c8", ">f4", ">i8")
    ]
    + [np.array(["a", "längst"]), np.array([], dtype="<U3"), np.zeros((0, 3), np.float32), np.array([["x"], ["yz"]])],
    ids=lambda array: f"{array.dtype.str}{array.shape}",
)
def test_arrays_round_trip(array, tmp_path):
    array.flags.writeable = False
    torch.save(array_state(array), tmp_path / "array.pt")
    back = array_from_state(torch.load(tmp_path / "array.pt", weights_only=True))
    assert (back.dtype, back.shape) == (array.dtype, array.shape)
    assert np.array_equal(back, array)
    assert back.flags.writeable


@pytest.mark.parametrize("array", [np.array([{}]), np.array([b"a"]), np.array(["2020-01-01"], dtype="M8[D]")])
def test_arrays_that_a_checkpoint_cannot_hold_are_refused(array):
    with pytest.raises(ConfigurationError, match="numbers, booleans or strings"):
        array_state(array)


@pytest.mark.parametrize(
    "change",
    [
        lambda h: h.pop(),
        lambda h: setattr(h[0], "seed", 12),
        lambda h: setattr(h[1], "stop_reason", None),
        lambda h: h[0].metrics.update(test_acc=0.6),
        lambda h: h[0].metrics.update(more=0.6),
        lambda h: setattr(h[0], "labelled", np.array([2, 5])),
        lambda h: setattr(h[0], "query", None),
        lambda h: setattr(h[0], "query", Query(h[0].query.indices, h[0].query.scores)),
        lambda h: h[0].query.scores.__setitem__(0, 0.1),
        lambda h: h[0].query.summary.update(exploration_share=0.0),
        lambda h: h[0].query.details["phase"].__setitem__(1, "exploration"),
    ],
)
def test_equality_sees_every_difference_but_time(change):
    history, other = make_history(), make_history()
    other[0].seconds["fit"] = 99.0
    assert records_equal(history, other)
    change(other)
    assert not records_equal(history, other)


def test_curve_skips_rounds_without_the_metric():
    counts, values = make_history().curve("test_acc")
    assert (counts.tolist(), values.tolist()) == ([2], [0.5])
    assert (counts.dtype, values.dtype) == (np.int64, np.float64)
    with pytest.raises(ConfigurationError, match="one of test_acc, loss, but got 'acc'"):
        make_history().curve("acc")
    assert len(History().curve("anything")[0]) == 0


def test_csv_has_one_row_a_round(tmp_path):
    history = make_history()
    history[0].metrics["round"] = 0.0
    history[0].metrics["=cmd()"] = 1.0
    history[1].stop_reason = "@SUM(A1)"
    history.to_csv(tmp_path / "deep" / "history.csv")
    rows = list(csv.DictReader((tmp_path / "deep" / "history.csv").open(newline="")))
    assert list(rows[0]) == [
        "round", "seed", "n_labelled", "test_acc", "metric/round", "'=cmd()", "loss",
        "n_queried", "query/exploration_share", "seconds/fit", "stop_reason",
    ]  # fmt: skip
    assert [row["n_labelled"] for row in rows] == ["2", "4"]
    assert (rows[0]["seed"], rows[1]["seed"]) == ("11", "")
    assert (rows[0]["test_acc"], rows[1]["test_acc"], rows[1]["loss"]) == ("0.5", "", "nan")
    assert rows[1]["stop_reason"] == "'@SUM(A1)"
    assert [file.name for file in (tmp_path / "deep").iterdir()] == ["history.csv"]


def test_csv_of_an_empty_history_has_a_header(tmp_path):
    History().to_csv(tmp_path / "history.csv")
    assert (tmp_path / "history.csv").read_text().startswith("round,seed,n_labelled")


def test_json_is_strict_and_complete(tmp_path):
    make_history().to_json(tmp_path / "history.json")

    def refuse(constant):
        raise AssertionError(constant)

    first, second = json.loads((tmp_path / "history.json").read_text(), parse_constant=refuse)
    assert first["labelled"] == [2, 4]
    assert first["query"]["details"]["phase"] == ["exploration", "refinement"]
    assert first["query"]["details"]["margin"][1] is None
    assert first["query"]["summary"] == {"exploration_share": 0.5}
    assert second["metrics"] == {"loss": None}
    assert second["query"] is None


def test_a_failed_write_leaves_the_old_file(tmp_path):
    history = make_history()
    history.to_json(tmp_path / "history.json")
    before = (tmp_path / "history.json").read_bytes()
    history[0].metrics["odd"] = object()
    with pytest.raises(TypeError):
        history.to_json(tmp_path / "history.json")
    assert (tmp_path / "history.json").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_dataframe_has_the_columns_of_the_csv(tmp_path):
    pd = pytest.importorskip("pandas")
    history = make_history()
    history.to_csv(tmp_path / "history.csv")
    frame = history.to_dataframe()
    assert list(frame.columns) == list(pd.read_csv(tmp_path / "history.csv").columns)
    assert frame["n_labelled"].tolist() == [2, 4]


def test_repr_is_a_table_and_long_runs_are_shortened():
    assert repr(History()) == "History of 0 rounds"
    assert repr(make_history()).splitlines() == [
        "History of 2 rounds",
        "round  labelled  asked  test_acc  loss",
        "    0         2      2       0.5",
        "    1         4      0             nan",
    ]
    long = History(RoundRecord(i, None, range(i)) for i in range(100))
    assert len(repr(long).splitlines()) < 30
    assert "..." in repr(long)


def test_a_slice_is_a_history():
    part = make_history()[1:]
    assert isinstance(part, History)
    assert part[0].round == 1


def test_a_state_holds_each_point_once():
    labelled = np.random.default_rng(0).permutation(5000)
    history = History(RoundRecord(r, r, labelled=labelled[: 50 * (r + 1)]) for r in range(100))
    state = history.state_dict()
    kept = [entry["labelled"] if r == 0 else entry["labelled"]["added"] for r, entry in enumerate(state)]
    assert sum(map(len, kept)) == 5000 and all(not len(e["labelled"]["removed"]) for e in state[1:])
    assert records_equal(History.from_state(state), history)


def test_a_state_of_a_version_that_kept_all_points_in_every_record_is_read():
    history = History([RoundRecord(0, 1, labelled=[4, 2]), RoundRecord(1, 2, labelled=[4, 2, 9])])
    state = history.state_dict()
    state[1]["labelled"] = torch.tensor([2, 4, 9])
    assert records_equal(History.from_state(state), history)


def test_points_that_a_later_round_no_longer_trained_on_stay_gone():
    history = History([RoundRecord(0, 1, labelled=[4, 2]), RoundRecord(1, 2, labelled=[2, 9])])
    assert records_equal(History.from_state(history.state_dict()), history)
    assert records_equal(History.from_state(history[1:].state_dict()), history[1:])
