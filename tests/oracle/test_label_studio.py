"""Labels by way of Label Studio's files: what is written, what is read back, and two rounds of training with it."""

import json
import pathlib
import re

import numpy as np
import pytest
import torch

from lightning_diffal import ActiveDataModule, ActiveLearning, DiffusionSampler, Query
from lightning_diffal.exceptions import AnswerFileError, ConfigurationError, DiffalError, InvalidTypeError
from lightning_diffal.oracle import SKIP, CallableOracle, LabelStudioOracle, Question, label_config
from lightning_diffal.oracle.label_studio.tasks import default_task_data
from tests.helpers import TRAIN, VAL, Net, Snapshots, quiet_trainer, same_weights
from tests.oracle.label_studio_server import CHOICES

RECORDED = pathlib.Path(__file__).with_name("label_studio_exports")
ASKED = np.array([7, 3, 11, 4, 9, 2])
TRUTH = TRAIN.tensors[1].tolist()


def texts(**kwargs):
    return ActiveDataModule(
        [f"text {i}" for i in range(12)], **{"initial_labels": {0: 1}, "class_names": CHOICES} | kwargs
    )


def question(indices=ASKED, query=None, round_=0):
    query = Query(ASKED, np.linspace(1, 0, len(ASKED))) if query is None else query
    return Question(query, np.asarray(indices), round_, "a-run")


def exported(tasks, answers, author=1, when=1):
    """A full export: `tasks` with what was said of them, by id; `None` for "skip"."""
    rows = []
    for number, task in enumerate(tasks, start=1):
        id_ = task["data"]["diffal_id"]
        if id_ not in answers:
            continue
        said = answers[id_]
        choices = [said] if isinstance(said, str) else list(said or ())
        part = {"from_name": "label", "to_name": "text", "type": "choices", "value": {"choices": choices}}
        time = f"2026-01-01T00:00:{when:02d}.000000Z"
        annotation = {"id": number, "completed_by": author, "was_cancelled": said is None, "ground_truth": False}
        annotation |= {"result": [part] if choices else [], "updated_at": time}
        rows.append({"id": number, "project": 3, "updated_at": time, "annotations": [annotation], **task})
    return rows


@pytest.fixture
def asked(tmp_path):
    """A folder whose tasks were written, and a function that puts an export into it and reads the answers."""
    data, oracle = texts(), LabelStudioOracle(tmp_path)
    oracle.ask(question(), data)
    tasks = json.loads((tmp_path / "tasks-round-000.json").read_text())

    def answers(*exports, name="project-{}.json"):
        for count, export in enumerate(exports):
            content = export if isinstance(export, bytes) else json.dumps(export).encode()
            (tmp_path / "exports" / name.format(count)).write_bytes(content)
        return oracle.answer(ASKED, data)

    answers.tasks, answers.data, answers.oracle = tasks, data, oracle
    return answers


