"""Work in blocks on several threads: the same numbers as on one, and errors that arrive."""

import numpy as np
import pytest
import scipy.sparse as sp

from lightning_diffal.utils.numeric import products
from lightning_diffal.utils.numeric.threads import each, number_of_threads, slices


@pytest.mark.parametrize(("told", "threads"), [("3", 3), ("2,1", 2), (" 4 ", 4)])
def test_the_number_that_was_told(told, threads, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", told)
    assert number_of_threads() == threads


@pytest.mark.parametrize("told", ["", "0", "many"])
def test_without_a_number_as_many_as_there_are_cores(told, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", told)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 2, 5}, raising=False)
    assert number_of_threads() == 3
    monkeypatch.delattr("os.sched_getaffinity")  # as on macOS
    monkeypatch.setattr("os.cpu_count", lambda: None)
    assert number_of_threads() == 1


@pytest.mark.parametrize("threads", ["1", "3"])
def test_each_part_once_and_the_first_error(threads, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    counts = np.zeros(10, dtype=int)

    def count(part):
        counts[part] += 1

    each(count, slices(10, 3))
    assert counts.tolist() == [1] * 10

    def refuse(part):
        raise ValueError(f"at {part.start}")

    with pytest.raises(ValueError, match="at 0"):
        each(refuse, slices(10, 3))


def test_a_product_on_threads_is_that_on_one_bit_for_bit(monkeypatch):
    matrix = sp.random(61, 61, density=0.2, format="csr", dtype=np.float32, random_state=0)
    matrix = sp.csr_matrix(sp.diags_array(np.float32([0] * 20 + [1] * 41)) @ matrix)  # rows that hold nothing too
    other = np.random.default_rng(0).normal(size=(61, 4)).astype(np.float32)
    used = []
    monkeypatch.setattr(products, "_LARGE", 1)
    monkeypatch.setattr(products, "each", lambda action, parts: used.append(len(parts)) or each(action, parts))
    for threads in ("1", "2", "5"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        assert products.multiplier(matrix)(other).tobytes() == (matrix @ other).tobytes()
    assert len(used) == 2 and min(used) > 1
