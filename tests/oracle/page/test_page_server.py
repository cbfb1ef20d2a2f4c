"""The page's server without a browser: who may ask, what it refuses, and what is on disk when it says so."""

import csv
import http.client
import json
import os
import stat
import threading
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from PIL import Image

from lightning_diffal import ActiveDataModule, Query
from lightning_diffal.exceptions import AnswerFileError, ConfigurationError, InvalidTypeError
from lightning_diffal.oracle import SKIP, PageOracle, Question
from lightning_diffal.oracle.page.cards import key_of
from lightning_diffal.oracle.page.files_board import FilesBoard, files_below
from lightning_diffal.oracle.page.log import AnswerLog
from lightning_diffal.oracle.page.server import PageServer


class Client:
    """A browser without a page."""

    def __init__(self, address):
        parts = urlsplit(address)
        self.host, self.port = parts.hostname, parts.port
        self.token = parse_qs(parts.query)["token"][0]
        self.cookies = {}

    def ask(self, method, path, content=None, **headers):
        given = {"Host": f"{self.host}:{self.port}", **{k.replace("_", "-"): v for k, v in headers.items()}}
        if self.cookies:
            given["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        if method == "POST":
            given = {"Content-Type": "application/json", "X-Diffal": "1", **given}
        connection = http.client.HTTPConnection(self.host, self.port, timeout=10)
        body = content if isinstance(content, bytes | None) else json.dumps(content).encode()
        connection.request(method, path, body, {k: v for k, v in given.items() if v is not None})
        response = connection.getresponse()
        text = response.read()
        connection.close()
        return response, text

    def enter(self):
        response, _ = self.ask("GET", f"/?token={self.token}")
        assert response.status == 303
        for line in response.headers.get_all("set-cookie"):
            name, _, rest = line.partition("=")
            self.cookies[name] = rest.split(";")[0]
            assert "HttpOnly" in line
            assert "samesite=strict" in line.lower()
        return self

    def post(self, path, **content):
        response, text = self.ask("POST", path, content)
        return response.status, json.loads(text) if text.startswith(b"{") else text

    def state(self):
        return json.loads(self.ask("GET", "/api/state")[1])


def ask_all(oracle, data, folder, indices=(2, 1), run="run1"):
    oracle.prepare(data, folder, run)
    data.pool.ask(list(indices))
    details = {"predicted": np.array([1] * len(indices)), "nearest_labelled": np.array([0] * len(indices))}
    question = Question(Query(list(indices), [0.5] * len(indices), details), np.array(indices), 0, run)
    oracle.ask(question, data)
    return question


def three(names=("no", "yes"), **more):
    return ActiveDataModule(["fine", "bad", "so so", "well"], initial_labels={0: 1}, class_names=names, **more)


@pytest.fixture
def served(tmp_path):
    data, oracle = three(), PageOracle(open_browser=False)
    ask_all(oracle, data, tmp_path)
    yield oracle, data, Client(oracle.address)
    oracle.close()


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.reader(file))


def uid(n):
    return f"{n:016d}"


def test_only_with_the_token(served):
    _, _, client = served
    for path in ("/", "/api/state", "/static/app.js", f"/media/{key_of('2')}/item", "/api/events"):
        response, text = client.ask("GET", path)
        assert response.status == 403
        assert b"so so" not in text
    assert client.ask("GET", "/?token=wrong")[0].status == 403
    assert client.ask("POST", "/api/answer", {"uid": uid(1)})[0].status == 403
    client.cookies = {f"diffal_token_{client.port}": "wrong", f"diffal_person_{client.port}": "0" * 16}
    assert client.ask("GET", "/")[0].status == 403
    assert client.enter().ask("GET", "/")[0].status == 200


def test_headers_of_every_answer(served):
    client = served[2]
    for response, _ in (client.ask("GET", "/"), client.enter().ask("GET", "/"), client.ask("GET", "/nothing")):
        policy = response.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["referrer-policy"] == "no-referrer"
    assert b"<script>" not in client.ask("GET", "/")[1]


