"""`diffal select`: a query from embeddings and labels in files."""

import csv
import json

import numpy as np
import pytest

from lightning_diffal.cli import main
from lightning_diffal.exceptions import ConfigurationError
from lightning_diffal.oracle.page.files_board import FilesBoard
from lightning_diffal.oracle.page.source import reason_words
from lightning_diffal.samplers import CoreSetSampler, DiffusionSampler, MarginSampler
from lightning_diffal.selection.select import select_from_files

N = 60
NAMES = ["ape", "bee", "=cow"]


def embeddings(n=N):
    rng = np.random.default_rng(3)
    centres = 6 * np.eye(3, 5)
    return (centres[np.arange(n) % 3] + rng.standard_normal((n, 5))).astype(np.float32)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("emb.npy", embeddings())
    (tmp_path / "ids.txt").write_text("\n".join(f"img/{i}.png" for i in range(N)) + "\n")
    return tmp_path


def table(path):
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def fill(path, label_of, encoding="utf-8"):
    rows = table(path)
    for row in rows:
        row["label"] = label_of(int(row["index"]))
    with path.open("w", encoding=encoding, newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=";")
        writer.writeheader()
        writer.writerows(rows)
    return [int(row["index"]) for row in rows]


def select(*arguments):
    return main(["select", "--features", "emb.npy", *map(str, arguments)])


def test_rounds(folder, capsys):
    """What was filled in is what the next call reads, and the same points are chosen as from Python."""
    ids = ["--ids", "ids.txt"]
    assert select(*ids, "-n", 6, "--out", "q1.csv") == 0
    assert capsys.readouterr().out == (
        "0 of 60 points are labelled; 6 chosen out of 60 (6 for exploration, 0 for refinement).\n"
        "Fill in the column `label` of q1.csv, and give it with --labels next time; or label in the browser: diffal "
        "label q1.csv --classes A,B --out labels.csv\n"
    )
    first = fill(folder / "q1.csv", lambda i: "'" + NAMES[i % 3] if i % 3 == 2 else NAMES[i % 3])
    assert len({i % 3 for i in first}) == 3 and len(first) == 6

    assert select(*ids, "--labels", "q1.csv", "-n", 8, "--out", "q2.csv") == 0
    assert "6 of 60 points are labelled as =cow, ape, bee; 8 chosen out of 54" in capsys.readouterr().out
    rows = table(folder / "q2.csv")
    assert {row["id"] for row in rows} <= {f"img/{i}.png" for i in range(N)} and all(not row["label"] for row in rows)
    assert {row["suggested_label"] for row in rows} <= {"", "'=cow", "ape", "bee"}
    assert all(row["nearest_id"] in {f"img/{i}.png" for i in first} for row in rows)

    second = fill(folder / "q2.csv", lambda i: "" if i % 2 else "?" if i % 5 == 0 else NAMES[i % 3])
    waiting = (set(range(N)) - {*first, *second}).pop()
    (folder / "p.txt").write_text(f"img/{waiting}.png\n\n")
    both = ["--labels", "q1.csv", "q2.csv", "--pending", "p.txt"]
    assert select(*ids, *both, "-n", 100, "--out", "q3.jsonl") == 0
    third = [json.loads(line)["index"] for line in (folder / "q3.jsonl").read_text().splitlines()]
    assert sorted([waiting, *first, *second, *third]) == list(range(N))


def test_same_picks_as_from_python_and_a_seed_of_its_own(folder):
    (folder / "l.csv").write_text("index,label\n" + "".join(f"{i},{i % 3}\n" for i in (7, 20, 33)))
    picks = []
    for seed in (0, 0, 1):
        chosen = select_from_files("emb.npy", 5, labels=["l.csv"], sampler=DiffusionSampler(), seed=seed)
        picks.append(chosen.query.indices.tolist())
    assert picks[0] == picks[1] and chosen.data.labels.tolist() == [1, 2, 0] and chosen.class_names is None
    assert select("--labels", "l.csv", "-n", 5) == 0
    assert [int(row["index"]) for row in table(folder / "query.csv")] == picks[0]


@pytest.mark.parametrize("sampler", ["diffusion", "random", "coreset", "typiclust", "probcover"])
@pytest.mark.parametrize("cold", [True, False])
def test_samplers(sampler, cold, folder):
    (folder / "l.csv").write_text("index,label\n3,ape\n4,bee\n9,?\n" if not cold else "index,label\n")
    assert select("--labels", "l.csv", "--sampler", sampler, "-n", 7) == 0
    rows = table(folder / "query.csv")
    assert len({row["index"] for row in rows} - {"3", "4", "9"}) == 7 or cold


