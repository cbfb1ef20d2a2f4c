"""Long calls side by side in processes of their own, which tell how they are getting on."""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

from lightning_diffal.exceptions import DiffalError

__all__ = ["default_workers", "run_parallel"]


def default_workers() -> int:
    """As many runs at a time as this process may use cores, at most ten."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, 10))


def run_parallel(
    function: Callable[..., Any],
    jobs: Sequence[tuple[Any, ...]],
    workers: int,
    report: Callable[[Any], object],
    *,
    threads: int = 1,
) -> list[Any]:
    """Call `function(*job, tell)` for every job. What a call tells arrives at `report`, in this process.

    The first call that fails ends all, and so does Ctrl-C, at once and with no process left behind; nor is one left
    where this process is killed.

    Args:
        function: of a module, so that other processes can import it.
        jobs: arguments of each call; they are pickled.
        workers: calls at a time.
        report: gets each message.
        threads: that numpy, torch and numba may use in a call; more would have the calls fight over the cores.

    Returns:
        What the calls returned, in the order of `jobs`.

    Raises:
        DiffalError: a process was killed from outside.
    """
    context = multiprocessing.get_context("spawn")  # a forked torch may hang in its thread pools
    messages = context.Queue()
    others = multiprocessing.active_children()
    size = min(workers, len(jobs))
    with ProcessPoolExecutor(size, mp_context=context, initializer=_begin_worker, initargs=(messages,)) as pool:
        try:
            # inherited by the workers: Ctrl-C reaches them too, and we answer for all
            with _deaf_to_interrupts(), _environment(dict.fromkeys(_THREADS, str(threads))):
                futures: list[Future[Any]] = [pool.submit(_call, function, job) for job in jobs]
            while not all(future.done() for future in futures):
                _forward(messages, report)
                for future in futures:
                    if future.done():
                        future.result()  # raises what the call raised
            _forward(messages, report)
        except BaseException as error:
            pool.shutdown(wait=False, cancel_futures=True)
            for child in multiprocessing.active_children():
                if child not in others:  # leaving the pool waits for calls that nobody wants any more
                    child.kill()  # a Trainer would take its time over a SIGTERM
            if isinstance(error, BrokenProcessPool):
                raise DiffalError("A run was killed, most likely for lack of memory: try --workers 1.") from None
            raise
        return [future.result() for future in futures]


# Read once, when the libraries load, so that a process cannot set them for itself.
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")

_messages: Any = None


def _begin_worker(messages: Any) -> None:
    global _messages
    _messages = messages
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker whose parent was killed would work through all that is left to do, for nobody."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _call(function: Callable[..., Any], job: tuple[Any, ...]) -> Any:
    return function(*job, _messages.put)


def _forward(messages: Any, report: Callable[[Any], object]) -> None:
    """Hand on what has arrived, until nothing has for a moment."""
    try:
        while True:
            report(messages.get(timeout=0.2))
    except queue.Empty:
        return


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # only there may handlers be set
        yield
        return
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