def test_other_sites_and_names_are_refused(served):
    client = served[2].enter()
    assert client.ask("GET", "/api/state", Host="evil.example")[0].status == 421
    assert client.ask("GET", "/api/state", Host=f"evil.example:{client.port}")[0].status == 421
    assert client.ask("GET", "/api/state", Host=f"127.0.0.1:{client.port + 1}")[0].status == 421
    assert client.ask("GET", "/api/state", Host=f"localhost:{client.port}")[0].status == 200
    answer = {"uid": uid(1), "key": key_of("2"), "action": "skip", "base": 0}
    for headers in (
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": f"http://127.0.0.1:{client.port + 1}"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Content_Type": "text/plain"},
        {"X_Diffal": None},
    ):
        assert client.ask("POST", "/api/answer", answer, **headers)[0].status in (403, 415)
    assert client.state()["counts"]["open"] == 2
    assert client.ask("POST", "/api/answer", answer, Origin=f"http://127.0.0.1:{client.port}")[0].status == 200


def test_requests_are_bounded(served):
    client = served[2].enter()
    assert client.ask("POST", "/api/answer", {"note": "x" * 20_000})[0].status == 413
    assert client.ask("POST", "/api/answer", b"{" * 9000)[0].status == 400
    assert client.ask("POST", "/api/answer", b"[]")[0].status == 400
    assert client.ask("POST", "/api/answer", b'{"a":')[0].status == 400
    assert client.ask("GET", "/api/list?status=open&start=-1")[0].status == 400
    assert client.ask("GET", "/api/list?status=x")[0].status == 400
    statuses = {client.ask("GET", "/static/icon.svg")[0].status for _ in range(400)}
    assert 429 in statuses


@pytest.mark.parametrize(
    "path",
    [
        "/static/../oracle.py",
        "/static/..%2foracle.py",
        "/static/%2e%2e/%2e%2e/server.json",
        "/media/../server.json/item",
        "/media/..%2fserver.json/item",
        "/media/x/item",
        "/api/point/nothing",
    ],
)
def test_no_path_reaches_the_disk(served, path):
    response, text = served[2].enter().ask("GET", path)
    assert response.status == 404
    assert served[2].token.encode() not in text


def test_answers_are_on_disk_when_the_page_says_so(served, tmp_path, monkeypatch):
    oracle, data, client = served
    client.enter()
    synced = []
    monkeypatch.setattr(
        os, "fsync", lambda descriptor: synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
    )
    status, given = client.post("/api/answer", uid=uid(1), key=key_of("2"), action="label", label=[1], base=0)
    assert (status, given["saved"], given["again"]) == (200, True, False)
    assert str(tmp_path / "label" / "answers.jsonl") in synced
    for _ in range(2):  # sent again
        status, given = client.post("/api/answer", uid=uid(1), key=key_of("2"), action="label", label=[0], base=0)
        assert (status, given["again"]) == (200, True)
    assert len((tmp_path / "label" / "answers.jsonl").read_text().splitlines()) == 1
    assert oracle.answer(np.array([2, 1]), data) == {2: 1}


@pytest.mark.parametrize(
    "change",
    [
        {"label": [2]},
        {"label": [-1]},
        {"label": []},
        {"label": [0, 1]},
        {"label": [True]},
        {"label": ["yes"]},
        {"label": "yes"},
        {"label": None},
        {"base": -1},
        {"base": "0"},
        {"base": None},
        {"uid": "short"},
        {"uid": "x" * 65},
        {"uid": "a\nb" * 5},
        {"uid": 12345678},
        {"key": "nothing"},
        {"key": ["a"]},
        {"action": "undo"},
        {"action": "class"},
        {"note": "x" * 2001},
        {"note": 3},
    ],
)
def test_what_cannot_be_right_is_refused_and_not_written(served, tmp_path, change):
    client = served[2].enter()
    answer = {"uid": uid(1), "key": key_of("2"), "action": "label", "label": [1], "base": 0, **change}
    status, given = client.post("/api/answer", **answer)
    assert status == 409
    assert given["error"]
    assert not (tmp_path / "label" / "answers.jsonl").exists()


