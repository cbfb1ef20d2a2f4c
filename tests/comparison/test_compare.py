import json

import numpy as np
import pytest
import torch

from lightning_diffal.comparison import compare_samplers
from lightning_diffal.exceptions import ConfigurationError
from tests.comparison.helpers import blobs_task, forgetful_task

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
    with pytest.raises(ConfigurationError, match="'margin' and 'random' on seed 0 began with different labels"):
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
