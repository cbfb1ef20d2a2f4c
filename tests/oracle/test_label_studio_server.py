"""`LabelStudioOracle` against a real server: how to run it stands in `label_studio_server.py`."""

import importlib.util
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from lightning_diffal import ActiveDataModule, Query
from lightning_diffal.exceptions import AnswerFileError, ConfigurationError, ServerError
from lightning_diffal.oracle import SKIP, CallableOracle, LabelStudioOracle, Question, label_config
from tests.helpers import TRAIN
from tests.oracle.label_studio_script import fit
from tests.oracle.label_studio_server import CHOICES, Server

BINARY = os.environ.get("LABEL_STUDIO_BIN")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        BINARY is None or importlib.util.find_spec("label_studio_sdk") is None,
        reason="needs LABEL_STUDIO_BIN and label-studio-sdk: see tests/label_studio_server.py",
    ),
]
SCRIPT = Path(__file__).with_name("label_studio_script.py")
ASKED = np.array([17, 3, 11, 4, 9, 2, 8, 14, 5, 12])


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    real = Server(tmp_path_factory.mktemp("label-studio"), BINARY)
    try:
        yield real.start()
    finally:
        real.stop()


@pytest.fixture(autouse=True)
def key(server, monkeypatch):
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", server.key)


def texts(n=20, **kwargs):
    return ActiveDataModule([f"text {i}" for i in range(n)], initial_labels={0: 1}, class_names=CHOICES, **kwargs)


def question(indices=ASKED):
    details = {
        "predicted": np.arange(len(ASKED)) % 3,
        "margin": np.full(len(ASKED), 0.1),
        "reach": np.full(len(ASKED), 0.4),
        "phase": np.array(["exploration", "refinement"] * 5),
        "nearest_labelled": np.zeros(len(ASKED), dtype=np.int64),
    }
    return Question(Query(ASKED, np.ones(len(ASKED)), details), np.array(indices), 0, "a-run")


def opened(server, title, data, **kwargs):
    oracle = LabelStudioOracle(url=server.url, project=title, **kwargs)
    oracle.prepare(data, None, None)
    return oracle


def test_ten_tasks_once_each_half_of_them_answered_and_one_corrected(server):
    data = texts()
    oracle = opened(server, "ten tasks", data)
    oracle.ask(question(), data)
    ids = server.ids(oracle._place.number)
    assert list(ids) == [str(i) for i in ASKED], "people label in the order of choice"
    oracle.ask(question(), data)
    again = opened(server, "ten tasks", data)  # as another process would
    again.ask(question(), data)
    assert again._place.number == oracle._place.number and server.ids(oracle._place.number) == ids
    task = server.client().tasks.get(id=str(ids["3"]))
    task = task.model_dump(warnings=False) if hasattr(task, "model_dump") else task
    assert task["meta"]["nearest_labelled"] == {"id": "0", "label": ["dog"]} and task["meta"]["phase"] == "refinement"
    (prediction,) = task["predictions"]
    assert prediction["result"][0]["value"] == {"choices": ["dog"]} and prediction["score"] == pytest.approx(0.25)

    shown = server.client().projects.get(oracle._place.number).model_version
    assert shown == prediction["model_version"], "Label Studio shows the suggestions of one version only"

    assert oracle.corrections(data) == {} and oracle.answer(ASKED, data) == {}
    first = server.annotate(ids["17"], "bird")
    server.annotate(ids["3"], "cat")
    server.annotate(ids["11"], was_cancelled=True)
    server.annotate(ids["4"], "cat")
    server.annotate(ids["4"], "bird", ground_truth=True)
    gone = server.annotate(ids["9"], "dog")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = oracle.answer(ASKED, data)
    assert found == {17: 2, 3: 0, 11: SKIP, 4: 2, 9: 1} == again.answer(ASKED, data)

    data.label([17, 3, 4, 9], [2, 0, 2, 1], round_=1)
    data.skip([11])
    assert oracle.corrections(data) == {}
    server.change(first, "dog")
    server.client().annotations.delete(id=gone)
    server.annotate(ids["11"], "cat")
    assert oracle.corrections(data) == {17: 1, 11: 0} == again.corrections(data)
    data.correct([17], [1])
    assert oracle.corrections(data) == {11: 0}
    rest = [i for i in ASKED.tolist() if i not in (17, 3, 11, 4, 9)]
    assert oracle.answer(np.array(rest), data) == {}
    server.annotate(ids[str(rest[0])], "cat")
    assert oracle.answer(np.array(rest), data) == {rest[0]: 0}


