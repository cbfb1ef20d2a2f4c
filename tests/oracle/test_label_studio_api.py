"""`LabelStudioOracle` with a server: what it asks of the SDK, and what never reaches anybody.

The server is the one in `label_studio_fake.py`; `test_label_studio_server.py` has the real one.
"""

import copy
import pickle
import sys
import traceback

import numpy as np
import pytest
import torch

from lightning_diffal import ActiveDataModule, ActiveLearning, DiffusionSampler, Query
from lightning_diffal.exceptions import AnswerFileError, ConfigurationError, ServerError
from lightning_diffal.oracle import SKIP, CallableOracle, LabelStudioOracle, Question, label_config
from lightning_diffal.utils.extras import MissingExtraError
from tests.helpers import TRAIN, VAL, Net, quiet_trainer, same_weights
from tests.oracle.label_studio_fake import ApiError, FakeServer, HTTPError
from tests.oracle.label_studio_server import CHOICES

KEY = "6b1f0c9d2e7a4385f1d2c3b4a5968778695a4b3c"
ASKED = np.array([7, 3, 11, 4, 9, 2])
TRUTH = TRAIN.tensors[1].tolist()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", KEY)
    return FakeServer(KEY).install(monkeypatch)


def texts(n=12, **kwargs):
    return ActiveDataModule([f"text {i}" for i in range(n)], initial_labels={0: 1}, class_names=CHOICES, **kwargs)


def question(indices=ASKED):
    return Question(Query(ASKED, np.ones(len(ASKED))), np.asarray(indices), 0, "a-run")


def opened(server, data, project="letters", **kwargs):
    oracle = LabelStudioOracle(url=f"{server.url}/", project=project, **kwargs)
    oracle.prepare(data, None, None)
    return oracle


def test_a_title_that_does_not_exist_becomes_a_project_once(server):
    data = texts()
    server.add_project("more letters", label_config(["a"], "text"))
    oracle, again = opened(server, data), opened(server, data)
    assert [project.title for project in server.projects.values()] == ["more letters", "letters"]
    assert oracle.whereabouts() == again.whereabouts() == "Label Studio project 2 ('letters') at http://studio.test"
    assert opened(server, data, project=2).whereabouts() == "Label Studio project 2 at http://studio.test"
    assert server.projects[2].parsed_label_config["label"]["labels"] == CHOICES and oracle.to_name == "text"


def test_each_task_once(server):
    data = texts()
    oracle = opened(server, data)
    oracle.ask(question(ASKED[:4]), data)
    opened(server, data).ask(question(), data)
    oracle.ask(question(), data)
    assert [task["data"]["diffal_id"] for task in server.tasks.values()] == [str(i) for i in ASKED]
    assert {task["project"] for task in server.tasks.values()} == {1}


@pytest.mark.parametrize("request_", ["import", "create"])
def test_killed_between_the_request_and_the_reply(server, request_):
    data = texts()
    server.fails[request_] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        opened(server, data).ask(question(), data)
    opened(server, data).ask(question(), data)
    assert len(server.projects) == 1 and len(server.tasks) == len(ASKED)


def test_many_ids_are_looked_up_in_parts_that_fit_into_an_address(server):
    names = [f"{'é' * 40}/{i}.png" for i in range(300)]
    data = texts(300, ids=names)
    oracle = opened(server, data)
    every = np.arange(1, 300)
    for _ in range(2):  # the server refuses queries that are too long
        oracle.ask(Question(Query(every, np.ones(299)), every, 0, None), data)
    assert len(server.tasks) == 299


def test_answers_corrections_and_skips_as_they_come(server):
    data = texts()
    oracle = opened(server, data)
    oracle.ask(question(), data)
    assert oracle.corrections(data) == {} and oracle.answer(ASKED, data) == {}
    server.annotate(7, "dog")
    server.annotate(11, was_cancelled=True)
    assert oracle.answer(ASKED, data) == {7: 1, 11: SKIP}
    data.label([7], [1], round_=1)
    data.skip([11])
    assert oracle.corrections(data) == {}
    server.annotate(3, "cat")
    server.change(7, "bird")
    server.annotate(11, "dog", author=2)
    assert oracle.corrections(data) == {7: 2, 11: 1} and oracle.answer(np.array([3, 4]), data) == {3: 0}
    assert opened(server, data).corrections(data) == {7: 2, 11: 1}, "as another process sees it"


def test_what_others_do_in_the_project_is_not_ours(server):
    data = texts()
    oracle = opened(server, data)
    oracle.ask(question(), data)
    server.annotate(7, "cow")  # no class of ours
    own = server.tasks.pop(server.task_of(7)["id"])
    for id_ in ("7", None, "4711"):
        number = 900 + len(server.tasks)
        shown = {"text": "theirs"} | ({} if id_ is None else {"diffal_id": id_})
        server.tasks[number] = {**copy.deepcopy(own), "id": number, "data": shown, "project": 1 if id_ != "7" else 2}
    server.annotate(3, "dog")
    assert oracle.answer(ASKED, data) == {3: 1}