class TestTasks:
    """What Label Studio is given."""

    def test_everything_in_a_task(self, tmp_path):
        data = texts(initial_labels={0: 1, 5: 2})
        details = {
            "predicted": np.array([2, -1]),
            "margin": np.array([0.1, 0.0], np.float32),
            "reach": np.array([0.4, 0.0], np.float32),
            "phase": np.array(["refinement", "exploration"]),
            "nearest_labelled": np.array([5, -1]),
            "entropy": np.array([np.nan, 1.0]),
        }
        LabelStudioOracle(tmp_path).ask(question([7, 3], Query([7, 3], [0.9, 0.5], details), round_=4), data)
        first, second = json.loads((tmp_path / "tasks-round-004.json").read_text())
        digest = first["data"].pop("diffal_item")
        assert re.fullmatch("[0-9a-f]{16}", digest) and digest != second["data"].pop("diffal_item")
        assert first["data"] == {
            "text": "text 7",
            "diffal_id": "7",
            "diffal_round": 4,
            "diffal_why": "refinement: between labels",
            "diffal_suggestion": "",
            "diffal_nearest": '<p>Nearest labelled example: bird (5)</p><p class="shown-text">text 5</p>',
        }
        assert first["meta"] == {
            "run": "a-run",
            "round": 4,
            "order": 0,
            "score": pytest.approx(0.9),
            "predicted": ["bird"],
            "margin": pytest.approx(0.1),
            "reach": pytest.approx(0.4),
            "phase": "refinement",
            "nearest_labelled": {"id": "5", "label": ["bird"]},
            "entropy": None,
        }
        assert first["predictions"] == [
            {
                "model_version": "lightning-diffal",
                "score": pytest.approx(0.25),
                "result": [
                    {"from_name": "label", "to_name": "text", "type": "choices", "value": {"choices": ["bird"]}}
                ],
            }
        ]
        assert "predictions" not in second and second["meta"]["nearest_labelled"] is None
        assert (tmp_path / "label_config.xml").read_text() == label_config(CHOICES, "text")

    def test_several_classes_are_suggested(self, tmp_path):
        data = texts(initial_labels={0: [1, 0, 1]})
        query = Query([7], [0.9], {"predicted": np.array([[0, 1, 1]]), "probability": np.array([0.75])})
        LabelStudioOracle(tmp_path).ask(question([7], query), data)
        (task,) = json.loads((tmp_path / "tasks-round-000.json").read_text())
        assert task["predictions"][0]["result"][0]["value"] == {"choices": ["dog", "bird"]}
        assert task["predictions"][0]["score"] == 0.75
        assert 'choice="multiple"' in (tmp_path / "label_config.xml").read_text()

    def test_labels_stay_here(self, tmp_path):
        items = [(f"letter {i}", "secret-label") for i in range(12)]
        data = ActiveDataModule(items, initial_labels={0: 1}, class_names=CHOICES)
        LabelStudioOracle(tmp_path).ask(question(), data)
        assert b"secret" not in b"".join(p.read_bytes() for p in tmp_path.rglob("*.*"))

    @pytest.mark.parametrize(
        ("item", "id_", "shown"),
        [
            ("a film", "3", {"text": "a film"}),
            (("a film", 1), "3", {"text": "a film"}),
            ((torch.zeros(2), "a film", 1), "3", {"text": "a film"}),
            (pathlib.PurePosixPath("a/b.xyz"), "3", {"image": "a/b.xyz"}),
            ("https://a.org/b.JPG?size=3", "3", {"image": "https://a.org/b.JPG?size=3"}),
            ({"text": "so", "input_ids": [3, 4], "label": 1}, "3", {"text": "so"}),
            ({"audio": "a.wav", "seconds": 1.5, "x": torch.zeros(2)}, "3", {"audio": "a.wav", "seconds": 1.5}),
            ((torch.zeros(2), 1), "cats/7.png", {"image": "cats/7.png"}),
        ],
    )
    def test_what_is_shown(self, item, id_, shown):
        assert default_task_data(3, item, id_) == shown

    @pytest.mark.parametrize("item", [torch.zeros(2), (torch.zeros(2), 1), {"input_ids": [3], "label": 1}, 3, ()])
    def test_nothing_to_show(self, item):
        with pytest.raises(ConfigurationError, match=r"cannot show item 3, a .*task_data=lambda"):
            default_task_data(3, item, "3")

    @pytest.mark.parametrize(
        ("fields", "match"),
        [
            (None, "return a dict"),
            ({}, "return a dict"),
            ({3: "a"}, "return a dict"),
            ({"image": pathlib.Path("a.png")}, "point 7 that JSON cannot hold"),
            ({"image": "a", "length": float("nan")}, "JSON cannot hold"),
            ({"diffal_id": "a"}, "cannot set"),
            ({"label": "a"}, "cannot set"),
        ],
    )
    def test_task_data_that_cannot_be(self, fields, match, tmp_path):
        with pytest.raises(ConfigurationError, match=match):
            LabelStudioOracle(tmp_path, task_data=lambda index, item, id_: fields).ask(question(), texts())
        assert not list(tmp_path.glob("*.json"))

    def test_names_that_xml_escapes_and_numbers_for_names(self):
        assert '<Choice value="a &lt; &quot;b&quot;" hotkey="1" />' in label_config(['a < "b"'])
        with pytest.raises(ConfigurationError, match="kind"):
            label_config(CHOICES, "video")

    def test_a_file_is_written_once(self, tmp_path):
        data, oracle = texts(), LabelStudioOracle(tmp_path)
        oracle.ask(question(ASKED[:4]), data)
        before = (tmp_path / "tasks-round-000.json").read_bytes()
        oracle.ask(question(ASKED), data)  # killed between the two files, or other points after the same round
        LabelStudioOracle(tmp_path).ask(question(ASKED[::-1]), data)
        files = {p.name: [t["data"]["diffal_id"] for t in json.loads(p.read_text())] for p in tmp_path.glob("*.json")}
        assert files == {"tasks-round-000.json": ["7", "3", "11", "4"], "tasks-round-000-2.json": ["9", "2"]}
        assert (tmp_path / "tasks-round-000.json").read_bytes() == before
        (tmp_path / "tasks-round-000-2.json").write_bytes(before[:50])
        with pytest.raises(AnswerFileError, match=r"tasks-round-000-2\.json is no longer as it was written"):
            oracle.ask(question(), data)


