import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from lightning_diffal.exceptions import DiffalError
from lightning_diffal.processes.parallel import run_parallel


def double_or_die(number, tell):
    tell(number)
    if number < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    if number == 0:
        raise ZeroDivisionError("asked for")
    return 2 * number


def test_parallel_calls_keep_their_order_and_fail_as_one():
    told = []
    assert run_parallel(double_or_die, [(3,), (1,), (2,)], 2, told.append) == [6, 2, 4]
    assert sorted(told) == [1, 2, 3]
    with pytest.raises(ZeroDivisionError, match="asked for"):
        run_parallel(double_or_die, [(1,), (0,)], 2, told.append)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_killed_worker_is_one_line():
    with pytest.raises(DiffalError, match="try --workers 1"):
        run_parallel(double_or_die, [(-1,)], 1, lambda message: None)


def sleep_long(tell):
    tell(os.getpid())
    time.sleep(600)


def in_vain(told):
    run_parallel(sleep_long, [()], 1, told.put)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_worker_ends_with_the_process_that_wants_its_results():
    context = multiprocessing.get_context("spawn")
    told = context.Queue()
    parent = context.Process(target=in_vain, args=(told,))
    parent.start()
    worker = told.get(timeout=120)
    parent.kill()
    parent.join()
    deadline = time.monotonic() + 60
    while is_alive(worker):
        assert time.monotonic() < deadline, "the worker outlived its parent"
        time.sleep(0.1)


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # where nobody reaps it, one that has ended stays as a zombie
    stat = Path(f"/proc/{pid}/stat")
    return not (stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z")
