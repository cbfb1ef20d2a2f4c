import os
import signal

import pytest

from lightning_diffal._parallel import run_parallel
from lightning_diffal.exceptions import DiffalError


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
