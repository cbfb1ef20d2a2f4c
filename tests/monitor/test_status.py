"""The status line says where a run is and what it does, on a terminal and in a log."""

import io
import sys

import pytest
import torch

from lightning_diffal import ActiveDataModule, ActiveLearning, DiffusionSampler
from lightning_diffal._lightning import pl_callbacks
from lightning_diffal.monitor.status import Status
from lightning_diffal.monitor.surfaces import PlainSurface, TqdmSurface, surface_for
from lightning_diffal.monitor.words import status_line
from lightning_diffal.oracle import Oracle
from lightning_diffal.utils.phases import announce
from tests.helpers import TRAIN, VAL, Net, quiet_trainer


class Screen:
    """Keeps what is shown."""

    changes, width = True, None

    def __init__(self, changes=True):
        self.shown, self.changes = [], changes

    def show(self, line):
        self.shown.append(line)

    say = head = show

    def clear(self):
        self.shown.append("")

    def open(self):
        pass

    close = clear


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


def status(screen, **kwargs):
    return Status(lambda: (3, 10, 50), screen, **kwargs)


@pytest.mark.parametrize("width", [20, 40, 60, 80, 130])
def test_a_line_always_fits_and_ends_with_a_whole_word(width):
    line = status_line("reading features", round_=3, max_rounds=10, n_labelled=50, done=640, total=1297, width=width)
    assert len(line) <= width and ("640/1,297" in line or width == 20)
    assert ("Round 3 of 10 · 50 labels · reading features 640/1,297" in line) == (width >= 60)
    assert ("━" in line) == (width in (80, 130))


def test_a_phase_is_shown_when_it_begins_and_not_more_often_than_people_see():
    now = [0.0]
    screen = Screen()
    shows = status(screen, clock=lambda: now[0])
    with shows.hearing():
        for done in range(1000):
            announce("reading features", done, 1000)
            now[0] += 0.01
        announce("reading features", 1000, 1000)
        announce("choosing 10")
    lines = screen.shown
    assert lines[0].endswith("reading features 0/1,000") and lines[-2].endswith("choosing 10") and lines[-1] == ""
    assert lines[-3].endswith("1,000/1,000") and 80 < len(lines) < 120
    announce("nobody listens")
    assert len(screen.shown) == len(lines)


def test_a_log_gets_a_line_for_each_phase_and_none_for_each_batch():
    now = [0.0]
    screen = Screen(changes=False)
    shows = status(screen, clock=lambda: now[0])
    for done in range(700):
        shows.phase("reading features", done, 700)
        now[0] += 0.125
    for words in ("choosing 10", "searching neighbours", "choosing 10"):
        shows.phase(words)
    assert [line.split(" · ")[-1] for line in screen.shown] == [
        "reading features 0/700",
        "reading features 240/700",
        "reading features 480/700",
        "choosing 10",
        "searching neighbours",
    ]


def test_waiting_says_how_long():
    screen = Screen()
    status(screen, clock=lambda: 100.0).wait(4, 2, 4.6, 160.0)
    assert screen.shown[0].startswith(
        "Round 3 of 10 · 50 labels · waiting for 4 answers (2 read; next look in 5 s; until "
    )
    log = Screen(changes=False)
    shows = status(log)
    for left in (5.0, 4.5, 4.0):
        shows.wait(4, 2, left, None)
    shows.wait(3, 3, 5.0, None)
    assert [line.split(" · ")[-1] for line in log.shown] == [
        "waiting for 4 answers (2 read)",
        "waiting for 3 answers (3 read)",
    ]


def test_where_there_is_no_terminal_lines_go_to_the_log(tmp_path):
    assert isinstance(surface_for(quiet_trainer()), PlainSurface)
    bar = pl_callbacks.TQDMProgressBar()
    trainer = quiet_trainer([bar], enable_progress_bar=True)
    assert isinstance(surface_for(trainer), PlainSurface)  # pytest's stdout
    bar.disable()
    assert isinstance(surface_for(trainer), PlainSurface)


