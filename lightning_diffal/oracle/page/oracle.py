"""`PageOracle`: people label on a page in the browser while the training waits, or goes on."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_diffal._lightning import rank_zero_warn
from lightning_diffal.exceptions import AnswerFileError, ConfigurationError, InvalidTypeError
from lightning_diffal.oracle.base import SKIP, Oracle, Question
from lightning_diffal.oracle.page.answers import Event
from lightning_diffal.oracle.page.board import RunBoard
from lightning_diffal.oracle.page.cards import PROGRESS, PROJECT, CardWriter, key_of, write_json
from lightning_diffal.oracle.page.kept_media import bound_media
from lightning_diffal.oracle.page.log import FILENAME, AnswerLog
from lightning_diffal.oracle.page.server import PageServer, exposure, is_loopback
from lightning_diffal.oracle.page.source import make_card
from lightning_diffal.utils.aliases import IntArray
from lightning_diffal.utils.arguments import check_waiting
from lightning_diffal.utils.extras import require
from lightning_diffal.view import show_point

if TYPE_CHECKING:
    from lightning_diffal.data.datamodule import ActiveDataModule

__all__ = ["FOLDER", "PageOracle"]

FOLDER = "label"
"""Where a run and its page meet, in the folder of the run."""

_SELDOM = 1.0  # seconds between two notes on the same stage


class PageOracle(Oracle):
    """People label on a page in their browser, which the training serves (`pip install "lightning-diffal[label]"`).

    The page's address is printed on a line of its own, with a token that lets in whoever opens it; afterwards a cookie
    does. It shows each item with the sampler's suggestion, why it was asked, and the nearest labelled example, and
    takes keys, clicks and touch. While the model trains it says how far that is, and the next items appear by
    themselves. Several people may label at once: each gets items of their own, and two different answers to one item
    are shown as a conflict, which counts as no answer until somebody settles it.

    Every answer is on disk, in `label/answers.jsonl` in the folder of the run, before the page says that it is saved.
    If the training or the server is killed, start it again with the same `run_dir`: address and token stay the same,
    open pages find it again and send what they had kept. `diffal label RUN_DIR` serves the same page without training.
    A label that is changed after it was used is a correction.

    Where the data module says more `num_classes` than `class_names`, and the model has as many outputs, people may add
    classes on the page; else it says why not. Pictures of answered items are kept smaller once all pictures together
    take up a gigabyte.

    Args:
        host: to serve at. Anything but this machine's own `"127.0.0.1"` lets others on the network in, who then need
            the token only; the connection is not encrypted, so that needs a trusted network or a proxy.
        port: 0: any that is free, and after a restart the same one.
        open_browser: open the page when the run begins. On a machine without a screen, forward the port instead:
            `ssh -L PORT:127.0.0.1:PORT machine`.
        suggest: show the suggestion before the answer. `False`: only afterwards, so that it cannot lead anyone.
        title: of the page. Default: the name of the run's folder.
        multilabel: whether an item may have several classes, or none. Default: as the known labels are.
        timeout: seconds to wait in place for answers. `None`: for ever. 0: the fit ends and waits for the next one,
            and the page is gone with the process.
        poll_seconds: how long to wait between two looks at the answers.

    Raises:
        ConfigurationError: an argument out of range.
        InvalidTypeError: an argument of the wrong kind.

    Example:
        >>> PageOracle(open_browser=False)
        PageOracle(host='127.0.0.1', port=0)
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        open_browser: bool = True,
        *,
        suggest: bool = True,
        title: str | None = None,
        multilabel: bool | None = None,
        timeout: float | None = None,
        poll_seconds: float = 1.0,
    ) -> None:
        if not isinstance(host, str) or not host:
            raise InvalidTypeError(f"Expected argument `host` to be a name or address, but got {host!r}.")
        if isinstance(port, bool) or not isinstance(port, int) or not 0 <= port <= 65535:
            raise ConfigurationError(f"Expected argument `port` to be an integer from 0 to 65535, but got {port!r}.")
        check_waiting(timeout, poll_seconds)
        self.host, self.port, self.opens_browser = host, port, bool(open_browser)
        self.suggest, self.title, self.multilabel = bool(suggest), title, multilabel
        self.timeout, self.poll_seconds = timeout, poll_seconds
        self._forget()

    def _forget(self) -> None:
        self._folder: Path | None = None
        self._log: AnswerLog | None = None
        self._server: PageServer | None = None
        self._n_classes = 0
        self._n_named = 0
        self._several = False
        self._told: set[str] = set()
        self._stage = ""
        self._noted = float("-inf")

    def __getstate__(self) -> dict[str, Any]:
        gone = PageOracle.__new__(PageOracle)  # a server belongs to one process
        gone._forget()
        return {**vars(self), **vars(gone)}

    def __repr__(self) -> str:
        return f"{type(self).__name__}(host={self.host!r}, port={self.port})"

    @property
    def address(self) -> str | None:
        """Where the page is served, with its token; `None` before a fit has begun."""
        return None if self._server is None else self._server.address

    # ---------------------------------------------------------------------------------------------------- hooks

    def prepare(self, data: ActiveDataModule, folder: Path | None, run_id: str | None) -> None:
        """Refuse what cannot be shown, serve the page, and print its address.

        Args:
            data: whose points will be asked.
            folder: of the run.
            run_id: of the run's journal.

        Raises:
            ConfigurationError: no folder, no known classes, an item that cannot be shown, or another run's page.
        """
        if folder is None or run_id is None:
            raise ConfigurationError(
                "PageOracle keeps every answer in the folder of the run, but `run_dir=False` keeps none: give a "
                "`run_dir`, or leave it out."
            )
        for module in ("PIL", "starlette", "uvicorn"):
            require(module, extra="label")
        names, limit = _class_names(data)
        several = data.pool.is_multilabel if self.multilabel is None else self.multilabel
        _ = show_point(data, 0).thumbnail(64)  # refuses what cannot be shown, before anything trains
        place = folder / FOLDER
        project = {
            "run": run_id,
            "title": self.title or folder.name,
            "classes": names,
            "num_classes": limit,
            "multilabel": several,
            "suggest": self.suggest,
            "reason": f"The model of this run has outputs for {limit} classes only. For another class, begin a new run "
            "with it in `class_names`, or with a larger `num_classes`; its labels can be taken along as "
            "`initial_labels`.",
        }
        project["classes"] = begun = _check_project(place, project)
        if self._folder != place:
            self._close()
            write_json(place / PROJECT, project)
            self._folder, self._log = place, AnswerLog(place / FILENAME)
            self._n_classes, self._several = limit, several
            self._n_named = len(begun)
            self._serve(place)

    def _serve(self, place: Path) -> None:
        server = PageServer(RunBoard(place), self.host, self.port)
        serves = server.start()
        self._server = server
        if serves and not is_loopback(self.host):
            rank_zero_warn(exposure(self.host))
        before = "Label here:" if serves else "Another process serves this run's page already:"
        print(f"\n{before}\n{server.address}\n", flush=True)  # noqa: T201  # on a line of its own, wherever logs go
        if serves and self.opens_browser:
            server.open_browser()

    def _close(self) -> None:
        if self._server is not None:
            self._server.stop()
        self._forget()

    def close(self) -> None:
        """Stop serving the page. The answers stay in the folder of the run."""
        self._close()

    def ask(self, question: Question, data: ActiveDataModule) -> None:
        """Put those of the open points on the page that are not there yet.

        Args:
            question: what is open, and why.
            data: gives items, ids and labels.
        """
        writer = CardWriter(self._place)
        ids = {index: data.pool.id_of(index) for index in question.indices.tolist()}
        new = [index for index, id_ in ids.items() if key_of(id_) not in writer.known]
        writer.add([make_card(index, question, data, writer) for index in new])
        bound_media(self._place, {key_of(id_) for id_ in ids.values()})

    def answer(self, indices: IntArray, data: ActiveDataModule) -> Mapping[int, Any]:
        """What people said of the points that are open; those in conflict stay open.

        Args:
            indices: `(b,)` positions of the open points.
            data: gives ids and classes.

        Raises:
            AnswerFileError: the file of answers was damaged or changed by hand.
        """
        self._read(data)
        return self._found(indices.tolist(), data)

    def corrections(self, data: ActiveDataModule) -> Mapping[int, Any]:
        """Labels that were changed after they had been used, and labels of points that had been skipped.

        Args:
            data: knows what was labelled since the run began.

        Raises:
            AnswerFileError: the file of answers was damaged or changed by hand.
        """
        self._read(data)
        pool = data.pool
        labelled = pool.labelled_indices
        bought = labelled[pool.rounds_of(labelled) > 0]
        now = pool.labels_of(bought)
        found = self._found([*bought.tolist(), *pool.skipped_indices.tolist()], data)
        kept = {pool.id_of(i) for i, value in found.items() if value is SKIP and i in now} - self._told
        if kept:
            self._told |= kept
            rank_zero_warn(
                f"Somebody now says of {len(kept)} items that nobody can tell, after their labels were used: "
                f"{', '.join(sorted(kept)[:5])}. They keep their labels, which can only be replaced by others."
            )
        return {i: value for i, value in found.items() if value is not SKIP and value != now.get(i)}

    def follow(self, stage: str, news: Callable[[], Mapping[str, Any]]) -> None:
        """Tell the page what the run is doing, at most once per second for the same stage."""
        now = time.monotonic()
        if self._folder is None or (stage == self._stage and now - self._noted < _SELDOM):
            return
        self._stage, self._noted = stage, now
        write_json(self._folder / PROGRESS, {**news(), "stage": stage, "pid": os.getpid(), "time": time.time()})

    def whereabouts(self) -> str | None:
        """The page's address."""
        return None if self._server is None else f"the labelling page at {self._server.address}"

    # -------------------------------------------------------------------------------------------------- helpers

    @property
    def _place(self) -> Path:
        if self._folder is None:
            raise ConfigurationError("PageOracle has no page yet: it is served when a fit begins.")
        return self._folder

    def _read(self, data: ActiveDataModule) -> None:
        """What was said since, and the names of classes that were added."""
        _ = self._place
        assert self._log is not None, "made with the folder"
        self._log.read()
        for place, name in enumerate(self._log.answers.classes, start=self._n_named):
            if isinstance(data.class_names, list) and place < len(data.class_names):
                data.class_names[place] = name

    def _found(self, indices: list[int], data: ActiveDataModule) -> dict[int, Any]:
        assert self._log is not None, "read before"
        points = self._log.answers.points
        found: dict[int, Any] = {}
        for index in indices:
            point = points.get(key_of(data.pool.id_of(index)))
            if point is None or point.status in ("open", "conflict"):
                continue
            found[index] = SKIP if point.label is None else self._label(point.label, index, data)
        return found

    def _label(self, classes: tuple[int, ...], index: int, data: ActiveDataModule) -> Any:
        if any(c >= self._n_classes for c in classes) or (not self._several and len(classes) != 1):
            raise AnswerFileError(
                f"{self._place / FILENAME} says {list(classes)} of point {data.pool.id_of(index)!r}, which is not a "
                "label here: was it changed by hand? Nothing was applied."
            )
        return tuple(int(c in classes) for c in range(self._n_classes)) if self._several else classes[0]


