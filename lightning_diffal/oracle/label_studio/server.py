"""One project on a Label Studio server, through its official SDK."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

from lightning_diffal.exceptions import ConfigurationError, DiffalError, ServerError
from lightning_diffal.oracle.label_studio.answers import AnnotatedTask, read_tasks, refuse
from lightning_diffal.oracle.label_studio.tasks import ID
from lightning_diffal.utils.extras import require

__all__ = ["LabelStudioServer", "checked_url"]

Answer = TypeVar("Answer")

_EXTRA = "label-studio"
_TIMEOUT = 60.0  # seconds for one request
_PAGE = 200  # tasks in one answer: the server takes 3 ms for each
_QUERY = 3000  # characters of one filter, which travels in the address: servers refuse more than about 8,000
_IMPORT = 500  # tasks in one import
_OVERLAP = 60  # seconds before the last change seen: a slower request may have been stamped earlier
_PATIENCE = 60.0  # seconds until imported tasks have to be there, on servers that import in the background


class LabelStudioServer:
    """Imports tasks into a project, once each, and reads what was annotated.

    The key is read from the environment when it is needed and is kept nowhere.

    Args:
        url: of the server.
        project: number, or title.
        key_env: name of the environment variable that holds the key.
        from_name: name of the choices in the project's configuration.
    """

    def __init__(self, url: str, project: int | str, key_env: str, from_name: str) -> None:
        self.url, self.project, self.key_env, self.from_name = url, project, key_env, from_name
        self.number: int | None = project if isinstance(project, int) else None
        self._seen: dict[tuple[str, str], AnnotatedTask] = {}
        self._since: float | None = None

    def __str__(self) -> str:
        name = repr(self.project) if self.number is None else f"{self.number}"
        title = f" ({self.project!r})" if isinstance(self.project, str) and self.number is not None else ""
        return f"Label Studio project {name}{title} at {self.url}"

    def open(self, config: str | None, names: Sequence[str], to_name: str | None) -> str:
        """Find the project and look whether its choices are the classes.

        Args:
            config: for a project that has to be made; `None` where nothing is known of what it is to show.
            names: of the classes.
            to_name: name of what is shown; `None`: whatever the choices belong to.

        Returns:
            The name of what is shown.

        Raises:
            ConfigurationError: no such project, or one that asks for something else.
            ServerError: the server does not answer, or refuses.
        """
        self.number = self._ask(lambda client: self._find(client, config))
        controls = self._ask(lambda client: client.projects.get(self.number).parsed_label_config)
        control = controls.get(self.from_name) if isinstance(controls, Mapping) else None
        if not isinstance(control, Mapping) or control.get("type") != "Choices":
            raise ConfigurationError(
                f"{self} has no `<Choices name={self.from_name!r}>` in its labelling interface, but "
                f"{sorted(controls or ())}: give its name as `from_name`, or paste what "
                "`lightning_diffal.oracle.label_config(class_names)` returns into the project's settings."
            )
        offered = [str(label) for label in control.get("labels", ())]
        if set(offered) != set(names):
            raise ConfigurationError(
                f"{self} offers the choices {offered}, but the classes are {list(names)}: give `class_names` as they "
                "stand there, or correct the project's labelling interface."
            )
        shown = [str(name) for name in control.get("to_name", ())]
        if to_name is not None and to_name not in shown:
            raise ConfigurationError(f"{self} has choices for {shown}, but `to_name` is {to_name!r}.")
        return to_name or shown[0]

    def _find(self, client: Any, config: str | None) -> int:
        if isinstance(self.project, int):
            return self.project
        same = [found.id for found in client.projects.list(title=self.project) if found.title == self.project]
        if len(same) > 1:
            raise ConfigurationError(
                f"{len(same)} projects at {self.url} are called {self.project!r}: give a number as `project`, "
                f"out of {sorted(same)}."
            )
        if same:
            return int(same[0])
        if config is None:
            raise ConfigurationError(
                f"There is no project {self.project!r} at {self.url}, and what it is to show is neither an image nor a "
                "text: make it there, with the labelling interface that you want."
            )
        return int(client.projects.create(title=self.project, label_config=config).id)

    def missing(self, ids: Sequence[str]) -> list[str]:
        """Those of the ids that no task of the project has, in their order."""
        there: set[str] = set()
        for part in _parts(ids):
            listed = self._list([_filter(f"data.{ID}", "in_list", "List", part)], fields="task_only")
            there |= {str(task["data"].get(ID)) for task in listed}
        return [id_ for id_ in ids if id_ not in there]

    def add(self, tasks: Sequence[Mapping[str, Any]]) -> None:
        """Import tasks, in this order, and wait until they are there.

        Raises:
            ServerError: the server does not answer, or refuses.
        """
        for start in range(0, len(tasks), _IMPORT):
            part = list(tasks[start : start + _IMPORT])
            self._ask(lambda client, part=part: client.projects.import_tasks(self.number, request=part))  # type: ignore[misc]
        ids = [str(task["data"][ID]) for task in tasks]
        deadline = time.monotonic() + _PATIENCE
        while missing := self.missing(ids):
            if time.monotonic() > deadline:
                raise ServerError(f"{self} took {len(ids)} tasks, but {len(missing)} of them are not there.")
            time.sleep(1.0)

    def annotated(self) -> list[AnnotatedTask]:
        """All tasks of the project that somebody annotated or skipped; only what has changed is read again.

        Raises:
            AnswerFileError: something that is not a task of Label Studio.
            ServerError: the server does not answer, or refuses.
        """
        if self._since is None:
            counts = ("total_annotations", "cancelled_annotations")
            filters = [_filter(count, "greater", "Number", 0) for count in counts]
        else:
            since = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(self._since - _OVERLAP))
            filters = [_filter("updated_at", "greater", "Datetime", since)]
        tasks, problems = read_tasks(self._list(filters, fields="all"), str(self), self.from_name)
        refuse(problems)
        for task in tasks:
            self._seen[task.key] = task
            self._since = max(self._since or 0.0, task.updated.timestamp())
        return list(self._seen.values())

    def _list(self, filters: list[dict[str, Any]], fields: str) -> list[Any]:
        query = json.dumps({"filters": {"conjunction": "or", "items": filters}})
        wanted = {"project": self.number, "query": query, "fields": fields, "page_size": _PAGE}
        return self._ask(lambda client: [_plain(task) for task in client.tasks.list(**wanted)])

    def _ask(self, action: Callable[[Any], Answer]) -> Answer:
        """Do something with a client. Whatever goes wrong becomes one line, which never holds the key.

        The SDK's own errors are not passed on, not even as context: they quote headers, and session cookies with them.
        """
        sdk, httpx = require("label_studio_sdk", extra=_EXTRA), require("httpx", extra=_EXTRA)
        api_error = require("label_studio_sdk.core.api_error", extra=_EXTRA).ApiError
        key = _key(self.key_env)
        try:
            with httpx.Client(timeout=_TIMEOUT, follow_redirects=True) as connection:
                return action(sdk.LabelStudio(base_url=self.url, api_key=key, httpx_client=connection))
        except api_error as error:
            what = _of_status(error.status_code, _detail(error.body), self.key_env)
        except httpx.HTTPError as error:
            what = f"cannot be reached ({error}): is it running, and is `url` right?"
        except DiffalError:
            raise
        except (ValueError, TypeError, AttributeError) as error:
            what = f"answered what a Label Studio server would not ({type(error).__name__}): is `url` right?"
        line = " ".join(f"{self}: {what}".split()).replace(key, "***")
        raise ServerError(f"{line} Nothing is lost: the next fit goes on from here.")


def checked_url(url: Any) -> str:
    """The address of a server, without anything secret in it.

    Raises:
        ConfigurationError: no address of a server, or one with a name and password, which would be shown.

    Example:
        >>> checked_url("http://localhost:8080/")
        'http://localhost:8080'
    """
    try:
        parts = urlsplit(url if isinstance(url, str) else "")
        is_web = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        parts, is_web = urlsplit(""), False
    if "@" in parts.netloc or parts.query or parts.fragment:  # first, since the other message shows what came
        raise ConfigurationError(
            "Expected argument `url` to hold the server's address only, but it has a user, a password or a query: the "
            "key belongs into the environment."
        )
    if not is_web:
        raise ConfigurationError(
            f"Expected argument `url` to be an address like 'http://localhost:8080', but got {url!r}."
        )
    return str(url).rstrip("/")


def _key(name: str) -> str:
    key = os.environ.get(name, "").strip()
    if not key:
        raise ConfigurationError(
            f"The environment variable {name} holds no key for Label Studio: take one from Account & Settings there, "
            f"and set it before this script runs (export {name}=...)."
        )
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigurationError(
            f"The environment variable {name} does not hold a key of Label Studio, but other text."
        )
    return key


def _of_status(status: int | None, detail: str, key_env: str) -> str:
    if status in (401, 403):
        return (
            f"refused the key in {key_env} ({status} {detail}): take a new one from Account & Settings there. A legacy "
            "token works only where the organization allows it; a personal access token always does."
        )
    if status == 404:
        return f"not found (404 {detail}): was it deleted, does the key belong to another organization, is `url` right?"
    return f"refused ({status} {detail})."


def _detail(body: Any) -> str:
    """What the server says, without the pages of HTML that other servers answer with."""
    if not isinstance(body, Mapping):
        return "" if body is None or "<" in str(body) else str(body)[:200]
    more = body.get("validation_errors")
    return f"{body.get('detail', '')}{f' {more}' if more else ''}"[:400].strip()


def _filter(column: str, operator: str, kind: str, value: Any) -> dict[str, Any]:
    return {"filter": f"filter:tasks:{column}", "operator": operator, "type": kind, "value": value}


def _parts(ids: Sequence[str]) -> Iterator[list[str]]:
    """The ids in parts that fit into an address."""
    part: list[str] = []
    length = 0
    for id_ in ids:
        size = len(quote(json.dumps(id_))) + 8
        if part and length + size > _QUERY:
            yield part
            part, length = [], 0
        part.append(id_)
        length += size
    if part:
        yield part


def _plain(task: Any) -> Any:
    """A task as the JSON that came: the SDK wraps it into classes that differ with the user's role."""
    return task.model_dump(warnings=False) if hasattr(task, "model_dump") else task