def test_options_reach_the_sampler(folder, capsys):
    assert select("--sampler", "coreset", "--distance", "cosine", "-n", 3) == 0
    chosen = select_from_files("emb.npy", 3, sampler=CoreSetSampler(metric="cosine"))
    assert [int(row["index"]) for row in table(folder / "query.csv")] == chosen.query.indices.tolist()
    assert select("--sampler", "random", "--metric", "cosine", "--n-neighbors", 3, "--out", "b.csv") == 1
    assert "The sampler random does not take --distance and --n-neighbors." in capsys.readouterr().err


def test_an_npz(folder):
    np.savez("one.npz", a=embeddings().astype(np.float16))
    np.savez("two.npz", a=embeddings(), b=embeddings()[:, :2])
    assert main(["select", "--features", "one.npz", "-n", "2"]) == 0
    assert main(["select", "--features", "two.npz", "-n", "2", "--key", "b", "--out", "b.csv"]) == 0
    with pytest.raises(ConfigurationError, match=r"holds the arrays a, b: say which with `key`\.$"):
        select_from_files("two.npz", 2)


def test_several_labels_a_point(folder):
    (folder / "l.csv").write_text('index,label\n3,ape|bee\n4,bee\n9,[]\n12,"[""cow""]"\n')
    chosen = select_from_files("emb.npy", 4, labels=["l.csv"])
    assert chosen.data.labels.tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 0], [0, 0, 1]]
    assert chosen.class_names == ["ape", "bee", "cow"] and len(chosen.query) == 4


def test_a_query_file_with_labels_is_not_replaced(folder, capsys):
    assert select("-n", 3) == 0 == select("-n", 4)  # nobody has written into it yet
    assert len(table(folder / "query.csv")) == 4
    fill(folder / "query.csv", lambda i: "ape" if i % 2 else "bee")
    before = (folder / "query.csv").read_bytes()
    assert select("-n", 3) == 1 and (folder / "query.csv").read_bytes() == before
    assert "query.csv holds labels or is not a query file; not overwritten" in capsys.readouterr().err
    assert select("-n", 3, "--labels", "query.csv") == 1
    assert "query.csv is read, and would be written too" in capsys.readouterr().err
    (folder / "other.csv").write_text("id,label\n")
    (folder / "notes.csv").write_text("my notes\n")
    assert select("-n", 3, "--out", "notes.csv") == 1 and (folder / "notes.csv").read_text() == "my notes\n"


def test_texts_are_chosen_labelled_on_the_page_and_read_again(folder, capsys):
    lines = "".join(f'{i},"<b>sentence</b> {i}, of {NAMES[i % 3]}"\n' for i in range(N))
    (folder / "texts.csv").write_text(f"id,text\n{lines}")
    assert select("--ids", "texts.csv", "-n", 6, "--out", "q1.csv") == 0
    board = FilesBoard(folder / "labels.csv", NAMES[:2], query=folder / "q1.csv")
    for n in range(6):
        card = board.next("ann", frozenset())
        index = int(card["id"])
        assert card["kind"] == "text" and card["text"] == f"<b>sentence</b> {index}, of {NAMES[index % 3]}"
        assert card["why"] == reason_words("exploration")
        given = {"action": "skip"} if index % 3 == 2 else {"action": "label", "label": [index % 3]}
        board.answer("ann", {"uid": f"{n:016d}", "key": card["key"], "base": 0, **given})
    board.close()
    answered = {int(row["id"]): row["label"] for row in table(folder / "labels.csv")}
    assert all(label == ("?" if i % 3 == 2 else NAMES[i % 3]) for i, label in answered.items())
    capsys.readouterr()
    again = ["--ids", "texts.csv", "--class-names", *NAMES[:2], "--labels", "labels.csv", "-n", 6]
    assert select(*again, "--out", "q2.csv") == 0
    n_labels = sum(label != "?" for label in answered.values())
    assert f"{n_labels} of 60 points are labelled as ape, bee; 6 chosen out of 54" in capsys.readouterr().out
    assert not {row["id"] for row in table(folder / "q2.csv")} & {str(i) for i in answered}


def test_an_index_says_whose_ids_they_are(folder):
    order = np.random.default_rng(1).permutation(N)
    (folder / "moved.csv").write_text("id,index\n" + "".join(f"img/{i}.png,{i}\n" for i in order))
    assert select("--ids", "ids.txt", "-n", 6, "--out", "a.csv") == 0
    assert select("--ids", "moved.csv", "-n", 6, "--out", "b.csv") == 0
    assert (folder / "a.csv").read_bytes() == (folder / "b.csv").read_bytes()


def test_an_archive_that_is_damaged(folder, capsys):
    np.savez("emb.npz", emb=embeddings())
    content = bytearray((folder / "emb.npz").read_bytes())
    content[300] ^= 0xFF
    (folder / "emb.npz").write_bytes(content)
    assert main(["select", "--features", "emb.npz"]) == 1
    assert "emb.npz is damaged (Bad CRC-32" in capsys.readouterr().err


def test_a_place_where_no_file_can_be(folder, capsys):
    assert select("-n", 3, "--out", "ids.txt/query.csv") == 1
    assert capsys.readouterr().err.count("\n") == 1


