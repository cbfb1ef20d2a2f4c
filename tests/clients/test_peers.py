"""The page for those who come from another library: their code and ours, side by side, reach what the page says."""

import re
from importlib.util import find_spec

import pytest

from tests.docs.test_pages import DOCS, blocks

PEERS = ("modAL", "skactiveml", "baal", "small_text")


@pytest.mark.skipif(any(find_spec(name) is None for name in PEERS), reason=f"needs {', '.join(PEERS)}")
@pytest.mark.filterwarnings("ignore")
def test_each_library_ends_where_the_page_says(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = DOCS / "coming-from.md"
    text = page.read_text(encoding="utf-8")
    names, ends = {"__name__": "page"}, []
    for line, code, _ in blocks(page):
        exec(compile("\n" * (line - 1) + code, str(page), "exec"), names)
        ends.append(re.findall(r"^(\d+) (0\.\d+)$", capsys.readouterr().out, re.MULTILINE))
    assert ends.pop(0) == []  # ours prints its history
    assert names["active"].history[-1].n_labelled == 60
    assert [int(number) for ((number, _),) in ends] == [60] * 4
    said = dict(re.findall(r"^\| (\S+) \| (\.\d+) \|", text, re.MULTILINE))
    reached = dict(zip(PEERS, (float(accuracy) for ((_, accuracy),) in ends), strict=True))
    reached["here"] = names["active"].history[-1].metrics["val_acc"]
    assert {name: round(value, 2) for name, value in reached.items()} == pytest.approx(
        {name: float(value) for name, value in said.items()}, abs=0.05
    )