class TestAnswers:
    """What comes back."""

    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("single-json", {7: 1, 3: 0, 11: SKIP, 4: 2, 9: 1}),
            ("single-json_min", {7: 1, 3: 0, 4: 2, 9: 1}),  # which holds no skips
        ],
    )
    def test_recorded_from_the_real_server(self, asked, name, expected):
        assert asked((RECORDED / f"{name}.json").read_bytes()) == expected

    @pytest.mark.parametrize("kind", ["json", "json_min"])
    def test_several_labels_recorded_from_the_real_server(self, kind, tmp_path):
        data, oracle = texts(), LabelStudioOracle(tmp_path, multilabel=True)
        oracle.ask(question(), data)
        (tmp_path / "exports" / "a.json").write_bytes((RECORDED / f"several-{kind}.json").read_bytes())
        skips = {11: SKIP} if kind == "json" else {}
        expected = {7: (0, 1, 0), 3: (1, 0, 1), 4: (0, 0, 1), 9: (0, 1, 0), 2: (0, 0, 0)}
        assert oracle.answer(ASKED, data) == expected | skips

    def test_nothing_yet(self, asked):
        assert asked() == {} and asked([]) == {}
        assert asked([{"id": i, **task, "annotations": []} for i, task in enumerate(asked.tasks)]) == {}

    @pytest.mark.parametrize(
        ("said", "expected"),
        [
            (["cat"], 0),
            (["cat", "cat", "dog"], 0),
            (["cat", "dog"], None),
            (["cat", "dog", "bird"], None),
            (["cat", "cat", "dog", "dog"], None),
            ([None], SKIP),
            ([None, None], SKIP),
            ([None, "dog"], 1),
            ([None, None, "dog"], 1),
            (["cat", "cat", ("dog", True)], 1),
            (["cat", ("dog", True), ("bird", True)], None),
        ],
    )
    def test_several_annotators(self, asked, said, expected, recwarn):
        (row,) = exported(asked.tasks, {"7": "cat"})
        row["annotations"] = []
        for author, what in enumerate(said):
            choice, truth = what if isinstance(what, tuple) else (what, False)
            (annotation,) = exported(asked.tasks, {"7": choice}, author={"id": author}, when=author)[0]["annotations"]
            row["annotations"].append(annotation | {"ground_truth": truth})
        assert asked([row]) == ({} if expected is None else {7: expected})
        asked.oracle.answer(ASKED, asked.data)
        told = [str(w.message) for w in recwarn if "annotators" in str(w.message)]
        assert len(told) == (expected is None)
        if expected is None:
            assert "'7'" in told[0] and "task 1" in told[0] and "ground truth" in told[0]

    def test_the_last_word_of_each(self, asked):
        (row,) = exported(asked.tasks, {"7": "cat"}, when=5)
        (earlier,) = exported(asked.tasks, {"7": "dog"}, when=2)
        row["annotations"] += earlier["annotations"]
        assert asked([row]) == {7: 0}

    def test_a_file_that_was_imported_twice_is_one_point(self, asked):
        once, again = exported(asked.tasks, {"7": "cat"}), exported(asked.tasks, {"7": "cat"}, author=2)
        again[0]["id"] = 100
        assert asked(once + again) == {7: 0}
        again[0]["annotations"][0]["result"][0]["value"]["choices"] = ["dog"]
        with pytest.warns(UserWarning, match="1 points do not agree"):
            assert asked(once + again) == {}

    def test_of_two_exports_the_newer_version_counts(self, asked):
        old = exported(asked.tasks, {"7": "cat", "3": "dog"}, when=1)
        new = exported(asked.tasks, {"7": "bird", "9": "cat"}, when=9)
        assert asked(new, old) == {7: 2, 3: 1, 9: 0} == asked(old, new)
        withdrawn = [{**new[0], "annotations": [], "updated_at": "2026-01-01T00:00:30Z"}]
        assert asked(old, new, withdrawn) == {3: 1, 9: 0}

    def test_names_compare_as_people_read_them(self, tmp_path):
        data, oracle = texts(class_names=["été", "b", "c"]), LabelStudioOracle(tmp_path)
        oracle.ask(question(), data)
        tasks = json.loads((tmp_path / "tasks-round-000.json").read_text())
        row = exported(tasks, {"7": "e\u0301te\u0301 "})
        (tmp_path / "exports" / "a.json").write_text("\ufeff" + json.dumps(row, ensure_ascii=False), encoding="utf-8")
        assert oracle.answer(ASKED, data) == {7: 0}

    def test_other_controls_in_the_project(self, asked):
        (row,) = exported(asked.tasks, {"7": "cat"})
        results = row["annotations"][0]["result"]
        results.append({"from_name": "why", "type": "textarea", "value": {"text": ["since"]}})
        results.append({"from_name": "quality", "type": "choices", "value": {"choices": ["good"]}})
        assert asked([row]) == {7: 0}

    def test_corrections(self, asked):
        data, oracle = asked.data, asked.oracle
        assert asked(exported(asked.tasks, {"7": "cat", "3": "dog", "11": None, "4": None})) == {
            7: 0,
            3: 1,
            11: SKIP,
            4: SKIP,
        }
        data.label([7, 3], [0, 1], round_=1)
        data.skip([11, 4])
        assert oracle.corrections(data) == {}
        asked(exported(asked.tasks, {"7": "bird", "3": None, "11": "dog", "4": None}, when=2), name="new-{}.json")
        with pytest.warns(UserWarning, match=r"1 points that nobody can tell, .*: '3'"):
            assert oracle.corrections(data) == {7: 2, 11: 1}

    def test_labels_that_were_not_bought_are_not_corrected(self, asked):
        data = texts(initial_labels={0: 1, 7: 1})
        asked(exported(asked.tasks, {"7": "bird"}))
        assert asked.oracle.corrections(data) == {}

    def test_ids_name_points_whatever_they_hold(self, tmp_path):
        data, oracle = texts(ids=[f"a/{i}.png" for i in range(12)]), LabelStudioOracle(tmp_path)
        oracle.ask(question(), data)
        tasks = json.loads((tmp_path / "tasks-round-000.json").read_text())
        assert "diffal_item" not in tasks[0]["data"]
        (tmp_path / "exports" / "a.json").write_text(json.dumps(exported(tasks, {"a/7.png": "cat"})))
        cleaned = ActiveDataModule([f"other {i}" for i in range(12)], ids=data.ids, class_names=CHOICES)
        assert oracle.answer(ASKED, cleaned) == {7: 0}