def test_a_full_disk_leaves_no_half_line(tmp_path, monkeypatch):
    log = AnswerLog(tmp_path / "answers.jsonl")
    assert log.append({"uid": uid(1), "key": "k", "who": "a", "action": "skip", "base": 0})

    def full(descriptor):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            log.append({"uid": uid(2), "key": "k", "who": "a", "action": "skip", "base": 1})
    assert log.append({"uid": uid(2), "key": "k", "who": "a", "action": "skip", "base": 1})
    again = AnswerLog(tmp_path / "answers.jsonl")
    again.read()
    assert again.answers.uids == {uid(1), uid(2)}


def test_half_a_line_of_a_killed_process_is_cut_off_and_damage_is_named(tmp_path):
    path = tmp_path / "answers.jsonl"
    log = AnswerLog(path)
    log.append({"uid": uid(1), "key": "k", "who": "a", "action": "label", "label": [1], "base": 0})
    with path.open("ab") as file:
        file.write(b'{"uid":"half')
    again = AnswerLog(path)
    again.read()
    assert again.answers.of("k").label == (1,)
    again.repair()
    again.append({"uid": uid(2), "key": "k", "who": "a", "action": "skip", "base": 1})
    last = AnswerLog(path)
    last.read()
    assert last.answers.of("k").status == "skipped"
    for damage in (
        b"nonsense\n",
        b'{"uid":"x","action":"label","key":"k","who":"a","effect":"replace","label":["a"],"names":[]}\n',
    ):
        path.write_bytes(damage)
        with pytest.raises(AnswerFileError, match=r"answers\.jsonl, line 1"):
            AnswerLog(path).read()


def test_conflicts_wait_corrections_and_skips_arrive(served):
    oracle, data, client = served
    client.enter()
    other = Client(oracle.address).enter()
    assert client.cookies != other.cookies
    key = key_of("2")
    client.post("/api/answer", uid=uid(1), key=key, action="label", label=[1], base=0)
    other.post("/api/answer", uid=uid(2), key=key, action="label", label=[0], base=0)
    assert client.state()["counts"]["conflict"] == 1
    assert oracle.answer(np.array([2, 1]), data) == {}
    _, given = other.post("/api/answer", uid=uid(3), key=key, action="label", label=[1], base=2)
    assert given["card"]["status"] == "labelled"
    client.post("/api/answer", uid=uid(4), key=key_of("1"), action="skip", base=0)
    assert oracle.answer(np.array([2, 1]), data) == {2: 1, 1: SKIP}
    data.label([2], [1], round_=1)
    data.skip([1])
    assert oracle.corrections(data) == {}
    client.post("/api/answer", uid=uid(5), key=key, action="label", label=[0], base=3)
    client.post("/api/answer", uid=uid(6), key=key_of("1"), action="label", label=[0], base=1)
    assert oracle.corrections(data) == {2: 0, 1: 0}


def test_people_who_agree_are_no_conflict_and_an_undo_leaves_the_other(served):
    oracle, data, client = served
    client.enter()
    other = Client(oracle.address).enter()
    key = key_of("2")
    client.post("/api/answer", uid=uid(1), key=key, action="label", label=[1], base=0)
    other.post("/api/answer", uid=uid(2), key=key, action="label", label=[1], base=0)
    assert client.post("/api/undo", uid=uid(3))[1]["card"]["status"] == "labelled"
    assert client.post("/api/undo", uid=uid(3))[1]["again"]
    assert client.post("/api/undo", uid=uid(4)) == (409, {"error": "There is nothing to undo."})
    assert oracle.answer(np.array([2]), data) == {2: 1}
    other.post("/api/undo", uid=uid(5))
    assert oracle.answer(np.array([2]), data) == {}


