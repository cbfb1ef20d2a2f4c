"""What happens between a query and the next training: asked, waited for, corrected, skipped."""

import threading

import numpy as np
import pytest

from lightning_diffal import ActiveDataModule, ActiveLearning
from lightning_diffal.exceptions import InvalidIndexError, InvalidLabelError, InvalidTypeError
from lightning_diffal.oracle import PENDING, SKIP, Oracle, checked_answers, checked_corrections
from lightning_diffal.samplers import RandomSampler
from tests.helpers import quiet_trainer
from tests.helpers_data import Model, classes, points

TRUTH = classes().tolist()


class Scripted(Oracle):
    """Answers as it is told, look by look, and remembers what it was asked."""

    poll_seconds = 0.01

    def __init__(self, *looks, timeout=0.0, corrections=()):
        self.looks, self.timeout, self.told_corrections = list(looks), timeout, list(corrections)
        self.questions, self.calls, self.prepared = [], [], []

    def prepare(self, data, folder, run_id):
        self.prepared.append((folder, run_id))

    def ask(self, question, data):
        self.questions.append(question)
        self.calls.append("ask")

    def corrections(self, data):
        self.calls.append("corrections")
        return self.told_corrections.pop(0) if self.told_corrections else {}

    def answer(self, indices, data):
        self.calls.append("answer")
        look = self.looks.pop(0) if self.looks else truth
        found = look(indices.tolist())
        if isinstance(found, Exception):
            raise found
        return found

    def whereabouts(self):
        return "a drawer"


def truth(indices):
    return {i: TRUTH[i] for i in indices}


def nothing(indices):
    return {}


def skip_all(indices):
    return dict.fromkeys(indices, SKIP)


def make_data(initial=(31, 4)):
    return ActiveDataModule(points(), initial_labels=list(initial), batch_size=4, num_classes=3)


def run(oracle, data=None, query_size=4, max_rounds=2, run_dir=False, model=None, **kwargs):
    data = make_data() if data is None else data
    active = ActiveLearning(
        RandomSampler(), query_size=query_size, max_rounds=max_rounds, seed=0, oracle=oracle, run_dir=run_dir, **kwargs
    )
    quiet_trainer([active], max_epochs=1).fit(model or Model(), datamodule=data)
    return active, data


def test_hooks_come_in_order_and_say_what_is_asked(tmp_path):
    oracle = Scripted()
    active, _ = run(oracle, run_dir=tmp_path)
    assert oracle.prepared == [(tmp_path, oracle.questions[0].run_id)] and len(oracle.questions[0].run_id) > 8
    assert oracle.calls == ["ask", "corrections", "answer"] * 2
    for round_, question in enumerate(oracle.questions):
        query = active.history[round_].query
        assert question.round == round_ and question.query is query
        assert question.indices.tolist() == query.indices.tolist()


def test_what_is_open_is_asked_again_by_a_later_fit_and_comes_first():
    oracle = Scripted(lambda indices: {indices[0]: TRUTH[indices[0]]}, nothing, nothing)
    model, data = Model(), make_data()
    active, _ = run(oracle, data, model=model, min_answers=1)
    reason = active.history[-1].stop_reason
    assert reason.startswith(
        "waiting for answers to 4 of the 4 points asked, in a drawer: give them there and call fit"
    )
    quiet_trainer([active], max_epochs=1).fit(model, datamodule=data)
    first, second = (record.query.indices.tolist() for record in active.history[:2])
    assert oracle.questions[1].indices.tolist() == first[1:] + second == oracle.questions[2].indices.tolist()
    assert active.history[-1].stop_reason == "waiting for answers to 4 of the 4 points asked, in a drawer: " + (
        "give them there and call fit again in this process"
    )


