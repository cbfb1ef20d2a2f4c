"""Labels that no model output stands for, and data sets that moved under their labels."""

import numpy as np
import pytest

from lightning_diffal import ActiveDataModule, ActiveLearning
from lightning_diffal.exceptions import InvalidLabelError, ResumeError
from lightning_diffal.history.lines import encode_line, read_journal
from lightning_diffal.samplers import RandomSampler
from tests.helpers import TRAIN, Net, quiet_trainer


def run(folder, data, oracle, rounds=1):
    active = ActiveLearning(RandomSampler(), query_size=4, max_rounds=rounds, run_dir=folder, seed=0, oracle=oracle)
    quiet_trainer([active], max_epochs=1).fit(Net("none"), datamodule=data)
    return active


def of_train():
    return ActiveDataModule(TRAIN, initial_labels={0: 0, 1: 1, 2: 2})


def test_a_label_beyond_the_outputs_is_refused_before_the_journal(tmp_path):
    with pytest.raises(InvalidLabelError, match="7"):
        run(tmp_path, of_train(), lambda asked, items: [7] * len(asked))
    assert '"answer"' not in (tmp_path / "journal.jsonl").read_text()
    data = of_train()
    assert len(run(tmp_path, data, lambda asked, items: [1] * len(asked)).history) == 2
    assert len(data.labelled_indices) == 7 and data.num_classes == 3


@pytest.mark.filterwarnings("ignore:This run began with")
def test_a_run_that_is_stuck_on_one_asks_for_it_again(tmp_path):
    said = []

    def oracle(asked, items):
        said.append(list(asked))
        return [1] * len(asked)

    run(tmp_path, of_train(), oracle)
    (tmp_path / "state.ckpt").unlink()  # everything is trained again by the journal
    journal = tmp_path / "journal.jsonl"
    events = list(read_journal(journal).events)
    answer = next(event for event in events if event["kind"] == "answer")
    beyond, answer["labels"][0] = answer["indices"][0], 7
    journal.write_bytes(b"".join(encode_line(event, i) for i, event in enumerate(events, start=1)))
    for _ in range(2):  # the second time, all of it stands in the journal
        data = of_train()
        with pytest.warns(UserWarning, match="class 7, but there are 3 classes"):
            run(tmp_path, data, oracle)
        assert said[1:] == [[beyond]] and data.pool.labels_of(np.array([beyond])) == {beyond: 1}
        (tmp_path / "state.ckpt").unlink()


def test_an_item_exchanged_in_the_middle_is_noticed(tmp_path):
    def data(items):
        return ActiveDataModule(items, initial_labels={0: 0, 1: 1, 2: 2}, num_classes=3)

    items = list(TRAIN.tensors[0])
    first = data(items)
    run(tmp_path, first, lambda asked, items: [1] * len(asked))
    bought = int(first.labelled_indices[4])
    shifted = [*items[:bought], items[bought + 1], items[bought], *items[bought + 2 :]]
    with pytest.raises(ResumeError, match=f"Item {bought} of the training data set"):
        run(tmp_path, data(shifted), lambda asked, items: [1] * len(asked), rounds=2)
    again = data(items)
    run(tmp_path, again, lambda asked, items: [1] * len(asked), rounds=2)
    assert len(again.labelled_indices) == 11
