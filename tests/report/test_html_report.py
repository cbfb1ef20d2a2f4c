"""The page about a run: all of it there, nothing of it run by a browser, and rubbish refused in a line."""

import base64
import csv
import hashlib
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
import torch

from lightning_diffal import ActiveDataModule, ActiveLearning, DiffusionSampler, Query
from lightning_diffal.cli import main
from lightning_diffal.exceptions import ConfigurationError
from lightning_diffal.history.history import History, RoundRecord, records_equal
from lightning_diffal.history.journal import FILENAME, read_events
from lightning_diffal.oracle import PENDING
from lightning_diffal.report import html_report
from lightning_diffal.report.kept import project
from lightning_diffal.report.layout import map_layout
from lightning_diffal.report.run import view_of
from lightning_diffal.samplers import RandomSampler
from lightning_diffal.stopping import Budget
from tests.helpers import TRAIN, VAL, Net, pl, quiet_trainer

NASTY = "<script>alert('1')</script>&\"'"
NAMES = [f"{NASTY} zero", "one $x$", "zwei ñ 二"]
FEATURES = TRAIN.tensors[0].numpy()


def map_data(page):
    """What the page's script draws."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page.read_text(encoding="utf-8"))
    return json.loads(found[1])


class Page(HTMLParser):
    """Elements and visible text of a page; every element that opens is closed."""

    def __init__(self, path):
        super().__init__()
        self.elements, self.attributes, self.words, self.open = [], [], [], []
        self.feed(Path(path).read_text(encoding="utf-8"))
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append(tag)
        self.attributes += [(tag, *attr) for attr in attrs]
        if tag not in ("meta", "img", "input"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append(tag)
        self.attributes += [(tag, *attr) for attr in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return "\n".join(self.words)


def run(folder, oracle=None, sampler=None, max_rounds=2, ids=True, class_names=NAMES, **kwargs):
    torch.manual_seed(1)
    data = ActiveDataModule(
        TRAIN,
        val_dataset=VAL,
        test_dataset=VAL,
        initial_labels=kwargs.pop("initial_labels", [3, 90, 41, 17, 60, 77]),
        batch_size=4,
        class_names=class_names,
        ids=[f"{NASTY}/{i}.png" for i in range(len(TRAIN))] if ids else None,
    )
    active = ActiveLearning(
        sampler or DiffusionSampler(), query_size=5, max_rounds=max_rounds, oracle=oracle, run_dir=folder, **kwargs
    )
    quiet_trainer([active], max_epochs=1).fit(Net("none"), datamodule=data)
    return active, data


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "run"
    active, data = run(folder, stopping=Budget(10), max_rounds=None)
    return folder, active, data


def test_everything_is_on_the_page(finished, tmp_path):
    folder, active, data = finished
    before = {file: file.read_bytes() for file in folder.iterdir()}
    (page,) = html_report(folder, tmp_path / "new" / "report.html")
    assert {file: file.read_bytes() for file in folder.iterdir()} == before
    assert list(page.parent.iterdir()) == [page]
    shown = Page(page)
    assert shown.elements.count("details") == 2 and shown.elements.count("svg") >= 4
    assert "10 labels were bought (budget 10)" in shown.text and "val_loss" in page.read_text()
    for record in active.history[:-1]:
        for index, margin in zip(record.query.indices, record.query.details["margin"], strict=True):
            assert f"{NASTY}/{index}.png" in shown.words and f"{margin:.4g}" in shown.words
    given = [word for word in shown.words if word in NAMES]
    asked = [i for record in active.history[:-1] for i in record.query.indices.tolist()]
    labels = [NAMES[label] for label in data.pool.labels_of(np.array(asked)).values()]
    assert all(given.count(name) >= labels.count(name) for name in NAMES)
    assert "DiffusionSampler" in shown.text and "version/torch" in shown.text and "What to do next" in shown.text


def test_the_map_needs_no_file_and_knows_every_round(finished, tmp_path):
    folder, active, _ = finished
    (page,) = html_report(folder, tmp_path / "a.html")
    known = map_data(page)
    assert known["points"] == list(range(120)) and len(known["x"]) == len(known["y"]) == 120
    assert min(known["x"]) >= 0 and max(known["x"] + known["y"]) <= 1000
    first, second = (record.query.indices.tolist() for record in active.history[:2])
    assert [i for i, round_ in enumerate(known["asked"]) if round_ == 0] == sorted(first)
    assert [i for i, round_ in enumerate(known["arrived"]) if round_ == 2] == sorted(second)
    assert [known["label"][i] for i in first] == [NAMES[TRAIN.tensors[1][i]] for i in first]
    assert all(len(known["near"][str(i)]) == 5 and "after round 0" in known["why"][str(i)] for i in first)
    shown = Page(page)
    labels = [value for tag, name, value in shown.attributes if (tag, name) == ("svg", "aria-label")]
    assert "Map of 120 points: in the pool (104), labelled at the start (6), labelled since (10)." in labels


def test_neighbours_lie_together_on_the_map(finished, tmp_path):
    known = map_data(html_report(finished[0], tmp_path / "a.html", features=FEATURES)[0])
    places = np.stack([known["x"], known["y"]], axis=1).astype(float)
    apart = np.linalg.norm(FEATURES[:, None] - FEATURES[None], axis=2)
    np.fill_diagonal(apart, np.inf)
    near = np.linalg.norm(places - places[apart.argmin(axis=1)], axis=1)
    assert np.median(near) < 0.2 * np.median(np.linalg.norm(places[:60] - places[60:], axis=1))


def test_nothing_from_outside_is_run_or_loaded(finished, tmp_path):
    page, *_ = html_report(finished[0], tmp_path / "a.html", title=NASTY, features=FEATURES)
    shown, text = Page(page), page.read_text()
    assert shown.elements.count("script") == 2  # the data, and the page's own
    own = re.findall(r"<script>(.*?)</script>", text, flags=re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(own[0].encode()).digest()).decode()
    policy = next(
        value for tag, name, value in shown.attributes if (tag, name) == ("meta", "content") and "src" in value
    )
    assert policy == f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    assert not [name for _, name, _ in shown.attributes if name.startswith("on")]
    links = [value for _, name, value in shown.attributes if name in ("src", "href")]
    assert all(value.startswith(("data:image/", "data:text/csv", "#")) for value in links)
    assert NASTY in shown.words  # as text
    assert "http" not in re.sub(r"http-equiv|data:[^\"]*|http://www.w3.org/2000/svg", "", text)


def test_pictures_and_texts_of_points(tmp_path):
    pictures = torch.utils.data.TensorDataset(torch.rand(60, 3, 16, 16), TRAIN.tensors[1][:60])
    texts = [(f"{NASTY} number {i}", int(TRAIN.tensors[1][i])) for i in range(60)]
    records = [
        RoundRecord(0, 1, [1, 2], {"acc": 0.25}, Query([7, 5], [1.0, 0.5], {"predicted": np.array([0, 2])})),
        RoundRecord(1, 2, [1, 2, 5, 7], {"acc": 0.5}, stop_reason="done"),
    ]
    for number, points in enumerate((pictures, texts)):
        data = ActiveDataModule(points, initial_labels={1: 0, 2: 1, 5: 2, 7: 1}, class_names=["a", "b", "c"])
        (page,) = html_report(History(records), tmp_path / f"{number}.html", data=data)
        shown = Page(page)
        pictured = [value for tag, name, value in shown.attributes if (tag, name) == ("img", "data-point")]
        assert pictured == (["7", "5"] if number == 0 else [])
        assert all(value for tag, name, value in shown.attributes if (tag, name) == ("img", "alt"))
        assert (f"{NASTY} number 7" in shown.words) == (number == 1)
        assert page.read_text().count("card differs") == 1  # 7 is b, and was taken for a
        assert "suggested " in shown.text and "1 of 2 suggestions right" in shown.text


def test_a_run_with_report_keeps_what_it_needs(tmp_path):
    torch.manual_seed(1)
    points = torch.utils.data.TensorDataset(torch.rand(80, 1, 8, 8), torch.arange(80) % 3)
    data = ActiveDataModule(points, val_dataset=points, initial_labels=6, batch_size=4)

    class Flat(Net):
        def forward(self, x):
            return self.head(self.body(x.flatten(1)[:, :8]))

    seen = []

    class Watch(pl.Callback):
        def on_round_start(self, trainer):
            page = tmp_path / "run" / "report.html"
            seen.append(page.read_text().count("data-point") if page.exists() else 0)

    active = ActiveLearning(query_size=5, max_rounds=2, run_dir=tmp_path / "run", report=True)
    quiet_trainer([active, Watch()], max_epochs=1).fit(Flat("none"), datamodule=data)
    assert seen[0] == 0 and 5 <= seen[1] < seen[2] and seen[2] >= 10  # with labels worth a second look
    page = tmp_path / "run" / "report.html"
    shown = Page(page)
    assert "Flat" in shown.text and "TensorDataset" in shown.text and "max_rounds=2 reached" in shown.text
    assert map_data(page)["points"] == list(range(80))
    page.unlink()
    assert main(["report", str(tmp_path / "run")]) == 0  # without the data
    assert page.read_text().count("<img") >= 10
    with pytest.raises(ConfigurationError, match="run_dir=False keeps none"):
        active = ActiveLearning(query_size=5, max_rounds=2, run_dir=False, report=True)
        quiet_trainer([active], max_epochs=1).fit(Flat("none"), datamodule=data)


def test_wrong_labels_are_found_and_can_be_corrected(tmp_path):
    generator = np.random.default_rng(0)
    truth = np.arange(90) % 3
    features = np.eye(3)[truth] * 8 + generator.normal(size=(90, 3))
    given = truth.copy()
    given[[4, 31]] = [2, 0]  # of classes 1 and 1
    data = ActiveDataModule(
        [(float(i), int(y)) for i, y in enumerate(truth)],
        initial_labels={i: int(given[i]) for i in range(60)},
        class_names=["=a", "b", "c"],
        ids=[f"{NASTY}{i}" for i in range(90)],
    )
    history = History([RoundRecord(0, 1, range(60), {"val_acc": 0.5}, stop_reason="done")])
    (page,) = html_report(history, tmp_path / "a.html", data=data, features=features)
    shown = Page(page)
    assert any(words.startswith("Look again at 2 labels") for words in shown.words)
    link = next(value for tag, name, value in shown.attributes if (tag, name) == ("a", "href") and "csv" in value)
    rows = list(csv.DictReader(io.StringIO(unquote(link.partition(",")[2]))))
    assert {row["index"]: (row["id"], row["label"], row["suggested_label"]) for row in rows} == {
        "4": (f"{NASTY}4", "c", "b"),
        "31": (f"{NASTY}31", "'=a", "b"),  # a spreadsheet runs nothing
    }


@pytest.mark.slow
def test_a_large_run_stays_under_twenty_megabytes(tmp_path):
    generator = np.random.default_rng(0)
    noise = torch.from_numpy(generator.integers(0, 256, (10_000, 32, 32, 3), dtype=np.uint8))  # compresses worst
    labels = generator.integers(0, 10, 10_000)
    order = generator.permutation(10_000)
    details = {"phase": np.array(["refinement"] * 100), "margin": np.zeros(100), "predicted": np.zeros(100, int)}
    records = [
        RoundRecord(
            r, r, order[: 100 * (r + 1)], {"acc": r / 50}, Query(order[100 * (r + 1) :][:100], np.zeros(100), details)
        )
        for r in range(50)
    ]
    data = ActiveDataModule(
        list(zip(noise, labels.tolist(), strict=True)),
        initial_labels={int(i): int(labels[i]) for i in order[:5000]},
        num_classes=10,
    )
    features = generator.normal(size=(10_000, 64))
    (page,) = html_report(History(records), tmp_path / "a.html", data=data, features=features)
    assert 5_000_000 < page.stat().st_size < 20_000_000
    assert len(map_data(page)["points"]) == 10_000


def test_other_samplers_beside_it_are_drawn_with_their_interval(tmp_path):
    def history(gain, seed):
        noise = 0.001 * seed
        return History([RoundRecord(r, r, range(10 * (r + 1)), {"test_acc": 0.5 + gain * r + noise}) for r in range(5)])

    for name, gain in (("diffusion", 0.08), ("random", 0.04)):
        for seed in range(3):
            history(gain, seed).to_json(tmp_path / f"{name}-seed{seed}.json")
    (page,) = html_report(tmp_path / "diffusion-seed0.json", tmp_path / "a.html")
    text = page.read_text()
    assert text.count("<polygon") == 2 and "Lines: mean of 3 seeds. Bands: 95 % interval of the mean." in text
    assert "Random needs 50 labels for what diffusion reaches with 30: 66.1% test acc." in Page(page).text
    others = {"ours": [history(0.08, 0)], "theirs": [history(0.04, 0)]}
    (page,) = html_report(history(0.08, 0), tmp_path / "b.html", others=others)
    assert page.read_text().count("<polygon") == 0 and "theirs from 50.0% at 10 to 66.0% at 50" in page.read_text()


def test_metrics_and_reasons_are_text_too(tmp_path):
    records = [
        RoundRecord(
            0, 1, [3], {NASTY: 0.5, "a$b$": float("nan")}, Query([4], [1.0], {"why" + NASTY: np.array([NASTY])})
        ),
        RoundRecord(1, 2, [3, 4], {NASTY: 0.6}, seconds={NASTY: 1.0}, stop_reason=NASTY + "\x00\x1b"),
    ]
    page, *_ = html_report(History(records), tmp_path / "a.html")
    shown = Page(page)
    assert shown.elements.count("script") == 1 and shown.words.count(NASTY) >= 2
    assert "\x00" not in page.read_text() and "\x1b" not in page.read_text()


def test_a_history_alone_and_with_its_data(finished, tmp_path):
    _, active, data = finished
    active.history.to_json(tmp_path / "history.json")
    alone, with_data, from_json = (
        view_of(*source) for source in ((active.history,), (active.history, data), (tmp_path / "history.json",))
    )
    assert dict(alone.labels) == {} and alone.arrived == with_data.arrived == from_json.arrived
    folder = view_of(finished[0])
    assert dict(with_data.labels) == dict(folder.labels) and len(folder.labels) == 16
    assert dict(with_data.arrived) == dict(folder.arrived) and set(folder.arrived.values()) == {0, 1, 2}
    assert list(with_data.class_names) == list(folder.class_names) == NAMES
    assert records_equal(folder.history, active.history)
    for number, source in enumerate(((active.history, {"data": data}), (tmp_path / "history.json", {}))):
        (page,) = html_report(source[0], tmp_path / f"{number}.html", **source[1])
        assert ("Balance of classes" in page.read_text()) == (number == 0)  # classes are known from the data only
    Page(tmp_path / "1.html")


def test_history_comes_back_from_json(finished, tmp_path):
    history = finished[1].history
    history.to_json(tmp_path / "a.json")
    again = History.from_json(tmp_path / "a.json")
    again.to_json(tmp_path / "b.json")
    assert (tmp_path / "a.json").read_text() == (tmp_path / "b.json").read_text()
    assert [r.labelled.tolist() for r in again] == [r.labelled.tolist() for r in history]
    assert again[0].query.details["phase"].tolist() == history[0].query.details["phase"].tolist()
    odd = History(
        [RoundRecord(0, None, [1], {"m": float("nan")}, Query([2], [float("nan")], {"x": np.array([[1, 2]])}))]
    )
    odd.to_json(tmp_path / "c.json")
    again = History.from_json(tmp_path / "c.json")
    assert np.isnan(again[0].metrics["m"]) and np.isnan(again[0].query.scores[0])
    assert again[0].query.details["x"].tolist() == [[1, 2]]


def test_a_run_that_waits_and_one_that_was_killed(tmp_path):
    run(tmp_path / "run", oracle=lambda indices, items: [1, PENDING, 0, PENDING, PENDING], ids=False)
    view = view_of(tmp_path / "run")
    assert len(view.pending) == 3 and len(view.history) == 1 and len(view.history[0].query) == 5
    html_report(tmp_path / "run", tmp_path / "a.html")
    shown = Page(tmp_path / "a.html").text
    assert "waiting for answers to 3 of the 5" in shown and shown.count("waiting") >= 4
    assert "5 asked, 2 answered" in shown

    # killed before the state could be kept again, while the last line was being written
    cold = tmp_path / "cold"
    run(cold, sampler=RandomSampler(), initial_labels=[8, 2], max_rounds=1, ids=False, class_names=None)
    lines = (cold / FILENAME).read_bytes().splitlines(keepends=True)
    (cold / FILENAME).write_bytes(b"".join(lines[:2]) + lines[2][:20])
    (cold / "state.ckpt").unlink()
    torn = (cold / FILENAME).read_bytes()
    html_report(cold, tmp_path / "b.html")
    shown = Page(tmp_path / "b.html").text
    assert "no end is written down" in shown and "5 asked, 0 answered" in shown
    assert (cold / FILENAME).read_bytes() == torn  # a report never changes what a run writes


def test_a_journal_ahead_of_the_state(finished, tmp_path):
    folder, *_ = finished
    events, _ = read_events(folder / FILENAME)
    after = [i for i, event in enumerate(events) if event["kind"] == "query"]
    cut = tmp_path / "cut"
    cut.mkdir()
    lines = (folder / FILENAME).read_bytes().splitlines(keepends=True)
    (cut / FILENAME).write_bytes(b"".join(lines))
    state = torch.load(folder / "state.ckpt", weights_only=True)
    contents = state["active_learning"]
    contents["history"] = contents["history"][:1]
    contents["history"][0]["query"] = None
    torch.save(state, cut / "state.ckpt")
    view = view_of(cut)
    assert view.history[0].query.indices.tolist() == events[after[0]]["indices"]
    assert len(view.labels) == 16 and set(view.ids) >= set(view.arrived)


def test_skips_corrections_and_several_labels(tmp_path):
    torch.manual_seed(0)
    targets = (torch.rand(40, 3) > 0.5).long()
    data = ActiveDataModule(
        torch.utils.data.TensorDataset(torch.randn(40, 8), targets),
        initial_labels=[5, 9, 30],
        batch_size=4,
        class_names=["a", "b", "c"],
    )

    def oracle(indices, items):
        return [PENDING if i == indices[0] else targets[i].tolist() for i in indices]

    class Multi(Net):
        def step(self, batch):
            return torch.nn.functional.binary_cross_entropy_with_logits(self(batch[0]), batch[1].float())

    active = ActiveLearning(query_size=4, max_rounds=2, oracle=oracle, run_dir=tmp_path / "run", min_answers=2)
    trainer, model = quiet_trainer([active], max_epochs=1), Multi("none")
    trainer.fit(model, datamodule=data)
    data.skip([int(active.history[0].query.indices[0])])
    data.correct([5], [[1, 1, 0]])
    view = view_of(tmp_path / "run")
    assert len(view.skipped) == 1 and view.labels[5] == (1, 1, 0) and view.label_name(view.labels[5]) == "a + b"
    html_report(tmp_path / "run", tmp_path / "a.html")
    shown = Page(tmp_path / "a.html").text
    assert "1 skipped" in shown and ("b + c" in shown or "a + c" in shown)


@pytest.mark.parametrize(
    "records",
    [
        [],
        [RoundRecord(0, 1, [])],
        [RoundRecord(0, 1, [4, 2])],
        [RoundRecord(0, 1, [4], {"m": float("nan")})],
        [RoundRecord(3, 1, [4], {"m": 1e300}, Query(range(700), np.zeros(700)))],
        [RoundRecord(0, 1, [4], {f"m{i}": float(i) for i in range(30)})],
    ],
)
def test_odd_histories_have_a_page(records, tmp_path, recwarn):
    html_report(History(records), tmp_path / "a.html", features=np.random.default_rng(0).random((700, 3)))
    shown = Page(tmp_path / "a.html").text
    assert "Rounds" in shown and not list(recwarn)
    assert ("200 more are" in shown and "first 100 of 700" in shown) or not records or records[0].round != 3


def test_a_projection_keeps_what_is_apart_apart():
    points = np.random.default_rng(0).normal(size=(200, 30)) * np.linspace(3, 0.1, 30)
    centred = points - points.mean(0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    found = project(points.astype(np.float32))
    assert found.shape == (200, 16) and np.abs(np.abs(found) - np.abs(centred @ axes[:16].T)).max() < 1e-3
    for shape in ((1, 4), (5, 1), (2, 2), (3, 500)):
        assert project(np.ones(shape, np.float32)).shape[0] == shape[0]
    places, neighbours = map_layout(np.zeros((5, 2), np.float32))
    assert np.isfinite(places).all() and neighbours.shape == (5, 4)
