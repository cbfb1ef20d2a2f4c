"""Stages of long work that outlive the process."""

from __future__ import annotations

import json

import numpy as np

from lightning_diffal.utils.storage.stages import Stages


def test_a_folder_of_another_format_is_begun_anew(tmp_path):
    stages = Stages(tmp_path, source="a")
    stages.array("squares", (3,), np.int64)[:] = [0, 1, 4]
    stages.finish("squared", largest=4)
    assert Stages(tmp_path, source="a").facts("squared") == {"largest": 4}
    kept = json.loads((tmp_path / "stages.json").read_text())
    for other in ({**kept, "format": kept["format"] - 1}, {k: v for k, v in kept.items() if k != "format"}):
        (tmp_path / "stages.json").write_text(json.dumps(other))
        assert Stages(tmp_path, source="a").facts("squared") is None