def test_the_same_address_after_a_restart_and_one_server_a_folder(tmp_path):
    data, oracle = three(), PageOracle(open_browser=False)
    question = ask_all(oracle, data, tmp_path)
    address, client = oracle.address, Client(oracle.address).enter()
    client.post("/api/answer", uid=uid(1), key=key_of("2"), action="label", label=[1], base=0)
    kept = tmp_path / "label" / "server.json"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    second = PageOracle(open_browser=False)
    second.prepare(data, tmp_path, "run1")
    assert second.address == address
    assert second.answer(np.array([2]), data) == {2: 1}
    oracle.close()
    third = PageOracle(open_browser=False)
    third.prepare(data, tmp_path, "run1")
    third.ask(question, data)
    assert third.address == address
    assert client.state()["counts"] == {"open": 1, "labelled": 1, "skipped": 0, "conflict": 0}
    third.close()


def test_suggestions_may_be_hidden_until_answered(tmp_path):
    data, oracle = three(), PageOracle(open_browser=False, suggest=False)
    ask_all(oracle, data, tmp_path)
    client = Client(oracle.address).enter()
    card = client.post("/api/next", avoid=[])[1]["card"]
    assert card["suggestion"] is None
    _, given = client.post("/api/answer", uid=uid(1), key=card["key"], action="label", label=[0], base=0)
    assert given["card"]["suggestion"] == [1]
    assert [example["classes"] for example in card["examples"]] == [[1]]
    oracle.close()


def test_an_oracle_used_for_a_second_run_serves_the_second(tmp_path):
    oracle = PageOracle(open_browser=False)
    ask_all(oracle, three(), tmp_path / "a", run="a")
    ask_all(oracle, three(), tmp_path / "b", run="b")
    client = Client(oracle.address).enter()
    client.post("/api/answer", uid=uid(1), key=key_of("2"), action="skip", base=0)
    assert (tmp_path / "b" / "label" / "answers.jsonl").exists()
    assert not (tmp_path / "a" / "label" / "answers.jsonl").exists()
    oracle.close()


def test_refused_before_training(tmp_path):
    oracle = PageOracle(open_browser=False)
    with pytest.raises(ConfigurationError, match="run_dir=False"):
        oracle.prepare(three(), None, None)
    with pytest.raises(ConfigurationError, match="class_names"):
        oracle.prepare(ActiveDataModule(["a"]), tmp_path, "run1")
    with pytest.raises(ConfigurationError, match="view="):
        oracle.prepare(ActiveDataModule([object()], num_classes=2), tmp_path, "run1")
    ask_all(oracle, three(), tmp_path)
    oracle.close()
    with pytest.raises(ConfigurationError, match="run other"):
        PageOracle(open_browser=False).prepare(three(), tmp_path, "other")
    with pytest.raises(ConfigurationError, match="classes"):
        PageOracle(open_browser=False).prepare(three(names=["yes", "no"]), tmp_path, "run1")
    for bad in ({"port": -1}, {"port": True}, {"timeout": -1}):
        with pytest.raises(ConfigurationError):
            PageOracle(**bad)
    with pytest.raises(InvalidTypeError):
        PageOracle(host=3)


def test_classes_are_added_only_where_there_is_no_model(served, tmp_path):
    client = served[2].enter()
    status, given = client.post("/api/class", uid=uid(1), name="maybe")
    assert status == 409
    assert "outputs for 2 classes" in given["error"]
    (tmp_path / "images").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "images" / "a.png")
    board = FilesBoard(tmp_path / "out.csv", ["no", "yes"], images=tmp_path / "images")
    assert board.add_class("ann", uid(1), " may  be ")["classes"] == ["no", "yes", "may be"]
    board.answer("ann", {"uid": uid(2), "key": key_of("a.png"), "action": "label", "label": [2], "base": 0})
    board.close()
    assert rows_of(tmp_path / "out.csv") == [["id", "label", "note"], ["a.png", "may be", ""]]
    again = FilesBoard(tmp_path / "out.csv", ["no", "yes"], images=tmp_path / "images")
    assert again.classes == ["no", "yes", "may be"]


