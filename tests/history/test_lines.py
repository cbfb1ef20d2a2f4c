"""What a journal says is what was written, or an error that names the line; also where bits have flipped."""

import json
import random
import re

import numpy as np
import pytest

from lightning_diffal import Query
from lightning_diffal.exceptions import ResumeError
from lightning_diffal.history.journal import FILENAME, Journal, query_event
from lightning_diffal.history.lines import encode_line, read_events, read_journal, same_event

QUERY = query_event(Query([5, 2], [0.5, 0.25], {"margin": np.array([0.5, 0.25], np.float32)}, {"reach": 0.5}), 0, None)
ANSWER = {"kind": "answer", "indices": [5, 2], "labels": [1, 0], "round": 1}
SKIP = {"kind": "skip", "indices": [3], "ids": ["img/3.png"]}
CORRECTION = {"kind": "correction", "indices": [5], "labels": [[0, 1, 1]]}
EVENTS = [QUERY, ANSWER, SKIP, CORRECTION]


def make_journal(folder, events=EVENTS):
    journal = Journal.create(folder / FILENAME, {"run": "a1", "n_points": 9, "seed": 1, "num_classes": 3})
    for event in events:
        journal.record(event)
    journal.release()
    return folder / FILENAME


def legacy_journal(folder, events=EVENTS):
    """As a version without checksums wrote it."""
    lines = [{"kind": "header", "format": 1, "run": "a1", "n_points": 9, "seed": 1, "num_classes": 3}, *events]
    path = folder / FILENAME
    path.write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines))
    return path


def test_what_is_written_is_read(tmp_path):
    events, torn = read_events(make_journal(tmp_path))
    assert events[1:] == EVENTS and torn == b"" and events[0]["format"] == 2


def test_each_of_a_thousand_flipped_bits_is_an_error_with_its_line(tmp_path):
    path = make_journal(tmp_path)
    whole = path.read_bytes()
    rng = random.Random(0)
    for _ in range(1000):
        damaged = bytearray(whole)
        position = rng.randrange(len(whole))
        damaged[position] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        line = whole[:position].count(b"\n") + 1
        with pytest.raises(ResumeError, match=rf"Line {line} of {re.escape(str(path))} is not what"):
            read_events(path)


@pytest.mark.parametrize("change", ["removed", "twice", "swapped", "of another journal"])
def test_lines_stay_where_they_were_written(change, tmp_path):
    path = make_journal(tmp_path)
    lines = path.read_bytes().splitlines(keepends=True)
    changed = {
        "removed": [*lines[:2], *lines[3:]],
        "twice": [*lines[:3], *lines[2:]],
        "swapped": [*lines[:2], lines[3], lines[2], *lines[4:]],
        "of another journal": [*lines[:2], encode_line(SKIP, 8), *lines[3:]],
    }[change]
    path.write_bytes(b"".join(changed))
    with pytest.raises(ResumeError, match=r"Line [34] of .* its checksum is another"):
        read_events(path)