@pytest.mark.parametrize(
    ("folder", "then"),
    [("given", "run this script again"), (None, "call fit again, or run this script with ActiveLearning(run_dir='")],
)
def test_the_reason_says_how_to_go_on(folder, then, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    active, _ = run(Scripted(nothing), run_dir=folder)
    assert f"in a drawer: give them there and {then}" in active.history[-1].stop_reason


class TestWaiting:
    """In place, with a time-out."""

    def test_until_all_are_there(self):
        oracle = Scripted(nothing, lambda indices: truth(indices[:1]), truth, timeout=None)
        active, _ = run(oracle)
        assert active.history[-1].stop_reason == "max_rounds=2 reached"
        assert oracle.calls == ["ask", *["corrections", "answer"] * 3, "ask", "corrections", "answer"]

    def test_until_enough_are_there(self):
        active, data = run(
            Scripted(nothing, lambda i: truth(i[2:]), timeout=None), min_answers=2, max_rounds=1, query_size=5
        )
        assert len(data.labels) == 5 and len(data.pending_indices) == 2 and len(active.history) == 2

    def test_until_the_time_is_over(self):
        oracle = Scripted(*[nothing] * 10_000, timeout=0.05)
        active, data = run(oracle)
        assert "waiting for answers to 4 of the 4" in active.history[-1].stop_reason and len(data.pending_indices) == 4
        assert len(oracle.calls) > 3

    def test_until_somebody_stops_it(self):
        oracle = Scripted(*[nothing] * 100_000, timeout=None)
        oracle.poll_seconds = 60
        active = ActiveLearning(RandomSampler(), query_size=4, oracle=oracle, run_dir=False, seed=0)
        threading.Timer(0.5, active.stop).start()
        quiet_trainer([active], max_epochs=1).fit(Model(), datamodule=make_data())
        assert "waiting for answers to 4 of the 4" in active.history[-1].stop_reason

    def test_until_the_process_is_told_to_end(self):
        def told(indices):
            trainer._signal_connector.received_sigterm = True
            return {}

        oracle = Scripted(told, timeout=None)
        oracle.poll_seconds = 60
        active = ActiveLearning(RandomSampler(), query_size=4, oracle=oracle, run_dir=False, seed=0)
        trainer = quiet_trainer([active], max_epochs=1)
        trainer.fit(Model(), datamodule=make_data())
        assert "waiting for answers to 4 of the 4" in active.history[-1].stop_reason

    def test_an_answer_that_is_refused_is_told_and_may_be_mended(self):
        wrong = lambda indices: {**truth(indices[1:]), indices[0]: 7}  # noqa: E731
        with pytest.warns(UserWarning, match=r"at most 2, but got 7.*looked at again") as told:
            active, data = run(Scripted(wrong, wrong, truth, timeout=None), max_rounds=1)
        assert sum("looked at again" in str(w.message) for w in told) == 1
        assert len(active.history) == 2 and data.labels.tolist() == [TRUTH[i] for i in data.labelled_indices]

    def test_a_refused_answer_is_an_error_in_the_end(self):
        wrong = lambda indices: {indices[0]: 7}  # noqa: E731
        with (
            pytest.raises(InvalidLabelError, match="at most 2, but got 7"),
            pytest.warns(UserWarning, match="looked at again"),
        ):
            run(Scripted(*[wrong] * 10_000, timeout=0.05))

    def test_other_errors_are_not_waited_for(self):
        with pytest.raises(ConnectionError):
            run(Scripted(lambda indices: ConnectionError("gone"), timeout=None))


class TestSkipped:
    """Points that nobody can label."""

    def test_some(self):
        oracle = Scripted(lambda indices: truth(indices[1:]) | {indices[0]: SKIP})
        active, data = run(oracle)
        first = active.history[0].query.indices.tolist()
        assert data.skipped_indices.tolist() == [first[0]] and active.history[1].n_labelled == 5
        assert first[0] not in active.history[1].query.indices and active.history[-1].n_labelled == 9

    @pytest.mark.parametrize("initial", [(31, 4), ()])
    def test_all_asks_others_before_it_trains_again(self, initial, tmp_path):
        oracle = Scripted(skip_all, skip_all)
        active, data = run(oracle, make_data(initial), run_dir=tmp_path)
        assert [r.n_labelled for r in active.history] == [len(initial), len(initial) + 4, len(initial) + 8]
        assert len(active.history[0].query) == 12 and len(data.skipped_indices) == 8
        assert [q.round for q in oracle.questions] == [0, 0, 0, 1]

        journal = ActiveLearning(RandomSampler(), query_size=4, max_rounds=2, oracle=lambda *_: 1 / 0, run_dir=tmp_path)
        again = make_data(())
        (tmp_path / "state.ckpt").unlink()  # nothing but the journal is left
        quiet_trainer([journal], max_epochs=1).fit(Model(), datamodule=again)
        for old, new in zip(active.history[:2], journal.history, strict=False):
            assert old.query.indices.tolist() == new.query.indices.tolist()
        assert again.skipped_indices.tolist() == data.skipped_indices.tolist()
        assert again.labelled_indices.tolist() == data.labelled_indices.tolist()

    def test_all_of_the_pool_ends_the_run(self):
        active, data = run(Scripted(*[skip_all] * 40))
        assert active.history[-1].stop_reason == "the pool is empty" and len(data.skipped_indices) == 38

    def test_enough_answers_where_the_rest_is_skipped(self):
        look = lambda indices: truth(indices[:1]) | dict.fromkeys(indices[1:], SKIP)  # noqa: E731
        active, _ = run(Scripted(look), max_rounds=1, min_answers=3)
        assert len(active.history) == 2

    def test_cost_no_budget(self):
        look = lambda indices: truth(indices[:1]) | dict.fromkeys(indices[1:], SKIP)  # noqa: E731
        active, data = run(Scripted(look), budget=6, max_rounds=None)
        assert len(data.labels) == 8 and active.history[-1].stop_reason == "budget=6 spent"


class TestCorrections:
    """Labels that turn out wrong, while others are asked."""

    def test_reach_the_next_training_and_the_journal(self, tmp_path):
        oracle = Scripted(corrections=[{31: 0, 4: 1}, {}])  # 4 had class 1 before
        _, data = run(oracle, run_dir=tmp_path)
        assert dict(zip(data.labelled_indices, data.labels, strict=True))[31] == 0
        journal = (tmp_path / "journal.jsonl").read_text()
        assert journal.count('"kind":"correction","indices":[31],"labels":[0]') == 1
        active, again = run(Scripted(), make_data(()), run_dir=tmp_path, max_rounds=3)
        assert dict(zip(again.labelled_indices, again.labels, strict=True))[31] == 0 and len(active.history) == 4

    def test_a_skipped_point_may_get_a_label_later(self):
        class Late(Scripted):
            def corrections(self, data):
                return truth(data.skipped_indices.tolist())

        _, data = run(Late(lambda indices: truth(indices[1:]) | {indices[0]: SKIP}))
        assert len(data.skipped_indices) == 0 and len(data.labels) == 10

    @pytest.mark.parametrize(
        ("corrections", "error", "message"),
        [
            ([1], InvalidTypeError, "labels by index, but got list"),
            ({5: 1}, InvalidIndexError, "corrected 5, which is neither labelled nor skipped"),
            ({31: 9}, InvalidLabelError, "correction for point 31: .*at most 2, but got 9"),
            ({31: SKIP}, InvalidLabelError, "correction for point 31 is SKIP"),
            ({31: PENDING}, InvalidLabelError, "correction for point 31 is PENDING"),
        ],
    )
    def test_refuses(self, corrections, error, message):
        with pytest.raises(error, match=message):
            checked_corrections(corrections, make_data())

    def test_all_of_a_look_or_nothing(self):
        data = make_data()
        with pytest.raises(InvalidLabelError, match="at most 2, but got 5"):
            run(Scripted(lambda indices: {indices[0]: SKIP, indices[1]: 5}, corrections=[{31: 0}]), data)
        assert data.labels.tolist() == [1, 1] and len(data.skipped_indices) == 0 and len(data.pending_indices) == 4

    def test_kinds_of_corrections_and_answers_have_to_agree(self):
        data = make_data()
        with pytest.raises(InvalidLabelError, match="of one kind"):
            run(Scripted(lambda indices: {indices[0]: (0, 1, 0)}, corrections=[{31: 0}]), data)
        assert data.labels.tolist() == [1, 1] and len(data.pending_indices) == 4


def test_skip_among_answers():
    assert checked_answers({7: SKIP, 3: 1, 30: PENDING}, np.array([7, 3, 30]), 3, None) == {7: SKIP, 3: 1}
