import json

import numpy as np
import pytest
import torch

from lightning_diffal.cli import main
from lightning_diffal.comparison import compare_samplers
from lightning_diffal.exceptions import ConfigurationError, InvalidTypeError
from lightning_diffal.samplers import MarginSampler, RandomSampler
from tests.comparison.helpers import blobs_task, forgetful_task


class Counting(RandomSampler):
    n_calls = 0

    def select(self, data, query_size, generator):
        self.n_calls += 1
        return super().select(data, query_size, generator)


SETTINGS = {"seeds": [0, 3], "query_size": 4, "rounds": 2, "progress": False}


def test_all_samplers_of_a_seed_start_alike_and_seeds_differ(tmp_path):
    result = compare_samplers(blobs_task, ["margin", "random"], **SETTINGS, out=tmp_path)
    runs = {(r["name"], r["seed"]): r for r in result.results}
    for seed in (0, 3):
        ours, theirs = runs["margin", seed], runs["random", seed]
        assert ours["start"] == theirs["start"]
        assert ours["metrics"]["test_acc"][0] == theirs["metrics"]["test_acc"][0]
        assert ours["asked"][0] != theirs["asked"][0]
    for part in ("labels", "weights"):
        assert runs["margin", 0]["start"][part] != runs["margin", 3]["start"][part]
    assert result.counts.tolist() == [6, 10, 14]
    assert json.loads((tmp_path / "margin-seed3.json").read_text()) == runs["margin", 3]


def test_a_task_that_depends_on_more_than_its_seed_is_refused():
    forgetful_task.calls = 0
    with pytest.raises(
        ConfigurationError, match=r"'margin' and 'random' on seed 0 began with different (points and )?labels"
    ):
        compare_samplers(forgetful_task, ["margin", "random"], **SETTINGS)


def test_finished_runs_are_not_run_again_and_other_settings_are_refused(tmp_path):
    compare_samplers(blobs_task, ["random"], **SETTINGS, out=tmp_path)
    file = tmp_path / "random-seed3.json"
    kept = json.loads(file.read_text())
    kept["metrics"]["test_acc"] = [0.25, 0.5, 0.75]
    file.write_text(json.dumps(kept))
    (tmp_path / "random-seed0.json").unlink()
    state = torch.get_rng_state()
    result = compare_samplers(blobs_task, ["random"], **SETTINGS, out=tmp_path)
    assert result.scores["random"][3].tolist() == [0.25, 0.5, 0.75]
    assert result.scores["random"][0].tolist() != [0.25, 0.5, 0.75]
    assert torch.equal(torch.get_rng_state(), state)
    with pytest.raises(ConfigurationError, match="rounds is 2 there and 1 here"):
        compare_samplers(blobs_task, ["random"], **{**SETTINGS, "rounds": 1}, out=tmp_path)


def test_processes_find_what_one_process_finds(tmp_path):
    alone = compare_samplers(blobs_task, ["margin", "random"], **SETTINGS)
    beside = compare_samplers(blobs_task, ["margin", "random"], **SETTINGS, workers=2, out=tmp_path)
    for name in alone.names:
        for seed in (0, 3):
            np.testing.assert_array_equal(alone.scores[name][seed], beside.scores[name][seed])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"samplers": "margin"}, InvalidTypeError, "by name or a list of names"),
        ({"samplers": {"a": MarginSampler}}, InvalidTypeError, "call it, MarginSampler"),
        ({"samplers": []}, ConfigurationError, "at least one"),
        ({"samplers": {"a:b": MarginSampler(), "a/b": MarginSampler()}}, ConfigurationError, "files of one name"),
        ({"seeds": [0, 0]}, ConfigurationError, "each once"),
        ({"seeds": [-1]}, ConfigurationError, r"seeds\[0\]"),
        ({"rounds": 0}, ConfigurationError, "argument `rounds`"),
        ({"rounds": 50}, ConfigurationError, "at most 134 labels"),
        ({"metric": "loss"}, ConfigurationError, "`metric` to be one of test_acc"),
        ({"callback_kwargs": {"seed": 1}}, ConfigurationError, "`callback_kwargs`"),
        ({"callback_kwargs": {"resett": 1}}, ConfigurationError, "`callback_kwargs`.*'resett'"),
        ({"task": lambda seed: None}, InvalidTypeError, "a pytorch_lightning.LightningModule and an ActiveDataModule"),
        ({"task": lambda seed: blobs_task(seed), "workers": 2}, ConfigurationError, "have to be picklable"),
    ],
)
def test_bad_arguments_fail_before_anything_is_kept(tmp_path, arguments, error, message):
    given = {"task": blobs_task, "samplers": ["random"], **SETTINGS, "out": tmp_path / "out", **arguments}
    with pytest.raises(error, match=message):
        compare_samplers(given.pop("task"), given.pop("samplers"), **given)
    assert not list(tmp_path.glob("out/*-seed*.json"))


def test_arguments_of_the_callback_are_for_all(tmp_path):
    stopping = {"stopping": [lambda history: "enough" if len(history) > 1 else None], "reset": "warm"}
    result = compare_samplers(blobs_task, ["margin", "random"], **SETTINGS, callback_kwargs=stopping)
    assert result.counts.tolist() == [6, 10]
    assert {run["stop_reason"] for run in result.results} == {"enough"}


def test_a_result_of_another_sampler_of_that_name_is_refused(tmp_path):
    compare_samplers(blobs_task, {"ours": MarginSampler()}, **SETTINGS, out=tmp_path)
    with pytest.raises(ConfigurationError, match=r"sampler 'RandomSampler.*but got 'MarginSampler"):
        compare_samplers(blobs_task, {"ours": RandomSampler()}, **SETTINGS, out=tmp_path)


def test_a_folder_without_results_takes_other_settings(tmp_path):
    with pytest.raises(ConfigurationError, match="`metric`"):
        compare_samplers(blobs_task, ["random"], **SETTINGS, metric="loss", out=tmp_path)
    result = compare_samplers(blobs_task, ["random"], **{**SETTINGS, "rounds": 1}, out=tmp_path)
    assert result.counts.tolist() == [6, 10]


def test_the_sampler_given_stays_as_it_is():
    sampler = Counting()
    compare_samplers(blobs_task, {"counting": sampler}, **SETTINGS)
    assert sampler.n_calls == 0


def test_the_command_goes_on_where_it_was_stopped(tmp_path, capsys):
    arguments = ["compare", "--n", "60", "--model", "linear", "--query-size", "4", "--rounds", "1", "--workers", "1"]
    arguments += ["--out", str(tmp_path)]
    assert main([*arguments, "--samplers", "random", "--seeds", "1"]) == 0
    assert "1/1  random, seed 0: 14 labels" in capsys.readouterr().err
    assert main([*arguments, "--samplers", "margin,random", "--seeds", "1", "--against", "random"]) == 0
    printed = capsys.readouterr()
    assert "1/1  margin" in printed.err
    assert "random, seed 0" not in printed.err
    assert "Minus random" in printed.out
    names = {file.name for file in tmp_path.iterdir()}
    assert {"settings.json", "summary.csv", "curves.csv", "learning_curves.png", "differences.png"} <= names
    assert main(["compare", "--report-only", "--out", str(tmp_path), "--against", "random"]) == 0
    assert capsys.readouterr().out == printed.out
    assert main([*arguments, "--samplers", "random", "--condition", "noisy"]) == 1
    assert 'task.condition is "plain" there and "noisy" here' in capsys.readouterr().err
