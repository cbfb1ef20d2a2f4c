"""`LabelStudioOracle`: people label in Label Studio, through files or a running server."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lightning_diffal._lightning import rank_zero_warn
from lightning_diffal.exceptions import ConfigurationError, InvalidTypeError
from lightning_diffal.labels.ids import find_ids
from lightning_diffal.labels.marks import PENDING, SKIP
from lightning_diffal.oracle.base import Oracle, Question
from lightning_diffal.oracle.label_studio import answers as answers
from lightning_diffal.oracle.label_studio.folder import LabelStudioFolder
from lightning_diffal.oracle.label_studio.server import LabelStudioServer, checked_url
from lightning_diffal.oracle.label_studio.tasks import (
    ID,
    Suggest,
    content_digest,
    default_task_data,
    label_config,
    label_names,
    make_task,
    to_name_of,
)
from lightning_diffal.utils.aliases import IntArray
from lightning_diffal.utils.arguments import check_choice, check_waiting
from lightning_diffal.utils.storage.files import check_writable
from lightning_diffal.view import show_point

if TYPE_CHECKING:
    from lightning_diffal.data.datamodule import ActiveDataModule

__all__ = ["LabelStudioOracle"]


class LabelStudioOracle(Oracle):
    """People label in [Label Studio](https://labelstud.io), with the sampler's guess as a prediction.

    A project shows the predictions of one model version; where it has seen others, choose `lightning-diffal` in its
    settings.

    **Through files**, without `url`: each query is written as `tasks-round-NNN.json` into `folder`, for Label Studio's
    Import, and `label_config.xml` beside it, for the project's labelling interface. Put the project's exports, as JSON
    or JSON-MIN, into `exports/` in that folder, under any names: of a task in several exports the version that changed
    last counts. JSON-MIN holds neither skips nor ground truths: skipped tasks stay open.

    **Through a server**, with `url` and `project`: tasks are imported and answers read through Label Studio's SDK
    (`pip install "lightning-diffal[label-studio]"`). A task is known by the point's stable id and imported once,
    however often a script runs or is killed; labels that the project holds already are taken over. Keep one project
    for one data set.

    Skipped tasks are skipped. A label that somebody changes after it was used is a correction. Where several people
    labelled a task, a ground truth goes first; else the last annotation of each counts, and the label of more than
    half of them is taken. Where none has a majority the point stays open, and a warning names it.

    **What leaves this machine**, when you import the files or give a `url`: for each point asked what `task_data`
    returns, its id (positions, or relative paths for image folders), a short digest of its content where the id is a
    position, the round, the sampler's figures on it, the suggested label, and id and label of the nearest labelled
    point; without `task_data` also that point's text or table. No other label, no file and no
    weight is sent.

    **The key** of the server is read from the environment when it is needed, and is kept nowhere. Both kinds do:
    personal access tokens, and legacy tokens where the organization allows them.

    **Images**: Label Studio's page loads them in the labeller's browser, so it needs addresses: web addresses, or
    paths below the folder that Label Studio serves (`LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true`,
    `LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT=/data`, and a Local Files source storage in the project):
    `task_data=lambda index, item, id: {"image": f"/data/local-files/?d=photos/{id}"}`.

    Args:
        folder: for files. Default: `label_studio` in the folder of the run.
        url: of a server, such as `"http://localhost:8080"`.
        project: its number there, or its title; a title that does not exist is made, with choices for all classes.
        from_name: name of the choices in the project's labelling interface.
        to_name: name of what they are about. Default: what the project says; in files `"image"` or `"text"`.
        task_data: `task_data(index, item, id)` returns what is shown of an item, as a dict. Default: what the view of
            the data module shows, where it has one; else its text, path or address, or the plain fields of a dict,
            without its label; else what `ItemView` shows: images, tables and recordings travel inside the task.
        multilabel: whether a point may have several classes, or none. Default: as the known labels are.
        suggest: `"ticked"`: the suggested label is a prediction, which Label Studio ticks beforehand: fast, but people
            tend to agree with what is ticked. `"shown"`: it stands beside the choices, and nothing is ticked.
            `"hidden"`: nobody sees it while they label.
        api_key_env: the environment variable that holds the key.
        timeout: seconds for which a fit waits in place for answers. 0: not at all, and it ends with its state saved.
            `None`: for ever.
        poll_seconds: how long to wait between two looks, which cost the server two short requests each.

    Raises:
        ConfigurationError: arguments that do not go together.
        InvalidTypeError: an argument of the wrong kind.

    Example:
        >>> import json, tempfile
        >>> from lightning_diffal import ActiveDataModule, Query
        >>> data = ActiveDataModule(["fine", "bad", "so so"], initial_labels={0: 1}, class_names=["no", "yes"])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     oracle = LabelStudioOracle(folder)
        ...     oracle.ask(Question(Query([2], [0.5]), np.array([2]), round=0, run_id=None), data)
        ...     task, = json.loads(Path(folder, "tasks-round-000.json").read_text())
        ...     task["annotations"] = [{"result": [{"type": "choices", "from_name": "label",
        ...                                         "value": {"choices": ["yes"]}}]}]
        ...     _ = Path(folder, "exports", "project-1.json").write_text(json.dumps([task]))
        ...     oracle.answer(np.array([2]), data)
        {2: 1}
    """

    def __init__(
        self,
        folder: str | PathLike[str] | None = None,
        *,
        url: str | None = None,
        project: int | str | None = None,
        from_name: str = "label",
        to_name: str | None = None,
        task_data: Callable[[int, Any, str], Mapping[str, Any]] | None = None,
        multilabel: bool | None = None,
        suggest: Suggest = "ticked",
        api_key_env: str = "LABEL_STUDIO_API_KEY",
        timeout: float | None = 0.0,
        poll_seconds: float = 5.0,
    ) -> None:
        if (url is None) != (project is None) or (url is not None and folder is not None):
            raise ConfigurationError(
                "Expected `url` and `project` together, for a server, or neither of them, for files in `folder`; "
                f"but got folder={folder!r}, project={project!r} and {'no' if url is None else 'a'} url."
            )
        if folder is not None and not isinstance(folder, str | PathLike):
            raise InvalidTypeError(f"Expected argument `folder` to be a path or None, but got {folder!r}.")
        if isinstance(project, bool) or not isinstance(project, int | str | None) or project == "":
            raise InvalidTypeError(f"Expected argument `project` to be a number or a title, but got {project!r}.")
        if task_data is not None and not callable(task_data):
            raise InvalidTypeError(f"Expected argument `task_data` to be a function, but got {task_data!r}.")
        check_choice("suggest", suggest, ("ticked", "shown", "hidden"))
        check_waiting(timeout, poll_seconds)
        self.suggest: Suggest = suggest
        self.from_name, self.to_name, self.task_data, self.multilabel = from_name, to_name, task_data, multilabel
        self.timeout, self.poll_seconds = timeout, poll_seconds
        self._place: LabelStudioFolder | LabelStudioServer | None = None
        self._has_own_place = url is not None or folder is not None
        if url is not None and project is not None:
            self._place = LabelStudioServer(checked_url(url), project, api_key_env, from_name)
        elif folder is not None:
            self._place = LabelStudioFolder(Path(folder), from_name)
        self._told: set[str] = set()
        self._latest: dict[str, list[answers.AnnotatedTask]] = {}

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self._place or 'files in the folder of the run'}>"

    # ---------------------------------------------------------------------------------------------------- hooks

    def prepare(self, data: ActiveDataModule, folder: Path | None, run_id: str | None) -> None:
        """Choose the folder, or look whether the server, the key and the project are what is needed.

        Args:
            data: whose points will be asked.
            folder: of the run; `None` where it writes nothing.
            run_id: of the run's journal.

        Raises:
            ConfigurationError: no folder, no key, no such project, or one that asks for something else.
            ServerError: the server does not answer.
            StorageError: a folder that cannot be written to.
        """
        names, config = label_names(data), self._config(self._fields(0, data), data)  # refuses what cannot be shown
        if isinstance(self._place, LabelStudioServer):
            self.to_name = self._place.open(config, names, self.to_name)
        elif not self._has_own_place:
            if folder is None:
                raise ConfigurationError(
                    "This run writes nothing (`run_dir=False`), so `LabelStudioOracle` needs a `folder` for its files."
                )
            place = folder / "label_studio"
            if not isinstance(self._place, LabelStudioFolder) or self._place.path != place:  # another run's
                self._place = LabelStudioFolder(place, self.from_name)
                self._told, self._latest = set(), {}
        if isinstance(self._place, LabelStudioFolder):
            check_writable(self._place.path, "LabelStudioOracle(folder=...)")

    def ask(self, question: Question, data: ActiveDataModule) -> None:
        """Give Label Studio those of the open points that it does not have yet.

        Args:
            question: what is open, and why.
            data: gives items and ids.

        Raises:
            ConfigurationError: `task_data` gave something that Label Studio cannot show.
            ServerError: the server does not answer.
        """
        place = self._known_place()
        open_points = {data.pool.id_of(index): index for index in question.indices.tolist()}
        tasks = self._tasks([open_points[id_] for id_ in place.missing(list(open_points))], question, data)
        if isinstance(place, LabelStudioServer):
            place.add(tasks)
        elif tasks:
            place.add(tasks, question.round, self._config(tasks[0]["data"], data))

    def answer(self, indices: IntArray, data: ActiveDataModule) -> Mapping[int, Any]:
        """Labels of the points that somebody labelled, `SKIP` for those that nobody could.

        Args:
            indices: `(b,)` positions of the open points.
            data: gives ids and class names.

        Raises:
            AnswerFileError: an annotation that cannot be understood; names file, task and reason.
            ServerError: the server does not answer.
        """
        found = self._verdicts(indices, data)
        self._refuse_strangers(list(found), data)
        return found

    def corrections(self, data: ActiveDataModule) -> Mapping[int, Any]:
        """Labels that were changed after they had been used, and labels of points that had been skipped.

        Args:
            data: knows what was labelled since the run began.

        Raises:
            AnswerFileError: an annotation that cannot be understood; names file, task and reason.
            ServerError: the server does not answer.
        """
        pool = data.pool
        labelled = pool.labelled_indices
        bought = labelled[pool.rounds_of(labelled) > 0]
        found = self._verdicts(np.concatenate([bought, pool.skipped_indices]), data)
        now = pool.labels_of(bought)
        self._tell_once(
            [repr(pool.id_of(i)) for i in found if i in now and found[i] is SKIP],
            "Label Studio now says of {} points that nobody can tell, after their labels were used: {}. They stay as "
            "they are, since a label can only be replaced by another one.",
        )
        changed = {i: label for i, label in found.items() if label is not SKIP and label != now.get(i)}
        self._refuse_strangers(list(changed), data)
        return changed

    def whereabouts(self) -> str:
        """The project, or the files."""
        return str(self._place)

    # -------------------------------------------------------------------------------------------------- helpers

    def _known_place(self) -> LabelStudioFolder | LabelStudioServer:
        if self._place is None:
            raise ConfigurationError("`LabelStudioOracle` has no `folder` yet: give it one, or use it in a fit.")
        return self._place

    def _fields(self, index: int, data: ActiveDataModule) -> Mapping[str, Any]:
        item, id_ = data.pool_item(index), data.pool.id_of(index)
        if self.task_data is not None:
            return self.task_data(index, item, id_)
        if data.view is not None:
            return show_point(data, index).to_task_data()
        try:
            return default_task_data(index, item, id_, data.target)
        except ConfigurationError as error:
            try:
                return show_point(data, index).to_task_data()
            except ConfigurationError:
                raise error from None

    def _tasks(self, indices: Iterable[int], question: Question, data: ActiveDataModule) -> list[dict[str, Any]]:
        return [
            make_task(
                i,
                self._fields(i, data),
                question,
                data,
                from_name=self.from_name,
                to_name=self.to_name,
                suggest=self.suggest,
                examples=self.task_data is None,
            )
            for i in indices
        ]

    def _config(self, fields: Mapping[str, Any], data: ActiveDataModule) -> str | None:
        """A labelling configuration for what is shown, where that is of a known kind."""
        kind: Any = to_name_of(fields)
        if kind not in ("image", "text", "audio", "table"):
            return None
        return label_config(
            label_names(data),
            kind,
            from_name=self.from_name,
            to_name=self.to_name,
            multilabel=self._has_several(data),
        )

    def _has_several(self, data: ActiveDataModule) -> bool:
        return data.pool.is_multilabel if self.multilabel is None else self.multilabel

    def _verdicts(self, indices: IntArray, data: ActiveDataModule) -> dict[int, Any]:
        """What the annotations amount to, by index; without points of which nothing can be said yet."""
        if not len(indices):
            return {}
        tasks = self._annotated(data)
        names, several, found = label_names(data), self._has_several(data), {}
        problems, disputed = [], []
        for index in indices.tolist():
            own = tasks.get(data.pool.id_of(index), [])
            try:
                label = answers.verdict(own, names, multilabel=several)
            except answers.MalformedError as error:
                problems.append(str(error))
                continue
            if label is answers.DISPUTED:
                disputed.append(f"{data.pool.id_of(index)!r} ({own[0].where})")
            elif label is not PENDING:
                found[index] = label
        answers.refuse(problems)
        self._tell_once(
            disputed,
            "The annotators of {} points do not agree: {}. Nothing changes there until more than half of them say the "
            "same, or one annotation is marked as ground truth.",
        )
        return found

    def _annotated(self, data: ActiveDataModule) -> dict[str, list[answers.AnnotatedTask]]:
        """Annotated tasks by our id. A project may hold tasks that are not ours; what was put into a folder may not."""
        place = self._known_place()
        tasks = _found(place.annotated(), data)
        if isinstance(place, LabelStudioFolder):
            ids = data.pool.ids
            known = {str(index) for index in range(len(data.pool))} if ids is None else set(ids)
            problems = [
                f"{task.where} has no `{ID}` in its data: it is not a task that was written here"
                if task.id is None
                else f"{task.where} has the id {task.id!r}, which no point of this data set has"
                for task in tasks
                if task.id not in known
            ]
            answers.refuse(problems)
        self._latest = answers.latest(tasks)
        return self._latest

    def _refuse_strangers(self, indices: list[int], data: ActiveDataModule) -> None:
        """Refuse tasks that have a point's number as their id, but were made of another data set's item."""
        problems = []
        for index in indices:
            own = [task for task in self._latest[data.pool.id_of(index)] if task.content is not None]
            content = content_digest(data, index) if own else None
            problems += [
                f"{task.where} has the id {task.id!r}, but was made of another item than point {index} is: a project "
                "serves one data set"
                for task in own
                if content is not None and task.content != content
            ]
        answers.refuse(problems)

    def _tell_once(self, points: list[str], words: str) -> None:
        """Warn of points, of each once."""
        new = [point for point in points if point not in self._told]
        self._told |= set(new)
        if new:
            rank_zero_warn(words.format(len(new), f"{', '.join(new[:5])}{', ...' if new[5:] else ''}"))


def _found(tasks: list[answers.AnnotatedTask], data: ActiveDataModule) -> list[answers.AnnotatedTask]:
    """The tasks with the ids of points as the data set writes them, in whatever Unicode composition they came back."""
    ids = data.pool.ids
    if ids is None:
        return tasks
    found, _ = find_ids([task.id for task in tasks if task.id is not None], ids)
    return [
        replace(task, id=ids[found[task.id]]) if task.id is not None and task.id in found else task for task in tasks
    ]
