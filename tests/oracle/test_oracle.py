"""Where labels come from, and what an oracle must not answer."""

import copy
import pickle

import numpy as np
import pytest
import torch

from lightning_diffal import ActiveDataModule, ActiveLearning
from lightning_diffal.exceptions import InvalidIndexError, InvalidLabelError, InvalidTypeError
from lightning_diffal.oracle import PENDING, CallableOracle, DatasetOracle, Oracle, as_oracle, checked_answers
from lightning_diffal.samplers import RandomSampler
from tests.helpers import quiet_trainer
from tests.helpers_data import Augmented, Model, inputs, points

ASKED = np.array([7, 3, 30])


def data(**kwargs):
    return ActiveDataModule(points(), **{"initial_labels": [31, 4], "batch_size": 4, "num_classes": 3} | kwargs)


def test_data_set():
    assert DatasetOracle().answer(ASKED, data()) == {7: 1, 3: 0, 30: 0}
    assert DatasetOracle().answer(ASKED, data(targets=[2] * 40)) == {7: 2, 3: 2, 30: 2}


class TestCallable:
    """A function of positions and items."""

    def test_gets_positions_and_items(self):
        def function(indices, items):
            assert indices == [7, 3, 30] and all(type(i) is int for i in indices)
            for index, (x, _) in zip(indices, items, strict=True):
                assert torch.equal(x, inputs()[index])
            return [2, 1, PENDING]

        assert CallableOracle(function).answer(ASKED, data()) == {7: 2, 3: 1, 30: PENDING}

    def test_gets_items_without_augmentation_and_leaves_the_random_state(self):
        seen = []
        state = torch.get_rng_state()
        module = data(pool_dataset=points())
        module.train_dataset = Augmented()
        CallableOracle(lambda _, items: [seen.extend(x for x, _ in items), 0, 0]).answer(ASKED, module)
        assert torch.equal(torch.stack(seen), inputs()[ASKED]) and torch.equal(torch.get_rng_state(), state)

    @pytest.mark.parametrize(
        "labels", [[2, 1, 0], (2, 1, 0), np.array([2, 1, 0]), torch.tensor([2, 1, 0]), {7: 2, 3: 1, 30: 0}]
    )
    def test_kinds_of_answers(self, labels):
        answers = CallableOracle(lambda indices, items: labels).answer(ASKED, data())
        assert checked_answers(answers, ASKED, 3, None) == {7: 2, 3: 1, 30: 0}

    def test_multi_label(self):
        labels = torch.tensor([[0.0, 1.0], [1.0, 1.0], [0.0, 0.0]])
        answers = CallableOracle(lambda indices, items: labels).answer(ASKED, data())
        assert checked_answers(answers, ASKED, 2, None) == {7: (0, 1), 3: (1, 1), 30: (0, 0)}

    def test_all_pending(self):
        assert CallableOracle(lambda indices, items: PENDING).answer(ASKED, data()) == {}

    @pytest.mark.parametrize("labels", [[1, 2], [0, 1, 2, 0], None, 3, "abc", np.array(1), (x for x in [0, 1, 2])])
    def test_wrong_numbers_of_answers(self, labels):
        with pytest.raises(InvalidLabelError, match=r"one label .* for each of 3 points, but got"):
            CallableOracle(lambda indices, items: labels).answer(ASKED, data())


class TestAsOracle:
    """What `oracle=` takes."""

    def test_kinds(self):
        class Mine(Oracle):
            def answer(self, indices, data):
                return {}

        mine = Mine()
        assert as_oracle(mine) is mine and isinstance(as_oracle(None), DatasetOracle)
        assert isinstance(as_oracle(lambda indices, items: []), CallableOracle)

    @pytest.mark.parametrize("wrong", [3, "dataset", DatasetOracle, dict, {1: 2}])
    def test_refuses(self, wrong):
        with pytest.raises(InvalidTypeError, match="`oracle`"):
            as_oracle(wrong)
        with pytest.raises(InvalidTypeError, match="function"):
            CallableOracle("no function")


class TestCheckedAnswers:
    """All of it is checked before any of it counts."""

    def test_some_and_none(self):
        assert checked_answers({np.int64(7): np.int8(1), 30: PENDING}, ASKED, 3, None) == {7: 1}
        assert checked_answers({}, ASKED, 3, None) == {}
        assert checked_answers({3: "b"}, ASKED, 2, ["a", "b"]) == {3: 1}

    @pytest.mark.parametrize(
        ("answers", "error", "message"),
        [
            ([1, 2, 0], InvalidTypeError, "labels by index, but got list"),
            ({8: 1}, InvalidIndexError, "answered 8, which was not asked"),
            ({"7": 1}, InvalidIndexError, "'7'"),
            ({True: 1}, InvalidIndexError, "True"),
            ({7.0: 1}, InvalidIndexError, "7.0"),
            ({7: 3}, InvalidLabelError, "point 7: .*at most 2, but got 3"),
            ({7: "cat"}, InvalidLabelError, "point 7: .*'cat'"),
            ({7: 0.5}, InvalidLabelError, "point 7: .*Regression"),
            ({7: None}, InvalidLabelError, "point 7: .*An unknown label is PENDING"),
            ({7: 1, 3: [0, 1]}, InvalidLabelError, "point 3: .*3 zeros and ones"),
        ],
    )
    def test_refuses(self, answers, error, message):
        with pytest.raises(error, match=message) as caught:
            checked_answers(answers, ASKED, 3, None)
        assert error is InvalidTypeError or str(caught.value).endswith("Nothing was applied.")


def test_true_is_no_position():
    with pytest.raises(InvalidIndexError, match="answered True"):
        checked_answers({True: 0}, np.array([1, 2]), 3, None)


def test_pending_is_one_object_everywhere():
    assert pickle.loads(pickle.dumps(PENDING)) is PENDING and copy.deepcopy([PENDING])[0] is PENDING
    assert repr(PENDING) == "PENDING"


def test_a_person_overrules_the_data_set_for_two_rounds():
    trained = {}

    class Watching(Model):
        def training_step(self, batch, batch_idx):
            for x, y in zip(*batch, strict=True):
                trained[int((inputs() == x).all(1).nonzero())] = int(y)
            return super().training_step(batch, batch_idx)

    asked = []

    def person(indices, items):
        asked.extend(indices)
        return [(int(y) + 1) % 3 for _, y in items]

    active = ActiveLearning(RandomSampler(), query_size=3, max_rounds=2, seed=0, oracle=person)
    module = data()
    quiet_trainer([active], max_epochs=1).fit(Watching(), datamodule=module)
    assert len(asked) == 6
    assert trained == {i: (i + 1) % 3 if i in asked else i % 3 for i in [31, 4, *asked]}
    assert dict(zip(module.labelled_indices.tolist(), module.labels.tolist(), strict=True)) == trained


def test_answers_that_do_not_fit_each_other_change_nothing():
    active = ActiveLearning(
        RandomSampler(), query_size=2, max_rounds=1, seed=0, oracle=lambda indices, items: [0, [0, 1, 0]]
    )
    module = data()
    with pytest.raises(InvalidLabelError, match="of one kind"):
        quiet_trainer([active], max_epochs=1).fit(Model(), datamodule=module)
    assert module.labelled_indices.tolist() == [4, 31] and len(module.pending_indices) == 2