def broken(path, value):
    """An export of point 7 with something else at a place in it."""

    def make(tasks):
        rows = exported(tasks, {"7": "cat", "3": "dog"})
        place = rows[0]
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value
        return rows

    return make


RUBBISH = {
    "cut off": (lambda tasks: json.dumps(exported(tasks, {"7": "cat"})).encode()[:-9], r"line 1, column \d+: not JSON"),
    "empty": (lambda tasks: b"", "line 1, column 1: not JSON"),
    "no JSON": (lambda tasks: b"id,label\n7,cat\n", "line 1, column 1: not JSON"),
    "no UTF-8": (lambda tasks: b'[{"id": "\xff"}]', "not UTF-8 at byte 9"),
    "deep": (lambda tasks: b"[" * 200_000, "not the JSON of an export|not JSON"),
    "an object": (lambda tasks: {"tasks": []}, "expected a list of tasks"),
    "a list of numbers": (lambda tasks: [3], "entry 1: expected a task, but got 3"),
    "unknown label": (
        broken(["annotations", 0, "result", 0, "value", "choices"], ["cow"]),
        "task 1 has the label 'cow', but the classes are 'cat', 'dog', 'bird'",
    ),
    "two labels": (
        broken(["annotations", 0, "result", 0, "value", "choices"], ["cat", "dog"]),
        r"task 1 has the labels 'cat', 'dog', but a point has one .*multilabel=True",
    ),
    "no id": (broken(["data"], {"text": "text 7"}), "task 1 has no `diffal_id` in its data"),
    "another id": (broken(["data", "diffal_id"], "77"), "task 1 has the id '77', which no point"),
    "an id of another kind": (broken(["data", "diffal_id"], [7]), r"task 1 has the id '\[7\]'"),
    "another data set": (
        broken(["data", "diffal_item"], "0" * 16),
        "task 1 has the id '7', but was made of another item than point 7 is",
    ),
    "no data": (broken(["data"], None), "task 1: expected `data` to be an object, but got None"),
    "no list": (broken(["annotations"], 3), "task 1: expected `annotations` to be a list, but got 3"),
    "no annotation": (broken(["annotations", 0], "cat"), "task 1: expected an annotation with a `result`"),
    "no result": (broken(["annotations", 0, "result"], None), "task 1: expected an annotation with a `result`"),
    "no part": (broken(["annotations", 0, "result", 0], 3), "task 1: expected a part of a result, but got 3"),
    "no choices": (broken(["annotations", 0, "result", 0, "value"], {}), "task 1: expected a list of choices"),
    "a choice of numbers": (
        broken(["annotations", 0, "result", 0, "value", "choices"], [3]),
        "task 1: expected a list of choices",
    ),
    "no time": (broken(["annotations", 0, "updated_at"], "soon"), "task 1: expected a time, but got 'soon'"),
    "other names": (
        lambda tasks: json.loads(json.dumps(exported(tasks, {"7": "cat"})).replace('"label"', '"mood"')),
        r"choices of \['mood'\], but none of `from_name='label'`",
    ),
    "a row of JSON-MIN": (
        lambda tasks: [{"id": 1, **tasks[0]["data"], "annotation_id": 4, "label": 3}],
        "task 1: expected a list of choices",
    ),
}