def test_several_labels(server):
    data = texts()
    oracle = opened(server, "several", data, multilabel=True)
    oracle.ask(question(), data)
    ids = server.ids(oracle._place.number)
    server.annotate(ids["17"], "cat", "bird")
    server.annotate(ids["3"])
    server.annotate(ids["11"], "dog")
    assert oracle.answer(ASKED, data) == {17: (1, 0, 1), 3: (0, 0, 0), 11: (0, 1, 0)}


@pytest.mark.parametrize("kind", ["JSON", "JSON_MIN"])
def test_files_by_way_of_the_real_import_and_export(server, kind, tmp_path):
    data = texts()
    oracle = LabelStudioOracle(tmp_path)
    oracle.ask(question(), data)
    client = server.client()
    config = (tmp_path / "label_config.xml").read_text()
    project = client.projects.create(title=f"files {kind}", label_config=config).id
    client.projects.import_tasks(project, request=json.loads((tmp_path / "tasks-round-000.json").read_text()))
    ids = server.ids(project)
    changed = server.annotate(ids["17"], "bird")
    server.annotate(ids["3"], "cat")
    server.annotate(ids["11"], was_cancelled=True)
    (tmp_path / "exports" / "first.json").write_bytes(server.export(project, kind))
    skips = {11: SKIP} if kind == "JSON" else {}
    assert oracle.answer(ASKED, data) == {17: 2, 3: 0} | skips
    data.label([17, 3], [2, 0], round_=1)
    server.change(changed, "dog")
    server.annotate(ids["9"], "dog")
    (tmp_path / "exports" / "a-second.json").write_bytes(server.export(project, kind))
    assert oracle.corrections(data) == {17: 1} and oracle.answer(np.array([9]), data) == {9: 1}


def test_more_tasks_than_one_page_and_ids_with_odd_characters(server):
    names = [f'été/"{i}", it\'s & <b> 100% #{"x" * 60}' for i in range(450)]
    data = texts(450, ids=names)
    oracle = opened(server, "many", data)
    every = np.arange(449, 0, -1)
    ask = Question(Query(every, np.ones(len(every))), every, 0, None)
    oracle.ask(ask, data)
    oracle.ask(ask, data)
    ids = server.ids(oracle._place.number)
    assert list(ids) == [names[i] for i in every]
    server.annotate(ids[names[5]], "bird")
    assert oracle.answer(every, data) == {5: 2}


def test_both_kinds_of_keys_and_wrong_ones(server, monkeypatch):
    data = texts()
    token = server.client().tokens.create().token  # a personal access token
    for good in (token, f" {server.key}\n"):
        monkeypatch.setenv("LABEL_STUDIO_API_KEY", good)
        opened(server, "keys", data).ask(question(), data)
    for wrong in ("f" * 40, token[:-4] + "AAAA"):
        monkeypatch.setenv("LABEL_STUDIO_API_KEY", wrong)
        with pytest.raises(ServerError, match="refused the key in LABEL_STUDIO_API_KEY") as caught:
            opened(server, "keys", data)
        text = str(caught.value)
        assert server.url in text and "keys" in text and wrong not in text and "\n" not in text
        assert caught.value.__context__ is None


