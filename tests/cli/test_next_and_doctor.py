"""`diffal next`, `diffal doctor`, `diffal --version`, and what every command exits with."""

import csv
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import lightning_diffal
from lightning_diffal import ActiveDataModule, ActiveLearning, DiffusionSampler
from lightning_diffal.cli import main
from lightning_diffal.fresh_trainers import next_query
from tests.cli.test_fit_command import QUIET, mine  # noqa: F401
from tests.helpers import TRAIN, VAL, Net, quiet_trainer

BEGUN = Path(__file__).parents[1] / "run" / "begun_by_0_1"


def trained(folder, **settings):
    """A run of two rounds that ends before its last query, and its checkpoint."""
    torch.manual_seed(0)
    data = ActiveDataModule(TRAIN, val_dataset=VAL, initial_labels=[3, 17, 41, 63, 90, 119], batch_size=6)
    active = ActiveLearning(DiffusionSampler(), query_size=5, max_rounds=1, seed=3, run_dir=False, **settings)
    model, trainer = Net("none"), quiet_trainer([active], default_root_dir=folder)
    trainer.fit(model, datamodule=data)
    trainer.save_checkpoint(folder / "run.ckpt")
    return model, data, active, trainer


def test_the_next_query_is_the_one_that_the_run_would_have_made(tmp_path):
    model, data, active, trainer = trained(tmp_path)
    again = ActiveDataModule(TRAIN, val_dataset=VAL, initial_labels=data.labelled_indices.tolist(), batch_size=6)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    chosen = next_query(quiet_trainer([]), model, again, ActiveLearning(DiffusionSampler(), query_size=5, seed=3))
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())
    active.max_rounds = 2
    trainer.fit(model, datamodule=data)
    assert set(chosen.indices.tolist()) == set(active.history[1].query.indices.tolist())


def test_next_on_the_command_line(mine, tmp_path, capsys):  # noqa: F811
    _, data, _, _ = trained(tmp_path)
    arguments = ["next", "--ckpt", "run.ckpt", "--model", f"{mine}.Model", "--data", f"{mine}.Plain", *QUIET]
    assert main([*arguments, "-n", "4", "--out", "query.csv"]) == 0
    assert "11 of 120 points are labelled; 4 chosen." in capsys.readouterr().out
    rows = list(csv.DictReader(Path("query.csv").read_text(encoding="utf-8-sig").splitlines()))
    asked = {int(row["index"]) for row in rows}
    assert len(asked) == 4 and not asked & set(data.labelled_indices.tolist())

    text = Path("query.csv").read_text(encoding="utf-8-sig").splitlines()
    place = text[0].split(",").index("label")
    filled = [line.split(",") for line in text[1:]]
    for cells, row in zip(filled, rows, strict=True):
        cells[place] = str(int(TRAIN.tensors[1][int(row["index"])]))
    Path("filled.csv").write_text("\n".join([text[0], *map(",".join, filled)]) + "\n")
    assert main([*arguments, "--labels", "filled.csv", "-n", "4", "--out", "second.csv"]) == 0
    assert "15 of 120 points are labelled" in capsys.readouterr().out
    second = {int(r["index"]) for r in csv.DictReader(Path("second.csv").read_text(encoding="utf-8-sig").splitlines())}
    assert len(second) == 4 and not second & asked


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--version"], 0, f"diffal {lightning_diffal.__version__}"),
        ([], 0, "usage: diffal"),
        (["doctor"], 0, "torch"),
        (["doctor", "nowhere"], 1, "nowhere is not a folder"),
        (["doctor", "run"], 0, "round 2, phase 'query', 3 records"),
        (["doctor", "damaged"], 1, "damaged"),
        (["next", "--ckpt", "none.ckpt"], 1, "none.ckpt is not a file"),
        (["next"], 2, "--ckpt"),
        (["select", "--features", "none.npy"], 1, "none.npy"),
        (["report", "nowhere"], 1, "nowhere"),
        (["select", "--features", "e.npy", "--what"], 2, "--what"),
        (["dance"], 2, "dance"),
        (["select", "--features", "emb.npy", "--out", "q.xlsx"], 1, "end in .csv"),
        (["select", "--features", "emb.npy", "--key", "a"], 1, "holds one array"),
        (["select", "--features", "emb.npy", "-n", "500"], 0, "only 40 were left"),
        (["select", "--features", "emb.csv", "-n", "3"], 0, "3 chosen out of 40"),
        (["select", "--features", "words.csv"], 1, "numbers only"),
        (["report", "run", "--out", "page.pdf"], 1, "ends in .html"),
        (["compare", "--samplers", "diffusion:"], 1, "behind the colon"),
    ],
)
def test_exit_codes(arguments, code, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(BEGUN, "run")
    shutil.copytree(BEGUN, "damaged")
    points = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
    np.save("emb.npy", points)
    np.savetxt("emb.csv", points, delimiter=",", header="a,b,c,d", comments="")
    Path("words.csv").write_text("a,b\n1,2\n3,x\n")
    contents = bytearray(Path("damaged/state.ckpt").read_bytes())
    contents[len(contents) // 2] ^= 1
    Path("damaged/state.ckpt").write_bytes(contents)
    try:
        found = main(arguments)
    except SystemExit as ending:  # argparse's way out
        found = ending.code
    shown = capsys.readouterr()
    assert found == code and said in shown.out + shown.err
    assert "Traceback" not in shown.err
    assert code != 0 or not shown.err


def test_doctor_tells_nothing_private(tmp_path, monkeypatch, capsys):
    shutil.copytree(BEGUN, tmp_path / "patients")
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "secret")
    assert main(["doctor", str(tmp_path / "patients")]) == 0
    shown = capsys.readouterr().out
    assert not any(word in shown for word in ("patients", str(tmp_path), "secret", "p17", os.uname().nodename))
    assert np.char.count(shown, "\n") > 15