BAD_FEATURES = {
    "text": (b"hello", "is not a .npy, .npz, .csv or .parquet file of numbers"),
    "nothing": (b"", "is not a .npy, .npz, .csv or .parquet file of numbers"),
    "objects": (np.array([{}, []], dtype=object), "is not a .npy, .npz, .csv or .parquet file of numbers"),
    "one dimension": (np.arange(4.0), r"numbers of shape \(N, D\), one row per point, but got float64 of shape \(4,\)"),
    "three dimensions": (np.zeros((2, 3, 4)), r"of shape \(2, 3, 4\)"),
    "empty": (np.zeros((0, 4)), r"of shape \(0, 4\)"),
    "words": (np.array([["a"]]), "got <U1"),
    "complex": (np.zeros((2, 2), complex), "got complex128"),
    "not finite": (np.array([[1.0], [np.nan], [np.inf]]), r"NaN or infinity in 2 of 3 rows, the first at \[1, 2\]"),
    "beyond float32": (np.array([[1.0], [1e300]]), r"in 1 of 2 rows, the first at \[1\]"),
}


@pytest.mark.parametrize("name", BAD_FEATURES)
def test_bad_features(name, tmp_path):
    content, message = BAD_FEATURES[name]
    path = tmp_path / "emb.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.save(path, content, allow_pickle=True)
    with pytest.raises(Exception, match=message) as caught:
        select_from_files(path, 1)
    assert type(caught.value).__name__ in ("ConfigurationError", "FeatureError") and str(path) in str(caught.value)


# fmt: off
BAD_LABELS = {
    "no column": ("index,class\n1,ape\n",
        "l.csv, line 1: no column `label` in the first line, which names `index`, `class`."),
    "index": ("index,label\n1,ape\n60,bee\n",
        "l.csv, line 3: there is no point with index '60': they are numbered from 0 to 59"),
    "id": ("id,label\nimg/1.png,ape\n",
        "l.csv, line 2: there is no point with id 'img/1.png': they are numbered from 0 to 59;"
        " other names need a file of --ids."),
    "conflict": ("index,label\n1,ape\n2,bee\n1,bee\n",
        "l.csv, line 4: this point has another label in line 2 of l.csv."),
    "conflict with cannot tell": ("index,label\n1,?\n1,bee\n",
        "l.csv, line 3: this point has another label in line 2 of l.csv."),
    "encoding": (b"index,label\n1,\xe4\n",
        "l.csv, line 2: not UTF-8 (byte 0xe4)"),
    "half a list": ('index,label\n1,"[ape"\n', "l.csv, line 2: expected a JSON list"),
}
# fmt: on


@pytest.mark.parametrize("name", BAD_LABELS)
def test_bad_labels(name, folder, capsys):
    text, message = BAD_LABELS[name]
    (folder / "l.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    assert select("--labels", "l.csv") == 1
    assert message in capsys.readouterr().err and not (folder / "query.csv").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--labels", "none.csv"], "There is no file none.csv."),
        (["--ids", "none.txt"], "There is no file none.txt."),
        (["--ids", "short.txt"], "short.txt: Expected --ids to hold one id for each of 60 points, but got 2."),
        (["--ids", "twice.csv"], "twice.csv: Expected --ids to be unique, but 'a' stands 60 times."),
        (["--ids", "blank.csv"], "blank.csv, line 3: no id"),
        (["--ids", "once.csv"], "once.csv: expected each index from 0 to 59 once in column `index`"),
        (["--labels", "typo.csv", "--class-names", "ape", "ape"], "class names that differ, but got ape, ape"),
        (["--pending", "short.txt"], "short.txt, line 1: there is no point with id 'x'"),
        (["--labels", "all.csv"], "All 60 points are labelled, asked or skipped"),
        (["--seed", "-1"], "Expected --seed to be at least 0"),
        (["--labels", "typo.csv", "--class-names", "ape", "bee"], "there is no class 'bea' (did you mean 'bee'?)"),
    ],
)
def test_bad_arguments(arguments, message, folder, capsys):
    (folder / "short.txt").write_text("x\ny\n")
    (folder / "twice.csv").write_text("id\n" + "a\n" * N)
    (folder / "blank.csv").write_text("id,index\na,0\n,1\n")
    (folder / "once.csv").write_text("id,index\n" + "".join(f"a{i},{i // 2}\n" for i in range(N)))
    (folder / "all.csv").write_text("index,label\n" + "".join(f"{i},1\n" for i in range(N)))
    (folder / "typo.csv").write_text("index,label\n1,ape\n2,bea\n")
    assert select(*arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("diffal select: ") and message in error and "Traceback" not in error


def test_a_sampler_that_needs_a_model(folder):
    with pytest.raises(ConfigurationError, match="MarginSampler needs probabilities of a model"):
        select_from_files("emb.npy", 3, sampler=MarginSampler())