@pytest.mark.parametrize("name", RUBBISH)
def test_rubbish(asked, name):
    make, match = RUBBISH[name]
    with pytest.raises(AnswerFileError, match=match) as caught:
        asked(make(asked.tasks))
    assert "project-0.json" in str(caught.value) and str(caught.value).endswith("Nothing was applied.")


def test_many_problems_in_one_message(asked):
    rows = exported(asked.tasks, {str(i): "cow" for i in ASKED})
    with pytest.raises(AnswerFileError, match=r"task 1 .*task 5 .*; and 1 more\. Nothing") as caught:
        asked(rows)
    assert "task 6" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"url": "http://localhost:8080"}, ConfigurationError, "`url` and `project` together"),
        ({"project": 3}, ConfigurationError, "`url` and `project` together"),
        ({"folder": "a", "url": "http://localhost", "project": 3}, ConfigurationError, "together"),
        ({"url": "http://localhost", "project": 3.5}, InvalidTypeError, "`project`"),
        ({"url": "http://localhost", "project": True}, InvalidTypeError, "`project`"),
        ({"url": "http://localhost", "project": ""}, InvalidTypeError, "`project`"),
        ({"url": "localhost:8080", "project": 3}, ConfigurationError, "`url` to be an address"),
        ({"url": "http://", "project": 3}, ConfigurationError, "`url` to be an address"),
        ({"url": "http://[", "project": 3}, ConfigurationError, "`url` to be an address"),
        ({"url": 3, "project": 3}, ConfigurationError, "`url` to be an address"),
        ({"url": "http://me:s3cret@localhost", "project": 3}, ConfigurationError, "user, a password or a query"),
        ({"url": "ftp://me:s3cret@localhost", "project": 3}, ConfigurationError, "user, a password or a query"),
        ({"url": "http://localhost?key=s3cret", "project": 3}, ConfigurationError, "a query"),
        ({"folder": 3}, InvalidTypeError, "`folder`"),
        ({"task_data": "text"}, InvalidTypeError, "`task_data`"),
        ({"timeout": -1}, ConfigurationError, "`timeout`"),
        ({"poll_seconds": None}, ConfigurationError, "`poll_seconds`"),
    ],
)
def test_arguments(arguments, error, match):
    with pytest.raises(error, match=match) as caught:
        LabelStudioOracle(**arguments)
    assert "s3cret" not in str(caught.value)


def test_no_folder():
    with pytest.raises(ConfigurationError, match=r"run_dir=False.*`folder`"):
        LabelStudioOracle().prepare(texts(), None, None)
    with pytest.raises(ConfigurationError, match="no `folder` yet"):
        LabelStudioOracle().answer(ASKED, texts())
    with pytest.raises(ConfigurationError, match="class_names"):
        LabelStudioOracle().prepare(texts(class_names=None), None, None)


