"""The phases of a run, and the only ways from one to the next."""

import ast
import itertools
from pathlib import Path

import numpy as np
import pytest

import lightning_diffal
from lightning_diffal import Query
from lightning_diffal.exceptions import TransitionError
from lightning_diffal.history import RoundRecord
from lightning_diffal.run.state import TRANSITIONS, RunState

PHASES = ("train", "redo", "training", "query", "answers")
ARGUMENTS = {"finish_round": lambda: [RoundRecord(1, 8, [0])], "ask": lambda: [Query([3, 1], [0.5, 0.25])]}


def standing(phase):
    state = RunState(round=1, phase=phase, seed=7, asked=[4] if phase == "answers" else [])
    state.history.append(RoundRecord(0, 7, [0], stop_reason="waiting"))
    return state


def go(state, transition):
    return getattr(state, transition)(*ARGUMENTS.get(transition, list)())


@pytest.mark.parametrize(("transition", "phase"), list(itertools.product(TRANSITIONS, PHASES)))
def test_only_what_the_table_says_is_possible(transition, phase):
    state = standing(phase)
    before = state.to_checkpoint()
    origins, target = TRANSITIONS[transition]
    if phase in origins:
        go(state, transition)
        assert state.phase == target
        return
    with pytest.raises(TransitionError, match=rf"phase '{phase}' \(round 1\) cannot"):
        go(state, transition)
    assert state.to_checkpoint() == before


def test_the_docstring_shows_the_table():
    for transition, (origins, target) in TRANSITIONS.items():
        row = next(line for line in RunState.__doc__.splitlines() if line.strip().startswith(f"`{transition}`"))
        shown = [word.strip("`,") for word in row.split() if word.startswith("`")]
        assert set(shown[1:-1]) == set(origins) and shown[-1] == target


def test_nobody_else_sets_the_phase():
    package = Path(lightning_diffal.__file__).parent
    for path in package.rglob("*.py"):
        if path.relative_to(package) == Path("run/state.py"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            assert not any(isinstance(t, ast.Attribute) and t.attr == "phase" for t in targets), path


def test_two_rounds():
    state = RunState(seed=3)
    state.begin_cold()
    state.ask(Query([5, 2], [1.0, 0.5]))
    assert state.asked == [5, 2] and state.history[0].n_queried == 2
    state.ask_others()
    state.ask(Query([7], [0.25]))
    assert state.history[0].query.indices.tolist() == [5, 2, 7] and state.asked == [7]
    state.answered()
    assert (state.round, state.phase, state.asked) == (1, "train", [])
    state.begin_round()
    state.redo()
    state.begin_round()
    state.finish_round(RoundRecord(1, 4, [7]))
    assert [record.round for record in state.history] == [0, 1] and state.phase == "query"


def test_a_query_moves_with_its_points():
    query = Query([3, 1], [0.5, 0.25], {"nearest_labelled": np.array([0, -1]), "margin": np.array([0.1, 0.2])})
    moved = query.moved({0: 9, 1: 8, 3: 6}.__getitem__)
    assert moved.indices.tolist() == [6, 8] and moved.details["nearest_labelled"].tolist() == [9, -1]
    assert moved.details["margin"] is not None and query.indices.tolist() == [3, 1]