def test_a_folder_of_images(tmp_path):
    folder = tmp_path / "images"
    for name in ("b10.png", "b9.png", "sub/=1+1.png", ".hidden/x.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (30, 20)).save(folder / name)
    (folder / "broken.png").write_bytes(b"no image")
    assert list(files_below(folder)) == ["b9.png", "b10.png", "broken.png", "sub/=1+1.png"]
    board = FilesBoard(tmp_path / "labels.csv", ["a", "b"], images=folder, multilabel=True)
    server = PageServer(board)
    server.start()
    client = Client(server.address).enter()
    card = client.post("/api/next", avoid=[])[1]["card"]
    assert card["id"] == "b9.png"
    assert client.ask("GET", f"/media/{card['key']}/item")[1].startswith(b"\x89PNG")
    assert client.ask("GET", f"/media/{key_of('broken.png')}/item")[0].status == 404
    client.post("/api/answer", uid=uid(1), key=card["key"], action="label", label=[0, 1], base=0)
    client.post("/api/answer", uid=uid(2), key=key_of("b10.png"), action="label", label=[], base=0)
    client.post("/api/answer", uid=uid(3), key=key_of("sub/=1+1.png"), action="skip", base=0, note="=2+2")
    server.stop()
    assert board.close() == 3
    assert rows_of(tmp_path / "labels.csv") == [
        ["id", "label", "note"],
        ["b9.png", "a|b", ""],
        ["b10.png", "[]", ""],
        ["sub/=1+1.png", "?", "'=2+2"],
    ]
    with pytest.raises(ConfigurationError, match="begun with"):
        FilesBoard(tmp_path / "labels.csv", ["b", "a"], images=folder, multilabel=True)
    (tmp_path / "mine.csv").write_text("id,label\n")
    with pytest.raises(ConfigurationError, match="not overwritten"):
        FilesBoard(tmp_path / "mine.csv", ["a", "b"], images=folder)


def test_a_file_of_questions_opens_only_what_lies_in_the_folder(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    Image.new("RGB", (8, 8)).save(folder / "a.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "secret.png")
    query = tmp_path / "query.csv"
    query.write_text("id,index,label,suggested_label,confidence,nearest_id,nearest_label\na.png,0,,yes,0.5,a.png,no\n")
    board = FilesBoard(tmp_path / "out.csv", ["no", "yes"], images=folder, query=query)
    card = board.next("ann", frozenset())
    assert (card["suggestion"], card["confidence"], card["kind"]) == ([1], 0.5, "image")
    query.write_text("id,index,path,label\nx,0,../secret.png,\n")
    with pytest.raises(ConfigurationError, match="line 2"):
        FilesBoard(tmp_path / "out2.csv", ["no", "yes"], images=folder, query=query)
    query.write_text("id,index,text,label\n7,7,so so,\n")
    assert FilesBoard(tmp_path / "out3.csv", ["no"], query=query).next("ann", frozenset())["text"] == "so so"


def test_many_answers_at_once_are_all_written(served, tmp_path):
    oracle, _, _ = served
    clients = [Client(oracle.address).enter() for _ in range(6)]

    def say(client, start):
        for n in range(10):
            client.post("/api/answer", uid=uid(start + n), key=key_of("2"), action="label", label=[n % 2], base=n)

    threads = [threading.Thread(target=say, args=(client, 100 * n)) for n, client in enumerate(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = (tmp_path / "label" / "answers.jsonl").read_text().splitlines()
    assert len({json.loads(line)["uid"] for line in lines}) == len(lines) == 60