def test_errors_in_one_line(server, monkeypatch):
    data = texts()
    for url, project, match in [
        ("http://127.0.0.1:1", 3, "project 3 at http://127.0.0.1:1: cannot be reached"),
        (server.url, 4711, "project 4711 at .*not found"),
        (f"{server.url}/nowhere", 1, "not found"),
    ]:
        with pytest.raises(ServerError, match=match) as caught:
            LabelStudioOracle(url=url, project=project).prepare(data, None, None)
        assert server.key not in str(caught.value) and "\n" not in str(caught.value)
    client = server.client()
    for title, config, match in [
        ("empty interface", "<View></View>", "no `<Choices name='label'>`"),
        ("other name", label_config(CHOICES, "text", from_name="mood"), r"\['mood'\]"),
        ("other classes", label_config(["cat", "cow"], "text"), r"offers the choices \['cat', 'cow'\]"),
    ]:
        client.projects.create(title=title, label_config=config)
        with pytest.raises(ConfigurationError, match=match):
            opened(server, title, data)
    for _ in range(2):
        client.projects.create(title="twins", label_config=label_config(CHOICES, "text"))
    with pytest.raises(ConfigurationError, match=r"2 projects .* called 'twins'"):
        opened(server, "twins", data)
    with pytest.raises(ConfigurationError, match="to_name"):
        opened(server, "keys", data, to_name="image")


def test_a_task_that_does_not_fit_the_project(server):
    data = texts()
    client = server.client()
    project = client.projects.create(title="pictures", label_config=label_config(CHOICES, "image")).id
    oracle = opened(server, project, data)
    with pytest.raises(ServerError, match=r"400.*image"):
        oracle.ask(question(), data)


def test_another_data_set_in_the_project(server):
    data = texts()
    oracle = opened(server, "one data set", data)
    oracle.ask(question(), data)
    server.annotate(server.ids(oracle._place.number)["17"], "cat")
    other = ActiveDataModule([f"a letter {i}" for i in range(20)], initial_labels={0: 1}, class_names=CHOICES)
    with pytest.raises(AnswerFileError, match="made of another item than point 17"):
        opened(server, "one data set", other).answer(ASKED, other)


def run(folder, url, *args, code=0):
    done = subprocess.run(
        [sys.executable, SCRIPT, folder, url, *args], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == code, done.stderr[-3000:]
    assert os.environ["LABEL_STUDIO_API_KEY"] not in done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1]) if code == 0 else done.stderr


def test_a_run_in_many_processes_ends_as_one_that_never_waited(server, tmp_path):
    truth = TRAIN.tensors[1].tolist()
    expected = fit(tmp_path / "direct", CallableOracle(lambda indices, items: [truth[i] for i in indices]))

    folder = tmp_path / "people"
    run(folder, server.url, "kill", code=-9)
    (project,) = (p.id for p in server.client().projects.list(title="people"))
    state = run(folder, server.url)
    assert server.ids(project).keys() == {str(i) for i in expected["picks"][0]}
    assert state["pending"] == sorted(expected["picks"][0]) and "waiting for answers to 6 of the 6" in state["reason"]
    assert f"project {project} ('people') at {server.url}" in state["reason"]

    picks = expected["picks"][0]
    ids = server.ids(project)
    wrong = server.annotate(ids[str(picks[0])], CHOICES[(truth[picks[0]] + 1) % 3])
    for index in picks[1:3]:
        server.annotate(ids[str(index)], CHOICES[truth[index]])
    state = run(folder, server.url)
    assert "waiting for answers to 3 of the 6" in state["reason"] and state["labels"][str(picks[0])] != truth[picks[0]]
    server.change(wrong, CHOICES[truth[picks[0]]])

    server.stop()
    error = run(folder, server.url, code=1)
    assert "cannot be reached" in error.splitlines()[-1] and "Nothing is lost" in error
    server.start()

    for index in picks[3:]:
        server.annotate(ids[str(index)], CHOICES[truth[index]])
    state = run(folder, server.url)
    assert state["picks"][:2] == expected["picks"][:2] and len(state["pending"]) == 6
    ids = server.ids(project)
    assert len(ids) == 12
    for index in state["pending"]:
        server.annotate(ids[str(index)], CHOICES[truth[index]])
    assert run(folder, server.url) == expected
    content = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert server.key.encode() not in content and b"correction" in content


def test_the_next_look_sees_what_is_new(server):
    data = texts()
    oracle = opened(server, "looks", data)
    oracle.ask(question(), data)
    ids = server.ids(oracle._place.number)
    for count, index in enumerate((17, 3), start=1):
        server.annotate(ids[str(index)], "cat")
        assert len(oracle.answer(ASKED, data)) == count