def test_tqdm_gets_a_line_of_its_own_on_a_terminal(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    surface = surface_for(quiet_trainer([pl_callbacks.TQDMProgressBar()], enable_progress_bar=True))
    assert isinstance(surface, TqdmSurface)
    shows = status(surface)
    shows.phase("choosing 10")
    shows.say("a sentence that stays")
    shows.clear()
    written = terminal.getvalue()
    assert "Round 3 of 10 · 50 labels · choosing 10" in written and "a sentence that stays\n" in written


def run(bar, oracle=None, **kwargs):
    torch.manual_seed(1)
    active = ActiveLearning(DiffusionSampler(), query_size=6, max_rounds=2, seed=3, run_dir=False, oracle=oracle)
    data = ActiveDataModule(TRAIN, val_dataset=VAL, initial_labels=12, batch_size=4)
    trainer = quiet_trainer([active, *([bar] if bar else [])], enable_progress_bar=bar is not None, **kwargs)
    trainer.fit(Net(), datamodule=data)
    return active


def test_a_run_says_each_phase_of_each_round_in_the_log(caplog):
    with caplog.at_level("INFO"):
        run(None)
    text = caplog.text
    for round_, labels in ((0, 12), (1, 18)):
        for phase in (
            "training",
            "reading features 0/120",
            "searching neighbours",
            "choosing 6",
            "asking for 6 labels",
        ):
            assert text.count(f"Round {round_} of 2 · {labels} labels · {phase}") == 1
    assert "Round 2 of 2 · 24 labels · training" in text and "Active learning ended after round 2" in text


def test_rich_shows_our_line_alone_between_trainings_and_above_its_rows_in_them(monkeypatch):
    rich = pytest.importorskip("rich.console")
    terminal = Terminal()
    console = {"file": terminal, "force_terminal": True, "width": 100, "legacy_windows": False}
    import rich as package

    monkeypatch.setattr(package, "_console", rich.Console(**console))
    seen = []

    class Watch(pl_callbacks.RichProgressBar):
        def on_train_epoch_end(self, trainer, module):
            super().on_train_epoch_end(trainer, module)
            seen.append(picture(self))

    def picture(bar):
        with bar.progress.console.capture() as capture:
            bar.progress.console.print(bar.progress.get_renderable())
        return capture.get().replace("\x1b[2K", "")

    class Slow(Oracle):
        def answer(self, indices, data):
            seen.append(picture(bar))
            return {int(i): int(TRAIN.tensors[1][i]) for i in indices}

    bar = Watch(console_kwargs=console)
    run(bar, Slow(), max_epochs=1)
    trained, asked = seen[0::2], seen[1::2]
    assert len(trained) == 3 and len(asked) == 2
    assert all(f"Round {r} of 2 · {12 + 6 * r} labels · training" in trained[r] for r in range(3))
    assert all("Epoch" in lines for lines in trained)
    for round_, lines in enumerate(asked):
        line = f"Round {round_} of 2 · {12 + 6 * round_} labels · asking for 6 labels"
        assert {shown.strip() for shown in lines.splitlines()} - {""} == {line}
    assert "Round 1: asked 6 points, 6 answers arrived; 24 of 120 are labelled." in terminal.getvalue()


def test_what_is_read_is_counted_while_people_are_waited_for(caplog):
    class Slow(Oracle):
        timeout, poll_seconds = 20.0, 0.02
        looks = 0

        def answer(self, indices, data):
            self.looks += 1
            known = indices if self.looks > 2 else indices[:2]
            return {int(i): int(TRAIN.tensors[1][i]) for i in known}

    with caplog.at_level("INFO"):
        run(None, Slow())
    assert "waiting for 4 answers (2 read; until " in caplog.text and "is over" not in caplog.text


def test_a_run_says_that_it_gives_up_waiting(caplog):
    class Absent(Oracle):
        timeout, poll_seconds = 0.1, 0.05

        def answer(self, indices, data):
            return {int(i): int(TRAIN.tensors[1][i]) for i in indices[: max(0, len(indices) - 4)]}

    with caplog.at_level("INFO"):
        run(None, Absent())
    assert "The oracle's timeout of 0.1 s is over: 2 answers were read, 4 are missing." in caplog.text