def test_a_task_of_another_data_set_is_refused(server):
    data = texts()
    opened(server, data).ask(question(), data)
    server.annotate(7, "dog")
    other = ActiveDataModule([f"letter {i}" for i in range(12)], initial_labels={0: 1}, class_names=CHOICES)
    with pytest.raises(AnswerFileError, match=r"project 1 .*task 2 has the id '7', but was made of another item"):
        opened(server, other).answer(ASKED, other)


def test_a_label_that_is_no_class_names_project_and_task(server):
    data = texts()
    oracle = opened(server, data)
    oracle.ask(question(), data)
    server.annotate(7, "cow")
    server.annotate(3, "dog")
    with pytest.raises(AnswerFileError, match=r"project 1 \('letters'\) at http://studio\.test, task 2 has .*'cow'"):
        oracle.answer(ASKED, data)


@pytest.mark.parametrize(
    ("config", "arguments", "match"),
    [
        ("<View></View>", {}, r"no `<Choices name='label'>`.*\[\].*label_config"),
        (label_config(CHOICES, "text", from_name="mood"), {}, r"\['mood'\]"),
        (label_config(["cat", "cow"], "text"), {}, r"offers the choices \['cat', 'cow'\], but the classes are"),
        (label_config(CHOICES, "text"), {"to_name": "image"}, r"\['text'\], but `to_name` is 'image'"),
    ],
)
def test_a_project_that_asks_for_something_else(server, config, arguments, match):
    server.add_project("letters", config)
    with pytest.raises(ConfigurationError, match=match):
        opened(server, texts(), **arguments)


def test_which_project(server):
    for _ in range(2):
        server.add_project("letters", label_config(CHOICES, "text"))
    with pytest.raises(ConfigurationError, match=r"2 projects .*'letters'.*\[1, 2\]"):
        opened(server, texts())
    with pytest.raises(ConfigurationError, match=r"no project 'sounds'.*make it there"):
        opened(server, texts(), project="sounds", task_data=lambda index, item, id_: {"video": item})


def test_a_project_of_its_own_making_may_show_anything(server):
    shown = label_config(CHOICES, "text", to_name="player").replace("Text", "Audio").replace("$text", "$audio")
    server.add_project("sounds", shown)
    data = texts()
    oracle = opened(server, data, project="sounds", task_data=lambda index, item, id_: {"audio": f"{id_}.wav"})
    oracle.ask(question([7]), data)
    assert server.task_of(7)["data"]["audio"] == "7.wav" and oracle.to_name == "player"


