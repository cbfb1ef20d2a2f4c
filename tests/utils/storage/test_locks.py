"""One process at a time, and none after its death."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lightning_diffal.utils.storage.locks import FileLock

HOLD = """
import sys, time
from pathlib import Path
from lightning_diffal.utils.storage.locks import FileLock
lock = FileLock(Path(sys.argv[1]))
print(lock.acquire(), flush=True)
time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    started = {"stdout": subprocess.PIPE, "text": True, "cwd": Path(__file__).parents[3]}
    process = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path / "a.lock"], **started)
    assert process.stdout.readline() == "True\n"
    yield process
    process.kill()
    process.wait()


def test_another_process_is_kept_out_until_it_dies(tmp_path, holder):
    lock = FileLock(tmp_path / "a.lock")
    started = time.monotonic()
    assert not lock.acquire(0.3) and not lock.is_held and time.monotonic() - started >= 0.3
    assert lock.holder().startswith(f"process {holder.pid} on ")
    holder.send_signal(signal.SIGKILL)
    assert lock.acquire(10) and lock.is_held


def test_within_a_process_the_last_one_has_it(tmp_path):
    first, second = FileLock(tmp_path / "a.lock"), FileLock(tmp_path / "sub" / ".." / "a.lock")
    (tmp_path / "sub").mkdir()
    assert first.acquire() and second.acquire()
    assert (first.is_held, second.is_held) == (False, True)
    first.release()
    assert second.is_held
    second.release()
    assert not second.is_held and first.acquire()
    first.release()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_child_has_no_share_in_it(tmp_path):
    lock = FileLock(tmp_path / "a.lock")
    lock.acquire()
    child = os.fork()
    if child == 0:
        os._exit(lock.is_held or lock.acquire())
    assert os.waitpid(child, 0)[1] == 0
    assert lock.is_held
    lock.release()


def test_what_cannot_lock_keeps_nobody_out(tmp_path, monkeypatch):
    import errno

    from lightning_diffal.utils.storage import locks

    def unsupported(file):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(locks, "_lock", unsupported)
    lock = FileLock(tmp_path / "a.lock")
    assert lock.acquire() and not lock.is_supported
    lock.release()


def test_who_holds_it_is_not_known_where_nobody_said(tmp_path):
    lock = FileLock(tmp_path / "a.lock")
    Path(tmp_path / "a.lock").write_text("{}")
    assert lock.holder() == "a process that did not say its name"