class TestTraining:
    """Two rounds of a real Trainer; each fit has nothing of the one before but the folder, as in a new process."""

    START = [3, 17, 40, 41, 58, 63, 77, 90, 101, 113, 5, 119]

    def fit(self, folder, oracle=None):
        torch.manual_seed(5)
        oracle = oracle or LabelStudioOracle(task_data=lambda index, item, id_: {"text": f"point {id_}"})
        model, snapshots = Net(), Snapshots()
        data = ActiveDataModule(TRAIN, val_dataset=VAL, initial_labels=self.START, batch_size=4, class_names=CHOICES)
        active = ActiveLearning(
            DiffusionSampler(), query_size=6, max_rounds=2, oracle=oracle, seed=11, run_dir=folder / "run"
        )
        quiet_trainer([active, snapshots]).fit(model, datamodule=data)
        return active, data, model

    def people(self, folder, answers, name, when):
        place = folder / "run" / "label_studio"
        tasks = [task for path in sorted(place.glob("tasks-*.json")) for task in json.loads(path.read_text())]
        named = {str(i): said if said is None else CHOICES[said] for i, said in answers.items()}
        (place / "exports" / name).write_text(json.dumps(exported(tasks, named, when=when)))

    def test_ends_as_a_run_that_never_waited(self, tmp_path):
        straight, data, model = self.fit(
            tmp_path / "straight", CallableOracle(lambda indices, items: [TRUTH[i] for i in indices])
        )
        folder = tmp_path / "people"
        active, _, _ = self.fit(folder)
        picks = straight.history[0].query.indices.tolist()
        reason = active.history[-1].stop_reason
        assert "waiting for answers to 6 of the 6" in reason and str(folder / "run" / "label_studio") in reason
        wrong = (TRUTH[picks[0]] + 1) % 3
        some = {picks[0]: wrong, picks[1]: TRUTH[picks[1]]}
        self.people(folder, some, "one.json", 1)
        active, partly, _ = self.fit(folder)
        assert "waiting for answers to 4 of the 6" in active.history[-1].stop_reason
        assert partly.pool.labels_of(np.array(picks)) == some
        (folder / "run" / "label_studio" / "exports" / "two.json").write_text('[{"id": 3')
        with pytest.raises(AnswerFileError, match=r"two\.json, line 1"):
            self.fit(folder)
        self.people(folder, {i: TRUTH[i] for i in picks}, "two.json", 2)
        active, _, _ = self.fit(folder)
        more = active.history[1].query.indices.tolist()
        assert more == straight.history[1].query.indices.tolist()
        self.people(folder, {i: TRUTH[i] for i in picks + more}, "three.json", 3)
        active, labelled, trained = self.fit(folder)
        assert labelled.labels.tolist() == data.labels.tolist() and same_weights(
            trained.state_dict(), model.state_dict()
        )
        kinds = [json.loads(line)["kind"] for line in (folder / "run" / "journal.jsonl").read_text().splitlines()]
        assert kinds == ["header", "query", "answer", "correction", "answer", "query", "answer"]

    def test_skips(self, tmp_path):
        active, _, _ = self.fit(tmp_path)
        picks = active.history[0].query.indices.tolist()
        self.people(tmp_path, dict.fromkeys(picks[:2]) | {i: TRUTH[i] for i in picks[2:]}, "one.json", 1)
        active, data, _ = self.fit(tmp_path)
        assert data.skipped_indices.tolist() == sorted(picks[:2]) and len(active.history) == 2
        more = active.history[1].query.indices.tolist()
        assert not set(more) & set(picks)
        self.people(tmp_path, {picks[0]: 2} | {i: TRUTH[i] for i in more}, "two.json", 2)
        active, data, _ = self.fit(tmp_path)
        assert data.skipped_indices.tolist() == [picks[1]] and data.pool.labels_of(np.array(picks[:1])) == {picks[0]: 2}
        assert active.history[-1].stop_reason == "max_rounds=2 reached"

    def test_rows_of_numbers_are_shown_as_a_table(self, tmp_path):
        self.fit(tmp_path, LabelStudioOracle())
        (path,) = tmp_path.rglob("tasks-round-000.json")
        assert set(json.loads(path.read_text())[0]["data"]["table"]) == {str(n) for n in range(8)}
        assert '<Table name="table" value="$table" />' in path.with_name("label_config.xml").read_text()

    def test_what_cannot_be_shown_is_refused_before_training(self, tmp_path):
        data = ActiveDataModule([object()] * 12, initial_labels={0: 1, 1: 0}, class_names=CHOICES)
        with pytest.raises(DiffalError, match="cannot show item 0"):
            LabelStudioOracle().prepare(data, tmp_path, "a-run")
        assert not list(tmp_path.iterdir())