ERRORS = {
    "wrong key": (lambda server: setattr(server, "key", "another"), r"refused the key in LABEL_STUDIO_API_KEY \(401"),
    "down": (lambda server: setattr(server, "url", "http://elsewhere"), r"cannot be reached .*Connection refused"),
    "gone": (lambda server: server.projects.clear(), r"not found \(404 No Project"),
    "a page": (lambda server: server.fails.update(get=ApiError(502, f"<html>{KEY}</html>")), r"refused \(502 \)"),
    "an echo": (lambda server: server.fails.update(get=ApiError(500, f"a\nb {KEY}")), r"refused \(500 a b \*\*\*\)"),
    "a proxy": (lambda server: server.fails.update(get=HTTPError(f"Authorization: {KEY}")), "cannot be reached"),
    "no Label Studio": (lambda server: server.fails.update(get=ValueError(KEY)), r"would not \(ValueError\)"),
    "invalid": (
        lambda server: server.fails.update(get=ApiError(400, {"detail": "Bad", "validation_errors": {"title": 3}})),
        r"refused \(400 Bad \{'title': 3\}\)",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_are_one_line_without_the_key(server, name):
    spoil, match = ERRORS[name]
    server.add_project("letters", label_config(CHOICES, "text"))
    oracle = LabelStudioOracle(url=server.url, project=1)
    spoil(server)
    with pytest.raises(ServerError, match=match) as caught:
        oracle.prepare(texts(), None, None)
    text = str(caught.value)
    assert (
        text.startswith("Label Studio project 1 at http://studio.test: ")
        and "Nothing is lost" in text
        and "\n" not in text
    )
    shown = "".join(traceback.TracebackException.from_exception(caught.value).format())
    assert KEY not in shown and "crumbs" not in shown
    assert caught.value.__context__ is None and caught.value.__cause__ is None


@pytest.mark.parametrize("key", [None, "", "  ", "two words", "schlüssel", "a\nb"])
def test_no_key(server, monkeypatch, key):
    monkeypatch.delenv("LABEL_STUDIO_API_KEY")
    if key is not None:
        monkeypatch.setenv("STUDIO_KEY", key)
    with pytest.raises(ConfigurationError, match="environment variable STUDIO_KEY") as caught:
        opened(server, texts(), api_key_env="STUDIO_KEY")
    assert not (key or "").strip() or key not in str(caught.value)


def test_the_package_is_named_where_it_is_missing(server, monkeypatch):
    monkeypatch.setitem(sys.modules, "label_studio_sdk", None)
    monkeypatch.delitem(sys.modules, "label_studio_sdk.core")
    with pytest.raises(MissingExtraError, match=r'pip install "lightning-diffal\[label-studio\]"'):
        opened(server, texts())


class TestTraining:
    """Two rounds of a real Trainer; each fit has nothing of the one before but the folder, as in a new process."""

    def fit(self, folder, oracle, seed=5, **kwargs):
        torch.manual_seed(seed)
        model = Net()
        start = [3, 17, 40, 41, 58, 63, 77, 90, 101, 113, 5, 119]
        data = ActiveDataModule(TRAIN, val_dataset=VAL, initial_labels=start, batch_size=4, class_names=CHOICES)
        active = ActiveLearning(
            DiffusionSampler(), query_size=6, max_rounds=2, oracle=oracle, seed=11, run_dir=folder, **kwargs
        )
        trainer = quiet_trainer([active], enable_checkpointing=False)
        trainer.fit(model, datamodule=data)
        return active, data, model, trainer

    def oracle(self, server, **kwargs):
        return LabelStudioOracle(
            url=server.url, project="points", task_data=lambda index, item, id_: {"text": f"point {id_}"}, **kwargs
        )

    def test_with_failures_on_the_way_it_ends_as_a_run_that_never_waited(self, server, tmp_path):
        _, data, model, _ = self.fit(tmp_path / "a", CallableOracle(lambda indices, items: [TRUTH[i] for i in indices]))
        folder = tmp_path / "b"
        server.fails["import"] = KeyboardInterrupt()
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            self.fit(folder, self.oracle(server))
        active, _, _, _ = self.fit(folder, self.oracle(server))
        assert "waiting for answers to 6 of the 6" in active.history[-1].stop_reason
        assert "project 1 ('points') at http://studio.test" in active.history[-1].stop_reason
        picks = active.history[0].query.indices.tolist()
        server.annotate(picks[0], CHOICES[(TRUTH[picks[0]] + 1) % 3])
        self.fit(folder, self.oracle(server))
        server.change(picks[0], CHOICES[TRUTH[picks[0]]])
        server.fails["look"] = HTTPError("[Errno 111] Connection refused")
        with pytest.raises(ServerError, match="cannot be reached"):
            self.fit(folder, self.oracle(server))
        for index in picks[1:]:
            server.annotate(index, CHOICES[TRUTH[index]])
        active, partly, _, _ = self.fit(folder, self.oracle(server))
        assert len(active.history) == 2 and len(server.tasks) == 12
        for index in partly.pending_indices.tolist():
            server.annotate(index, CHOICES[TRUTH[index]])
        _, done, trained, _ = self.fit(folder, self.oracle(server))
        assert done.labels.tolist() == data.labels.tolist() and len(server.tasks) == 12
        assert same_weights(trained.state_dict(), model.state_dict())

    def test_waits_in_place_over_a_server_that_comes_and_goes(self, server, tmp_path):
        looks = iter(range(100))

        def people(name):
            server.requests.append(name)
            if name == "look" and (look := next(looks)) > 1:
                if look % 3 == 0:
                    raise HTTPError("[Errno 111] Connection refused")
                unanswered = [task for task in server.tasks.values() if not task["annotations"]]
                for task in unanswered[:2]:
                    id_ = task["data"]["diffal_id"]
                    server.annotate(id_, CHOICES[TRUTH[int(id_)]])

        server.check = people
        with pytest.warns(UserWarning, match="cannot be reached"):
            active, data, _, _ = self.fit(tmp_path, self.oracle(server, timeout=None, poll_seconds=0.01))
        assert active.history[-1].stop_reason == "max_rounds=2 reached" and len(data.labels) == 24

    def test_the_key_reaches_nobody(self, server, tmp_path, caplog, capsys):
        oracle = self.oracle(server)
        active, _, _, trainer = self.fit(tmp_path / "run", oracle)
        trainer.save_checkpoint(tmp_path / "a.ckpt")
        active.history.to_csv(tmp_path / "history.csv")
        kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
        assert len(kept) > 10_000 and b"studio.test" not in kept.replace(active.history[-1].stop_reason.encode(), b"")
        oracle.task_data = None  # a lambda cannot be pickled
        said = f"{caplog.text} {capsys.readouterr()}"
        shown = f"{oracle!r} {oracle.whereabouts()} {vars(oracle)} {vars(oracle._place)} {said}"
        for text in (kept, pickle.dumps(oracle), shown.encode(), repr(copy.deepcopy(oracle)).encode()):
            assert KEY.encode() not in text and b"crumbs" not in text
        assert "http://studio.test" in repr(oracle)
