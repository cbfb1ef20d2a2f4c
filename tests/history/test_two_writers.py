"""Two processes at one run folder: one writes, the other is told who does, and reports read beside it."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lightning_diffal.history.journal import FILENAME, Journal, read_events

SCRIPT = Path(__file__).with_name("writers_script.py")


def start(folder, pace):
    return subprocess.Popen(
        [sys.executable, SCRIPT, folder, pace], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )


@pytest.fixture
def waiting(tmp_path):
    """A process that holds the run while somebody labels."""
    first = start(tmp_path, "slow")
    deadline = time.monotonic() + 120
    while not (tmp_path / "waiting").exists():
        assert first.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    yield first
    first.kill()
    first.wait()


def test_a_second_process_is_refused_and_goes_on_when_the_first_is_dead(tmp_path, waiting):
    before = (tmp_path / "run" / FILENAME).read_bytes()
    second = start(tmp_path, "quick")
    output = second.communicate(timeout=120)[0]
    assert second.returncode == 3, output
    assert "ResumeError: The run in" in output and f"by another process (process {waiting.pid} on " in output
    assert (tmp_path / "run" / FILENAME).read_bytes() == before
    events, _ = read_events(tmp_path / "run" / FILENAME)  # as a report does
    assert [event["kind"] for event in events] == ["header", "query", "answer", "query"]
    waiting.kill()
    third = start(tmp_path, "quick")
    output = third.communicate(timeout=120)[0]
    assert third.returncode == 0 and json.loads(output.splitlines()[-1]) == [4, 10, 16]
    bought = [json.loads(line) for line in (tmp_path / "bought.jsonl").read_text().splitlines()]
    assert len(bought) == 2 and len({index for query in bought for index in query}) == 12
    events, _ = read_events(tmp_path / "run" / FILENAME)
    assert [event["kind"] for event in events] == ["header", "query", "answer", "query", "answer"]


def test_a_line_that_is_just_being_written_is_not_cut_by_a_reader(tmp_path):
    journal = Journal.create(tmp_path / FILENAME, {"run": "a"})
    with journal.path.open("ab") as file:
        file.write(b'{"kind":"skip","ind')
    before = journal.path.read_bytes()
    events, torn = read_events(journal.path)
    assert len(events) == 1 and torn == b'{"kind":"skip","ind' and journal.path.read_bytes() == before


def test_a_later_fit_takes_in_what_another_process_wrote(tmp_path):
    mine = Journal.create(tmp_path / FILENAME, {"run": "a"})
    mine.release()
    Journal.open(mine.path).record({"kind": "skip", "indices": [3]})
    mine.resume()
    assert mine.behind == 1 and mine.next_event(["skip"]) == {"kind": "skip", "indices": [3]}
    mine.record({"kind": "skip", "indices": [4]})
    assert len(Journal.open(mine.path)) == 3