def test_what_is_good_and_how_to_go_on_is_said(tmp_path):
    path = make_journal(tmp_path)
    path.write_bytes(path.read_bytes().replace(b'"labels":[1,0]', b'"labels":[2,0]'))
    with pytest.raises(ResumeError, match=r"Line 3 of .* The 2 lines before it are good.* delete line 3 and all lines"):
        read_events(path)


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_line_that_was_cut_off_is_dropped_by_the_writer_alone(cut, tmp_path):
    path = make_journal(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    before = path.read_bytes()
    events, torn = read_events(path)
    assert path.read_bytes() == before
    if cut == 1:  # all but the end of the line reached the disk, so that is a label
        assert (events[1:], torn) == (EVENTS, b"")
        assert len(Journal.open(path)) == 5
    else:
        assert events[1:] == EVENTS[:-1] and torn
        with pytest.warns(UserWarning, match="cut off"):
            Journal.open(path).record(CORRECTION)
    assert path.read_bytes() == whole


def test_blank_lines_of_an_editor_are_no_damage(tmp_path):
    path = make_journal(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole + b"\n\r\n")
    assert read_events(path)[0][1:] == EVENTS
    Journal.open(path).record(SKIP)
    assert path.read_bytes() == whole + encode_line(SKIP, 6)


def test_a_journal_of_before_checksums_is_read_and_goes_on_with_them(tmp_path):
    path = legacy_journal(tmp_path)
    assert read_events(path)[0][1:] == EVENTS
    Journal.open(path).record(SKIP)
    assert read_events(path)[0][1:] == [*EVENTS, SKIP]
    path.write_bytes(path.read_bytes() + json.dumps(ANSWER).encode() + b"\n")
    with pytest.raises(ResumeError, match=r"Line 7 of .* its checksum is missing"):
        read_events(path)


WRONG = {
    "unknown kind": {"kind": "bought", "indices": [1]},
    "kind that is no name": {"kind": ["skip"], "indices": [1]},
    "unknown entry": {"kind": "skip", "indices": [1], "price": 3},
    "missing entry": {"kind": "answer", "indices": [1], "labels": [1]},
    "negative position": {"kind": "skip", "indices": [-1]},
    "position that is none": {"kind": "skip", "indices": [1.5]},
    "position twice": {"kind": "skip", "indices": [1, 1]},
    "huge position": {"kind": "skip", "indices": [10**30]},
    "no list": {"kind": "skip", "indices": 1},
    "label 1.5": {**ANSWER, "labels": [1.5, 0]},
    "label -1": {**ANSWER, "labels": [-1, 0]},
    "label true": {**ANSWER, "labels": [True, 0]},
    "label in words": {**ANSWER, "labels": ["cat", 0]},
    "label of twos": {**ANSWER, "labels": [[0, 2], [0, 1]]},
    "fewer labels": {**ANSWER, "labels": [1]},
    "fewer ids": {**ANSWER, "ids": ["a"]},
    "ids that are none": {**ANSWER, "ids": ["a", 3]},
    "round in words": {**ANSWER, "round": "one"},
    "fewer scores": {**QUERY, "scores": [0.5]},
    "scores in words": {**QUERY, "scores": ["a", "b"]},
    "details of objects": {**QUERY, "details": {"margin": {"dtype": "|O", "values": [{}, {}]}}},
    "details of no type": {**QUERY, "details": {"margin": {"dtype": "<f99", "values": [1, 2]}}},
    "fewer details": {**QUERY, "details": {"margin": {"dtype": "<f4", "values": [1]}}},
    "summary in words": {**QUERY, "summary": {"reach": "far"}},
}


@pytest.mark.parametrize("case", WRONG)
@pytest.mark.parametrize("legacy", [False, True])
def test_what_no_run_writes_is_refused_with_its_line(case, legacy, tmp_path):
    path = (legacy_journal if legacy else make_journal)(tmp_path, EVENTS[:2])
    with path.open("ab") as file:
        file.write(json.dumps(WRONG[case]).encode() + b"\n" if legacy else encode_line(WRONG[case], 4))
    with pytest.raises(ResumeError, match=r"Line 4 of .* is not what a run has written"):
        read_journal(path)


def test_deep_json_and_bytes_that_are_no_text_are_refused(tmp_path):
    path = make_journal(tmp_path)
    whole = path.read_bytes()
    for line in (b"[" * 100_000, b'{"kind":' * 100_000, b"\xff\xfe\x00", b"\x00" * 40, b"nan", b"[]"):
        path.write_bytes(whole + line + b"\n")
        with pytest.raises(ResumeError, match="Line 6"):
            read_events(path)


def test_a_journal_of_a_later_version_names_the_version(tmp_path):
    path = tmp_path / FILENAME
    path.write_bytes(encode_line({"kind": "header", "format": 3, "run": "a1", "version": "9.1"}, 1))
    with pytest.raises(ResumeError, match=r"format 3, written by lightning-diffal 9\.1"):
        read_events(path)


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ({**SKIP, "indices": [7]}, SKIP, True),
        ({**SKIP, "ids": ["img/4.png"]}, SKIP, False),
        ({"kind": "skip", "indices": [7]}, SKIP, False),
        ({"kind": "skip", "indices": [3]}, {"kind": "skip", "indices": [3]}, True),
        (ANSWER, {**ANSWER, "labels": [1, 1]}, False),
    ],
)
def test_events_are_compared_by_ids(a, b, same):
    assert same_event(a, b) is same