def _class_names(data: ActiveDataModule) -> tuple[list[str], int]:
    """Names of the classes that have one, and how many there may be."""
    if data.class_names is not None:
        return [str(name) for name in data.class_names[: data.n_named]], len(data.class_names)
    if data.num_classes is None:
        raise ConfigurationError(
            "The labelling page needs the names of the classes: give `ActiveDataModule(class_names=...)`."
        )
    return [str(number) for number in range(data.num_classes)], data.num_classes


def _check_project(place: Path, project: Event) -> list[str]:
    """A page is one run's, and its answers name classes by their place. Returns the names with which it was begun."""
    names: list[str] = project["classes"]
    try:
        before = json.loads((place / PROJECT).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return names
    except ValueError:
        before = {}
    if before.get("run") != project["run"]:
        raise ConfigurationError(
            f"{place} holds the page of run {before.get('run')}, and this is run {project['run']}: give another "
            "`run_dir`, or that of this run."
        )
    if before.get("classes") != names:
        log = AnswerLog(place / FILENAME)
        log.read()
        known = [*before.get("classes", []), *log.answers.classes]
        if len(names) >= len(before.get("classes", [])) and known[: len(names)] == names:
            return list(before["classes"])  # classes that were added on the page are among the names now
    for name in ("classes", "multilabel"):
        if before.get(name) != project[name]:
            raise ConfigurationError(
                f"People labelled in {place} with {name}={before.get(name)}, but now it is {project[name]}: go on with "
                "what the run began with, or begin a new one."
            )
    return names
