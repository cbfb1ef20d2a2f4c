"""As much of Label Studio's SDK as `LabelStudioOracle` uses, with the server in memory.

What it answers was written down from Label Studio 1.23.2 (`label_studio_server.py`).
"""

import datetime
import itertools
import json
import sys
from types import ModuleType, SimpleNamespace
from xml.etree import ElementTree


class ApiError(Exception):
    def __init__(self, status_code=None, body=None, headers=None):
        self.status_code, self.body, self.headers = status_code, body, headers

    def __str__(self):
        return f"headers: {self.headers}, status_code: {self.status_code}, body: {self.body}"


class HTTPError(Exception):
    pass


class Connection:
    def __init__(self, **kwargs):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *args):
        pass


class FakeServer:
    """What a server holds, and how people work on it."""

    def __init__(self, key, url="http://studio.test"):
        self.key, self.url = key, url
        self.projects, self.tasks = {}, {}
        self.numbers = itertools.count(1)
        self.clock = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)
        self.requests = []
        self.fails = {}
        """Errors by name of a request, raised after it has done its work."""

    def install(self, monkeypatch):
        sdk, core, errors, httpx = map(
            ModuleType, ("label_studio_sdk", "label_studio_sdk.core", "label_studio_sdk.core.api_error", "httpx")
        )
        sdk.LabelStudio = self.connect
        errors.ApiError, httpx.Client, httpx.HTTPError = ApiError, Connection, HTTPError
        for module in (sdk, core, errors, httpx):
            monkeypatch.setitem(sys.modules, module.__name__, module)
        return self

    def connect(self, base_url, api_key, httpx_client):
        if base_url != self.url:
            raise HTTPError("[Errno 111] Connection refused")
        self.check("connect")
        if api_key != self.key:  # the real one does not quote the key; another might
            raise ApiError(401, {"detail": f"Invalid token {api_key}."}, {"set-cookie": f"sessionid=crumbs-{api_key}"})
        return SimpleNamespace(projects=_Projects(self), tasks=_Tasks(self))

    def check(self, name):
        self.requests.append(name)
        error = self.fails.pop(name, None)
        if error is not None:
            raise error

    def add_project(self, title, config):
        number = next(self.numbers)
        self.projects[number] = SimpleNamespace(id=number, title=title, parsed_label_config=_parsed(config))
        return number

    def now(self):
        self.clock += datetime.timedelta(seconds=1)
        return self.clock.isoformat().replace("+00:00", "Z")

    def task_of(self, id_):
        (task,) = [task for task in self.tasks.values() if task["data"].get("diffal_id") == str(id_)]
        return task

    def annotate(self, id_, *choices, author=1, **more):
        task = self.task_of(id_)
        result = [{"from_name": "label", "to_name": "text", "type": "choices", "value": {"choices": list(choices)}}]
        task["updated_at"] = self.now()
        annotation = {"id": next(self.numbers), "completed_by": author, "result": result if choices else []}
        task["annotations"].append({"was_cancelled": False, "updated_at": task["updated_at"], **annotation, **more})

    def change(self, id_, choice):
        task = self.task_of(id_)
        task["updated_at"] = task["annotations"][-1]["updated_at"] = self.now()
        task["annotations"][-1]["result"][0]["value"]["choices"] = [choice]


class _Projects:
    def __init__(self, server):
        self.server = server

    def list(self, title):
        self.server.check("list projects")
        return [project for project in self.server.projects.values() if title in project.title]

    def create(self, title, label_config):
        number = self.server.add_project(title, label_config)
        self.server.check("create")
        return self.server.projects[number]

    def get(self, number):
        self.server.check("get")
        if number not in self.server.projects:
            raise ApiError(404, {"detail": "No Project matches the given query."})
        return self.server.projects[number]

    def import_tasks(self, number, request):
        for task in json.loads(json.dumps(request)):
            own = next(self.server.numbers)
            self.server.tasks[own] = task | {
                "id": own,
                "project": number,
                "annotations": [],
                "updated_at": self.server.now(),
            }
        self.server.check("import")


class _Tasks:
    def __init__(self, server):
        self.server = server

    def list(self, project, query, fields, page_size):
        filters = json.loads(query)["filters"]
        self.server.check("look up" if "in_list" in query else "look")
        assert filters["conjunction"] == "or" and len(query) < 4000
        found = [
            task
            for task in self.server.tasks.values()
            if task["project"] == project and any(_matches(task, one) for one in filters["items"])
        ]
        return json.loads(json.dumps(found))


def _matches(task, one):
    column, value = one["filter"].removeprefix("filter:tasks:"), one["value"]
    cancelled = [annotation["was_cancelled"] for annotation in task["annotations"]]
    if column == "data.diffal_id":
        return one["operator"] == "in_list" and task["data"].get("diffal_id") in value
    if column == "updated_at":
        return task["updated_at"] > value
    return {"total_annotations": cancelled.count(False), "cancelled_annotations": cancelled.count(True)}[column] > value


def _parsed(config):
    return {
        control.get("name"): {
            "type": "Choices",
            "to_name": [control.get("toName")],
            "labels": [choice.get("value") for choice in control],
        }
        for control in ElementTree.fromstring(config).iter("Choices")
    }
